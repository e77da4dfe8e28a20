"""How good scores are: accuracies with their uncertainty, and how well the attention finds the action.

Shapes: V videos, K classes, M snippets. Accuracies are fractions of 1.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import ndtri

from atw.evaluate.average_precision import mean_average_precision
from atw.evaluate.scores import Scores
from atw.files import InputError

RESAMPLES = 10_000
_BATCH = 250  # resamples drawn at once: 10,000 of a UCF-101 test list would take 300 MB


OMITTED: Any = Field(default=None, exclude_if=lambda value: value is None)
"""The default of a name that the JSON file lacks if there is no value."""


class Record(BaseModel):
    """A part of a JSON file; names that this version does not know are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return self.model_dump()


class Accuracy(Record):
    """The accuracies of a test list.

    Every number but `top1_decodable` is over the whole list, so a quarantined video counts as wrong: without the videos
    that are hard to decode, lists of different length would look alike.

    A video with several labels is recognised if the first class is any of them, and belongs to the class of its first
    label. Background videos count in `map` alone.

    Args:
        top1: share of the videos that are recognised (hit@1).
        top1_ci95: its interval by Wilson, low and high.
        top1_decodable: share among the videos that could be decoded.
        top5: None with 5 classes or fewer, where it would always be 1.
        mean_class: mean of the accuracies of the classes that have a test video.
        correct: videos that are recognised.
        total: videos of the list.
        per_class: by name; None for a class without a test video.
        map: mean average precision by THUMOS14's rule, see `atw.evaluate.average_precision`; classes rank the videos
            by probability, quarantined ones last. Only where a video has several labels or none.
    """

    top1: float
    top1_ci95: tuple[float, float]
    top1_decodable: float
    top5: float | None
    mean_class: float
    correct: int
    total: int
    per_class: dict[str, float | None]
    map: float | None = OMITTED


