"""A corpus of damaged videos: each is decoded as its undamaged frames say, or left out with the right reason."""

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from atw import config, videos
from atw.datasets import Dataset
from atw.preprocess.shard import make
from atw.shards import Shard
from atw.videos import Audit, BadVideoError, read

Image = NDArray[np.uint8]
Damage = Callable[[bytes], bytes]

pytestmark = pytest.mark.timeout(30)  # nothing that a file holds may make the decoder hang

COUNT = 40
WIDTH, HEIGHT = 96, 64
BASES = {  # name: encoder, options of the container
    "mpeg4.avi": ("mpeg4", {}),
    "mjpeg.avi": ("mjpeg", {}),
    "mpeg4.mp4": ("mpeg4", {"movflags": "faststart"}),
    "h264.mp4": ("libx264", {"movflags": "faststart"}),
    "h264.mkv": ("libx264", {}),
    "vp9.webm": ("libvpx-vp9", {}),
    "mpeg2.ts": ("mpeg2video", {}),
    "h264.ts": ("libx264", {}),
}
ENCODERS = {
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "libx264": {"x264-params": "mbtree=0"},  # its macroblock tree depends on what was in memory before
}
# Where the decoder notices what is wrong: elsewhere most changed bytes make other frames that are as good as any.
NOTICED = ("mpeg4.avi", "mpeg4.mp4", "h264.mp4", "h264.mkv")
UNNOTICED = {("h264.mp4", "block inverted")}  # inside one picture, whose arithmetic coding makes another one of it
REASONS = (
    "truncated: ",
    "corrupt",
    "not a video",
    "no video stream",
    "zero frames",
    "one frame",
    "changed size midway: ",
)
LIMITS = {"max_pixels": 4096 * 2304, "max_frames": 100_000}


def encode(path: Path, frames: list[Image], codec: str, times: list[int] | None = None, **options: str) -> bytes:
    """A video with a key frame in twelve; `times` are those of the frames in 1/25 s."""
    # The same bytes everywhere, so that the same damage hits the same place: no random ids, one thread.
    with av.open(str(path), "w", options={"fflags": "bitexact", **options}) as output:
        stream: Any = output.add_stream(codec, rate=25)
        stream.thread_count = 1
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.gop_size, stream.bit_rate = 12, 1_000_000
        stream.options = ENCODERS.get(codec, {})
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.time_base, frame.pts = Fraction(1, 25), times[number] if times else number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path.read_bytes()


def decode(path: Path, **limits: int) -> tuple[list[Image], Audit]:
    audit = Audit()
    return list(read(path, audit, width=WIDTH, height=HEIGHT, **{**LIMITS, **limits})), audit


def reason(path: Path, **limits: int) -> str:
    """Why the video is left out, "" when it is not."""
    try:
        decode(path, **limits)
    except BadVideoError as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[bytes, list[Image]]]:
    """The undamaged videos and their frames."""
    folder = tmp_path_factory.mktemp("sound")
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT + COUNT, WIDTH + 2 * COUNT, 3), dtype=np.uint8)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.0), None, 0, 255, cv2.NORM_MINMAX)
    frames = [np.ascontiguousarray(texture[i : i + HEIGHT, 2 * i : 2 * i + WIDTH]) for i in range(COUNT)]
    made = {}
    for name, (codec, options) in BASES.items():
        content = encode(folder / name, frames, codec, **options)
        decoded, audit = decode(folder / name)
        assert (len(decoded), audit.repaired) == (COUNT, [])
        made[name] = content, decoded
    return made


def cut(share: float) -> Damage:
    return lambda content: content[: int(len(content) * share)]


def changed(first: float, size: int, change: Callable[[bytes], bytes]) -> Damage:
    """`size` bytes from the place `first`, a share of the file, are changed."""

    def damage(content: bytes) -> bytes:
        start = int(len(content) * first)
        return content[:start] + change(content[start : start + size]) + content[start + size :]

    return damage


def flipped(count: int, seed: int) -> Damage:
    """`count` single bits flipped anywhere behind the headers."""

    def damage(content: bytes) -> bytes:
        rng = np.random.default_rng(seed)
        damaged = bytearray(content)
        for place in rng.integers(len(content) // 5, len(content), count):
            damaged[place] ^= 1 << int(rng.integers(8))
        return bytes(damaged)

    return damage


DAMAGES: dict[str, Damage] = {
    "cut to 5%": cut(0.05),
    "cut to 30%": cut(0.3),
    "cut to 60%": cut(0.6),
    "cut to 85%": cut(0.85),
    "last byte lost": lambda content: content[:-1],
    "first kilobyte lost": lambda content: content[1024:],
    "headers are zeros": changed(0.0, 512, lambda old: bytes(len(old))),
    "block of zeros": changed(0.5, 600, lambda old: bytes(len(old))),
    "block inverted": changed(0.6, 400, lambda old: bytes(value ^ 0xFF for value in old)),
    "block lost": changed(0.5, 1000, lambda _: b""),
    "block doubled": changed(0.5, 1000, lambda old: old + old),
    "block inserted": changed(0.5, 0, lambda _: bytes(range(256)) * 4),
    "half is zeros": changed(0.5, 1 << 30, lambda old: bytes(len(old))),
    "garbage behind the end": lambda content: content + bytes(range(256)) * 8,
    "twice in one file": lambda content: content + content,
    **{f"{count} bits flipped, {seed}": flipped(count, seed) for count in (1, 5, 40) for seed in range(3)},
}


def strangers(frames: list[Image], good: list[Image]) -> int:
    """How many frames are none of the undamaged ones, these taken in order."""
    found, place = 0, 0
    for frame in frames:
        match = next((number for number in range(place, len(good)) if np.array_equal(frame, good[number])), None)
        if match is None:
            found += 1
        else:
            place = match + 1
    return found


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("base", BASES)
def test_a_damaged_video_is_decoded_rightly_or_left_out(
    tmp_path: Path, sound: dict[str, tuple[bytes, list[Image]]], base: str, damage: str
) -> None:
    content, good = sound[base]
    path = tmp_path / base
    path.write_bytes(DAMAGES[damage](content))
    try:
        frames, audit = decode(path)
    except BadVideoError as error:
        assert str(error).startswith(REASONS)
        assert damage not in ("garbage behind the end", "twice in one file") or base.endswith(".ts")
        return
    if base in NOTICED and (base, damage) not in UNNOTICED:
        assert len(frames) >= COUNT - 2 or audit.repaired  # lost time is named
        expected = good + good if damage == "twice in one file" else good
        assert strangers(frames, expected) <= max(2, 0.1 * COUNT)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.85])
