"""How much of a video its action must fill for each consensus: what is behind a consensus table, cut and joined.

    python -m benchmarks.action_share results/demo-untrimmed/tables/consensus.json --stream warped --write

Nothing is trained or scored. A network scores every snippet on its own, so the stored scores of snippets also say what
the consensus gives for a part of a video, or for several videos one after the other. The action fills more of a test
video that is cut around it, and less of one that is joined with what other test videos show outside their actions.

Shapes: n snippets of a bag, V bags, M snippets of the longest, K classes.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from scipy.special import softmax

from atw.data.actions import interval_auc
from atw.evaluate.compare import Comparison, Outcomes, compare_repeated, outcomes, repeated_accuracy
from atw.evaluate.metrics import mean_of_known
from atw.evaluate.scores import Scores, read_scores, snippet_reader
from atw.files import InputError, atomic_path, file_digest, write_json
from benchmarks.report import Table, show, write_page

PAGE = Path("docs/benchmarks/action_share.md")
ROWS = ("average", "max", "attention", "gated", "sigmoid")
"""Functions whose weights are the softmax of energies that do not depend on the other snippets; and the largest."""
CUTS = (1.0, 0.5, 0.25)
"""Shares of the action in videos that are cut around it."""
JOINED = (1, 3, 7)
"""How many other videos a video is joined with."""
_COLOURS = {"average": "#666666", "max": "#E69F00", "attention": "#CC79A7", "gated": "#0072B2", "sigmoid": "#009E73"}
_METHOD = (
    "Test videos and networks of the consensus table; each network was trained on the videos as they are.",
    "Cut: consecutive snippets around all of the action, it in the middle as far as the video goes.",
    "Joined: the video, then all snippets outside the action of other test videos of its split.",
    "Means are over seeds, intervals (95%, bootstrap) resample videos, each with the outcomes of all seeds.",
    "AUC of the weights: inside the action against outside; of the class: the same of the probability that a snippet "
    "gives to the predicted class. .5 is chance.",
)


class Place(NamedTuple):
    """A snippet: the row of its video, its number there, and whether it is inside the action."""

    row: int
    number: int
    inside: bool


Bag = list[Place]


def cut(inside: NDArray[np.bool_], row: int, share: float) -> Bag:
    """Take so many consecutive snippets around the action of a video that it fills about this share of them.

    Args:
        inside: [n] which snippets of the video are inside.
        row: of the video.
        share: at least that of the whole video, at most 1.
    """
    own = np.flatnonzero(inside)
    first, last = int(own[0]), int(own[-1])
    length = min(max(round(len(own) / share), last + 1 - first), len(inside))
    start = min(max(first - (length - (last + 1 - first)) // 2, 0), len(inside) - length)
    return [Place(row, number, bool(inside[number])) for number in range(start, start + length)]


def join(inside: Sequence[NDArray[np.bool_]], row: int, others: int) -> Bag:
    """Take all snippets of a video, and those outside the action of so many others, evenly spread over the list."""
    bag = [Place(row, number, bool(within)) for number, within in enumerate(inside[row])]
    for step in range(1, others + 1):
        other = (row + step * len(inside) // (others + 1)) % len(inside)
        bag += [Place(other, int(number), False) for number in np.flatnonzero(~inside[other])]
    return bag


def combine(
    row: str, logits: NDArray[np.floating], energies: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Class scores [K] and weights [n] of a bag by the consensus `row`, from logits [n, K] and energies [n]."""
    if row == "max":
        highest = logits.max(axis=0)
        largest = logits[:, highest.argmax()] == highest.max()
        return highest, largest / largest.sum()
    weights = softmax(energies)
    return weights @ logits, weights


class Measured(NamedTuple):
    """A training on bags of one kind.

    Args:
        outcomes: of the bags, by the video that each began with.
        share: of the snippets that are inside, mean over the bags.
        weights: AUC of the weights, None if nothing is outside.
        predicted: AUC of the predicted class's probability.
    """

    outcomes: Outcomes
    share: float
    weights: float | None
    predicted: float | None


