"""fused.json, the numbers of one split, and summary.json, those of several splits: for programs, printed for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator
from rich.table import Table

from atw.config import FuseSettings
from atw.evaluate.attention import StreamAttention, found_actions, stream_attention
from atw.evaluate.detected import RatedDetections, detect_videos, rate_detections
from atw.evaluate.fuse import Addend, WeightSearch, choose_weights, fuse, pairs, probabilities
from atw.evaluate.metrics import (
    OMITTED,
    Accuracy,
    Record,
    confusion_matrix,
    guess_accuracies,
    listed_accuracy,
    mean_of_known,
    wilson_interval,
)
from atw.evaluate.scores import Scores, Subset, read_scores
from atw.files import InputError, read_json, write_json
from atw.terminal import console

FORMAT = 2
_ROUGH = 0.1
"""Width of an interval that is too wide for a number to be quoted without it."""
_Content = TypeVar("_Content", "Result", "Summary")


class FusionUsed(Record):
    """How the streams were fused; `held_out` says how the weights were chosen, where they were."""

    weights: dict[str, float] = Field(min_length=1)
    on: Addend
    held_out: WeightSearch | None = OMITTED


class QuarantinedVideo(Record):
    """A video that could not be decoded."""

    video: str
    reason: str


class VideoCounts(Record):
    """How many videos were trained on, tested, and held out; quarantined ones are counted, and listed."""

    train: int
    test: int
    quarantined: list[QuarantinedVideo]
    held_out: int | None = OMITTED


class Result(Record):
    """The content of fused.json.

    Args:
        format: version.
        dataset: its name.
        split: its name.
        experiment: its name, None for none.
        accuracy: of the fusion.
        guessing: the better of `guess_accuracies`; None in files that do not say it.
        streams: accuracy of each stream.
        pairs: accuracy of each two streams, fused with their weights, by name as in `rgb+flow`.
        attention: of each stream; None in files that do not say it.
        fusion: how the streams were fused.
        videos: how many there are.
        classes: K names.
        confusion: [K, K] decoded test videos with a label: rows are true classes, columns what the fusion says.
        detections: how good those of `detections.json` are, where the dataset says when its videos show their actions.
        provenance: that of each stream's scores, and the settings of the fusion under `fuse`.
    """

    format: int
    dataset: str
    split: str
    experiment: str | None
    accuracy: Accuracy
    guessing: float | None = OMITTED
    streams: dict[str, Accuracy]
    pairs: dict[str, Accuracy]
    attention: dict[str, StreamAttention] | None = OMITTED
    fusion: FusionUsed
    videos: VideoCounts
    classes: list[str]
    confusion: list[list[int]]
    detections: RatedDetections | None = OMITTED
    provenance: dict[str, dict[str, Any]]

    @model_validator(mode="after")
    def _require_seed(self) -> Self:
        if not isinstance(self.provenance.get("fuse", {}).get("seed"), int):
            raise ValueError("provenance.fuse.seed is no whole number")
        return self

    @property
    def seed(self) -> int:
        """Of intervals and draws."""
        seed: int = self.provenance["fuse"]["seed"]
        return seed


class Spread(Record):
    """Mean over the splits, and standard deviation (n - 1 in the denominator, None for one split)."""

    mean: float | None
    std: float | None


class MeanAccuracy(Record):
    """What accuracies are over the splits."""

    top1: Spread
    top5: Spread
    mean_class: Spread
    map: Spread | None = OMITTED


class PooledAccuracy(Record):
    """Top-1 of the videos of all splits together, with Wilson's 95% interval.

    Each split's test counts as videos of their own, so if test lists overlap, the interval is somewhat too narrow.
    """

    top1: float
    top1_ci95: tuple[float, float]


class OverSplits(Record):
    """What a stream, or two of them, are worth over the splits."""

    accuracy: MeanAccuracy
    pooled: PooledAccuracy


class Summary(Record):
    """The content of summary.json; the fusion's numbers, and those of each stream and of each two of them."""

    format: int
    dataset: str
    experiment: str | None
    splits: list[str]
    accuracy: MeanAccuracy
    pooled: PooledAccuracy
    streams: dict[str, OverSplits]
    pairs: dict[str, OverSplits]


