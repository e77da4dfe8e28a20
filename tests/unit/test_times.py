"""When each frame is shown, by times or rates, and which of several streams of pictures it is from."""

import os
from pathlib import Path

import av
import numpy as np
import pytest

from atw.videos.decode import expected_times
from atw.videos.times import Clock, Times, mean_rate
from tests.unit.encoded import BASES, COUNT, LIMITS, Image, Sound, decode, encode, reason

CASES = Path(__file__).parents[1] / "cases" / "videos"
VARIABLE = [number + number // 3 for number in range(COUNT)]  # every fourth place is empty


def numbers(frames: list[Image]) -> list[int]:
    """What the blocks of each frame of a case say: binary, the first block for 1."""
    found = []
    for frame in frames:
        row = frame[frame.shape[0] // 8].mean(axis=1).reshape(8, -1).mean(axis=1) > 128
        found.append(int(row @ (1 << np.arange(8))))
    return found


@pytest.mark.parametrize(
    ("name", "fps", "seconds"),
    [
        ("vfr.mkv", 52 / 4.8, 4.8),
        ("vfr.avi", 52 / 4.8, 4.8),  # empty chunks are places in time
        ("vfr_5percent.avi", 114 / 4.76, 4.76),
        ("theora15.ogv", 15, 38 / 15),
        ("sound.ts", 25, 4.8),
    ],
)
def test_seconds_of_the_cases_are_right(name: str, fps: float, seconds: float) -> None:
    _, audit = decode(CASES / name)
    assert (audit.times.source, audit.times.frames) == ("file", audit.decoded)
    assert audit.fps == pytest.approx(fps)
    assert audit.times.seconds == pytest.approx(seconds)


def test_presentation_times_are_those_of_the_file() -> None:
    _, audit = decode(CASES / "vfr.mkv")
    with av.open(str(CASES / "vfr.mkv")) as container:
        shown = [frame.time for frame in container.decode(video=0)]
    assert audit.times.edges[:-1] == pytest.approx(np.array(shown))
    assert np.ptp(np.diff(audit.times.edges)) > 0.05


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("v.mp4", "libx264", {}),
        ("v.mkv", "libx264", {}),
        ("late.mkv", "libx264", {"output_ts_offset": "5"}),
        ("v.webm", "libvpx-vp9", {}),
        ("v.ts", "libx264", {}),
        ("v.flv", "flv", {}),
        ("v.wmv", "wmv2", {}),
        ("hours.ts", "mpeg2video", {"output_ts_offset": "36000"}),
        ("wraps.ts", "mpeg2video", {"output_ts_offset": "95443"}),  # at 2^33 / 90 kHz
    ],
)
def test_a_variable_rate_keeps_its_times_in_every_container(
    tmp_path: Path, sound: Sound, name: str, codec: str, options: dict[str, str]
) -> None:
    encode(tmp_path / name, sound["h264.mp4"][1], codec, VARIABLE, **options)
    _, audit = decode(tmp_path / name)
    # The last frame is as long as the file says, or as most others are.
    assert audit.times.edges == pytest.approx(np.array([*VARIABLE, VARIABLE[-1] + 1]) / 25, abs=2e-3)
    assert audit.fps == pytest.approx(COUNT / audit.times.seconds)


def test_places_of_reordered_frames_are_put_in_order(tmp_path: Path, sound: Sound) -> None:
    encode(tmp_path / "v.avi", sound["h264.mp4"][1], "libx264")
    with av.open(str(tmp_path / "v.avi")) as container:
        places = [frame.time for frame in container.decode(video=0)]
    assert places != sorted(places)  # AVI has places in the file, and the frames are stored in another order
    _, audit = decode(tmp_path / "v.avi")
    assert audit.times.edges == pytest.approx(np.arange(COUNT + 1) / 25)


