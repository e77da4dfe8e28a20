"""The decoder: frames are those of OpenCV, turned, resized and limited; no videos, and odd videos that are whole."""

import gc
import hashlib
import os
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from atw.videos import decode as decoder
from atw.videos.decode import Audit, read
from tests.unit.encoded import BASES, COUNT, HEIGHT, NEVER_HANGS, WIDTH, Image, Sound, decode, encode, reason

MovingFrames = Callable[..., list[Image]]
WriteMjpeg = Callable[[Path, Sequence[Image]], Path]

pytestmark = NEVER_HANGS

SAMPLES = Path(__file__).parents[3] / "shared" / "data"
# Clips of the two datasets as they are distributed, with the frames that can be decoded.
CLIPS = {
    "ucf101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi": 164,
    "ucf101/SoccerJuggling/v_SoccerJuggling_g23_c01.avi": 240,
    "hmdb51/cartwheel/hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi": 83,
    "hmdb51/wave/RATRACE_wave_f_nm_np1_fr_goo_37.avi": 72,
}


def decode_with_opencv(path: Path) -> list[Image]:
    capture = cv2.VideoCapture(str(path))
    frames: list[Image] = []
    while True:
        more, frame = capture.read()
        if not more:
            return frames
        frames.append(np.asarray(frame, np.uint8))


@pytest.mark.parametrize("name", BASES)
def test_frames_are_those_of_opencv(tmp_path: Path, sound: Sound, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(sound[name][0])
    frames, audit = decode(path)
    assert np.array_equal(frames, decode_with_opencv(path))
    assert all(frame.flags.c_contiguous and frame.dtype == np.uint8 for frame in frames)
    assert (audit.decoded, audit.fps, audit.width, audit.height) == (COUNT, 25.0, WIDTH, HEIGHT)
    assert audit.declared == (COUNT if name.endswith(("avi", "mp4")) else None)
    assert audit.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_no_threads_are_started(tmp_path: Path, sound: Sound) -> None:
    """A thread or two for each frame take longer than decoding it."""
    path = tmp_path / "v.avi"
    path.write_bytes(sound["mpeg4.avi"][0])
    limits = {"width": WIDTH, "height": HEIGHT, "max_pixels": 10**6, "max_frames": 100}
    tasks = Path("/proc/self/task")
    before = set(tasks.iterdir())
    held = [(frame, len(set(tasks.iterdir()) - before)) for frame in read(path, Audit(), **limits)]
    assert len(held) == COUNT
    assert {started for _, started in held} == {0}


def test_a_frame_goes_as_soon_as_the_next_one_comes(tmp_path: Path, sound: Sound) -> None:
    """Without Python's search for garbage, before which hundreds of frames of 4K would take gigabytes."""
    path = tmp_path / "v.mp4"
    path.write_bytes(sound["h264.mp4"][0])
    limits = {"width": WIDTH, "height": HEIGHT, "max_pixels": 10**6, "max_frames": 100}

    def count() -> int:
        return sum(type(each) is av.VideoFrame for each in gc.get_objects())

    gc.collect()
    before = count()
    gc.disable()
    try:
        alive = [count() - before for _ in read(path, Audit(), **limits)]
    finally:
        gc.enable()
    assert len(alive) == COUNT
    assert max(alive) <= 20  # the codec holds some back; the first one stays


@pytest.mark.parametrize("clip", CLIPS)
def test_distributed_clips_give_all_their_frames(clip: str) -> None:
    if not (SAMPLES / clip).is_file():
        pytest.skip("the clip does not lie beside the repository")
    expected = decode_with_opencv(SAMPLES / clip)
    height, width = expected[0].shape[:2]
    frames, audit = decode(SAMPLES / clip, width=width, height=height)
    assert audit.decoded == len(frames) == len(expected) == CLIPS[clip]
    assert np.array_equal(frames, expected)
    if clip.startswith("hmdb51"):  # whose headers declare one frame too many, or whose metadata is no UTF-8
        assert audit.declared in (CLIPS[clip], CLIPS[clip] + 1)


@pytest.mark.parametrize(
    ("width", "height", "method"),
    [
        (64, 48, None),
        (80, 60, cv2.INTER_LINEAR),
        (40, 30, cv2.INTER_LINEAR),
        (33, 25, cv2.INTER_LINEAR),
        (32, 48, cv2.INTER_AREA),
        (64, 24, cv2.INTER_AREA),
        (20, 16, cv2.INTER_AREA),
    ],
)
def test_frames_are_resized_to_the_working_size(
    tmp_path: Path, moving_frames: MovingFrames, write_mjpeg: WriteMjpeg, width: int, height: int, method: int | None
) -> None:
    path = write_mjpeg(tmp_path / "v.avi", moving_frames(3))
    frames, audit = decode(path, width=width, height=height)
    expected = decode_with_opencv(path)
    if method is not None:
        expected = [
            np.asarray(cv2.resize(image, (width, height), interpolation=method), np.uint8) for image in expected
        ]
    assert np.array_equal(frames, expected)
    assert (audit.width, audit.height) == (64, 48)  # the original's


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
        ((1, 0, 0, -1), lambda image: image[::-1]),
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
        ((0, -1, 1, 0), lambda image: np.rot90(image)),
        ((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2)),
        ((0, 0, 0, 0), lambda image: image),
        ((0.7, 0.7, -0.7, 0.7), lambda image: image),
    ],
    ids=["mirrored", "upside down", "180", "clockwise", "anticlockwise", "transposed", "singular", "skewed"],
)
def test_frames_are_turned_and_mirrored_by_the_matrix_of_the_header(
    tmp_path: Path, sound: Sound, matrix: tuple[float, ...], expected: Any
) -> None:
    content, good = sound["mpeg4.mp4"]
    header = content.index(b"tkhd") + 4 + 40  # version 0: the matrix a b u c d v x y w
    a, b, c, d = (int(number * 65536).to_bytes(4, "big", signed=True) for number in matrix)
    turned = bytearray(content)
    for place, number in ((0, a), (4, b), (12, c), (16, d)):
        turned[header + place : header + place + 4] = number
    path = tmp_path / "v.mp4"
    path.write_bytes(turned)
    shown = [expected(image) for image in good]
    height, width = shown[0].shape[:2]
    frames, audit = decode(path, width=width, height=height)
    assert np.array_equal(frames, shown)
    assert (audit.width, audit.height) == (width, height)
    a, b, c, d = matrix
    assert len(audit.repaired) == (abs(a * d - b * c) != 1)  # a turn is no fault
    if a == d and b == -c and abs(a) + abs(b) == 1:  # a turn, which OpenCV knows as well
        assert np.array_equal(frames, decode_with_opencv(path))
    by_no_quarter = matrix[0] == 0.7 or not any(matrix)
    assert audit.repaired == ["its header asks for a turn by no quarter, which is passed over"] * by_no_quarter