# One split


def write_result(out: Path, score_paths: list[Path], settings: FuseSettings) -> None:
    """Fuse score files into fused.json.

    Args:
        out: path of the result.
        score_paths: for each stream the score file of the test videos; if the weights are chosen, that of the held-out
            videos too.
        settings: weights, and how they are chosen.

    Raises:
        InputError: the files disagree about videos, labels, classes, dataset, split or experiment; or there are
            held-out scores and the weights are not chosen, or the other way round.
    """
    read = [read_scores(path, subset=None) for path in score_paths]
    scores, held_out = _by_stream(read, "test"), _by_stream(read, "held_out")
    if not scores:
        raise InputError(f"{score_paths[0]} has no scores of test videos; give the scores.h5 of each stream")
    search = None
    if held_out or settings.choose == "held_out":
        _require_both(scores, held_out, settings)
        search = choose_weights(held_out, configured=settings.used_weights, on=settings.add)
    result = result_of(scores, settings, search)
    first = next(iter(scores.values()))
    if first.knows_actions:
        files = {one.stream: path for one, path in zip(read, score_paths, strict=True) if one.subset == "test"}
        fusion = result.fusion
        found = detect_videos(files, scores, settings.detect, weights=fusion.weights, on=fusion.on)
        result = result.model_copy(update={"detections": rate_detections(found, first)})
    write_json(out, result.to_dict())


def _by_stream(read: Sequence[Scores], subset: Subset) -> dict[str, Scores]:
    return {scores.stream: scores for scores in read if scores.subset == subset}


def _require_both(scores: dict[str, Scores], held_out: dict[str, Scores], settings: FuseSettings) -> None:
    """Refuse held-out scores that nobody asked for, that are missing, or that another network gave."""
    if settings.choose == "none":
        raise InputError("scores of held-out videos are given, but fusion.choose is none; leave them out")
    if scores.keys() != held_out.keys():
        raise InputError(
            f"fusion.choose is held_out, with test scores of {', '.join(scores)} and held-out scores of "
            f"{', '.join(held_out) or 'no stream'}; give both of every stream"
        )
    for stream, one in scores.items():
        had, has = (each.recorded(str, "model", "sha256") for each in (one, held_out[stream]))
        if had != has:
            raise InputError(
                f"test and held-out videos of {stream} were scored by different networks; run the workflow, which "
                "scores the outdated one again"
            )


def result_of(scores: Mapping[str, Scores], settings: FuseSettings, search: WeightSearch | None = None) -> Result:
    """Fuse the test scores of each stream.

    Args:
        scores: by stream.
        settings: weights by stream, and what is added.
        search: how other weights than those of the settings were chosen, None if they were not.

    Raises:
        InputError: the streams cannot be fused, see `fuse`.
    """
    weights = search.chosen.weights if search else settings.used_weights
    fused = fuse(scores, weights=weights, on=settings.add)
    two_fused = pairs(scores, weights=weights, on=settings.add)
    first = next(iter(scores.values()))

    def rated(logits: NDArray[np.floating], weights: Mapping[str, float], on: Addend = settings.add) -> Accuracy:
        shares = probabilities(logits, weights=weights, on=on)
        return listed_accuracy(logits, first, probabilities=shares)

    return Result(
        format=FORMAT,
        dataset=first.dataset,
        split=first.split,
        experiment=first.experiment or None,
        accuracy=rated(fused, weights),
        guessing=max(guess_accuracies(first.listed_truth)),
        streams={stream: rated(one.video_logits, {stream: 1.0}, "logits") for stream, one in scores.items()},
        pairs={
            name: rated(logits, {stream: weights[stream] for stream in name.split("+")})
            for name, logits in two_fused.items()
        },
        attention={stream: stream_attention(one) for stream, one in scores.items()},
        fusion=FusionUsed(weights=weights, on=settings.add, held_out=search),
        videos=_count_videos(first),
        classes=list(first.classes),
        confusion=confusion_matrix(fused, first).tolist(),
        provenance={**{stream: one.provenance for stream, one in scores.items()}, "fuse": settings.to_dict()},
    )


