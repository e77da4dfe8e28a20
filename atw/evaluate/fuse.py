"""Late fusion of the streams, with weights that are configured or chosen on held-out training videos."""

import math
from collections.abc import Iterator, Mapping
from itertools import combinations, product, zip_longest
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from atw.evaluate.metrics import Record, in_top
from atw.evaluate.scores import Scores
from atw.files import InputError

Addend = Literal["logits", "probabilities"]
"""What is added: logits, or their softmax over the classes."""

_STEPS = 10  # of the grid of weights, from 0 to 1


def fuse(scores: Mapping[str, Scores], *, weights: Mapping[str, float], on: Addend) -> NDArray[np.float64]:
    """Weighted sum of the streams' scores, [V, K]; only its order within a video means anything.

    Args:
        scores: by stream.
        weights: by stream, at least one; a stream of `scores` without a weight takes no part.
        on: what is added.

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
    return weighted_sum({stream: scores[stream].video_logits for stream in weights}, weights=weights, on=on)


def weighted_sum(
    logits: Mapping[str, NDArray[np.floating]], *, weights: Mapping[str, float], on: Addend
) -> NDArray[np.float64]:
    """The sum over the streams of `weights`, [..., K], of their logits [..., K] or of the softmax of these."""
    total = np.zeros(())
    for stream, weight in weights.items():
        exact = logits[stream].astype(np.float64)
        total = total + weight * (softmax(exact, axis=-1) if on == "probabilities" else exact)
    return total


def probabilities(fused: NDArray[np.floating], *, weights: Mapping[str, float], on: Addend) -> NDArray[np.float64]:
    """What `fuse` gives, [..., K], as probabilities: the mean by weight, of logits before the softmax.

    They are not calibrated. Because it is the mean, a single stream of weight 2 is not twice as sure.
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
        ("further labels", one.more_labels.tolist(), other.more_labels.tolist()),
        ("quarantined videos", _quarantined(one), _quarantined(other)),
    ):
        for number, (had, has) in enumerate(zip_longest(left, right)):
            if had != has:
                raise InputError(
                    f"{one.stream} and {other.stream} cannot be fused, they differ in {what}: {had!r} in {one.stream}, "
                    f"{has!r} in {other.stream} (entry {number}); run the workflow, which scores the outdated one again"
                )
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


def pairs(scores: Mapping[str, Scores], *, weights: Mapping[str, float], on: Addend) -> dict[str, NDArray[np.float64]]:
    """Every two streams that have a weight, fused with these weights: [V, K] by name, as in `rgb+flow`."""
    return {
        f"{one}+{other}": fuse(scores, weights={one: weights[one], other: weights[other]}, on=on)
        for one, other in combinations(weights, 2)
    }


class WeightGrid(Record):
    """The weights that were tried: how far apart they are, and how many."""

    step: float
    candidates: int


class RatedWeights(Record):
    """Weights by stream, and the top-1 accuracy with them on the held-out videos."""

    weights: dict[str, float]
    top1: float


class WeightSearch(Record):
    """How weights were chosen on held-out videos, as `fusion.held_out` of fused.json has it."""

    videos: int
    grid: WeightGrid
    configured: RatedWeights
    chosen: RatedWeights


def choose_weights(held_out: Mapping[str, Scores], *, configured: Mapping[str, float], on: Addend) -> WeightSearch:
    """Find the weights with the highest top-1 accuracy on held-out training videos.

    Candidates sum to 1: the configured weights, and all multiples of a tenth. Of equally good candidates the nearest to
    the configured weights is taken. Videos that could not be decoded are wrong with any weights and left out.

    Args:
        held_out: scores of the held-out videos, by stream.
        configured: weights above 0, by stream.
        on: what is added.

    Raises:
        InputError: the scores are of test videos, or the streams cannot be fused, see `fuse`.
    """
    for one in held_out.values():
        if one.subset != "held_out":
            raise InputError(f"the {one.stream} scores are of {one.subset} videos; weights are chosen on held-out ones")
    total = sum(configured.values())
    start = tuple(weight / total for weight in configured.values())
    candidates = list(dict.fromkeys([start, *weight_grid(len(configured))]))
    videos = len(next(iter(held_out.values())).labels)
    correct = [
        count_correct(held_out, weights=dict(zip(configured, point, strict=True)), on=on) for point in candidates
    ]
    # Rounded, so that equal distances are equal whatever the order of the sum.
    distances = [round(math.dist(point, start), 9) for point in candidates]
    best = min(range(len(candidates)), key=lambda i: (-correct[i], distances[i]))
    chosen = {stream: weight for stream, weight in zip(configured, candidates[best], strict=True) if weight}
    return WeightSearch(
        videos=videos,
        grid=WeightGrid(step=1 / _STEPS, candidates=len(candidates)),
        configured=RatedWeights(weights=dict(configured), top1=correct[0] / videos),
        chosen=RatedWeights(weights=chosen, top1=correct[best] / videos),
    )


def count_correct(scores: Mapping[str, Scores], *, weights: Mapping[str, float], on: Addend) -> int:
    """Count the decoded videos that are recognised with these weights."""
    fused = fuse(scores, weights=weights, on=on)
    return int(in_top(fused, next(iter(scores.values())).truth, k=1).sum())


def weight_grid(streams: int) -> Iterator[tuple[float, ...]]:
    """Weights to try, one per stream: every point of multiples of a tenth, each at least 0, that sum to 1."""
    for point in product(range(_STEPS + 1), repeat=streams):
        if sum(point) == _STEPS:
            yield tuple(number / _STEPS for number in point)
