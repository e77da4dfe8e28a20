"""How well the amount of motion finds the actions of scored videos: what attention should be compared with.

    python -m benchmarks.motion_baseline shards/badminton/flow results/badminton/split1/flow/scores.h5

Motion is the mean length of the flow vectors of a snippet's stack, in pixels per frame. Printed are its area under the
ROC curve, the share of it that lies inside and how often the largest lies inside, over all score files, beside the same
of the weights, of the predicted class's probability, and of a number that is the same for all snippets.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from atw.data.sampling import stack_indices
from atw.evaluate.attention import Localisation, localisation
from atw.evaluate.metrics import mean_of_known
from atw.evaluate.scores import Scores, read_scores
from atw.files import InputError
from atw.shards import Shard, dequantise
from benchmarks.report import Table, show


def motion(shard_paths: Sequence[Path], scores: Scores) -> NDArray[np.float32]:
    """Mean length of the flow in each snippet, [V, M], in pixels per frame; 0 behind the last snippet of a video.

    Raises:
        InputError: a shard is damaged or not of flow, or a video is in none.
    """
    stack = scores.recorded(int, "settings", "train", "sampling", "stack")
    found = np.full(scores.positions.shape, np.nan, np.float32)
    rows = {video: row for row, video in enumerate(scores.videos)}
    for path in shard_paths:
        with Shard(path) as shard:
            if shard.stream == "rgb":
                raise InputError(f"{path} holds frames; give the folder of the flow")
            for entry in shard.entries:
                if entry.video not in rows:
                    continue
                fields = dequantise(shard.fields(entry, range(entry.count)), shard.header.bound)  # [fields, 2, H, W]
                lengths = np.hypot(fields[:, 0], fields[:, 1]).mean(axis=(1, 2))
                row = rows[entry.video]
                starts = scores.positions[row, : scores.snippets[row]].astype(np.int64)
                stacks = stack_indices(starts, stack=stack, positions=entry.count)
                found[row] = 0
                found[row, : len(starts)] = lengths[stacks].mean(axis=1)
    missing = np.flatnonzero(np.isnan(found).any(axis=1))
    if len(missing):
        raise InputError(f"{scores.videos[missing[0]]} is in none of the shards; give those that the scores are of")
    return found


def measure(shard_paths: Sequence[Path], score_paths: Sequence[Path]) -> dict[str, Localisation]:
    """How well each number finds the actions: means over the score files, all of which know some action."""
    by_name: dict[str, list[Localisation]] = {}
    for path in score_paths:
        scores = read_scores(path)
        inside, counted = scores.actions.locate(scores.seconds, scores.own)
        rows = counted.any(axis=1)
        if not rows.any():
            raise InputError(f"{path} knows of no video when it shows its action")
        numbers = {
            "uniform": np.ones_like(scores.probability),
            "motion": motion(shard_paths, scores),
            "weights": scores.attention.mean(axis=1),
            "class": scores.probability,
        }
        for name, values in numbers.items():
            by_name.setdefault(name, []).append(localisation(values[rows], inside[rows], counted[rows]))
    return {name: _mean(several) for name, several in by_name.items()}


def _mean(several: Sequence[Localisation]) -> Localisation:
    return Localisation(
        auc=mean_of_known([one.auc for one in several]),
        mass_inside=float(np.mean([one.mass_inside for one in several])),
        pointing=float(np.mean([one.pointing for one in several])),
    )


def main(arguments: Sequence[str]) -> int:
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    shards = sorted(Path(arguments[0]).glob("*.h5"))
    try:
        found = measure(shards, [Path(path) for path in arguments[1:]])
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    lines = [
        [name, "-" if one.auc is None else f"{one.auc:.3f}", f"{one.mass_inside:.3f}", f"{one.pointing:.3f}"]
        for name, one in found.items()
    ]
    show(Console(), [Table(f"means over {len(arguments) - 1} files", ("", "AUC", "inside", "largest inside"), lines)])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
