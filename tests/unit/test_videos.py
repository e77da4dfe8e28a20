import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from atw.videos.decode import Audit, BadVideoError, read

Image = NDArray[np.uint8]
MovingFrames = Callable[..., list[Image]]
WriteMjpeg = Callable[[Path, Sequence[Image]], Path]

pytestmark = pytest.mark.timeout(30)  # nothing that a file holds may make the decoder hang

SAMPLES = Path(__file__).parents[3] / "shared" / "data"
# Clips of the two datasets as they are distributed, with the frames that can be decoded.
CLIPS = {
    "ucf101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi": 164,
    "ucf101/SoccerJuggling/v_SoccerJuggling_g23_c01.avi": 240,
    "hmdb51/cartwheel/hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi": 83,
    "hmdb51/wave/RATRACE_wave_f_nm_np1_fr_goo_37.avi": 72,
}
LIMITS = {"max_pixels": 4096 * 2304, "max_frames": 100_000}


def decode(path: Path, width: int = 64, height: int = 48, **limits: int) -> tuple[list[Image], Audit]:
    audit = Audit()
    return list(read(path, audit, width=width, height=height, **{**LIMITS, **limits})), audit


def decode_with_opencv(path: Path) -> list[Image]:
    capture = cv2.VideoCapture(str(path))
    frames: list[Image] = []
    while True:
        more, frame = capture.read()
        if not more:
            return frames
        frames.append(np.asarray(frame, np.uint8))


def write(
    path: Path,
    frames: Sequence[Image],
    codec: str,
    *,
    turn: int = 0,
    title: str = "",
    movflags: str = "",
    gop: int = 12,
) -> Path:
    """A video in the container of the path's suffix with a key frame in `gop` frames.

    `turn` goes into the header, in degrees counterclockwise.
    """
    with av.open(str(path), "w", options={"movflags": movflags} if movflags else {}) as output:
        stream: Any = output.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.gop_size = gop
        stream.thread_count = 1  # the same bytes whatever the number of cores
        if turn:
            stream.set_display_rotation(turn)
        if title:
            output.metadata["title"] = title
        for frame in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
        output.mux(stream.encode(None))
    return path


def noise(count: int) -> list[Image]:
    """Frames of noise, whose packets make up most of a file."""
    return list(np.random.default_rng(1).integers(0, 256, (count, 48, 64, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("name", "codec"),
    [("v.avi", "mpeg4"), ("v.mp4", "mpeg4"), ("v.mp4", "libx264"), ("v.mkv", "libx264"), ("v.mov", "libx264")],
)
def test_frames_are_those_of_opencv(tmp_path: Path, moving_frames: MovingFrames, name: str, codec: str) -> None:
    path = write(tmp_path / name, moving_frames(20), codec)
    frames, audit = decode(path)
    expected = decode_with_opencv(path)
    assert len(frames) == len(expected) == 20
    for frame, other in zip(frames, expected, strict=True):
        assert np.array_equal(frame, other)
    assert (audit.decoded, audit.fps, audit.width, audit.height, audit.repaired) == (20, 25.0, 64, 48, [])
    assert audit.declared == (None if name == "v.mkv" else 20)
    assert audit.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_motion_jpeg_frames_are_those_of_opencv(
    tmp_path: Path, moving_frames: MovingFrames, write_mjpeg: WriteMjpeg
) -> None:
    path = write_mjpeg(tmp_path / "v.avi", moving_frames(20))
    frames, audit = decode(path)
    assert np.array_equal(frames, decode_with_opencv(path))
    assert all(frame.flags.c_contiguous and frame.dtype == np.uint8 for frame in frames)
    assert (audit.decoded, audit.declared, audit.repaired) == (20, 20, [])


@pytest.mark.parametrize(
    ("clip", "count"),
    [(clip, count) for clip, count in CLIPS.items() if (SAMPLES / clip).is_file()] or [("a clip of noise", 30)],
)
def test_distributed_clips_give_all_their_frames(
    tmp_path: Path, write_mjpeg: WriteMjpeg, clip: str, count: int
) -> None:
    path = SAMPLES / clip if clip in CLIPS else write_mjpeg(tmp_path / "noise.avi", noise(30))
    expected = decode_with_opencv(path)
    height, width = expected[0].shape[:2]
    frames, audit = decode(path, width=width, height=height)
    assert audit.decoded == len(frames) == len(expected) == count
    assert np.array_equal(frames, expected)
    if clip.startswith("hmdb51"):  # whose headers declare one frame too many, or whose metadata is no UTF-8
        assert audit.declared in (count, count + 1)


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


# How a picture with red, green, blue and white quarters (upper left, upper right, lower left, lower right) is shown.
QUARTERS = {
    0: ("red", "green", "blue", "white"),
    90: ("green", "white", "red", "blue"),
    180: ("white", "blue", "green", "red"),
    270: ("blue", "red", "white", "green"),
}
COLOURS = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0), "white": (255, 255, 255)}


