"""Average precision (AP): how high a ranking puts what is right. V videos, K classes, H hits, P positives.

A hit is an entry of the ranking that is right, a positive is anything that a perfect ranking would find. With the
precision at a hit being the share of hits among all entries down to it, AP is the sum of these precisions over P:
positives that were never found count with precision 0. There are two rules:

- THUMOS14 (its evaluation kit; Jiang et al. 2014): the precisions as they are.
- ActivityNet (its evaluation kit, after the Pascal VOC development kit of 2011): interpolated, each precision raised to
  the highest one at this hit or any later one.
"""

import numpy as np
from numpy.typing import NDArray

from atw.files import InputError


def average_precision(ranks: NDArray[np.integer], positives: int, *, interpolated: bool) -> float:
    """AP of a ranking.

    Args:
        ranks: [H] of each hit, how many entries of the ranking stand at its place or before it, itself included. Hits
            that share a place have equal ranks; they count at once, so their order does not matter.
        positives: P, at least H and 1.
        interpolated: ActivityNet's rule, else THUMOS14's.
    """
    falling = np.sort(ranks)[::-1]
    hits = len(ranks) - np.searchsorted(-falling, -falling)  # [H] hits down to each hit
    precision = hits / falling
    if interpolated:
        precision = np.maximum.accumulate(precision)
    return float(precision.sum() / positives)


def class_average_precisions(
    scores: NDArray[np.floating], truth: NDArray[np.bool_], *, interpolated: bool
) -> NDArray[np.float64]:
    """AP of each class, [K]; NaN for a class that no video shows.

    Every class ranks all videos, those that show no class included. Videos of equal score share a place, the last that
    any of them could have: so no result depends on the order of the videos, and a network that scores all videos alike
    has an AP of P / V.

    Args:
        scores: [V, K].
        truth: [V, K] whether a video shows a class; a video may show several, or none.
        interpolated: ActivityNet's rule, else THUMOS14's.
    """
    from scipy import stats  # its import takes half a second, and most results have one label per video

    ranks = stats.rankdata(-scores, method="max", axis=0).astype(np.int64)  # [V, K]
    return np.array(
        [
            average_precision(ranks[shown, k], int(shown.sum()), interpolated=interpolated) if shown.any() else np.nan
            for k, shown in enumerate(truth.T)
        ]
    )


def mean_average_precision(scores: NDArray[np.floating], truth: NDArray[np.bool_], *, interpolated: bool) -> float:
    """mAP: the mean of `class_average_precisions` over the classes that some video shows.

    For a part of the classes, give their columns of both arrays.

    Raises:
        InputError: no video shows any class.
    """
    if not truth.any():
        raise InputError(f"none of {len(truth)} videos shows any of {truth.shape[1]} classes; give videos with a label")
    return float(np.nanmean(class_average_precisions(scores, truth, interpolated=interpolated)))
