"""Late fusion of the streams, and the numbers of one split (fused.json) and of several (summary.json)."""

from collections.abc import Mapping
from itertools import combinations, zip_longest
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from atw.evaluate import metrics
from atw.evaluate.scores import Scores
from atw.files import InputError

FORMAT = 2
_AVERAGED = ("top1", "top5", "mean_class")
_PARTS = ("streams", "pairs")


def fuse(
    scores: Mapping[str, Scores], *, weights: Mapping[str, float], on: Literal["logits", "probabilities"]
) -> NDArray[np.float64]:
    """Weighted sum of the streams' scores, [V, K]; only its order within a video means anything.

    Args:
        scores: by stream.
        weights: by stream, at least one; a stream of `scores` without a weight takes no part.
        on: what is added: logits, or their softmax over the classes.

    Raises:
        InputError: a stream with a weight has no scores, or streams disagree about dataset, split, experiment, classes,
            videos, labels or quarantined videos.
    """
    for stream in weights:
        if stream not in scores:
            raise InputError(
                f"the fusion gives the stream {stream} a weight of {weights[stream]}, but there are scores for "
                f"{', '.join(scores)} only; give its score file too or set fusion.weights.{stream} to 0"
            )
    first, *others = scores.values()
    for other in others:
        _require_same(first, other)
        _require_same_files(first, other)
    fused = np.zeros(first.video_logits.shape)  # [V, K]
    for stream, weight in weights.items():
        logits = scores[stream].video_logits.astype(np.float64)
        fused += weight * (softmax(logits, axis=1) if on == "probabilities" else logits)
    return fused


def probabilities(
    fused: NDArray[np.floating], *, weights: Mapping[str, float], on: Literal["logits", "probabilities"]
) -> NDArray[np.float64]:
    """What `fuse` gives, [..., K], as probabilities: the mean by weight, of logits before the softmax.

    They are not calibrated. With the mean, a single stream of weight 2 is not twice as sure.
    """
    mean = fused.astype(np.float64) / sum(weights.values())  # [..., K]
    return mean if on == "probabilities" else softmax(mean, axis=-1)


def _require_same(one: Scores, other: Scores) -> None:
    for what, left, right in (
        ("dataset", [one.dataset], [other.dataset]),
        ("split", [one.split], [other.split]),
        ("experiment", [one.experiment], [other.experiment]),
        ("classes", one.classes, other.classes),
        ("videos", one.videos, other.videos),
        ("labels", one.labels.tolist(), other.labels.tolist()),
        ("quarantined videos", _quarantined(one), _quarantined(other)),
    ):
        for number, (had, has) in enumerate(zip_longest(left, right)):
            if had != has:
                raise InputError(
                    f"{one.stream} and {other.stream} cannot be fused, they differ in {what}: {had!r} in {one.stream}, "
                    f"{has!r} in {other.stream} (entry {number}); run the workflow, which scores the outdated one again"
                )


def _require_same_files(one: Scores, other: Scores) -> None:
    had, has = (scores.provenance.get("files") for scores in (one, other))
    if had and has and had != has:
        raise InputError(
            f"{one.stream} and {other.stream} cannot be fused, their shards were made from different files of a "
            f"video; `atw shards verify` with the folder of {one.dataset}'s shards names them: delete the outdated "
            "ones, and run the workflow"
        )


def _quarantined(scores: Scores) -> list[tuple[str, int]]:
    """Without the reasons: the same video may fail in each stream in its own way."""
    return sorted((video, label) for video, label, _ in scores.quarantined)


def pairs(
    scores: Mapping[str, Scores], *, weights: Mapping[str, float], on: Literal["logits", "probabilities"]
) -> dict[str, NDArray[np.float64]]:
    """Every two streams that have a weight, fused with these weights: [V, K] by name, as in `rgb+flow`."""
    return {
        f"{one}+{other}": fuse(scores, weights={one: weights[one], other: weights[other]}, on=on)
        for one, other in combinations(weights, 2)
    }