def _count_videos(scores: Scores) -> VideoCounts:
    quarantined = dict(scores.provenance["train_quarantined"])
    quarantined |= {video: reason for video, _, reason in scores.quarantined}
    return VideoCounts(
        train=scores.provenance["train_videos"],
        test=len(scores.videos) + len(scores.quarantined),
        quarantined=[QuarantinedVideo(video=video, reason=reason) for video, reason in sorted(quarantined.items())],
        held_out=scores.provenance.get("held_out_videos"),
    )


# Several splits


def write_summary(out: Path, fused_paths: list[Path]) -> None:
    """Average the results of several splits into summary.json."""
    write_json(out, mean_over_splits([read_result(path) for path in fused_paths]).to_dict())


def mean_over_splits(results: Sequence[Result]) -> Summary:
    """Average the results of one or more splits.

    Where weights are chosen on held-out videos, splits may differ in them and so in the pairs of streams; the pairs are
    then those that all splits have.

    Raises:
        InputError: the results are of different datasets, experiments, classes, streams or fusions, or a split comes
            twice.
    """
    first = results[0]
    for other in results[1:]:
        for (what, had), has in zip(_shared(first).items(), _shared(other).values(), strict=True):
            if had != has:
                raise InputError(
                    f"{first.split} and {other.split} cannot be averaged: {what} is {had} in the one and {has} in the "
                    "other; run the workflow for the outdated one again"
                )
    splits = [result.split for result in results]
    if len(set(splits)) < len(splits):
        raise InputError(f"the splits {', '.join(splits)} name one twice; give each result once")
    fused = _over_splits([result.accuracy for result in results])
    return Summary(
        format=FORMAT,
        dataset=first.dataset,
        experiment=first.experiment,
        splits=splits,
        accuracy=fused.accuracy,
        pooled=fused.pooled,
        streams=_each_over_splits([result.streams for result in results]),
        pairs=_each_over_splits([result.pairs for result in results]),
    )


def _shared(result: Result) -> dict[str, object]:
    """What has to agree between splits: which streams there are, not their numbers; what was set, not chosen."""
    fusion, search = result.fusion, result.fusion.held_out
    set_weights = {"on": fusion.on, "chosen from": search.configured.weights} if search else fusion.to_dict()
    return {
        "dataset": result.dataset,
        "experiment": result.experiment,
        "classes": result.classes,
        "streams": sorted(result.streams),
        "fusion": set_weights,
        "pairs": None if search else sorted(result.pairs),
    }


def _each_over_splits(parts: Sequence[Mapping[str, Accuracy]]) -> dict[str, OverSplits]:
    common = [name for name in parts[0] if all(name in part for part in parts)]
    return {name: _over_splits([part[name] for part in parts]) for name in common}


def _over_splits(accuracies: Sequence[Accuracy]) -> OverSplits:
    correct = sum(accuracy.correct for accuracy in accuracies)
    total = sum(accuracy.total for accuracy in accuracies)
    maps = [accuracy.map for accuracy in accuracies]
    return OverSplits(
        accuracy=MeanAccuracy(
            top1=_spread([accuracy.top1 for accuracy in accuracies]),
            top5=_spread([accuracy.top5 for accuracy in accuracies]),
            mean_class=_spread([accuracy.mean_class for accuracy in accuracies]),
            map=_spread(maps) if any(value is not None for value in maps) else None,
        ),
        pooled=PooledAccuracy(top1=correct / total, top1_ci95=wilson_interval(correct, total)),
    )


def _spread(values: Sequence[float | None]) -> Spread:
    known = [value for value in values if value is not None]
    return Spread(mean=mean_of_known(values), std=float(np.std(known, ddof=1)) if len(known) > 1 else None)