@pytest.mark.parametrize(("name", "codec"), [("v.mp4", "libx264"), ("v.avi", "mpeg4")])
def test_metadata_that_is_no_utf8_does_no_harm(
    tmp_path: Path, moving_frames: MovingFrames, name: str, codec: str
) -> None:
    content = encode(tmp_path / name, moving_frames(5), codec, title="AAAABBBB")
    assert b"AAAABBBB" in content
    (tmp_path / name).write_bytes(content.replace(b"AAAABBBB", b"\xff\xfe\xe9\x80BBBB"))
    with pytest.raises(UnicodeDecodeError):
        av.open(str(tmp_path / name))
    frames, audit = decode(tmp_path / name)
    assert (len(frames), audit.repaired) == (5, ["metadata is not UTF-8"])


def test_names_are_taken_literally(
    tmp_path: Path, moving_frames: MovingFrames, write_mjpeg: WriteMjpeg, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("#20 [1] (2) @a+~'b;&!%03d.avi", "concat:a|b.avi", "http:x.avi", "-.avi", "é\n.avi"):
        path = write_mjpeg(tmp_path / "plain.avi", moving_frames(3)).rename(tmp_path / name)
        assert len(decode(path)[0]) == len(decode(Path(name))[0]) == 3


def test_up_to_two_missing_frames_are_repaired(
    tmp_path: Path, moving_frames: MovingFrames, write_mjpeg: WriteMjpeg
) -> None:
    content = write_mjpeg(tmp_path / "v.avi", moving_frames(30)).read_bytes()
    first, stop = content.index(b"movi"), content.index(b"idx1")
    starts = [place for place in range(first, stop) if content[place : place + 4] == b"00dc"]
    assert len(starts) == 30
    path = tmp_path / "cut.avi"
    path.write_bytes(content[: starts[28]])
    frames, audit = decode(path)
    assert (len(frames), audit.declared, audit.repaired) == (28, 30, ["header declares 30 frames"])
    path.write_bytes(content[: starts[27]])
    assert reason(path) == "truncated: 27 of 30 frames can be decoded"


def test_damage_in_the_middle_is_named(tmp_path: Path) -> None:
    # Noise is predicted from nothing, so no frame drags another one along.
    noise = list(np.random.default_rng(1).integers(0, 256, (30, HEIGHT, WIDTH, 3), dtype=np.uint8))
    content = bytearray(encode(tmp_path / "v.avi", noise, "mpeg4"))
    good, _ = decode(tmp_path / "v.avi")
    middle = int(len(content) * 0.6)
    content[middle : middle + 300] = bytes(value ^ 0xFF for value in content[middle : middle + 300])
    (tmp_path / "v.avi").write_bytes(content)
    frames, audit = decode(tmp_path / "v.avi")
    assert 27 <= len(frames) <= 30
    assert sum(any(np.array_equal(frame, image) for image in good) for frame in frames) >= 15
    assert "damaged packets or frames" in audit.repaired[0]


def test_a_wrong_number_of_frames_in_the_header_is_named(tmp_path: Path, sound: Sound) -> None:
    content = sound["mjpeg.avi"][0]
    header = content.index(b"strh") + 8 + 32  # dwLength, the number of frames
    (tmp_path / "w.avi").write_bytes(content[:header] + (COUNT + 2).to_bytes(4, "little") + content[header + 4 :])
    frames, audit = decode(tmp_path / "w.avi")
    assert (len(frames), audit.repaired) == (COUNT, [f"header declares {COUNT + 2} frames"])


def sound_alone(path: Path, _: bytes) -> None:
    with av.open(str(path), "w", format="mp4") as output:
        stream: Any = output.add_stream("aac", rate=44_100)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 8192), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 44_100
        output.mux(stream.encode(silence))
        output.mux(stream.encode(None))