def report(
    scores: Mapping[str, Scores],
    *,
    weights: Mapping[str, float],
    on: Literal["logits", "probabilities"],
    seed: int,
    train_videos: int,
    quarantined: list[dict[str, str]],
) -> dict[str, Any]:
    """The content of fused.json: accuracies fused, by stream and by pair of streams, and what they rest on.

    The confusion matrix (rows are true classes) counts the test videos that could be decoded; for what accuracies count
    see `atw.evaluate.metrics.summary`.

    Args:
        scores: by stream.
        weights: by stream.
        on: what is added, see `fuse`.
        seed: of the bootstrap.
        train_videos: how many were trained on, quarantined ones included.
        quarantined: `video` and `reason` of those of the training and the test list that could not be decoded.

    Raises:
        InputError: the streams cannot be fused, see `fuse`.
    """
    fused = fuse(scores, weights=weights, on=on)
    first = next(iter(scores.values()))
    quarantined_labels = [label for _, label, _ in first.quarantined]

    def summarise(logits: NDArray[np.floating]) -> dict[str, Any]:
        return metrics.summary(
            logits, first.labels, quarantined_labels=quarantined_labels, classes=first.classes, seed=seed
        )

    return {
        "format": FORMAT,
        "dataset": first.dataset,
        "split": first.split,
        "experiment": first.experiment or None,
        "accuracy": summarise(fused),
        "streams": {stream: summarise(one.video_logits) for stream, one in scores.items()},
        "pairs": {name: summarise(logits) for name, logits in pairs(scores, weights=weights, on=on).items()},
        "fusion": {"weights": dict(weights), "on": on},
        "videos": {
            "train": train_videos,
            "test": len(first.videos) + len(first.quarantined),
            "quarantined": quarantined,
        },
        "classes": list(first.classes),
        "confusion": metrics.confusion_matrix(fused, first.labels).tolist(),
        "provenance": {stream: one.provenance for stream, one in scores.items()},
    }


def mean_over_splits(fused: list[dict[str, Any]]) -> dict[str, Any]:
    """The content of summary.json, from the contents of one or more fused.json.

    `accuracy` has mean and standard deviation (n - 1 in the denominator, None for one split) over the splits. `pooled`
    takes the videos of all splits together, with Wilson's 95% interval; it treats each split's test as videos of their
    own, so where test lists overlap the interval is somewhat too narrow. Where weights are chosen on held-out videos,
    splits may differ in them and so in the pairs of streams; the pairs are then those that all splits have.

    Raises:
        InputError: the results are of different datasets, experiments, classes, streams or fusions, or a split comes
            twice.
    """
    first = fused[0]
    for result in fused[1:]:
        for what in ("dataset", "experiment", "classes", "streams", "fusion", "pairs"):
            had, has = (_comparable(each, what) for each in (first, result))
            if had != has:
                raise InputError(
                    f"{first['split']} and {result['split']} cannot be averaged: {what} is {had} in the one and "
                    f"{has} in the other; run the workflow for the outdated one again"
                )
    splits = [result["split"] for result in fused]
    if len(set(splits)) < len(splits):
        raise InputError(f"the splits {', '.join(splits)} name one twice; give each result once")
    return {
        "format": FORMAT,
        "dataset": first["dataset"],
        "experiment": first["experiment"],
        "splits": splits,
        **_over_splits([result["accuracy"] for result in fused]),
        **{
            part: {
                name: _over_splits([result[part][name] for result in fused])
                for name in first[part]
                if all(name in result[part] for result in fused)
            }
            for part in _PARTS
        },
    }


def _comparable(result: dict[str, Any], what: str) -> Any:
    """What has to agree between splits: the streams that there are, not their numbers; what was set, not chosen."""
    choice = result["fusion"].get("held_out")
    if choice and what == "pairs":
        return None
    if choice and what == "fusion":
        return {"on": result["fusion"]["on"], "chosen from": choice["configured"]["weights"]}
    return sorted(result[what]) if what in _PARTS else result[what]


def _over_splits(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    correct = sum(summary["correct"] for summary in summaries)
    total = sum(summary["total"] for summary in summaries)
    return {
        "accuracy": {key: _mean_and_deviation([summary[key] for summary in summaries]) for key in _AVERAGED},
        "pooled": {"top1": correct / total, "top1_ci95": list(metrics.wilson_interval(correct, total))},
    }


def _mean_and_deviation(values: list[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None]
    return {
        "mean": float(np.mean(known)) if known else None,
        "std": float(np.std(known, ddof=1)) if len(known) > 1 else None,
    }
