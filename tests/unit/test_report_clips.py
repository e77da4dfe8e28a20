"""Clips on the page: which seconds of a video they show, that they play, and what their bars say."""

import base64
import io
from pathlib import Path

import av
import numpy as np
import pytest

from atw.evaluate.attention import stream_attention
from atw.extras.drawing import films
from atw.extras.drawing.scored_videos import StoredVideo, looking_stream
from atw.extras.report.clips import LONGEST_S, MOST_FRAMES, STOPS, PlayedClip, clip_of
from atw.extras.report.page import render
from atw.shards import Shard
from atw.videos.times import Times
from tests.unit.reported import many_classes
from tests.unit.scored import scored
from tests.unit.stored import WriteShard

FPS = 25


def frames_of(clip: PlayedClip) -> list[av.VideoFrame]:
    kind, _, content = clip.address.partition(";base64,")
    assert kind == "data:video/webm"
    with av.open(io.BytesIO(base64.b64decode(content))) as film:
        return list(film.decode(video=0))


def long_video(folder: Path, write_shard: WriteShard, seconds: float, heaviest_s: float) -> PlayedClip:
    """The clip of a video with a snippet every half second, whose largest weight is where it is said."""
    path = folder / "00000.h5"
    write_shard(path, "rgb", {"video 0": round(seconds * FPS)})
    middles = np.arange(0.25, seconds, 0.5)
    weights = np.full(len(middles), 1.0)
    weights[np.abs(middles - heaviest_s).argmin()] = 9
    with Shard(path) as shard:
        stored = StoredVideo(path, shard.entries[0])
    found = clip_of(stored, {"rgb": (middles, weights / weights.sum())}, "rgb")
    assert found is not None
    return found


def test_a_short_video_plays_whole_in_its_own_time(tmp_path: Path, write_shard: WriteShard) -> None:
    clip = long_video(tmp_path, write_shard, 4, heaviest_s=1.25)
    assert (clip.start, clip.end, clip.whole) == (0, 4, True)
    frames = frames_of(clip)
    assert [float(frame.time or 0) for frame in frames] == pytest.approx([n / FPS for n in range(100)], abs=0.001)
    with Shard(tmp_path / "00000.h5") as shard:
        stored = shard.frames(shard.entries[0], range(100)).mean(axis=(1, 2))
    shown = np.stack([frame.to_ndarray(format="rgb24") for frame in frames]).mean(axis=(1, 2))
    assert np.abs(shown - stored).mean() < 10  # VP9 gives random colours up, but not their mean
    assert np.corrcoef(shown.sum(axis=1), stored.sum(axis=1))[0, 1] > 0.7


@pytest.mark.parametrize(("heaviest_s", "start"), [(1.0, 0.0), (20.25, 14.25), (39.0, 28.0)])
def test_a_long_video_shows_the_seconds_around_its_largest_weight(
    tmp_path: Path, write_shard: WriteShard, heaviest_s: float, start: float
) -> None:
    clip = long_video(tmp_path, write_shard, 40, heaviest_s)
    assert (clip.start, clip.end) == pytest.approx((start, start + LONGEST_S))
    assert not clip.whole
    frames = frames_of(clip)
    assert len(frames) == MOST_FRAMES
    assert float(frames[-1].time or 0) == pytest.approx(LONGEST_S, abs=3 / FPS)
    largest = clip.start + np.argmax(clip.bars["rgb"]) / (STOPS - 1) * LONGEST_S
    assert largest == pytest.approx(heaviest_s, abs=0.5)


@pytest.mark.parametrize("heaviest_s", [2.0, 50.0, 107.0])
def test_a_pause_does_not_make_a_clip_longer(
    tmp_path: Path, write_shard: WriteShard, monkeypatch: pytest.MonkeyPatch, heaviest_s: float
) -> None:
    """Of a video whose 50th frame is shown for a hundred seconds."""
    path = tmp_path / "00000.h5"
    write_shard(path, "rgb", {"video 0": 100})
    edges = np.concatenate([np.arange(51) / 10, 105 + np.arange(1, 51) / 10])
    monkeypatch.setattr(Shard, "times", lambda *_: Times(edges, "file"))
    with Shard(path) as shard:
        stored = StoredVideo(path, shard.entries[0])
    seconds = np.array([1.0, heaviest_s, 109.0])
    clip = clip_of(stored, {"rgb": (seconds, np.array([0.1, 0.8, 0.1]))}, "rgb")
    assert clip is not None
    assert clip.end - clip.start == pytest.approx(LONGEST_S)
    assert clip.start <= heaviest_s <= clip.end
    *_, last = frames_of(clip)
    assert float(last.time or 0) + (0.1 if heaviest_s > 100 else 0) <= LONGEST_S


def test_frames_of_an_uneven_video_are_chosen_by_time(
    tmp_path: Path, write_shard: WriteShard, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "00000.h5"
    write_shard(path, "rgb", {"video 0": 611})
    edges = np.concatenate([np.arange(601) / 600, 1 + np.arange(1, 12)])  # a second of 600 frames, then eleven frames
    monkeypatch.setattr(Shard, "times", lambda *_: Times(edges, "file"))
    with Shard(path) as shard:
        clip = clip_of(StoredVideo(path, shard.entries[0]), {"rgb": (np.array([6.0]), np.array([1.0]))}, "rgb")
    assert clip is not None
    assert len([frame for frame in frames_of(clip) if (frame.time or 0) > 0.99]) == 11


def test_the_average_weight_has_half_of_the_colour(tmp_path: Path, write_shard: WriteShard) -> None:
    write_shard(tmp_path / "00000.h5", "rgb", {"video 0": 5})
    with Shard(tmp_path / "00000.h5") as shard:
        stored = StoredVideo(shard.path, shard.entries[0])
    even = {stream: (np.arange(8) / 40, np.full(8, 1 / 8)) for stream in ("rgb", "flow")}
    clip = clip_of(stored, even, "rgb")
    assert clip is not None
    assert clip.bars == {stream: [0.5] * STOPS for stream in even}


def test_the_stream_that_looks_is_the_least_uniform() -> None:
    shares = {"rgb": 1.0, "flow": 0.5, "warped": 0.5}
    streams = {stream: stream_attention(scored([], flat_attention=share)) for stream, share in shares.items()}
    assert looking_stream(streams) == "flow"
    assert looking_stream({"rgb": streams["rgb"]}) == "rgb"


def test_the_page_goes_without_clips_where_ffmpeg_has_no_encoder(
    tmp_path: Path, write_shard: WriteShard, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = many_classes(tmp_path, write_shard)
    assert "<video" in render(inputs, tmp_path)
    monkeypatch.setattr(films, "SMALL_ENCODER", "none")
    assert "<video" not in render(inputs, tmp_path)