NOT_VIDEOS: dict[str, tuple[Callable[[Path, bytes], object], str]] = {
    "missing": (lambda path, content: None, "missing file"),
    "empty": (lambda path, content: path.write_bytes(b""), "empty file"),
    "folder": (lambda path, content: path.mkdir(), "unreadable file: "),
    "pipe": (lambda path, content: os.mkfifo(path), "unreadable file: "),
    "loop": (lambda path, content: path.symlink_to(path.name), "unreadable file: "),
    "device": (lambda path, content: path.symlink_to("/dev/zero"), "unreadable file: "),
    "page": (lambda path, content: path.write_bytes(b"<html>404</html>" * 100), "not a video"),
    "text": (lambda path, content: path.write_bytes(b"hello\n" * 1000), "not a video"),
    "first bytes": (lambda path, content: path.write_bytes(content[:8]), "not a video"),
    "header": (lambda path, content: path.write_bytes(b"RIFF\xff\xff\xff\xffAVI LIST"), "not a video"),
    "zeros": (lambda path, content: path.write_bytes(bytes(10_000)), "not a video"),
    "archive": (lambda path, content: path.write_bytes(b"Rar!\x1a\x07\0" + bytes(9000)), "not a video"),
    "sound": (sound_alone, "no video stream"),
}


