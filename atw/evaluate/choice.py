"""Weights of the fusion chosen on held-out training videos; nothing here sees a test video."""

import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, Literal

from atw.evaluate import metrics
from atw.evaluate.fuse import fuse
from atw.evaluate.scores import Scores
from atw.files import InputError

_STEPS = 10  # of the grid, from 0 to 1


def choose_weights(
    held_out: Mapping[str, Scores], *, configured: Mapping[str, float], on: Literal["logits", "probabilities"]
) -> dict[str, Any]:
    """The weights with the highest top-1 on held-out videos, and what they were chosen from, as fused.json has it.

    Candidates sum to 1: the configured weights, and all multiples of a tenth. Of equally good ones the nearest to the
    configured weights is taken. Videos that could not be decoded are wrong with any weights and left out.

    Args:
        held_out: scores of the held-out videos, by stream.
        configured: weights above 0, by stream.
        on: what is added, see `fuse`.

    Raises:
        InputError: the scores are of test videos, or the streams cannot be fused, see `fuse`.
    """
    for one in held_out.values():
        if one.subset != "held_out":
            raise InputError(f"the {one.stream} scores are of {one.subset} videos; weights are chosen on held-out ones")
    total = sum(configured.values())
    start = tuple(weight / total for weight in configured.values())
    candidates = list(dict.fromkeys([start, *grid(len(configured))]))
    labels = next(iter(held_out.values())).labels
    correct = [
        count_correct(held_out, weights=dict(zip(configured, point, strict=True)), on=on) for point in candidates
    ]
    # Rounded, so that equal distances are equal whatever the order of the sum.
    distances = [round(math.dist(point, start), 9) for point in candidates]
    best = min(range(len(candidates)), key=lambda i: (-correct[i], distances[i]))
    chosen = {stream: weight for stream, weight in zip(configured, candidates[best], strict=True) if weight}
    return {
        "videos": len(labels),
        "grid": {"step": 1 / _STEPS, "candidates": len(candidates)},
        "configured": {"weights": dict(configured), "top1": correct[0] / len(labels)},
        "chosen": {"weights": chosen, "top1": correct[best] / len(labels)},
    }


def count_correct(
    scores: Mapping[str, Scores], *, weights: Mapping[str, float], on: Literal["logits", "probabilities"]
) -> int:
    """How many of the decoded videos are recognised with these weights."""
    fused = fuse(scores, weights=weights, on=on)
    return int(metrics.in_top(fused, next(iter(scores.values())).labels, k=1).sum())


def grid(streams: int) -> Iterator[tuple[float, ...]]:
    """Weights to try, one a stream: every point of multiples of a tenth, each at least 0, that sum to 1."""
    for point in product(range(_STEPS + 1), repeat=streams):
        if sum(point) == _STEPS:
            yield tuple(number / _STEPS for number in point)
