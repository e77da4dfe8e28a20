"""How two kits rank detections and pair them with true segments.

D detections and G true segments of one class and video, T overlaps that a hit needs.

- `activitynet` follows eval_detection.py and eval_classification.py of the ActivityNet kit. From the highest score
  down, each detection takes the free true segment that it overlaps most, if by at least the overlap. Precision is
  interpolated. Of equal scores the later in the file comes first, because the kit reverses a sort. That sort is not
  stable for long lists: where many scores are equal, the kit's own number depends on the version of NumPy.
- `thumos14` follows TH14evalDet.m of the THUMOS14 kit of 2015-09-30. Each true segment, in the order of the file, takes
  the free detection that overlaps it most, if by more than the overlap. Precision is not interpolated. Of equal scores
  the video whose name comes first is first, then the earlier in the file. What is paired with nothing and touches a
  segment of the label `Ambiguous` counts as neither right nor wrong.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from atw.evaluate.detection_files import Detection

Segments = NDArray[np.float64]
"""Start and end in seconds, [n, 2]."""
Found = tuple[str, Detection]
"""A video and what is said of it."""


@dataclass(frozen=True)
class Rule:
    """What distinguishes a kit.

    Args:
        overlaps: that are usual.
        interpolated: whether its AP is.
        ranked: puts the predictions of a class, each with its video, in the order of the ranking.
        hits: whether each of the detections [D, 2], in that order, is paired with one of the true segments [G, 2] of
            its video if that needs one of the overlaps [T]: [T, D].
        spares: whether a wrong detection that touches an ambiguous segment is left out.
    """

    overlaps: tuple[float, ...]
    interpolated: bool
    ranked: Callable[[Sequence[Found]], Sequence[Found]]
    hits: Callable[[Segments, Segments, NDArray[np.float64]], NDArray[np.bool_]]
    spares: bool


def _activitynet_hits(found: Segments, truth: Segments, overlaps: NDArray[np.float64]) -> NDArray[np.bool_]:
    common = seconds_shared(found, truth)
    union = np.ptp(found, axis=1)[:, None] + np.ptp(truth, axis=1) - common
    # Two segments without length: the kit's 0 / 0 is not below any overlap, so it pairs them.
    shared = np.divide(common, union, out=np.full_like(union, np.inf), where=union > 0)
    shared = shared[:, ::-1]  # of equally good segments it takes the last
    hits: NDArray[np.bool_] = np.logical_or.reduce(_pairs(shared, shared >= overlaps[:, None, None]), axis=2)
    return hits


def _thumos14_hits(found: Segments, truth: Segments, overlaps: NDArray[np.float64]) -> NDArray[np.bool_]:
    common = seconds_shared(truth, found)
    # The kit divides by the time from the first start to the last end, which is the union where segments overlap.
    hull = np.maximum(truth[:, None, 1], found[:, 1]) - np.minimum(truth[:, None, 0], found[:, 0])
    shared = np.divide(common, hull, out=np.zeros_like(hull), where=common > 0)
    hits: NDArray[np.bool_] = np.logical_or.reduce(_pairs(shared, shared > overlaps[:, None, None]), axis=1)
    return hits


def seconds_shared(one: Segments, other: Segments) -> NDArray[np.float64]:
    """Seconds that each two segments [A, 2] and [B, 2] share, [A, B]."""
    common = np.minimum(one[:, None, 1], other[:, 1]) - np.maximum(one[:, None, 0], other[:, 0])
    return common.clip(0)


def _pairs(shared: NDArray[np.float64], enough: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether one takes the other, [T, A, B]: each of A in turn the free one of B that shares most and shares enough.

    Args:
        shared: [A, B]; of equal ones the first is taken.
        enough: [T, A, B].
    """
    free = np.ones((len(enough), shared.shape[1]), bool)  # [T, B]
    paired = np.zeros_like(enough)
    for a in np.flatnonzero(enough.any(axis=(0, 2))):
        possible = enough[:, a] & free
        some = np.flatnonzero(possible.any(axis=1))
        best = np.where(possible[some], shared[a], -1).argmax(axis=1)
        paired[some, a, best] = True
        free[some, best] = False
    return paired


RULES: Mapping[str, Rule] = {
    "activitynet": Rule(
        overlaps=tuple(np.linspace(0.5, 0.95, 10).tolist()),
        interpolated=True,
        ranked=lambda found: sorted(found, key=lambda one: one[1].score)[::-1],
        hits=_activitynet_hits,
        spares=False,
    ),
    "thumos14": Rule(
        overlaps=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
        interpolated=False,
        ranked=lambda found: sorted(found, key=lambda one: (-one[1].score, one[0])),
        hits=_thumos14_hits,
        spares=True,
    ),
}
