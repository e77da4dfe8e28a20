"""Frames and fields of new videos: which are computed, and how often."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import atw
from atw import config
from atw.data import augment
from atw.evaluate.scores import read_scores
from atw.extras.predict.items import VideoItems
from atw.extras.predict.video import FileVideo
from atw.flow import engine
from atw.terminal import meter
from atw.videos.decode import BadVideoError, read_as_configured
from atw.videos.times import Times
from tests.conftest import _moving_frames
from tests.unit.trained import TEST_VIDEOS, Trained


def test_only_the_flow_of_snippets_is_computed(
    tmp_path: Path, predictor: Any, monkeypatch: pytest.MonkeyPatch, write_mjpeg: Any
) -> None:
    """A long video costs what its snippets cost: 7 stacks of 3 fields, not all of its 199."""
    stored: list[bytes] = []

    class Items(io.BytesIO):
        def write(self, item: Any) -> int:
            stored.append(item)
            return super().write(item)

    monkeypatch.setattr("atw.extras.predict.predictor.tempfile.TemporaryFile", Items)
    predictor.predict(write_mjpeg(tmp_path / "long.avi", _moving_frames(200)))
    assert len(stored) == 7 + 21 + 21


def test_long_runs_of_pairs_are_cut_and_change_nothing(tmp_path: Path, predictor: Any, write_mjpeg: Any) -> None:
    """Windows want all 59 fields, in two blocks that share a frame; the whole video alone wants some of them."""
    video = write_mjpeg(tmp_path / "run.avi", _moving_frames(60))
    with_windows, whole = predictor.predict(video, window_seconds=0.4), predictor.predict(video)
    assert np.allclose(with_windows.probabilities, whole.probabilities, atol=1e-6)


class Passes:
    """Counts how often a prediction decodes its video; `after` is called with the path behind the first time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: Callable[[Path], object] = lambda _: None) -> None:
        self.count = 0

        def counted(path: Path, *others: Any, **settings: Any) -> Iterator[Any]:
            self.count += 1
            yield from read_as_configured(path, *others, **settings)
            after(path)

        monkeypatch.setattr("atw.extras.predict.video.read_as_configured", counted)


def test_a_video_is_decoded_once(trained: Trained, predictor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = Passes(monkeypatch)
    predictor.predict(trained.root / "left/1.avi", window_seconds=0.4, segments=True)
    assert passes.count == 1


@pytest.mark.parametrize("promised", [None, 31, 29])
def test_a_video_of_other_frames_than_its_packets_promise(
    trained: Trained, predictor: Any, monkeypatch: pytest.MonkeyPatch, promised: int | None
) -> None:
    """It is decoded again, and what is said of it is the same."""
    expected = predictor.predict(trained.root / "left/1.avi", window_seconds=0.4, segments=True)
    times = promised and Times.of(np.arange(promised + 1) / 25, frames=promised, fps=25)
    monkeypatch.setattr("atw.extras.predict.video.expected_times", lambda *_, **__: times)
    passes = Passes(monkeypatch)
    found = predictor.predict(trained.root / "left/1.avi", window_seconds=0.4, segments=True)
    assert passes.count == 2
    assert found.to_json() == expected.to_json()


def test_a_window_is_refused_by_the_true_times_alone(
    trained: Trained, predictor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Times.of(np.arange(31.0), frames=30, fps=1)  # here a window of .4 s has no two frames
    monkeypatch.setattr("atw.extras.predict.video.expected_times", lambda *_, **__: slow)
    assert predictor.predict(trained.root / "left/1.avi", window_seconds=0.4).windows
    with pytest.raises(BadVideoError, match=r"a window of 0\.05 s has 1 frames at 25 frames/s"):
        predictor.predict(trained.root / "left/1.avi", window_seconds=0.05)


def test_a_file_that_changes_between_two_passes_is_refused(
    tmp_path: Path, trained: Trained, predictor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = tmp_path / "v.avi"
    video.write_bytes((trained.root / "left/1.avi").read_bytes())
    monkeypatch.setattr("atw.extras.predict.video.expected_times", lambda *_, **__: None)
    Passes(monkeypatch, lambda path: path.write_bytes((trained.root / "up/1.avi").read_bytes()))
    with pytest.raises(BadVideoError, match="the file was changed while it was read"):
        predictor.predict(video)


@pytest.mark.parametrize(
    "sections", [{"warp": {"matches": "flow"}}, {"preprocess": {"flow_from": "frames", "jpeg_quality": 40}}]
)
def test_what_shards_have_is_made_of_a_new_video(
    tmp_path: Path, moving_frames: Any, write_mjpeg: Any, sections: dict[str, Any]
) -> None:
    """Corners displaced by the flow need the flow of the pair; flow of stored frames needs these."""
    trained = Trained(tmp_path, moving_frames, write_mjpeg, **sections)
    prediction = atw.load(trained.split, device="cpu").predict(trained.root / TEST_VIDEOS[0])
    for stream in ("flow", "warped"):
        scores = read_scores(trained.split / stream / "scores.h5")
        assert np.allclose(prediction.streams[stream].logits, scores.video_logits[0], atol=1e-5)


@pytest.mark.parametrize(("matches", "solved"), [("tracks", (2, 1, 2)), ("flow", (2, 2, 3)), ("sift", (2, 2, 3))])
def test_the_flow_of_a_block_is_computed_once(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, matches: str, solved: tuple[int, ...]
) -> None:
    """For the stream flow, and for the matches of warped flow, unless the settings of the two differ."""
    numba, calls = engine.BACKENDS["numba"], []

    def solve(first: Any, *others: Any) -> Any:
        calls.append(len(first))
        return numba.solve(first, *others)

    monkeypatch.setitem(engine.BACKENDS, "numba", numba._replace(solve=solve))
    overrides = {"flow": {"backend": "numba"}, "warp": {"matches": matches}}
    flow, warped = (with_settings(trained, stream, overrides) for stream in ("flow", "warped"))
    wider = with_settings(trained, "flow", {"flow": {"backend": "numba", "bound": 12.0}})
    found, crops = [], augment.test_boxes(48, 64, crop=40, crops=1)
    for settings, times in zip(({"flow": flow}, {}, {"flow": wider}), solved, strict=True):
        with io.BytesIO() as file, meter("flow", "pairs", 5) as progress:
            items = VideoItems(
                FileVideo(trained.root / "left/1.avi"), {**settings, "warped": warped}, threads=1, file=file
            )
            items.compute({"warped": range(3, 8)}, progress)
            found.append(items.snippets("warped", np.arange(3, 8)[:, None], crops, 32))
        assert [calls.pop() for _ in range(times)] == [5] * times
        assert not calls
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def with_settings(trained: Trained, stream: str, sections: dict[str, dict[str, Any]]) -> Any:
    """Settings of the stream's shards with some values of these sections that are others."""
    shards = config.shard_settings(trained.config, "mine", stream)
    parts = {
        name: getattr(shards, name).model_copy(update=values)
        for name, values in sections.items()
        if hasattr(shards, name)
    }
    return shards.model_copy(update=parts)