# Reading and printing


def read_result(path: Path) -> Result:
    """Read a fused.json.

    Raises:
        InputError: it is none, of another format version, or damaged.
    """
    return _read(path, "fused.json", Result, having="fusion")


def read_summary(path: Path) -> Summary:
    """Read a summary.json; errors as in `read_result`."""
    return _read(path, "summary.json", Summary, having="pooled")


def _read(path: Path, kind: str, model: type[_Content], *, having: str) -> _Content:
    try:
        content = read_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; make it by `atw run {path}`, or correct the path") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; give the {kind} in it") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a result ({error}); give the path of a {kind}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or having not in content:
        raise InputError(f"{path} is not a {kind} of format {FORMAT}; run the workflow for it again")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{path} is damaged ({place}: {first['msg']}); run the workflow for it again") from None


def _accuracies(result: Result) -> Table:
    """The accuracies, and beside those of a stream the entropy of its attention."""
    title = " ".join(filter(None, (result.dataset, result.split, result.experiment)))
    table = Table(title=f"{title}: {result.videos.test} test videos")
    with_map = result.accuracy.map is not None
    more = ("mAP", "entropy") if with_map else ("entropy",)
    for name in ("stream", "top-1", "95% interval", "top-5", "mean class", *more):
        table.add_column(name, justify="left" if name == "stream" else "right")
    attention = result.attention or {}
    for name, accuracy in (*result.streams.items(), *result.pairs.items(), ("fused", result.accuracy)):
        low, high = accuracy.top1_ci95
        entropy = attention[name].entropy if name in attention else None
        numbers = (accuracy.top5, accuracy.mean_class, *([accuracy.map] if with_map else []), entropy)
        cells = ("" if number is None else f"{number:.3f}" for number in numbers)
        table.add_row(name, f"{accuracy.top1:.3f}", f"{low:.3f} to {high:.3f}", *cells)
    return table


def verdict(accuracy: Accuracy, guessing: float) -> str:
    """Say in a sentence what an accuracy is worth; docs/report.md has the rules.

    Args:
        accuracy: of the fusion.
        guessing: accuracy without a look at the videos, the better of `guess_accuracies`.
    """
    low, high = accuracy.top1_ci95
    span = f"{100 * low:.1f}% to {100 * high:.1f}%"
    if low <= guessing:
        return (
            f"This does not show that anything was learnt: guessing gives {100 * guessing:.1f}%, and with "
            f"{accuracy.total} test videos, the result may be anything from {span}."
        )
    if high - low > _ROUGH:
        return (
            f"Better than guessing ({100 * guessing:.1f}%), but rough: {accuracy.total} test videos are few, and the "
            f"accuracy may be anything from {span}."
        )
    return f"A number to quote with its interval, {span}; guessing gives {100 * guessing:.1f}%."


def print_result(path: Path) -> None:
    """Print the accuracies of a fused.json as a table, with the quarantined videos below it."""
    result = read_result(path)
    terminal = console()
    terminal.print(_accuracies(result))
    if actions := found_actions(result.attention or {}):
        terminal.print(actions)
    if result.guessing is not None:
        terminal.print(verdict(result.accuracy, result.guessing))
    if search := result.fusion.held_out:
        weights = ", ".join(f"{stream} {weight:.3g}" for stream, weight in search.chosen.weights.items())
        terminal.print(
            f"weights chosen on {search.videos} held-out videos: {weights}; top-1 there "
            f"{search.chosen.top1:.3f}, with the configured weights {search.configured.top1:.3f}"
        )
    if found := result.detections:
        for name, rated in (*found.streams.items(), ("fused", found.fused)):
            means = ", ".join(f"{each.average_map:.3f} (rule {rule})" for rule, each in rated.items())
            terminal.print(f"detections, {name}: mAP over all overlaps {means}")
    for bad in result.videos.quarantined:
        terminal.print(f"quarantined {bad.video}: {bad.reason}")
