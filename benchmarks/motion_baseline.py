"""How well the amount of motion finds the actions of scored videos: what attention should be compared with.

    python -m benchmarks.motion_baseline shards/badminton/flow results/badminton/split1/flow/scores.h5

Motion is the mean length of the flow vectors of a snippet's stack, in pixels per frame. Printed are its area under the
ROC curve, the share of it that lies inside and how often the largest lies inside, beside the same of the weights, of
the predicted class's probability, and of a number that is the same for all snippets. They are means over the videos; a
video that is in several score files, as of several seeds, counts once, with its mean. Intervals are 95%, over videos.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from atw.data.sampling import stack_indices
from atw.evaluate.attention import Localisation, localisation
from atw.evaluate.metrics import bootstrap_interval, mean_of_known
from atw.evaluate.scores import Scores, read_scores
from atw.files import InputError
from atw.shards import Shard, dequantise
from benchmarks.report import Table, show

Found = dict[str, list[Localisation]]
"""How well a number finds the actions of each video, once for each score file that has the video."""


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


def measure(shard_paths: Sequence[Path], score_paths: Sequence[Path]) -> dict[str, Found]:
    """How well each number finds the actions of each video, by the number's name.

    Raises:
        InputError: as of `motion`, or a score file knows of no video when it shows its action.
    """
    by_name: dict[str, Found] = {}
    for path in score_paths:
        scores = read_scores(path)
        inside, counted = scores.actions.locate(scores.seconds, scores.own)
        rows = np.flatnonzero(counted.any(axis=1)).tolist()
        if not rows:
            raise InputError(f"{path} knows of no video when it shows its action")
        numbers = {
            "uniform": np.ones_like(scores.probability),
            "motion": motion(shard_paths, scores),
            "weights": scores.attention.mean(axis=1),
            "class": scores.probability,
        }
        for name, values in numbers.items():
            found = by_name.setdefault(name, {})
            for row in rows:
                one = localisation(values[[row]], inside[[row]], counted[[row]])
                found.setdefault(scores.videos[row], []).append(one)
    return by_name


def of_videos(found: Found, name: str) -> NDArray[np.float64]:
    """One of the numbers of each video, mean over its score files: [V]; NaN where none has it."""
    several = ([getattr(one, name) for one in of_video] for of_video in found.values())
    return np.array([mean_of_known(values) for values in several], np.float64)


def _row(name: str, found: Mapping[str, Found]) -> list[str]:
    """The means of a number with their intervals; the last is how much oftener than by chance its largest is inside."""
    columns = [of_videos(found[name], column) for column in ("auc", "mass_inside", "pointing")]
    columns.append(columns[-1] - of_videos(found["uniform"], "pointing"))
    signs = ("", "", "", "+")
    return [name, *(_with_interval(values, sign) for values, sign in zip(columns, signs, strict=True))]


def _with_interval(values: NDArray[np.float64], sign: str) -> str:
    known = values[~np.isnan(values)]
    if not len(known):
        return "-"
    low, high = bootstrap_interval(known, seed=0)
    return f"{known.mean():{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


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
    videos = f"{len(found['uniform'])} videos of {len(arguments) - 1} score files"
    columns = ("", "AUC", "inside", "largest inside", "less uniform")
    show(Console(), [Table(videos, columns, [_row(name, found) for name in found])])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
