"""What scores are worth: accuracies with their uncertainty, and how well the attention finds the action.

Shapes: V videos, K classes, M snippets. Accuracies are fractions of 1.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

RESAMPLES = 10_000
_BATCH = 250  # resamples drawn at once: 10,000 of a UCF-101 test list would take 300 MB


def in_top(logits: NDArray[np.floating], labels: NDArray[np.int64], *, k: int) -> NDArray[np.bool_]:
    """Whether each video's class is among the k highest of its logits [V, K]; of equal logits the first class wins."""
    ranked = np.argsort(-logits, axis=1, kind="stable")[:, :k]  # [V, k]
    found: NDArray[np.bool_] = (ranked == labels[:, None]).any(axis=1)
    return found


def accuracy(logits: NDArray[np.floating], labels: NDArray[np.int64], *, k: int) -> float:
    """Share of the videos whose class is among the k highest of their logits [V, K]."""
    return float(in_top(logits, labels, k=k).mean())


def per_class_accuracy(
    correct: NDArray[np.bool_], labels: NDArray[np.int64], *, class_count: int
) -> NDArray[np.float64]:
    """Share of each class's videos that are correct, [K]; NaN for a class without a video."""
    videos = np.bincount(labels, minlength=class_count)
    right = np.bincount(labels[correct], minlength=class_count)
    shares: NDArray[np.float64] = np.divide(right, videos, out=np.full(class_count, np.nan), where=videos > 0)
    return shares


def mean_class_accuracy(correct: NDArray[np.bool_], labels: NDArray[np.int64], *, class_count: int) -> float:
    """Mean of the accuracies of the classes that have a video, however many each has."""
    return float(np.nanmean(per_class_accuracy(correct, labels, class_count=class_count)))


def confusion_matrix(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Videos by class, [K, K]: the row is the true class, the column the one with the highest logit."""
    class_count = logits.shape[1]
    cells = labels * class_count + logits.argmax(axis=1)
    return np.bincount(cells, minlength=class_count**2).reshape(class_count, class_count)


def bootstrap_interval(values: NDArray[np.generic], *, seed: int) -> tuple[float, float]:
    """95% interval of the mean of `values` [V], one a video: percentiles of 10,000 resamples of the videos.

    It says how much another draw of test videos would change the number, not another training. When all values are
    equal no resample differs, and the interval is a point.
    """
    numbers = values.astype(np.float64)
    if (numbers == numbers[0]).all():
        return float(numbers[0]), float(numbers[0])
    interval = stats.bootstrap(
        (numbers,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=_BATCH,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def wilson_interval(correct: int, total: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share: of use where the bootstrap is not, when all or none of few are right."""
    interval = stats.binomtest(correct, total).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def mean_class_interval(right: NDArray[np.integer], videos: NDArray[np.integer], *, seed: int) -> tuple[float, float]:
    """95% interval of the mean class accuracy: percentiles of 10,000 resamples of the videos within each class.

    Each class keeps its number of videos, so the right ones of a resample follow a binomial distribution.

    Args:
        right: [K] videos of each class that are correct.
        videos: [K] videos of each class; those without are left out.
        seed: of the resamples.
    """
    right, videos = right[videos > 0], videos[videos > 0]
    drawn = np.random.default_rng(seed).binomial(videos, right / videos, size=(RESAMPLES, len(videos)))
    low, high = np.percentile((drawn / videos).mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def summary(
    logits: NDArray[np.floating],
    labels: NDArray[np.int64],
    *,
    quarantined_labels: Sequence[int],
    classes: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """The accuracies of a test list, as JSON can hold them.

    Every number but `top1_decodable` is over the whole list, so a quarantined video counts as wrong: leaving out what
    is hard to decode would make lists of different length look alike.

    Args:
        logits: [V, K] of the videos that could be decoded, at least one.
        labels: [V] index of each one's class.
        quarantined_labels: index of the class of each video that could not be decoded.
        classes: K names.
        seed: of the bootstrap.

    Returns:
        `top1`, `correct` and `total` (the videos behind it), `top1_ci95` [low, high], `top1_decodable`, `top5` (None
        with 5 classes or fewer, where it would be 1 whatever the logits), `mean_class`, and `per_class` by name (None
        for a class without a test video).
    """
    missing = np.asarray(quarantined_labels, np.int64)
    listed = np.concatenate([labels, missing])
    correct = np.concatenate([in_top(logits, labels, k=1), np.zeros(len(missing), bool)])
    per_class = per_class_accuracy(correct, listed, class_count=len(classes)).tolist()
    top5 = int(in_top(logits, labels, k=5).sum()) / len(listed) if len(classes) > 5 else None
    return {
        "top1": float(correct.mean()),
        "top1_ci95": list(bootstrap_interval(correct, seed=seed)),
        "top1_decodable": accuracy(logits, labels, k=1),
        "top5": top5,
        "mean_class": mean_class_accuracy(correct, listed, class_count=len(classes)),
        "correct": int(correct.sum()),
        "total": len(listed),
        "per_class": {name: None if np.isnan(right) else right for name, right in zip(classes, per_class, strict=True)},
    }


def interval_auc(weights: NDArray[np.floating], inside: NDArray[np.bool_]) -> float | None:
    """How well attention weights [V, M] tell snippets inside the action (`inside`, [V, M]) from those outside.

    The area under the ROC curve of each video, by the rank-sum statistic: the share of pairs of an inside and an
    outside snippet whose inside one has the higher weight, equal weights counting half. Averaged over the videos that
    have both kinds; None when none has. Flat attention gives .5.
    """
    inner = inside.sum(axis=1)
    outer = inside.shape[1] - inner
    both = (inner > 0) & (outer > 0)
    if not both.any():
        return None
    ranks = stats.rankdata(weights, axis=1)  # [V, M], from 1, ties share their mean
    higher = (ranks * inside).sum(axis=1) - inner * (inner + 1) / 2
    return float(np.mean(higher[both] / (inner * outer)[both]))