@pytest.mark.parametrize("suffix", ["avi", "txt"])  # libav would draw a text file
@pytest.mark.parametrize("kind", NOT_VIDEOS)
def test_what_is_no_video_is_named(tmp_path: Path, sound: Sound, kind: str, suffix: str) -> None:
    make_file, expected = NOT_VIDEOS[kind]
    path = tmp_path / f"v.{suffix}"
    make_file(path, sound["mpeg4.avi"][0])
    assert reason(path).startswith(expected)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("v.txt", "hello\n" * 1000),
        ("v.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nother.ts\n"),  # live: libav would wait for more
        ("v.ffconcat", "ffconcat version 1.0\nfile other.ts\n"),
    ],
)
def test_text_and_lists_of_files_are_not_opened(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    (tmp_path / "other.ts").write_bytes(b"")
    assert reason(tmp_path / name).startswith("not a video: a picture, text, raw pixels, a list of files, or ")


def test_a_name_that_no_file_can_have_is_a_bad_video(tmp_path: Path) -> None:
    for name in ("v" * 300, "v\0.avi"):
        assert reason(tmp_path / name).startswith("unreadable file: ")


def test_exif_in_the_frames_is_passed_over(tmp_path: Path, moving_frames: MovingFrames) -> None:
    """PyAV does not know this kind of side data; the turn beside it counts all the same."""
    frames = moving_frames(4)
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)  # to be turned by a quarter
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    block = b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif
    with av.open(str(tmp_path / "v.avi"), "w") as film:
        stream: Any = film.add_stream("mjpeg", rate=25, width=64, height=48, pix_fmt="yuvj420p")
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")):
                content = bytes(packet)
                written = av.Packet(content[:2] + block + content[2:])
                written.stream, written.pts, written.dts = stream, packet.pts, packet.dts
                written.time_base, written.is_keyframe = packet.time_base, True
                film.mux(written)
    audit = Audit()
    shown = list(read(tmp_path / "v.avi", audit, width=48, height=64, max_pixels=10**6, max_frames=9))
    assert (len(shown), audit.width, audit.height, audit.repaired) == (4, 48, 64, [])
    assert np.abs(shown[0].astype(int) - np.rot90(frames[0], -1)).mean() < 12


def test_colours_that_cannot_be_converted_are_a_bad_video(tmp_path: Path, moving_frames: MovingFrames) -> None:
    with av.open(str(tmp_path / "v.mp4"), "w") as film:
        stream: Any = film.add_stream("libx264", rate=25, width=64, height=48, pix_fmt="yuv420p")
        stream.codec_context.colorspace = 8  # YCgCo
        for frame in [*moving_frames(4), None]:
            film.mux(stream.encode(None if frame is None else av.VideoFrame.from_ndarray(frame, format="bgr24")))
    assert reason(tmp_path / "v.mp4") == "its colours cannot be converted: Operation not supported"


def test_sound_that_begins_late_costs_no_frame(tmp_path: Path) -> None:
    """After what libav looks at to find the streams: a recording to which another with sound was appended."""
    noise = np.random.default_rng(0)
    for name, count, sound in (("silent", 160, False), ("loud", 20, True)):
        with av.open(str(tmp_path / name), "w", format="vob") as film:
            stream: Any = film.add_stream("mpeg2video", rate=25, width=320, height=240, pix_fmt="yuv420p")
            stream.bit_rate = 20_000_000
            late: Any = film.add_stream("mp2", rate=44100) if sound else None
            for _ in range(count):
                picture = noise.integers(0, 256, (240, 320, 3), np.uint8)
                film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            film.mux(stream.encode(None))
            if late:
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 2304), np.int16), format="s16", layout="stereo")
                silence.sample_rate = 44100
                film.mux([*late.encode(silence), *late.encode(None)])
    (tmp_path / "v.mpg").write_bytes(b"".join((tmp_path / name).read_bytes() for name in ("silent", "loud")))
    assert (tmp_path / "silent").stat().st_size > 5_000_000
    audit = Audit()
    shown = list(read(tmp_path / "v.mpg", audit, width=32, height=24, max_pixels=10**6, max_frames=999))
    assert len(shown) >= 178


