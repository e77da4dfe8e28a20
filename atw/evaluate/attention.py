"""How well the attention of scored videos finds their actions.

Shapes: V videos, M snippets.
"""

import numpy as np
from numpy.typing import NDArray

from atw.evaluate.metrics import interval_auc
from atw.evaluate.scores import Scores


def inside_actions(scores: Scores) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which snippets lie inside an action, and which count, both [V, M].

    A snippet lies where its middle does. Those of videos without a known action do not count, nor those in a stretch to
    be ignored.
    """
    middles = scores.seconds.mean(axis=2)
    inside, ignored = np.zeros((2, *middles.shape), np.bool_)
    known = np.zeros(len(scores.videos), np.bool_)
    for row, label, (start, end) in zip(
        *(scores.actions.video, scores.actions.label, scores.actions.seconds), strict=True
    ):
        within = (start <= middles[row]) & (middles[row] <= end)
        if label < 0:
            ignored[row] |= within
        else:
            inside[row] |= within
            known[row] = True
    return inside, scores.own & known[:, None] & ~ignored


def attention_auc(scores: Scores) -> float | None:
    """Return the AUC of the attention, averaged over the crops, against the known actions; see `interval_auc`."""
    inside, counts = inside_actions(scores)
    return interval_auc(np.where(counts, scores.attention.mean(axis=1), np.nan), inside)
