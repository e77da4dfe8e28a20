"""What is no video or too large a one, and videos that are odd but whole: pauses, cuts, cover images, turns."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from atw.videos import decode as videos
from atw.videos.decode import Audit, read
from tests.unit.encoded import BASES, COUNT, HEIGHT, LIMITS, NEVER_HANGS, WIDTH, Image, decode, encode, reason

pytestmark = NEVER_HANGS


def named_pipe(path: Path, _: bytes) -> None:
    os.mkfifo(path)


def loop(path: Path, _: bytes) -> None:
    path.symlink_to(path.name)


def device(path: Path, _: bytes) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("make_file", "expected"),
    [
        (lambda path, content: None, "missing file"),
        (lambda path, content: path.write_bytes(b""), "empty file"),
        (lambda path, content: path.mkdir(), "unreadable file: "),
        (named_pipe, "unreadable file: "),
        (loop, "unreadable file: "),
        (device, "unreadable file: "),
        (lambda path, content: path.write_bytes(b"<html>404</html>" * 100), "not a video"),
        (lambda path, content: path.write_bytes(content[:8]), "not a video"),
        (lambda path, content: path.write_bytes(b"Rar!\x1a\x07\0" + bytes(9000)), "not a video"),
    ],
    ids=["missing", "empty", "folder", "pipe", "loop", "device", "page", "first bytes", "archive"],
)
def test_what_is_no_video_is_named(
    tmp_path: Path, sound: dict[str, tuple[bytes, list[Image]]], make_file: Callable[[Path, bytes], None], expected: str
) -> None:
    path = tmp_path / "v.avi"
    make_file(path, sound["mpeg4.avi"][0])
    assert reason(path).startswith(expected)


def test_a_size_beyond_the_limit_is_refused_before_a_frame_is_decoded(
    tmp_path: Path, sound: dict[str, tuple[bytes, list[Image]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_decoding(*_: object) -> None:
        raise AssertionError("frames were decoded")

    monkeypatch.setattr(videos, "_decode", no_decoding)
    for base in BASES:
        (tmp_path / base).write_bytes(sound[base][0])
        assert reason(tmp_path / base, max_pixels=WIDTH * HEIGHT - 1).startswith("absurd size: 96 x 64")


def test_decoding_has_a_limit_of_time(
    tmp_path: Path, sound: dict[str, tuple[bytes, list[Image]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "v.avi").write_bytes(sound["mpeg4.avi"][0])
    monkeypatch.setattr(videos, "_MAX_SECONDS", 0.0)
    assert reason(tmp_path / "v.avi").startswith("too slow: ")


def test_what_is_mended_is_named(tmp_path: Path, sound: dict[str, tuple[bytes, list[Image]]]) -> None:
    _, good = sound["h264.mp4"]
    times = [number + number // 3 for number in range(COUNT)]
    for suffix in ("mp4", "mkv"):
        encode(tmp_path / f"v.{suffix}", good, "libx264", times)
        frames, audit = decode(tmp_path / f"v.{suffix}")
        assert (len(frames), audit.repaired) == (COUNT, [])
        assert audit.notes == ["variable frame rate: frames are taken as they come"]
    content = sound["mjpeg.avi"][0]
    header = content.index(b"strh") + 8 + 32  # dwLength, the number of frames
    (tmp_path / "w.avi").write_bytes(content[:header] + (COUNT + 2).to_bytes(4, "little") + content[header + 4 :])
    frames, audit = decode(tmp_path / "w.avi")
    assert (len(frames), audit.repaired) == (COUNT, [f"header declares {COUNT + 2} frames"])


@pytest.mark.parametrize("suffix", ["mkv", "ts"])
def test_a_pause_is_no_damage_and_named(
    tmp_path: Path, sound: dict[str, tuple[bytes, list[Image]]], suffix: str
) -> None:
    _, good = sound["h264.mp4"]
    encode(tmp_path / f"v.{suffix}", good, "libx264", [number + 20 * (number > 25) for number in range(COUNT)])
    frames, audit = decode(tmp_path / f"v.{suffix}")
    assert (len(frames), audit.repaired) == (COUNT, ["pauses between frames, 20 frames long in all"])


def test_a_video_cut_without_coding_it_anew_is_whole(
    tmp_path: Path, sound: dict[str, tuple[bytes, list[Image]]]
) -> None:
    (tmp_path / "v.mp4").write_bytes(sound["h264.mp4"][0])
    # The cut keeps all samples since the key frame before it, and an edit list that shows those from 0.6 s on.
    with av.open(str(tmp_path / "v.mp4")) as whole, av.open(str(tmp_path / "cut.mp4"), "w") as cut_video:
        source = whole.streams.video[0]
        stream = cut_video.add_stream_from_template(source)
        start = round(0.6 / source.time_base)
        for packet in whole.demux(source):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - start, packet.dts - start, stream
                cut_video.mux(packet)
    frames, audit = decode(tmp_path / "cut.mp4")
    assert (len(frames), audit.declared, audit.repaired) == (COUNT - 15, COUNT - 15, [])


@pytest.mark.parametrize("name", ["cover.mp4", "cover.mkv"])  # in Matroska nothing but its one picture says so
def test_a_cover_image_is_not_the_video(tmp_path: Path, sound: dict[str, tuple[bytes, list[Image]]], name: str) -> None:
    (tmp_path / "v.mp4").write_bytes(sound["mpeg4.mp4"][0])
    with av.open(str(tmp_path / "v.mp4")) as whole, av.open(str(tmp_path / name), "w") as covered:
        cover: Any = covered.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 16, 16, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        stream = covered.add_stream_from_template(whole.streams.video[0])
        covered.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        for packet in whole.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                covered.mux(packet)
    frames, audit = decode(tmp_path / name)
    assert (len(frames), audit.notes) == (COUNT, [])


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
        ((1, 0, 0, -1), lambda image: image[::-1]),
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
        ((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2)),
        ((0, 0, 0, 0), lambda image: image),
        ((0.7, 0.7, -0.7, 0.7), lambda image: image),
    ],
    ids=["mirrored", "upside down", "clockwise", "transposed", "singular", "skewed"],
)
def test_frames_are_turned_and_mirrored_by_the_matrix_of_the_header(
    tmp_path: Path, sound: dict[str, tuple[bytes, list[Image]]], matrix: tuple[float, ...], expected: Any
) -> None:
    content, good = sound["mpeg4.mp4"]
    header = content.index(b"tkhd") + 4 + 40  # version 0: the matrix a b u c d v x y w
    a, b, c, d = (int(number * 65536).to_bytes(4, "big", signed=True) for number in matrix)
    damaged = bytearray(content)
    for place, number in ((0, a), (4, b), (12, c), (16, d)):
        damaged[header + place : header + place + 4] = number
    path = tmp_path / "v.mp4"
    path.write_bytes(damaged)
    shown = [expected(image) for image in good]
    height, width = shown[0].shape[:2]
    audit = Audit()
    frames = list(read(path, audit, width=width, height=height, **LIMITS))
    assert all(np.array_equal(frame, image) for frame, image in zip(frames, shown, strict=True))
    by_no_quarter = matrix[0] == 0.7 or not any(matrix)
    assert audit.repaired == ["its header asks for a turn by no quarter, which is passed over"] * by_no_quarter
