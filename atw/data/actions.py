"""When videos show their actions, and how well numbers of their snippets say so. Shapes: V videos, up to M snippets."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Actions:
    """The A stretches in which videos are known to show actions.

    Args:
        video: [A] row of the video among the scores.
        label: [A] index of the class, -1 for a stretch that counts neither as action nor as background.
        seconds: [A, 2] start and end.
    """

    video: NDArray[np.int64]
    label: NDArray[np.int64]
    seconds: NDArray[np.float64]

    @classmethod
    def of(cls, rows: Iterable[tuple[int, int, float, float]]) -> Self:
        """Make actions from row, class, start and end of each."""
        table = np.array(sorted(rows), np.float64).reshape(-1, 4)
        return cls(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2:])

    def shown_in(self, row: int) -> list[tuple[int, tuple[float, float]]]:
        """Return class, and start and end in seconds, of each known action of the video in a row."""
        own = (self.video == row) & (self.label >= 0)
        seconds = [(start, end) for start, end in self.seconds[own].tolist()]
        return list(zip(self.label[own].tolist(), seconds, strict=True))

    def locate(
        self, seconds: NDArray[np.float64], own: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return which snippets lie inside an action, and which count, both [V, M].

        A snippet lies where its middle does. Those of videos without a known action do not count, nor those in a
        stretch to be ignored.

        Args:
            seconds: [V, M, 2] start and end of each snippet.
            own: [V, M] False where a video has no snippet any more.
        """
        middles = seconds.mean(axis=2)
        inside, ignored = np.zeros((2, *middles.shape), np.bool_)
        known = np.zeros(len(middles), np.bool_)
        for row, label, (start, end) in zip(self.video, self.label, self.seconds, strict=True):
            within = (start <= middles[row]) & (middles[row] <= end)
            if label < 0:
                ignored[row] |= within
            else:
                inside[row] |= within
                known[row] = True
        return inside, own & known[:, None] & ~ignored


def interval_auc(values: NDArray[np.floating], inside: NDArray[np.bool_], counted: NDArray[np.bool_]) -> float | None:
    """How well numbers of snippets [V, M] tell those inside an action from those outside.

    The area under the ROC curve of each video, by the rank-sum statistic: the share of pairs of an inside and an
    outside snippet in which the inside one has the higher number; equal numbers count half. Averaged over the videos
    that have both kinds; None if no video has both. Flat attention gives .5.

    Args:
        values: weights, or probabilities.
        inside: which snippets are inside.
        counted: which snippets count.
    """
    inner, outer = (inside & counted).sum(axis=1), (~inside & counted).sum(axis=1)
    both = (inner > 0) & (outer > 0)
    if not both.any():
        return None
    from scipy import stats  # its import takes half a second, and most trainings know no actions

    known = np.where(counted, values, np.nan)
    ranks = stats.rankdata(known, axis=1, nan_policy="omit")  # [V, M], from 1, ties share their mean
    higher = np.where(inside & counted, ranks, 0).sum(axis=1) - inner * (inner + 1) / 2
    return float(np.mean(higher[both] / (inner * outer)[both]))


def mass_inside(
    values: NDArray[np.floating], inside: NDArray[np.bool_], counted: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """The share of each video's numbers, by their sum, that lies inside its actions: [V]; 0 if the sum is 0."""
    known = np.where(counted, values, 0).astype(np.float64)
    total = known.sum(axis=1)
    share: NDArray[np.float64] = (known * inside).sum(axis=1) / np.where(total > 0, total, 1)
    return share
