"""Two results on the same test videos: is the one better, or were the videos kind to it?

Both are right or wrong about each video, so only the videos that they disagree about tell them apart. McNemar's exact
test asks how likely a fair coin shares these out as unevenly; the interval of the difference resamples videos, each
with both outcomes. Neither says how much another training of the same networks would change.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from atw.evaluate.fuse import fuse
from atw.evaluate.metrics import Record, bootstrap_interval, in_top
from atw.evaluate.result import Result, read_result
from atw.evaluate.scores import Scores, read_scores
from atw.files import InputError
from atw.terminal import console

Outcomes = dict[tuple[str, str], tuple[str, bool]]
"""The class of each listed test video, by split and id, and whether the result names it or another label of it."""


class Comparison(Record):
    """McNemar's exact test between two results, and the interval of their difference.

    Args:
        videos: that both results are of.
        accuracy: of both.
        difference: second - first.
        difference_ci95: its interval, low and high.
        only_first: videos that only the first is right about.
        only_second: videos that only the second is right about.
        p_value: two-sided, 1 if they never disagree.
    """

    videos: int
    accuracy: tuple[float, float]
    difference: float
    difference_ci95: tuple[float, float]
    only_first: int
    only_second: int
    p_value: float


class RepeatedAccuracy(Record):
    """The accuracy of a method that was trained with several seeds.

    Args:
        top1: mean over the videos and the seeds.
        top1_ci95: its interval: 10,000 resamples of the videos, each with the outcomes of all seeds.
        top1_std: standard deviation over the seeds (n - 1 in the denominator), None for one seed.
    """

    top1: float
    top1_ci95: tuple[float, float]
    top1_std: float | None


class ComparedResults(Record):
    """Two results, compared for the fusion and for every stream that both have."""

    dataset: str
    first: str | None
    second: str | None
    splits: list[str]
    results: dict[str, Comparison]


class ReadResults(NamedTuple):
    """The results of one or more splits at a path, and the outcomes of the fusion and by stream over all of them."""

    path: Path
    results: list[Result]
    outcomes: dict[str, Outcomes]


def outcomes(logits: NDArray[np.floating], scores: Scores) -> Outcomes:
    """Whether each listed test video with a label is recognised by `logits` [V, K]; a quarantined one is not.

    Args:
        logits: of the videos that could be decoded, in the order of `scores`.
        scores: of any of the streams that the logits come from.
    """
    right = in_top(logits, scores.truth, k=1).tolist()
    decoded = zip(scores.videos, scores.labels.tolist(), right, strict=True)
    missing = ((video, label, False) for video, label, _ in scores.quarantined)
    return {
        (scores.split, video): (scores.classes[label], is_right)
        for video, label, is_right in (*decoded, *missing)
        if label >= 0
    }


def repeated_accuracy(repeats: Sequence[Outcomes], *, seed: int) -> RepeatedAccuracy:
    """The accuracy of one method over its trainings.

    Args:
        repeats: outcomes of the same videos, one entry per training.
        seed: of the bootstrap.
    """
    right = _right(repeats)
    of_seeds = right.mean(axis=1)
    return RepeatedAccuracy(
        top1=float(right.mean()),
        top1_ci95=bootstrap_interval(right.mean(axis=0), seed=seed),
        top1_std=float(of_seeds.std(ddof=1)) if len(of_seeds) > 1 else None,
    )


def compare(first: Outcomes, second: Outcomes, *, seed: int) -> Comparison:
    """Compare the outcomes of two results on the same videos; `seed` is of the bootstrap.

    Raises:
        InputError: the results are of different videos, or a video's class differs.
    """
    return compare_repeated([first], [second], seed=seed)


def compare_repeated(first: Sequence[Outcomes], second: Sequence[Outcomes], *, seed: int) -> Comparison:
    """Compare two methods, each of which was trained R times: the n-th training of one with the n-th of the other.

    The interval resamples videos, each with all its outcomes. McNemar's test counts every pair of outcomes; those of
    one video are not independent, so with R above 1 its p is too small.

    Args:
        first: R outcomes of one method.
        second: R outcomes of the other.
        seed: of the bootstrap.

    Raises:
        InputError: the results are of different videos, or a video's class differs.
    """
    from scipy.stats import binomtest  # its import takes half a second, and what only prints results needs none of it

    for other in (*first[1:], *second):
        _require_same_videos(first[0], other)
    right = np.array([_right(first), _right(second)])  # [2, R, V]
    only_first, only_second = (int((right[i] & ~right[1 - i]).sum()) for i in (0, 1))
    first_accuracy, second_accuracy = right.mean(axis=(1, 2)).tolist()
    disagreements = only_first + only_second
    return Comparison(
        videos=len(first[0]),
        accuracy=(first_accuracy, second_accuracy),
        difference=(only_second - only_first) / right[0].size,
        difference_ci95=bootstrap_interval(right[1].mean(axis=0) - right[0].mean(axis=0), seed=seed),
        only_first=only_first,
        only_second=only_second,
        p_value=float(binomtest(only_first, disagreements).pvalue) if disagreements else 1.0,
    )


def _right(repeats: Sequence[Outcomes]) -> NDArray[np.bool_]:
    """[R, V] whether each outcome is right, the videos in the same order."""
    return np.array([[one[key][1] for key in sorted(repeats[0])] for one in repeats])


def _require_same_videos(first: Outcomes, second: Outcomes) -> None:
    for key in sorted(first.keys() | second.keys()):
        if key not in first or key not in second or first[key][0] != second[key][0]:
            raise InputError(
                f"the results cannot be compared: {' '.join(key)} is {_class_of(first, key)} in the first and "
                f"{_class_of(second, key)} in the second; take two results on the same lists of test videos"
            )


def _class_of(results: Outcomes, key: tuple[str, str]) -> str:
    return f"a video of {results[key][0]}" if key in results else "not listed"


def compare_results(first: Path, second: Path) -> ComparedResults:
    """Compare two results by their score files.

    Args:
        first: a fused.json, or the folder of one; or a folder of splits, which are taken together.
        second: likewise.

    Raises:
        InputError: one is no result, its score files are not those it was made from, or the two are of different
            datasets or videos.
    """
    return compare_read(read_compared(first), read_compared(second))


def compare_read(first: ReadResults, second: ReadResults) -> ComparedResults:
    """As `compare_results`, of results that are read."""
    (one, *more), first_outcomes = first.results, first.outcomes
    (other, *_), second_outcomes = second.results, second.outcomes
    if one.dataset != other.dataset:
        raise InputError(
            f"{first.path} is of dataset {one.dataset} and {second.path} of {other.dataset}; "
            "only results on the same videos can be compared"
        )
    return ComparedResults(
        dataset=one.dataset,
        first=one.experiment,
        second=other.experiment,
        splits=[result.split for result in (one, *more)],
        results={
            name: compare(videos, second_outcomes[name], seed=one.seed)
            for name, videos in first_outcomes.items()
            if name in second_outcomes
        },
    )


def read_compared(path: Path) -> ReadResults:
    """Read a result, or those of a folder of splits, with the score files beside them."""
    results, by_split = [], []
    for one in result_paths(path):
        result = read_result(one)
        scores = {stream: read_scores(one.parent / stream / "scores.h5") for stream in result.fusion.weights}
        fused = fuse(scores, weights=result.fusion.weights, on=result.fusion.on)
        results.append(result)
        by_split.append(result_outcomes(one, result, scores, fused))
    merged: dict[str, Outcomes] = {}
    for name in by_split[0]:
        if all(name in seen for seen in by_split):
            merged[name] = {key: outcome for seen in by_split for key, outcome in seen[name].items()}
    return ReadResults(path, results, merged)


def result_paths(path: Path) -> Sequence[Path]:
    """The fused.json that is meant: the file itself, the one in a folder, or those of a folder of splits.

    Raises:
        InputError: there is none in the folder.
    """
    if not path.is_dir():
        return [path]
    if (path / "fused.json").is_file():
        return [path / "fused.json"]
    paths = sorted(path.glob("split*/fused.json"))
    if not paths:
        raise InputError(f"{path} holds no fused.json and no split*/fused.json; give the folder of a result")
    return paths


def result_outcomes(
    path: Path, result: Result, scores: Mapping[str, Scores], fused: NDArray[np.float64]
) -> dict[str, Outcomes]:
    """Outcomes of the streams with a weight, and of `fused`.

    Args:
        path: of the fused.json.
        result: its content.
        scores: of each of its streams.
        fused: [V, K] what `fuse` gives for them.

    Raises:
        InputError: the result was not made from these scores.
    """
    by_name = {stream: outcomes(scores[stream].video_logits, scores[stream]) for stream in result.fusion.weights}
    by_name["fused"] = outcomes(fused, next(iter(scores.values())))
    for name, videos in by_name.items():
        stated = result.accuracy if name == "fused" else result.streams.get(name)
        counted = sum(right for _, right in videos.values()), len(videos)
        if stated is None or counted != (stated.correct, stated.total):
            raise InputError(
                f"{path} was not made from the score files beside it: they differ in {name}; run the workflow for it"
            )
    return by_name


def print_comparison(compared: ComparedResults) -> None:
    """Print a comparison as a table; `alone` counts the videos that only the one is right about."""
    names = [name or compared.dataset for name in (compared.first, compared.second)]
    table = Table(title=f"{compared.dataset} {' '.join(compared.splits)}: {names[0]} and {names[1]}")
    for heading in ("stream", *names, "difference", "95% interval", "alone", "p"):
        table.add_column(heading, justify="left" if heading == "stream" else "right")
    for name, one in compared.results.items():
        low, high = one.difference_ci95
        table.add_row(
            name,
            *(f"{accuracy:.3f}" for accuracy in one.accuracy),
            f"{one.difference:+.3f}",
            f"{low:+.3f} to {high:+.3f}",
            f"{one.only_first} : {one.only_second}",
            f"{one.p_value:.3g}",
        )
    console().print(table)