def test_a_file_whose_index_is_cut_off_is_no_video(tmp_path: Path, moving_frames: MovingFrames) -> None:
    content = encode(tmp_path / "v.mp4", moving_frames(10), "libx264")
    (tmp_path / "v.mp4").write_bytes(content[: len(content) // 2])
    assert reason(tmp_path / "v.mp4").startswith("not a video: ")


def test_one_frame_shows_no_motion(tmp_path: Path, moving_frames: MovingFrames, write_mjpeg: WriteMjpeg) -> None:
    assert reason(write_mjpeg(tmp_path / "v.avi", moving_frames(1))) == "one frame: no motion to see"
    assert len(decode(write_mjpeg(tmp_path / "w.avi", moving_frames(2)))[0]) == 2
    for suffix in ("png", "jpg"):
        cv2.imwrite(str(tmp_path / f"v.{suffix}"), moving_frames(1)[0])
        assert reason(tmp_path / f"v.{suffix}").startswith(("one frame", "not a video"))


def test_limits_are_inclusive(tmp_path: Path, moving_frames: MovingFrames, write_mjpeg: WriteMjpeg) -> None:
    path = write_mjpeg(tmp_path / "v.avi", moving_frames(5))
    assert len(decode(path, max_pixels=64 * 48, max_frames=5)[0]) == 5
    assert len(decode(path, max_pixels=10**12)[0]) == 5  # libav's own limit has 31 bits
    assert reason(path, max_pixels=64 * 48 - 1) == "absurd size: 64 x 48 is over 3071 pixels a frame"
    assert reason(path, max_frames=4) == "too long: more than 4 frames"


def test_a_size_beyond_the_limit_is_refused_before_a_frame_is_decoded(
    tmp_path: Path, sound: Sound, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_decoding(*_: object) -> None:
        raise AssertionError("frames were decoded")

    monkeypatch.setattr(decoder, "_decode", no_decoding)
    for base in BASES:
        (tmp_path / base).write_bytes(sound[base][0])
        assert reason(tmp_path / base, max_pixels=WIDTH * HEIGHT - 1).startswith("absurd size: 96 x 64")


def test_decoding_has_a_limit_of_time(tmp_path: Path, sound: Sound, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "v.avi").write_bytes(sound["mpeg4.avi"][0])
    monkeypatch.setattr(decoder, "MAX_SECONDS", 0.0)
    assert reason(tmp_path / "v.avi").startswith("too slow: ")


@pytest.mark.parametrize("codec", ["libx264", "mjpeg"])
def test_a_change_of_size_midway_is_not_used(tmp_path: Path, moving_frames: MovingFrames, codec: str) -> None:
    suffix = {"libx264": "h264", "mjpeg": "mjpeg"}[codec]
    parts = [
        encode(tmp_path / f"part.{suffix}", moving_frames(5, width=width, height=height), codec)
        for width, height in ((64, 48), (80, 64))
    ]
    (tmp_path / f"v.{suffix}").write_bytes(b"".join(parts))
    assert reason(tmp_path / f"v.{suffix}") == "changed size midway: 64 x 48, then 80 x 64"


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1.0,\npart.ts\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.m3u8", PLAYLIST),
        ("list.avi", PLAYLIST),
        ("list.ffconcat", "ffconcat version 1.0\nfile part.ts\n"),
        ("list.avi", "ffconcat version 1.0\nfile part.ts\n"),
        ("list.m3u8", PLAYLIST.replace("part.ts", "http://127.0.0.1:9/part.ts")),
        ("list.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 26\n"),
    ],
)
def test_a_file_that_names_other_files_is_not_used(tmp_path: Path, sound: Sound, name: str, content: str) -> None:
    (tmp_path / "part.ts").write_bytes(sound["h264.ts"][0])
    (tmp_path / name).write_text(content)
    assert reason(tmp_path / name).startswith("not a video")


def test_a_numbered_name_is_no_pattern(tmp_path: Path, moving_frames: MovingFrames) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.jpg"), moving_frames(3)[number])
    shutil.copyfile(tmp_path / "0.jpg", tmp_path / "%d.jpg")
    assert reason(tmp_path / "%d.jpg").startswith(("one frame", "not a video"))


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "ts"])
def test_uneven_times_are_no_damage_and_named(tmp_path: Path, sound: Sound, suffix: str) -> None:
    _, good = sound["h264.mp4"]
    path = tmp_path / f"v.{suffix}"
    if suffix != "ts":
        encode(path, good, "libx264", [number + number // 3 for number in range(COUNT)])
        frames, audit = decode(path)
        assert (len(frames), audit.repaired) == (COUNT, [])
        assert audit.notes == ["variable frame rate: frames are taken as they come"]
    if suffix != "mp4":
        encode(path, good, "libx264", [number + 20 * (number > 25) for number in range(COUNT)])
        frames, audit = decode(path)
        assert (len(frames), audit.repaired) == (COUNT, ["pauses between frames, 20 frames long in all"])


def test_a_video_cut_without_coding_it_anew_is_whole(tmp_path: Path, sound: Sound) -> None:
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
def test_a_cover_image_is_not_the_video(tmp_path: Path, sound: Sound, name: str) -> None:
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