def named(colour: NDArray[np.uint8]) -> str:
    return min(COLOURS, key=lambda name: float(np.abs(np.subtract(COLOURS[name], colour, dtype=float)).sum()))


@pytest.mark.parametrize("turn", QUARTERS)
def test_frames_are_turned_as_the_header_says(tmp_path: Path, turn: int) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    for place, name in enumerate(QUARTERS[0]):
        row, column = divmod(place, 2)
        picture[24 * row : 24 * row + 24, 32 * column : 32 * column + 32] = COLOURS[name]
    path = write(tmp_path / "v.mp4", [picture] * 3, "libx264", turn=turn)
    upright = turn % 180 == 0
    width, height = (64, 48) if upright else (48, 64)
    frames, audit = decode(path, width=width, height=height)
    assert np.array_equal(frames, decode_with_opencv(path))  # OpenCV turns them as well
    centres = [
        (height // 4 + row * height // 2, width // 4 + column * width // 2) for row in (0, 1) for column in (0, 1)
    ]
    for frame in frames:
        assert tuple(named(frame[centre]) for centre in centres) == QUARTERS[turn]
    assert (audit.width, audit.height) == (width, height)
    assert audit.repaired == []


@pytest.mark.parametrize(("name", "codec"), [("v.mp4", "libx264"), ("v.avi", "mpeg4")])
def test_metadata_that_is_no_utf8_does_no_harm(
    tmp_path: Path, moving_frames: MovingFrames, name: str, codec: str
) -> None:
    path = write(tmp_path / name, moving_frames(5), codec, title="AAAABBBB")
    content = path.read_bytes()
    assert b"AAAABBBB" in content
    path.write_bytes(content.replace(b"AAAABBBB", b"\xff\xfe\xe9\x80BBBB"))
    with pytest.raises(UnicodeDecodeError):
        av.open(str(path))
    assert len(decode(path)[0]) == 5


def test_names_are_taken_literally(
    tmp_path: Path, moving_frames: MovingFrames, write_mjpeg: WriteMjpeg, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("#20 [1] (2) @a+~'b;&!%03d.avi", "concat:a|b.avi", "http:x.avi", "-.avi", "é\n.avi"):
        path = write_mjpeg(tmp_path / "plain.avi", moving_frames(3)).rename(tmp_path / name)
        assert len(decode(path)[0]) == 3
        monkeypatch.chdir(tmp_path)
        assert len(decode(Path(name))[0]) == 3


def reason(path: Path, **limits: int) -> str:
    with pytest.raises(BadVideoError) as error:
        decode(path, **limits)
    return str(error.value)


@pytest.mark.parametrize("suffix", ["avi", "mp4"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_a_truncated_video_is_not_used(tmp_path: Path, suffix: str, share: float) -> None:
    # With its index at the front an MP4 file can be read up to the cut, like AVI.
    path = write(tmp_path / f"v.{suffix}", noise(30), "mpeg4", movflags="faststart" if suffix == "mp4" else "")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    found = reason(path)
    assert "of 30 frames can be decoded" in found
    assert found.startswith(("truncated: ", "corrupt in the middle: "))


def test_a_truncated_motion_jpeg_is_said_to_be_truncated(tmp_path: Path, write_mjpeg: WriteMjpeg) -> None:
    path = write_mjpeg(tmp_path / "v.avi", noise(30))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert reason(path) == "truncated: 14 of 30 frames can be decoded"


def test_a_file_whose_index_is_cut_off_is_no_video(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mp4", noise(10), "libx264")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert reason(path).startswith("not a video: ")


def test_up_to_two_missing_frames_are_repaired(tmp_path: Path, write_mjpeg: WriteMjpeg) -> None:
    path = write_mjpeg(tmp_path / "v.avi", noise(30))
    content = bytearray(path.read_bytes())
    first, stop = content.index(b"movi"), content.index(b"idx1")
    starts = [place for place in range(first, stop) if content[place : place + 4] == b"00dc"]
    assert len(starts) == 30
    for missing, expected in ((2, "header declares 30 frames"), (3, "27 of 30 frames can be decoded")):
        cut = tmp_path / f"{missing}.avi"
        cut.write_bytes(content[: starts[30 - missing]])
        if missing == 2:
            frames, audit = decode(cut)
            assert (len(frames), audit.declared, audit.repaired) == (28, 30, [expected])
        else:
            assert expected in reason(cut)


@pytest.mark.parametrize(("name", "codec"), [("v.avi", "mpeg4"), ("v.mp4", "libx264"), ("v.ts", "mpeg4")])
def test_damage_in_the_middle_costs_the_frames_that_it_hits(tmp_path: Path, name: str, codec: str) -> None:
    path = write(tmp_path / name, noise(30), codec, gop=6 if codec == "libx264" else 12)
    good, _ = decode(path)
    content = bytearray(path.read_bytes())
    middle = int(len(content) * 0.6)
    content[middle : middle + 300] = bytes(value ^ 0xFF for value in content[middle : middle + 300])
    path.write_bytes(content)
    frames, audit = decode(path)
    assert 27 <= len(frames) <= 30
    matches = [
        next((number for number, image in enumerate(good) if np.array_equal(frame, image)), -1) for frame in frames
    ]
    intact = [number for number in matches if number >= 0]
    # Noise is predicted from nothing, so no frame drags another one along; a lost one may stand as the one before.
    assert 15 <= len(set(intact)) < 30
    assert intact == sorted(intact)
    assert intact[0] == 0
    assert intact[-1] == 29
    if codec == "mpeg4":
        assert "damaged packets or frames" in audit.repaired[0]


def test_a_video_with_most_packets_destroyed_is_not_used(tmp_path: Path) -> None:
    path = write(tmp_path / "v.avi", noise(30), "mpeg4")
    content = bytearray(path.read_bytes())
    start, stop = content.index(b"movi") + 4, content.index(b"idx1")
    content[start + 400 : stop - 400] = bytes(stop - start - 800)
    path.write_bytes(content)
    assert "of 30 frames can be decoded" in reason(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty file"),
        (b"\0" * 10_000, "not a video: "),
        (b"hello\n" * 1000, "not a video: "),
        (b"RIFF\xff\xff\xff\xffAVI LIST", "not a video: |zero frames|no video stream"),
        (bytes(np.random.default_rng(0).integers(0, 256, 20_000, dtype=np.uint8)), "not a video: |corrupt|zero frames"),
    ],
    ids=["empty", "zeros", "text", "header", "noise"],
)
def test_what_is_no_video_is_not_used(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "v.avi").write_bytes(content)
    assert reason(tmp_path / "v.avi").startswith(tuple(expected.split("|")))


def test_a_text_file_is_not_drawn(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("hello\n" * 1000)
    assert reason(tmp_path / "v.txt").startswith("not a video")


def test_a_missing_file_and_a_folder_are_not_used(tmp_path: Path) -> None:
    assert reason(tmp_path / "v.avi") == "missing file"
    assert reason(tmp_path).startswith("unreadable file: ")


def test_sound_alone_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("aac", rate=44_100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8192), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 44_100
        output.mux(stream.encode(sound))
        output.mux(stream.encode(None))
    assert reason(path) == "no video stream"


def test_one_frame_shows_no_motion(tmp_path: Path, moving_frames: MovingFrames, write_mjpeg: WriteMjpeg) -> None:
    path = write_mjpeg(tmp_path / "v.avi", moving_frames(1))
    assert reason(path) == "one frame: no motion to see"
    assert len(decode(write_mjpeg(tmp_path / "w.avi", moving_frames(2)))[0]) == 2


def test_a_photograph_is_one_frame(tmp_path: Path, moving_frames: MovingFrames) -> None:
    for suffix in ("png", "jpg"):
        cv2.imwrite(str(tmp_path / f"v.{suffix}"), moving_frames(1)[0])
        assert reason(tmp_path / f"v.{suffix}").startswith(("one frame", "not a video"))


def test_limits_are_inclusive(tmp_path: Path, moving_frames: MovingFrames, write_mjpeg: WriteMjpeg) -> None:
    path = write_mjpeg(tmp_path / "v.avi", moving_frames(5))
    assert len(decode(path, max_pixels=64 * 48, max_frames=5)[0]) == 5
    assert reason(path, max_pixels=64 * 48 - 1) == "absurd size: 64 x 48 is over 3071 pixels a frame"
    assert reason(path, max_frames=4) == "too long: more than 4 frames"


@pytest.mark.parametrize("codec", ["libx264", "mjpeg"])
def test_a_change_of_size_midway_is_not_used(tmp_path: Path, moving_frames: MovingFrames, codec: str) -> None:
    parts = []
    for width, height in ((64, 48), (80, 64)):
        frames = moving_frames(5, width=width, height=height)
        if codec == "mjpeg":
            parts += [cv2.imencode(".jpg", frame)[1].tobytes() for frame in frames]
        else:
            parts.append(write(tmp_path / "part.h264", frames, codec).read_bytes())
    path = tmp_path / {"libx264": "v.h264", "mjpeg": "v.mjpeg"}[codec]
    path.write_bytes(b"".join(parts))
    assert reason(path) == "changed size midway: 64 x 48, then 80 x 64"


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
def test_a_file_that_names_other_files_is_not_used(
    tmp_path: Path, moving_frames: MovingFrames, name: str, content: str
) -> None:
    assert len(decode(write(tmp_path / "part.ts", moving_frames(5), "libx264"))[0]) == 5
    (tmp_path / name).write_text(content)
    assert reason(tmp_path / name).startswith("not a video")


def test_a_numbered_name_is_no_pattern(tmp_path: Path, moving_frames: MovingFrames) -> None:
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.jpg"), moving_frames(3)[number])
    shutil.copyfile(tmp_path / "0.jpg", tmp_path / "%d.jpg")
    assert reason(tmp_path / "%d.jpg").startswith(("one frame", "not a video"))
