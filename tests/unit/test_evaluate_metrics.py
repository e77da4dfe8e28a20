import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy import stats

from atw.evaluate import metrics
from atw.evaluate.metrics import Accuracy
from tests.unit.streams import CLASSES, LABELS, LOGITS, scores


@st.composite
def scored_videos(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits with many ties, and labels."""
    V, K = draw(st.integers(1, 12)), draw(st.integers(2, 8))
    logits = draw(arrays.arrays(np.float32, (V, K), elements=st.integers(-2, 2)))
    return logits, draw(arrays.arrays(np.int64, V, elements=st.integers(0, K - 1)))


@given(scored_videos(), st.integers(1, 8))
def test_top_k_is_the_rank_of_the_true_class(videos: tuple[Any, Any], k: int) -> None:
    logits, labels = videos
    expected = []
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        before = sum(other > row[label] or (other == row[label] and i < label) for i, other in enumerate(row))
        expected.append(before < k)
    assert metrics.in_top(logits, labels[:, None] == np.arange(logits.shape[1]), k=k).tolist() == expected


@given(scored_videos())
def test_confusion_matrix_and_class_accuracies_count_each_video_once(videos: tuple[Any, Any]) -> None:
    logits, labels = videos
    K = logits.shape[1]
    expected = [[0] * K for _ in range(K)]
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        expected[label][row.index(max(row))] += 1
    one = scores(classes=tuple("abcdefgh"[:K]), labels=labels, quarantined=[])
    confusion = metrics.confusion_matrix(logits, one)
    assert confusion.tolist() == expected
    correct = metrics.in_top(logits, one.truth, k=1)
    assert np.trace(confusion) == correct.sum()
    shares = [row[i] / sum(row) if sum(row) else math.nan for i, row in enumerate(expected)]
    np.testing.assert_allclose(metrics.per_class_accuracy(correct, labels, class_count=K), shares)


def test_the_bootstrap_interval_is_that_of_the_binomial_distribution() -> None:
    correct = np.arange(400) < 300
    # Resampling n videos of which a share p is right draws from Binomial(n, p).
    expected = stats.binom.ppf([0.025, 0.975], 400, 0.75) / 400
    interval = metrics.bootstrap_interval(correct, seed=3)
    np.testing.assert_allclose(interval, expected, atol=1.5 / 400)
    assert metrics.bootstrap_interval(correct, seed=3) == interval


@pytest.mark.parametrize(("correct", "point"), [([True], 1), ([False], 0), ([True] * 9, 1)])
def test_the_bootstrap_of_equal_outcomes_is_a_point(correct: list[bool], point: int) -> None:
    assert metrics.bootstrap_interval(np.array(correct), seed=0) == (point, point)


@pytest.mark.parametrize(("correct", "total", "low", "high"), [(2, 2, 0.3424, 1.0), (0, 2, 0.0, 0.6576)])
def test_wilsons_interval_of_equal_outcomes_is_none(correct: int, total: int, low: float, high: float) -> None:
    assert metrics.wilson_interval(correct, total) == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 500), st.integers(0, 500))
def test_wilsons_interval_is_that_of_scipy(total: int, correct: int) -> None:
    known = stats.binomtest(min(correct, total), total).proportion_ci(method="wilson")
    assert metrics.wilson_interval(min(correct, total), total) == pytest.approx((known.low, known.high), abs=1e-12)


def listed(
    *quarantined: int, logits: Any = LOGITS, labels: Any = LABELS, classes: tuple[str, ...] = CLASSES
) -> Accuracy:
    """Accuracies of videos with these labels, and of quarantined ones of these classes."""
    bad = [(f"bad {number}", label, "empty file") for number, label in enumerate(quarantined)]
    one = scores(classes=classes, labels=labels, quarantined=bad)
    return metrics.listed_accuracy(logits, one, probabilities=np.empty(0))


def test_accuracies_of_a_table_by_hand() -> None:
    accuracy = listed().to_dict()
    low, high = accuracy.pop("top1_ci95")
    assert (low, high) == pytest.approx((0.1500, 0.8500), abs=1e-4)  # Wilson's of 2 of 4
    assert accuracy == {
        "top1": 0.5,
        "top1_decodable": 0.5,
        "top5": None,
        "mean_class": 0.5,
        "correct": 2,
        "total": 4,
        "per_class": {"run": 1.0, "jump": 0.5, "wave": 0.0},
    }


def test_quarantined_videos_count_as_wrong() -> None:
    accuracy = listed(0, 0, 0, 1)
    assert (accuracy.top1, accuracy.top1_decodable, accuracy.correct, accuracy.total) == (0.25, 0.5, 2, 8)
    assert accuracy.per_class == {"run": 0.25, "jump": pytest.approx(1 / 3), "wave": 0.0}
    assert accuracy.mean_class == pytest.approx((1 / 4 + 1 / 3 + 0) / 3)
    low, high = accuracy.top1_ci95
    assert low < 0.25 < high < 0.75


def test_a_class_without_test_videos_has_no_accuracy() -> None:
    accuracy = listed(logits=np.pad(LOGITS, ((0, 0), (0, 1)), constant_values=-1), classes=(*CLASSES, "rest"))
    assert (accuracy.per_class["rest"], accuracy.mean_class) == (None, 0.5)
    json.dumps(accuracy.to_dict(), allow_nan=False)


def test_top5_needs_more_than_five_classes() -> None:
    labels = np.array([0, 1, 5], np.int64)
    logits = np.tile(np.arange(6, 0, -1, dtype=np.float32), (3, 1))  # class 5 comes last
    assert listed(3, logits=logits, labels=labels, classes=tuple("abcdef")).top5 == 0.5
    assert listed(logits=logits[:2, :5], labels=labels[:2], classes=tuple("abcde")).top5 is None


def test_the_interval_of_the_mean_class_accuracy() -> None:
    half = np.array([5]), np.array([10])
    assert metrics.mean_class_interval(*half, seed=0) == (0.2, 0.8)  # of a binomial distribution
    sure = np.array([3, 0, 0]), np.array([3, 0, 5])  # two known classes, all right and all wrong
    assert metrics.mean_class_interval(*sure, seed=0) == (0.5, 0.5)
    many = metrics.mean_class_interval(np.full(100, 5), np.full(100, 10), seed=0)
    error = 1.96 * np.sqrt(0.25 / 10 / 100)
    assert many == pytest.approx((0.5 - error, 0.5 + error), abs=0.002)