def measure(row: str, path: Path) -> dict[str, Measured]:
    """Measure each kind of bag with the scores of one training.

    Raises:
        InputError: the scores are damaged, or the action of a video is not known or between two snippets.
    """
    scores = read_scores(path)
    located, counted = scores.actions.locate(scores.seconds, scores.own)
    inside = [within[:own] for within, own in zip(located, scores.snippets, strict=True)]
    if not all(within.any() for within in inside) or (counted != scores.own).any():
        raise InputError(f"{path}: a video has no snippet inside a known action; take a dataset that knows its actions")
    with snippet_reader(path) as read:
        logits = [read(number)[:, :own] for number, own in enumerate(scores.snippets)]  # [crops, n, K] each
    kinds = {f"cut to {share:.0%}": [cut(one, number, share) for number, one in enumerate(inside)] for share in CUTS}
    kinds |= {
        "as it is" if others == 0 else f"joined with {others}": [
            join(inside, number, others) for number in range(len(inside))
        ]
        for others in (0, *JOINED)
    }
    return {kind: _measure(row, bags, scores, logits) for kind, bags in kinds.items()}


def _measure(row: str, bags: Sequence[Bag], scores: Scores, logits: Sequence[NDArray[np.floating]]) -> Measured:
    crops, longest = scores.attention.shape[1], max(map(len, bags))
    of_video = np.zeros((len(bags), len(scores.classes)))
    weights, predicted = np.zeros((2, len(bags), longest))
    inside, own = np.zeros((2, len(bags), longest), np.bool_)
    for number, bag in enumerate(bags):
        rows, numbers, within = map(np.array, zip(*bag, strict=True))
        inside[number, : len(bag)], own[number, : len(bag)] = within, True
        of_crop = []
        for crop in range(crops):
            snippets = np.stack([logits[r][crop, n] for r, n in zip(rows, numbers, strict=True)]).astype(np.float64)
            total, weight = combine(row, snippets, scores.attention_logits[rows, crop, numbers].astype(np.float64))
            of_video[number] += total / crops
            weights[number, : len(bag)] += weight / crops
            of_crop.append(softmax(snippets, axis=1))
        predicted[number, : len(bag)] = np.mean(of_crop, axis=0)[:, of_video[number].argmax()]
    return Measured(
        outcomes=outcomes(of_video, scores),
        share=float((inside.sum(axis=1) / own.sum(axis=1)).mean()),
        weights=interval_auc(weights, inside, own),
        predicted=interval_auc(predicted, inside, own),
    )


class Result(NamedTuple):
    """What a row reaches on one kind of bag, over all seeds and splits; accuracies are shares of 1."""

    kind: str
    share: float
    row: str
    top1: float
    top1_ci95: tuple[float, float]
    weights_auc: float | None
    class_auc: float | None
    less_average: Comparison | None


def results(table: Path, stream: str) -> list[Result]:
    """Measure all rows of a consensus table that can be, in the order of the share.

    Raises:
        InputError: the table or one of its score files is missing or another, or it has no such row or stream.
    """
    content = json.loads(table.read_text(encoding="utf-8"))
    rows = {row["consensus"]: row["experiments"] for row in content["rows"] if row["consensus"] in ROWS}
    if "average" not in rows or stream not in content["columns"]:
        raise InputError(f"{table} needs a row `average` and a column {stream}: make it with them")
    measured = {
        row: [[measure(row, _scores(table, content, one, split, stream)) for split in content["splits"]] for one in own]
        for row, own in rows.items()
    }
    found = []
    for kind in measured["average"][0][0]:
        by_row = {
            row: [_merged(splits, kind) for splits in repeats] for row, repeats in measured.items()
        }  # one per seed
        for row, repeats in measured.items():
            every = [one[kind] for splits in repeats for one in splits]
            accuracy = repeated_accuracy(by_row[row], seed=0)
            found.append(
                Result(
                    kind=kind,
                    share=float(np.mean([one.share for one in every])),
                    row=row,
                    top1=accuracy.top1,
                    top1_ci95=accuracy.top1_ci95,
                    weights_auc=mean_of_known([one.weights for one in every]),
                    class_auc=mean_of_known([one.predicted for one in every]),
                    less_average=None if row == "average" else compare_repeated(by_row["average"], by_row[row], seed=0),
                )
            )
    return sorted(found, key=lambda one: -one.share)