def guess_accuracies(truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Top-1 accuracy without a look at the videos: of a random class, and of the class that most videos show.

    Args:
        truth: [V, K] the classes of each listed video; background videos do not count.
    """
    shown = truth[truth.any(axis=1)]
    return (float(shown.mean()), float(shown.mean(axis=0).max())) if len(shown) else (0.0, 0.0)


def in_top(logits: NDArray[np.floating], truth: NDArray[np.bool_], *, k: int) -> NDArray[np.bool_]:
    """Whether a class of each video is among the k highest of its logits; of equal logits the first class wins.

    Args:
        logits: [V, K].
        truth: [V, K] the classes of each video; without any, the answer is no.
        k: how many classes count.
    """
    ranked = np.argsort(-logits, axis=1, kind="stable")[:, :k]  # [V, k]
    among: NDArray[np.bool_] = np.any(np.take_along_axis(truth, ranked, axis=1), axis=1)
    return among


def listed_accuracy(logits: NDArray[np.floating], scores: Scores, *, probabilities: NDArray[np.floating]) -> Accuracy:
    """The accuracies of logits [V, K], of at least one video with a label.

    Args:
        logits: of the videos that could be decoded, in the order of `scores`.
        scores: of any of the streams that the logits come from.
        probabilities: [V, K] that go with the logits.

    Raises:
        InputError: no video that could be decoded has a label.
    """
    decoded, listed = scores.labels >= 0, scores.listed_labels >= 0  # the videos with a label
    if not decoded.any():
        raise InputError(f"no test video of {scores.split} with a label could be decoded; see the logs of the shards")
    right, labels = in_top(logits, scores.truth, k=1), scores.listed_labels[listed]
    correct = np.pad(right, (0, len(scores.quarantined)))[listed]
    per_class = per_class_accuracy(correct, labels, class_count=len(scores.classes))
    top5 = int(in_top(logits, scores.truth, k=5).sum()) / len(labels) if len(scores.classes) > 5 else None
    return Accuracy(
        top1=float(correct.mean()),
        top1_ci95=wilson_interval(int(correct.sum()), len(labels)),
        top1_decodable=float(right[decoded].mean()),
        top5=top5,
        mean_class=float(np.nanmean(per_class)),
        correct=int(correct.sum()),
        total=len(labels),
        per_class={
            name: None if np.isnan(share) else share
            for name, share in zip(scores.classes, per_class.tolist(), strict=True)
        },
        map=None if (scores.listed_truth.sum(axis=1) == 1).all() else _listed_map(probabilities, scores),
    )


def _listed_map(probabilities: NDArray[np.floating], scores: Scores) -> float:
    lowest = np.full((len(scores.quarantined), len(scores.classes)), -np.inf)
    return mean_average_precision(np.concatenate([probabilities, lowest]), scores.listed_truth, interpolated=False)


def per_class_accuracy(
    correct: NDArray[np.bool_], labels: NDArray[np.int64], *, class_count: int
) -> NDArray[np.float64]:
    """Share of each class's videos that are correct, [K]; NaN for a class without a video."""
    videos = np.bincount(labels, minlength=class_count)
    right = np.bincount(labels[correct], minlength=class_count)
    shares: NDArray[np.float64] = np.divide(right, videos, out=np.full(class_count, np.nan), where=videos > 0)
    return shares


def confusion_matrix(logits: NDArray[np.floating], scores: Scores) -> NDArray[np.int64]:
    """Videos of `scores` with a label, by class, [K, K]: the row is the class of the first label.

    The column is the class with the highest of the logits [V, K]; if it is another label of the video, that of the
    first: recognised videos are on the diagonal.
    """
    class_count = len(scores.classes)
    taken = np.where(in_top(logits, scores.truth, k=1), scores.labels, logits.argmax(axis=1))
    cells = (scores.labels * class_count + taken)[scores.labels >= 0]
    return np.bincount(cells, minlength=class_count**2).reshape(class_count, class_count)


def bootstrap_interval(values: NDArray[np.generic], *, seed: int) -> tuple[float, float]:
    """95% interval of the mean of `values` [V], one per video: percentiles of 10,000 resamples of the videos.

    It says how much another draw of test videos would change the number, not another training. If all values are equal,
    no resample differs, and the interval is a point.
    """
    numbers = values.astype(np.float64)
    if (numbers == numbers[0]).all():
        return float(numbers[0]), float(numbers[0])
    from scipy import stats  # its import takes half a second, and what only prints results needs none of it

    interval = stats.bootstrap(
        (numbers,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=_BATCH,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def mean_of_known(values: Sequence[float | None]) -> float | None:
    """Return the mean of the values that are known; None if none is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share: how much another draw of test videos would change it, not another training.

    It is right where all or none of few videos are recognised, too, of which no resample differs.
    The formula is that of `scipy.stats.binomtest`, without the half second that its import takes.
    """
    share, squared = correct / total, ndtri(0.975) ** 2
    middle = share + squared / (2 * total)
    reach = math.sqrt(squared * (share * (1 - share) + squared / (4 * total)) / total)
    low, high = ((middle + side * reach) / (1 + squared / total) for side in (-1, 1))
    return (0.0 if correct == 0 else float(low)), (1.0 if correct == total else float(high))


def mean_class_interval(right: NDArray[np.integer], videos: NDArray[np.integer], *, seed: int) -> tuple[float, float]:
    """95% interval of the mean class accuracy: percentiles of 10,000 resamples of the videos within each class.

    Each class keeps its number of videos, so the right ones of a resample follow a binomial distribution.

    Args:
        right: [K] videos of each class that are correct.
        videos: [K] videos of each class; classes without any are left out.
        seed: of the resamples.
    """
    right, videos = right[videos > 0], videos[videos > 0]
    drawn = np.random.default_rng(seed).binomial(videos, right / videos, size=(RESAMPLES, len(videos)))
    low, high = np.percentile((drawn / videos).mean(axis=1), (2.5, 97.5))
    return float(low), float(high)
