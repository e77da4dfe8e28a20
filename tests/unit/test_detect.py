import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atw import config
from atw.config import Detect
from atw.evaluate.detect import Signal, detect, fuse_signals, signal_of
from atw.evaluate.detection_files import Detection
from atw.files import InputError

CLASSES = ("run", "jump")
EVERY = Detect(merge=0, shortest=1e-9, suppress=1)  # all candidates stay


def one_class(values: list[float], *, width: float = 1.0) -> Signal:
    """A signal of one class, in parts of `width` seconds from 0 on."""
    return Signal(width * np.arange(len(values) + 1.0), np.array(values, float)[:, None])


def detections(
    values: list[float], settings: Detect = EVERY, *, sure: float = 1.0, width: float = 1.0
) -> list[Detection]:
    return detect(one_class(values, width=width), np.array([sure]), ("run",), settings)


# The signal


def test_the_signal_is_weight_over_uniform_weight_times_probability() -> None:
    seconds = np.array([[0.0, 0.2], [1.0, 1.2], [3.0, 3.2]])
    attention = np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], np.float32)  # of two crops
    logits = np.log(np.array([[[0.9, 0.1], [0.5, 0.5], [0.2, 0.8]], [[0.3, 0.7], [0.6, 0.4], [1.0, 1.0]]]))
    signal = signal_of(seconds, attention, logits.astype(np.float32))
    assert signal.edges == pytest.approx([0, 0.6, 2.1, 3.2])  # halfway between 0.1, 1.1 and 3.1
    expected = [
        [3 * (0.5 * 0.9 + 0.1 * 0.3) / 2, 3 * (0.5 * 0.1 + 0.1 * 0.7) / 2],
        [3 * (0.25 * 0.5 + 0.8 * 0.6) / 2, 3 * (0.25 * 0.5 + 0.8 * 0.4) / 2],
        [3 * (0.25 * 0.2 + 0.1 * 0.5) / 2, 3 * (0.25 * 0.8 + 0.1 * 0.5) / 2],
    ]
    np.testing.assert_allclose(signal.values, expected, rtol=1e-5)


def test_uniform_attention_leaves_the_probabilities() -> None:
    logits = np.random.default_rng(0).normal(size=(1, 5, 3))
    signal = signal_of(np.arange(10.0).reshape(5, 2), np.full((1, 5), 0.2), logits)
    np.testing.assert_allclose(signal.values, np.exp(logits[0]) / np.exp(logits[0]).sum(axis=1, keepdims=True))


@st.composite
def streams(draw: st.DrawFn) -> dict[str, Signal]:
    """Signals over different parts of the same eight seconds; some parts have no length."""
    made = {}
    for name in ("rgb", "flow"):
        inner = sorted(draw(st.lists(st.integers(0, 8), max_size=6)))
        edges = np.array([0, *inner, 8], float)
        values = draw(st.lists(st.integers(0, 5), min_size=len(edges) - 1, max_size=len(edges) - 1))
        made[name] = Signal(edges, np.array(values, float)[:, None])
    return made


@given(streams(), st.floats(0.0, 7.99))
def test_the_fused_signal_is_the_mean_at_every_moment(signals: dict[str, Signal], moment: float) -> None:
    def at(signal: Signal) -> float:
        for start, end, value in zip(signal.edges, signal.edges[1:], signal.values[:, 0], strict=False):
            if start <= moment < end:
                return float(value)
        raise AssertionError(moment)

    fused = fuse_signals(signals, {"rgb": 1, "flow": 3})
    assert (np.diff(fused.edges) > 0).all()
    assert at(fused) == pytest.approx((at(signals["rgb"]) + 3 * at(signals["flow"])) / 4)


def test_a_shorter_stream_keeps_its_last_value_and_one_without_weight_takes_no_part() -> None:
    signals = {
        "rgb": one_class([1, 3]),
        "flow": Signal(np.array([0.5, 3.0]), np.array([[5.0]])),
        "warped": one_class([9] * 9),
    }
    fused = fuse_signals(signals, {"rgb": 1, "flow": 1})
    assert fused.edges.tolist() == [0, 0.5, 1, 2, 3]
    assert fused.values[:, 0].tolist() == [3, 3, 4, 4]


# Candidates and their scores


def by_moments(values: list[float], threshold: float) -> set[tuple[float, float]]:
    """Runs above a threshold between lowest and highest, found part by part."""
    low, high = min(values), max(values)
    inside = [low == high or (value - low) / (high - low) >= threshold for value in values]
    starts = [i for i, one in enumerate(inside) if one and (i == 0 or not inside[i - 1])]
    return {(s, next((e for e in range(s, len(values)) if not inside[e]), len(values))) for s in starts}


def contrast(values: list[float], start: float, end: float) -> float:
    """Inside less around, by a sum over quarters of parts: candidates begin and end at whole ones."""
    low, high = min(values), max(values)
    scaled = [(value - low) / (high - low) if high > low else 1.0 for value in values]
    margin = (end - start) / 4
    steps = [(i + 0.5) / 4 for i in range(4 * len(values))]
    inside = [scaled[int(t)] for t in steps if start < t < end]
    around = [scaled[int(t)] for t in steps if start - margin < t < start or end < t < end + margin]
    return sum(inside) / len(inside) - (sum(around) / len(around) if around else 0)