def _scores(table: Path, content: Mapping[str, dict[str, dict[str, str]]], run: str, split: str, stream: str) -> Path:
    folder = table.parent.parent / "experiments" / run if run else table.parent.parent
    path = folder / split / stream / "scores.h5"
    if not path.is_file() or file_digest(path) != content["provenance"]["scores"][f"{run} {split} {stream}"]:
        raise InputError(f"{table} was not made from {path}: make the table again")
    return path


def _merged(splits: Sequence[Mapping[str, Measured]], kind: str) -> Outcomes:
    return {key: value for one in splits for key, value in one[kind].outcomes.items()}


def as_table(found: Sequence[Result], title: str) -> Table:
    """The results as text."""
    lines = []
    for one in found:
        less = one.less_average
        difference = "" if less is None else f"{less.difference:+.3f} {_interval(less.difference_ci95, '+.3f')}"
        areas = ["" if area is None else f"{area:.3f}" for area in (one.weights_auc, one.class_auc)]
        top1 = f"{one.top1:.3f} {_interval(one.top1_ci95, '.3f')}"
        lines.append([f"{one.share:.1%}, {one.kind}", f"`{one.row}`", top1, *areas, difference])
    return Table(title, ("share", "consensus", "top-1", "AUC of weights", "AUC of class", "less average"), lines)


def _interval(interval: tuple[float, float], form: str) -> str:
    return f"[{interval[0]:{form}}, {interval[1]:{form}}]"


def draw(found: Sequence[Result], path: Path) -> None:
    """Draw accuracy and AUC of the weights against the share, as SVG."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    accuracy, area = figure.subplots(1, 2)
    for row in dict.fromkeys(one.row for one in found):
        own = [one for one in found if one.row == row]
        shares, style = [100 * one.share for one in own], {"color": _COLOURS[row], "marker": "o", "markersize": 3}
        accuracy.plot(shares, [one.top1 for one in own], label=row, **style)
        accuracy.fill_between(
            shares, *zip(*(one.top1_ci95 for one in own), strict=True), color=_COLOURS[row], alpha=0.15
        )
        known = [
            (share, one.weights_auc) for share, one in zip(shares, own, strict=True) if one.weights_auc is not None
        ]
        area.plot(*zip(*known, strict=True), label=row, **style)
    for axes, name in ((accuracy, "top-1, with 95% intervals"), (area, "AUC of the weights")):
        axes.set(xscale="log", xlabel="share of the action in the video, %", ylabel=name)
        ticks = [1, 2, 5, 10, 20, 50, 100]
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    accuracy.legend(frameon=False)
    # Text stays text, and equal figures are equal bytes.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "atw"}), atomic_path(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="What each consensus gives where the action fills less and more.")
    parser.add_argument("table", type=Path, help="consensus.json, its score files beside it as the workflow puts them")
    parser.add_argument("--stream", default="warped")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE} and the same as .json and .svg")
    given = parser.parse_args(arguments)
    try:
        found = results(given.table, given.stream)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    table = as_table(found, f"{given.stream} of {given.table.parent.parent.name}")
    show(Console(), [table])
    if given.write:
        command = f"python -m benchmarks.action_share {given.table} --stream {given.stream} --write"
        write_page(PAGE, "The share of the action", command, [table], _METHOD)
        plain = [one._asdict() | {"less_average": one.less_average and one.less_average.to_dict()} for one in found]
        write_json(PAGE.with_suffix(".json"), plain)
        draw(found, PAGE.with_suffix(".svg"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