def test_a_cut_video_is_said_to_be_truncated(
    tmp_path: Path, sound: dict[str, tuple[bytes, list[Image]]], base: str, share: float
) -> None:
    path = tmp_path / base
    path.write_bytes(cut(share)(sound[base][0]))
    assert reason(path).startswith(
        ("truncated: ", "corrupt in the middle: " if base.endswith("mp4") else "truncated: ")
    )


def test_a_transport_stream_cut_between_packets_promises_nothing(
    tmp_path: Path, sound: dict[str, tuple[bytes, list[Image]]]
) -> None:
    content = sound["h264.ts"][0]
    path = tmp_path / "v.ts"
    path.write_bytes(content[: len(content) // 2 // 188 * 188])
    assert COUNT / 4 < len(decode(path)[0]) < COUNT


@pytest.mark.parametrize("base", ["mpeg4.avi", "h264.mp4", "h264.mkv", "vp9.webm", "mpeg2.ts"])
def test_fuzzed_files_neither_crash_nor_hang(sound: dict[str, tuple[bytes, list[Image]]], base: str) -> None:
    content = sound[base][0]
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"atw-fuzz-{os.getpid()}-{base}"

    @settings(max_examples=40, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(
        length=st.integers(1, len(content)),
        places=st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=30),
    )
    def check(length: int, places: list[tuple[int, int]]) -> None:
        damaged = bytearray(content)
        for place, value in places:
            damaged[place] = value
        path.write_bytes(damaged[:length])
        found = reason(path)
        assert not found or found.startswith((*REASONS, "absurd size", "no decoder"))

    try:
        check()
    finally:
        path.unlink(missing_ok=True)


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
        assert (len(frames), audit.repaired) == (COUNT, ["variable frame rate: frames are taken as they come"])
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


def test_a_fragmented_video_that_ends_inside_a_packet_is_truncated(
    tmp_path: Path, sound: dict[str, tuple[bytes, list[Image]]]
) -> None:
    _, good = sound["h264.mp4"]
    path = tmp_path / "v.mp4"
    content = encode(path, good, "libx264", movflags="frag_keyframe+empty_moov")
    assert (len(decode(path)[0]), decode(path)[1].repaired) == (COUNT, [])
    path.write_bytes(content[: len(content) // 2])
    assert reason(path).startswith("truncated: the file ends inside a packet")


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


def test_a_cover_image_is_not_the_video(tmp_path: Path, sound: dict[str, tuple[bytes, list[Image]]]) -> None:
    (tmp_path / "v.mp4").write_bytes(sound["mpeg4.mp4"][0])
    with av.open(str(tmp_path / "v.mp4")) as whole, av.open(str(tmp_path / "cover.mkv"), "w") as covered:
        cover: Any = covered.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 16, 16, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        stream = covered.add_stream_from_template(whole.streams.video[0])
        covered.mux(cover.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        for packet in whole.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                covered.mux(packet)
    assert len(decode(tmp_path / "cover.mkv")[0]) == COUNT


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
    turned = "its header asks for a turn by no quarter, which is passed over"
    if matrix[0] in (0.7,) or not any(matrix):
        assert audit.repaired == [turned]
    else:
        assert audit.repaired == ["turned as its header says"]


def test_a_shard_of_the_whole_corpus_is_made(tmp_path: Path, sound: dict[str, tuple[bytes, list[Image]]]) -> None:
    root = tmp_path / "videos"
    root.mkdir()
    rows = ["path,label,subset"]
    for base, (content, _) in sound.items():
        for number, damage in enumerate(("nothing", *DAMAGES)):
            name = f"{number:02d} {damage.replace(',', '')} {base}"
            (root / name).write_bytes(content if damage == "nothing" else DAMAGES[damage](content))
            rows.append(f"{name},a,train")
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    given_dataset = {"kind": "folder", "root": str(root), "lists": str(tmp_path / "list.csv")}
    sizes = {"width": 32, "height": 24, "shards": 1}
    plan = config.load({"datasets": {"mine": given_dataset}, "preprocess": sizes, "evaluate": {"crop": 16}})
    dataset = Dataset(config.location(plan, "mine"))
    wanted = config.shard_settings(plan, "mine", "rgb")
    wanted |= {"shard": "00000", "members": dataset.members_digest("00000", 1)}
    make(tmp_path / "00000.h5", wanted, dataset, flow_path=None, threads=2)
    with Shard(tmp_path / "00000.h5") as shard:
        assert len(shard.entries) == len(rows) - 1
        for entry in shard.entries:
            assert bool(entry.quarantined) == (entry.count == 0)
            if entry.video.startswith("00 "):
                assert (entry.count, entry.repaired, entry.quarantined) == (COUNT, "", "")
            if "cut to 30%" in entry.video:
                assert entry.quarantined
