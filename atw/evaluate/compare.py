"""Two results on the same test videos: is the one better, or were the videos kind to it?

Both are right or wrong about each video, so only the videos that they disagree about tell them apart. McNemar's exact
test asks how likely a fair coin is to share these out as unevenly; the interval of the difference resamples videos,
each with both outcomes. Neither says how much another training of the same networks would change.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from scipy.stats import binomtest

from atw.evaluate.fuse import fuse
from atw.evaluate.metrics import bootstrap_interval, in_top
from atw.evaluate.result import read_result, understood
from atw.evaluate.scores import Scores, read_scores
from atw.files import InputError
from atw.terminal import console

# The class of each listed test video, by split and id, and whether the result names it.
Outcomes = dict[tuple[str, str], tuple[str, bool]]


def outcomes(logits: NDArray[np.floating], scores: Scores) -> Outcomes:
    """Whether each listed test video is recognised by `logits` [V, K]; a quarantined one is not.

    Args:
        logits: of the videos that could be decoded, in the order of `scores`.
        scores: of any of the streams that they come from.
    """
    right = in_top(logits, scores.labels, k=1).tolist()
    decoded = zip(scores.videos, scores.labels.tolist(), right, strict=True)
    missing = ((video, label, False) for video, label, _ in scores.quarantined)
    return {(scores.split, video): (scores.classes[label], is_right) for video, label, is_right in (*decoded, *missing)}


def compare(first: Outcomes, second: Outcomes, *, seed: int) -> dict[str, Any]:
    """McNemar's exact test between two results, and the interval of their difference.

    Args:
        first: outcomes of the one result.
        second: of the other, on the same videos.
        seed: of the bootstrap.

    Returns:
        `videos`; `accuracy` of both; `difference` (second - first) with `difference_ci95` [low, high]; `only_first` and
        `only_second`, the videos that only the one is right about; `p_value`, two-sided, 1 where they never disagree.

    Raises:
        InputError: the results are of different videos, or a video's class differs.
    """
    for key in sorted(first.keys() | second.keys()):
        if key not in first or key not in second or first[key][0] != second[key][0]:
            raise InputError(
                f"the results cannot be compared: {' '.join(key)} is {_class_of(first, key)} in the first and "
                f"{_class_of(second, key)} in the second; take two results on the same lists of test videos"
            )
    pairs = np.array([[first[key][1], second[key][1]] for key in sorted(first)])  # [V, 2]
    only_first, only_second = (int((pairs[:, i] & ~pairs[:, 1 - i]).sum()) for i in (0, 1))
    disagreements = only_first + only_second
    return {
        "videos": len(pairs),
        "accuracy": [float(accuracy) for accuracy in pairs.mean(axis=0)],
        "difference": (only_second - only_first) / len(pairs),
        "difference_ci95": list(bootstrap_interval(pairs[:, 1].astype(int) - pairs[:, 0], seed=seed)),
        "only_first": only_first,
        "only_second": only_second,
        "p_value": float(binomtest(only_first, disagreements).pvalue) if disagreements else 1.0,
    }


def _class_of(results: Outcomes, key: tuple[str, str]) -> str:
    return f"a video of {results[key][0]}" if key in results else "not listed"


def compare_results(first: Path, second: Path) -> dict[str, Any]:
    """Compare two results by their score files, `compare`d for the fusion and every stream that both have.

    Args:
        first: a fused.json, or the folder of one; or a folder of splits, which are taken together.
        second: likewise.

    Raises:
        InputError: one is no result, its score files are not those it was made from, or the two are of different
            datasets or videos.
    """
    with understood(first):
        left = _read(first)
    with understood(second):
        right = _read(second)
    if left["dataset"] != right["dataset"]:
        raise InputError(
            f"{first} is of dataset {left['dataset']} and {second} of {right['dataset']}; "
            "only results on the same videos can be compared"
        )
    return {
        "dataset": left["dataset"],
        "first": left["experiment"],
        "second": right["experiment"],
        "splits": left["splits"],
        "results": {
            name: compare(left["outcomes"][name], right["outcomes"][name], seed=left["seed"])
            for name in left["outcomes"]
            if name in right["outcomes"]
        },
    }


def _read(path: Path) -> dict[str, Any]:
    """Outcomes of the fusion and by stream, over all splits of a result."""
    found = _results_in(path)
    read = [read_result(one) for one in found]
    by_split = [_outcomes_of(one, result) for one, result in zip(found, read, strict=True)]
    merged: dict[str, Outcomes] = {}
    for name in by_split[0]:
        if all(name in seen for seen in by_split):
            merged[name] = {key: outcome for seen in by_split for key, outcome in seen[name].items()}
    return {
        "dataset": read[0]["dataset"],
        "experiment": read[0]["experiment"],
        "splits": [result["split"] for result in read],
        "seed": read[0]["provenance"]["fuse"]["seed"],
        "outcomes": merged,
    }


def _results_in(path: Path) -> Sequence[Path]:
    if not path.is_dir():
        return [path]
    if (path / "fused.json").is_file():
        return [path / "fused.json"]
    found = sorted(path.glob("split*/fused.json"))
    if not found:
        raise InputError(f"{path} holds no fused.json and no split*/fused.json; give the folder of a result")
    return found


def _outcomes_of(path: Path, result: dict[str, Any]) -> dict[str, Outcomes]:
    scores = {stream: read_scores(path.parent / stream / "scores.h5") for stream in result["fusion"]["weights"]}
    return result_outcomes(path, result, scores)


def result_outcomes(path: Path, result: dict[str, Any], scores: Mapping[str, Scores]) -> dict[str, Outcomes]:
    """Outcomes by stream, and `fused`.

    Args:
        path: of the fused.json.
        result: its content.
        scores: of each of its streams.

    Raises:
        InputError: the result was not made from these scores.
    """
    weights: Mapping[str, float] = result["fusion"]["weights"]
    seen = {stream: outcomes(scores[stream].video_logits, scores[stream]) for stream in weights}
    fused = fuse(scores, weights=weights, on=result["fusion"]["on"])
    seen["fused"] = outcomes(fused, next(iter(scores.values())))
    for name, found in seen.items():
        told = result["accuracy"] if name == "fused" else result["streams"][name]
        if (sum(right for _, right in found.values()), len(found)) != (told["correct"], told["total"]):
            raise InputError(
                f"{path} was not made from the score files beside it: they differ in {name}; run the workflow for it"
            )
    return seen


def print_comparison(said: dict[str, Any]) -> None:
    """Print what `compare_results` found as a table; `alone` counts the videos that only the one is right about."""
    names = [said[key] or said["dataset"] for key in ("first", "second")]
    table = Table(title=f"{said['dataset']} {' '.join(said['splits'])}: {names[0]} and {names[1]}")
    for heading in ("stream", *names, "difference", "95% interval", "alone", "p"):
        table.add_column(heading, justify="left" if heading == "stream" else "right")
    for name, one in said["results"].items():
        low, high = one["difference_ci95"]
        table.add_row(
            name,
            *(f"{accuracy:.3f}" for accuracy in one["accuracy"]),
            f"{one['difference']:+.3f}",
            f"{low:+.3f} to {high:+.3f}",
            f"{one['only_first']} : {one['only_second']}",
            f"{one['p_value']:.3g}",
        )
    console().print(table)