@pytest.mark.parametrize(("name", "codec"), [("v.h264", "libx264"), ("v.hevc", "libx265"), ("v.m2v", "mpeg2video")])
def test_a_bare_stream_has_the_rate_that_its_codec_gives(tmp_path: Path, sound: Sound, name: str, codec: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    encode(tmp_path / name, sound["h264.mp4"][1], codec, rate=30)
    _, audit = decode(tmp_path / name)
    assert (audit.fps, audit.times.source) == (30, "rate")
    assert audit.times.seconds == pytest.approx(COUNT / 30)


def test_without_times_and_rate_the_usual_rate_is_said_to_be_assumed(tmp_path: Path, sound: Sound) -> None:
    encode(tmp_path / "v.mjpeg", sound["h264.mp4"][1], "mjpeg", rate=30)
    _, audit = decode(tmp_path / "v.mjpeg")
    assert (audit.fps, len(audit.edges), audit.times.source) == (0, 0, "assumed")
    assert audit.times.seconds == pytest.approx(COUNT / 25)


def test_times_that_contradict_each_other_are_not_believed(tmp_path: Path, sound: Sound) -> None:
    content = encode(tmp_path / "v.ts", sound["h264.mp4"][1], "libx264")
    (tmp_path / "twice.ts").write_bytes(content + content)  # its clock starts anew midway
    _, audit = decode(tmp_path / "twice.ts")
    assert (audit.decoded, audit.times.source, audit.fps) == (2 * COUNT, "rate", 25)
    assert audit.times.seconds == pytest.approx(2 * COUNT / 25)
    assert any(said.startswith("its times are missing or contradict each other") for said in audit.repaired)


@pytest.mark.parametrize(
    "shown", [[], [0.0], [0.0, None, 0.08], [0.0, float("inf")], [0.0, 0.0, 0.0], [*range(40), *range(40)]]
)
def test_a_clock_that_does_not_know_says_so(shown: list[float | None]) -> None:
    clock = Clock()
    for seconds in shown:
        clock.add(seconds, 0.0)
    start, edges = clock.timeline()
    assert (start, len(edges)) == (0, 0)
    assert Times.of(edges, frames=len(shown), fps=10).source == "rate"


def test_the_last_frame_lasts_as_its_file_says_or_as_frames_do_mostly() -> None:
    for lasts, expected in ((0.5, 1.5), (0.0, 1.1)):
        clock = Clock()
        for seconds in (7.0, 7.1, 7.2, 7.9, 8.0):
            clock.add(seconds, lasts)
        start, edges = clock.timeline()
        assert (start, edges[0], edges[-1]) == (7, 0, pytest.approx(expected))


def test_stretches_and_moments() -> None:
    times = Times(np.array([0.0, 1.0, 1.0, 4.0]), "file")
    assert (times.frames, times.seconds, times.of_frame(2), times.of_field(0)) == (3, 4.0, 2.5, 1.0)
    assert times.middle(np.array([0, 1]), np.array([0, 2])).tolist() == [0.5, 2.5]
    assert times.nearest(np.array([0.0, 0.4, 0.5, 2.4, 2.5, 9.0])).tolist() == [0, 0, 1, 2, 3, 3]


def test_the_rate_of_the_header_counts_where_the_times_agree() -> None:
    edges = np.round(np.arange(101) * 1001 / 30000, 3)  # whole milliseconds, as Matroska has them
    assert mean_rate(edges, 30000 / 1001) == 30000 / 1001
    assert mean_rate(edges, 25.0) == pytest.approx(30000 / 1001, rel=1e-3)
    assert mean_rate(edges, 0.0) == pytest.approx(30000 / 1001, rel=1e-3)
    assert mean_rate(np.empty(0), 12.0) == 12.0


@pytest.mark.parametrize("name", ["cams_a.mp4", "cams_b.mp4"])
def test_the_first_stream_of_pictures_is_used_whatever_its_bit_rate(name: str) -> None:
    frames, audit = decode(CASES / name)
    assert numbers(frames) == list(range(60))
    said = "2 streams of pictures: stream 0, counted from 0, is used (preprocess.picture_stream)"
    assert (audit.notes, audit.repaired) == ([said], [])
    frames, audit = decode(CASES / name, picture_stream=1)
    assert numbers(frames) == list(range(100, 160))
    lacking = "no stream of pictures 2, counted from 0: it has 2; see preprocess.picture_stream"
    assert reason(CASES / name, picture_stream=2) == lacking


@pytest.mark.parametrize("name", BASES)
def test_packets_alone_tell_the_times_of_a_whole_file(tmp_path: Path, sound: Sound, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(sound[name][0])
    same_as_decoded(path)
    encode(path, sound[name][1], BASES[name][0], VARIABLE)
    same_as_decoded(path)


@pytest.mark.parametrize("name", ["sound.flv", "theora15.ogv", "vfr.avi"])
def test_packets_alone_tell_the_times_of_the_cases(name: str) -> None:
    same_as_decoded(CASES / name)


def same_as_decoded(path: Path) -> None:
    expected, (_, audit) = expected_times(path, **LIMITS), decode(path)
    assert expected is not None and expected.source == audit.times.source
    assert expected.edges == pytest.approx(audit.times.edges)


def test_packets_that_tell_nothing(tmp_path: Path, sound: Sound) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "v.mp4").write_bytes(sound["h264.mp4"][0])
    os.mkfifo(tmp_path / "pipe.mp4")
    assert expected_times(tmp_path / "pipe.mp4", **LIMITS) is None
    assert expected_times(tmp_path / "missing.mp4", **LIMITS) is None
    assert expected_times(tmp_path / "text.mp4", **LIMITS) is None
    assert expected_times(tmp_path / "v.mp4", **LIMITS | {"max_frames": COUNT - 1}) is None
