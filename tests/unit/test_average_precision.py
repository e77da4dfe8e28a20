from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from atw.evaluate.average_precision import (
    average_precision,
    class_average_precisions,
    mean_average_precision,
)
from atw.files import InputError


@st.composite
def rated_videos(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Scores with many ties, and what the videos show: any number of classes."""
    V, K = draw(st.integers(1, 12)), draw(st.integers(1, 5))
    scores = draw(arrays.arrays(np.float32, (V, K), elements=st.integers(-2, 2)))
    return scores, draw(arrays.arrays(np.bool_, (V, K)))


def by_thresholds(scores: list[float], shown: list[bool], *, interpolated: bool) -> Fraction:
    """AP from precision and recall at every threshold, highest first: the area below their steps."""
    points = []
    for threshold in sorted(set(scores), reverse=True):
        kept = [right for score, right in zip(scores, shown, strict=True) if score >= threshold]
        points.append((Fraction(sum(kept), len(kept)), Fraction(sum(kept), sum(shown))))
    area, before = Fraction(0), Fraction(0)
    for number, (precision, recall) in enumerate(points):
        height = max(later for later, _ in points[number:]) if interpolated else precision
        area += height * (recall - before)
        before = recall
    return area


@given(rated_videos(), st.booleans())
def test_ap_is_the_area_below_precision_over_recall(videos: Any, interpolated: bool) -> None:
    scores, truth = videos
    found = class_average_precisions(scores, truth, interpolated=interpolated)
    for k in range(truth.shape[1]):
        if truth[:, k].any():
            expected = by_thresholds(scores[:, k].tolist(), truth[:, k].tolist(), interpolated=interpolated)
            assert found[k] == pytest.approx(float(expected))
        else:
            assert np.isnan(found[k])


@given(rated_videos(), st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_the_videos_does_not_matter(videos: Any, interpolated: bool, random: Any) -> None:
    scores, truth = videos
    order = random.sample(range(len(scores)), len(scores))
    found = class_average_precisions(scores, truth, interpolated=interpolated)
    again = class_average_precisions(scores[order], truth[order], interpolated=interpolated)
    np.testing.assert_array_equal(found, again)


def test_the_rules_by_hand() -> None:
    # Right at places 2, 3 and 6 of the ranking; a fourth is never found.
    ranks = np.array([6, 2, 3])
    assert average_precision(ranks, 4, interpolated=False) == pytest.approx((1 / 2 + 2 / 3 + 3 / 6) / 4)
    assert average_precision(ranks, 4, interpolated=True) == pytest.approx((2 / 3 + 2 / 3 + 3 / 6) / 4)
    assert average_precision(np.array([], np.int64), 4, interpolated=True) == 0


def test_equal_scores_share_the_last_place() -> None:
    scores = np.array([[3.0], [2.0], [2.0], [2.0], [1.0]])
    truth = np.array([[False], [True], [False], [True], [True]])
    # Both of place 4 have precision 2/4, the last one 3/5.
    assert class_average_precisions(scores, truth, interpolated=False) == pytest.approx((2 / 4 + 2 / 4 + 3 / 5) / 3)
    assert mean_average_precision(np.zeros((10, 1)), np.arange(10)[:, None] < 3, interpolated=False) == 0.3


def test_map_is_over_the_classes_that_are_shown_and_background_counts_as_wrong() -> None:
    scores = np.array([[0.9, 0.1, 0.5], [0.5, 0.9, 0.5], [0.8, 0.2, 0.5]])
    truth = np.array([[True, False, False], [True, True, False], [False, False, False]])  # the last is background
    expected = (1 + 2 / 3) / 2
    assert class_average_precisions(scores, truth, interpolated=False)[:2] == pytest.approx([expected, 1])
    assert mean_average_precision(scores, truth, interpolated=False) == pytest.approx((expected + 1) / 2)
    assert mean_average_precision(scores[:, :1], truth[:, :1], interpolated=False) == pytest.approx(expected)


def test_without_any_label_there_is_nothing_to_rate() -> None:
    nothing = np.zeros((4, 2), bool)
    with pytest.raises(InputError, match="none of 4 videos shows any of 2 classes"):
        mean_average_precision(np.zeros((4, 2)), nothing, interpolated=True)
