"""Films of scored videos, and the strip below their pictures: what is drawn where, and when."""

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atw.extras.drawing.scored_films import write_films
from atw.extras.drawing.scored_videos import VideoSelection, lanes
from atw.extras.drawing.strip import Bars, Strip
from atw.files import InputError
from tests.unit.trained import FRAMES, TEST_VIDEOS, Trained

STREAMS = ("rgb", "flow", "warped")
VIDEO = "left/1.avi"  # its action lasts from frame 4 to frame 8


def make(trained: Trained, folder: Path, results: dict[str, Any], **selection: Any) -> list[Path]:
    folder.mkdir(exist_ok=True)
    (folder / "detections.json").write_text(json.dumps({"results": results}))
    scores = [trained.split / stream / "scores.h5" for stream in STREAMS]
    frames = trained.shards["rgb"].parent
    write_films(folder / "films", scores, frames, folder / "detections.json", VideoSelection(**selection))
    return sorted((folder / "films").iterdir())


def test_a_film_shows_each_frame_in_its_time_with_actions_and_detections(trained: Trained, tmp_path: Path) -> None:
    found = [
        {"label": "left", "score": 0.9, "segment": [0.2, 0.4]},
        {"label": "up", "score": 0.5, "segment": [0.0, 0.1]},
    ]
    (film,) = make(trained, tmp_path, {VIDEO: found}, videos=[VIDEO])
    assert film.name == f"{TEST_VIDEOS.index(VIDEO):05d}_1.mp4"
    with av.open(str(film)) as container:
        frames = list(container.decode(video=0))
    assert [float(frame.time or 0) for frame in frames] == pytest.approx([n / 25 for n in range(FRAMES[VIDEO])])
    images = np.stack([frame.to_ndarray(format="bgr24") for frame in frames]).astype(int)
    height = images.shape[1] - (24 + 3 * 12 + 96 + 24)
    assert height >= 288
    moving = np.abs(np.diff(images[:, :height], axis=0)).mean(axis=(1, 2, 3))
    assert (moving > 1).all()
    # The rows of bars: actions, detections of the right class, of another one.
    seconds = FRAMES[VIDEO] / 25
    still = np.median(images, axis=0)  # without the cursor
    for row, (start, end) in enumerate([(4 / 25, 9 / 25), (0.2, 0.4), (0.0, 0.1)]):
        bright = still[height + 24 + 12 * row + 6].max(axis=1) > 100
        edges = np.flatnonzero(bright)[[0, -1]] / (images.shape[2] - 1) * seconds
        assert edges == pytest.approx([start, end], abs=0.01)
    # A cursor goes from left to right.
    chart = images[:, height + 24 + 36 : height + 24 + 36 + 96]
    cursor = (chart > 200).all(axis=3).sum(axis=1).argmax(axis=1)
    assert (np.diff(cursor) > 0).all()


SEGMENTS = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9)).map(lambda s: (float(s[0]), float(sum(s)))))


@given(SEGMENTS)
def test_no_two_bars_of_a_lane_overlap_and_no_lane_is_needless(segments: list[tuple[float, float]]) -> None:
    found = lanes(segments)
    for one, (start, end) in zip(found, segments, strict=True):
        same = [s for lane, s in zip(found, segments, strict=True) if lane == one]
        assert sum(start < other_end and other_start < end for other_start, other_end in same) == 1
    at_once = max((sum(s <= start < e for s, e in segments) for start, _ in segments), default=0)
    assert set(found) == {*range(at_once)}


def test_bars_at_the_same_time_are_below_each_other() -> None:
    yellow, blue = (0, 255, 255), (255, 0, 0)
    curve = np.array([0.5]), np.array([1.0])
    kinds = [Bars("actions", yellow, [(0.0, 0.6), (0.4, 1.0)]), Bars("detected", blue, [(0.0, 1.0)])]
    shown = Strip({"rgb": curve}, kinds, seconds=1.0, width=400).below(np.zeros((10, 400, 3), np.uint8), 0.99, "")
    bars = shown[10 + 24 + 6 :: 12][:3, [40, 200, 380]]  # the middle of each row of bars
    black = (0, 0, 0)
    assert bars.tolist() == np.array([[yellow, yellow, black], [black, yellow, yellow], [blue] * 3]).tolist()


def test_the_films_are_those_of_the_attention_picture(trained: Trained, tmp_path: Path) -> None:
    """Also without a detection, and without a known action."""
    films = make(trained, tmp_path, {video: [] for video in TEST_VIDEOS}, count=9)
    assert [film.name for film in films] == [
        f"{row:05d}_{Path(video).stem}.mp4" for row, video in enumerate(TEST_VIDEOS)
    ]


def test_detections_of_other_videos_are_refused(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"detections\.json says nothing of left/1\.avi; run the workflow"):
        make(trained, tmp_path, {"elsewhere.avi": []}, videos=[VIDEO])


def test_text_is_what_a_strip_can_write() -> None:
    curve = np.array([0.1, 0.9]), np.array([0.5, 0.5])
    strip = Strip({"rgb": curve}, [Bars("actions", (0, 255, 255), [(0.25, 0.5)])], seconds=1.0, width=100)
    picture = np.full((10, 100, 3), 255, np.uint8)
    shown = strip.below(picture, 0.5, "wäve")
    assert shown.shape == (10 + 24 + 12 + 96 + 24, 320, 3)
    assert (shown == strip.below(picture, 0.5, "w?ve")).all()
    assert (shown != strip.below(picture, 0.6, "w?ve")).any()


def test_the_end_of_a_long_text_is_seen() -> None:
    strip = Strip({"rgb": (np.array([0.1]), np.array([1.0]))}, [], seconds=1.0, width=320)
    picture = np.zeros((10, 320, 3), np.uint8)
    shown = [strip.below(picture, 0.5, f"{'shown and detected ' * 3}{end}") for end in "ab"]
    assert (shown[0] != shown[1]).any()