@given(st.lists(st.integers(0, 9).map(float), min_size=1, max_size=12), st.sampled_from([(0.3,), (0.2, 0.5, 0.8)]))
def test_candidates_are_the_runs_above_each_threshold(values: list[float], thresholds: tuple[float, ...]) -> None:
    found = detections(values, Detect(merge=0, shortest=1e-9, suppress=1, thresholds=thresholds), sure=0.5)
    expected = set().union(*(by_moments(values, threshold) for threshold in thresholds))
    assert {one.segment for one in found} == expected
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    for one in found:
        assert one.segment is not None
        assert one.score == pytest.approx(0.5 * contrast(values, *one.segment))


def test_the_whole_of_a_peak_beats_its_tip_and_its_surroundings() -> None:
    best = detections([0, 0, 0, 0, 0.9, 1, 0.9, 0, 0, 0, 0, 0])[0]
    assert best.segment == (4, 7)


def test_a_short_gap_is_closed_and_a_short_candidate_dropped() -> None:
    values = [1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0.0]

    def found(merge: float, shortest: float) -> list[Any]:
        settings = Detect(merge=merge, shortest=shortest, thresholds=(0.5,), suppress=1)
        return sorted(one.segment for one in detections(values, settings) if one.segment)

    assert found(0, 0.5) == [(0, 1), (2, 3), (5, 6)]
    assert found(1, 0.5) == [(0, 1), (2, 3), (5, 6)]  # a gap as long as the setting stays
    assert found(1.5, 0.5) == [(0, 3), (5, 6)]
    assert found(1.5, 2) == [(0, 3)]
    assert found(9, 2) == [(0, 6)]
    assert found(0, 1.5) == []


def overlap(one: Any, other: Any) -> float:
    common = max(0, min(one[1], other[1]) - max(one[0], other[0]))
    return float(common / (one[1] - one[0] + other[1] - other[0] - common))


@given(st.lists(st.integers(0, 9).map(float), min_size=2, max_size=14), st.sampled_from([0.2, 0.5, 0.8]))
def test_suppression_keeps_the_best_of_what_overlaps(values: list[float], suppress: float) -> None:
    everything = detections(values)
    kept = detections(values, EVERY.model_copy(update={"suppress": suppress}))
    expected: list[Detection] = []
    for one in everything:  # the highest first
        if all(overlap(one.segment, other.segment) <= suppress for other in expected):
            expected.append(one)
    # Of equal scores it may keep another.
    assert [one.score for one in kept] == pytest.approx([one.score for one in expected])


def test_only_sure_classes_are_detected_and_classes_do_not_suppress_each_other() -> None:
    signal = Signal(np.arange(5.0), np.array([[0, 0], [1, 1], [1, 1], [0, 0]], float))
    settings = Detect(class_score=0.3, merge=0)
    both = detect(signal, np.array([0.6, 0.4]), CLASSES, settings)
    assert [(one.label, one.segment) for one in both] == [("run", (1, 3)), ("jump", (1, 3))]
    assert [one.label for one in detect(signal, np.array([0.71, 0.29]), CLASSES, settings)] == ["run"]


def test_a_flat_signal_is_one_detection_of_everything() -> None:
    (only,) = detections([2, 2, 2], sure=0.7)
    assert only.segment == (0.0, 3.0)
    assert only.score == pytest.approx(0.7)


def test_a_video_without_length_has_no_detection() -> None:
    assert detect(Signal(np.array([2.0, 2.0]), np.ones((1, 1))), np.ones(1), ("run",), Detect()) == []


def test_repeated_snippets_change_nothing() -> None:
    seconds = np.array([[0, 1], [1, 2], [2, 3]], float)
    logits = np.array([[[0, 0], [3, 0], [0, 0]]], float)
    weights = np.array([[0.2, 0.6, 0.2]])
    settings = Detect(merge=0)
    once = detect(signal_of(seconds, weights, logits), np.array([0.9, 0.1]), CLASSES, settings)
    twice = detect(
        signal_of(seconds.repeat(2, axis=0), weights.repeat(2, axis=1) / 2, logits.repeat(2, axis=1)),
        np.array([0.9, 0.1]),
        CLASSES,
        settings,
    )
    assert [one.segment for one in once if one.label == "run"] == [(1, 2)]
    for one, other in zip(once, twice, strict=True):
        assert (one.label, one.segment) == (other.label, other.segment)
        assert math.isclose(one.score, other.score)


# Settings


def test_the_settings_can_differ_between_datasets_and_experiments() -> None:
    raw = {
        "datasets": {"mine": {"kind": "folder", "root": "r", "detect": {"merge": 2}}},
        "experiments": {"fine": {"detect": {"merge": 0.25}}},
        "detect": {"shortest": 1},
    }
    loaded = config.load(raw)
    assert config.effective(loaded, "mine", "rgb").detect == Detect(merge=2, shortest=1)
    assert config.effective(loaded, "mine", "rgb", "fine").detect == Detect(merge=0.25, shortest=1)


@pytest.mark.parametrize("given", [{"thresholds": [0]}, {"thresholds": []}, {"class_score": 0}, {"suppress": 1.1}])
def test_settings_beyond_their_limits_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(given))):
        config.load({"datasets": {"mine": {"kind": "folder", "root": "r"}}, "detect": given})
