"""How good detections are, by the rules of two kits (`atw/evaluate/kits.py`).

Both kits rank the detections of a class over all videos, pair them with the true segments of their video, at most one
with one, and take the average precision of the ranking (`atw/evaluate/average_precision.py`); mAP is its mean over the
classes with a true segment. A detection in a video without a true segment of its class is wrong, whichever subset the
video is of.

Choices of this project: `Ambiguous` is no class under either rule, as in papers that use ActivityNet's kit on THUMOS14.
Predictions of a class that the truth lacks change no AP. Where ActivityNet's kit stops at them, they are left out and
counted, as THUMOS14's does. ActivityNet's list of videos that are no longer online is not asked for.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import numpy as np
from rich.table import Table

from atw.datasets.thumos14 import AMBIGUOUS
from atw.evaluate.average_precision import average_precision
from atw.evaluate.detection_files import Detections, Segment, Truth
from atw.evaluate.kits import RULES, Found, Rule, Segments, seconds_shared
from atw.evaluate.metrics import OMITTED, Record
from atw.files import InputError
from atw.terminal import console

Task = Literal["detection", "classification"]
ByVideo = Mapping[str, Segments]
"""The segments of each video that has some."""

_WHOLE = (0.0, 1.0)  # what a classification says of a video: all of it
_TOP = (1, 3)  # k of hit@k; the kit's own is 3


class Counts(Record):
    """What was rated.

    Args:
        videos: of the subset, with an annotation.
        truths: their segments; for a classification, their different labels.
        predictions: that count.
        other_videos: those of them that are wrong because their video is none of `videos`.
        other_classes: further predictions, of classes that the truth lacks: they do not count.
    """

    videos: int
    truths: int
    predictions: int
    other_videos: int
    other_classes: int


class Hits(Record):
    """How often the labels of a video are among its k highest predictions, by k.

    Args:
        any: hit@k, the share of the videos of which one label is.
        mean: ActivityNet's average hit@k, the mean over the videos of the share of their labels that are.
    """

    any: dict[str, float]
    mean: dict[str, float]


class Score(Record):
    """How good predictions are. mAP and AP are by overlap, as in "0.5"; those of a classification are under "video".

    Args:
        rule: of the kit that was followed.
        task: detection, or classification if no prediction has a segment.
        subset: of the truth's videos that count, None if it has no subsets.
        counts: what was rated.
        map: mean over the classes.
        average_map: its mean over the overlaps.
        hit_at: of a classification.
        per_class: AP of each class.
    """

    rule: str
    task: Task
    subset: str | None
    counts: Counts
    map: dict[str, float]
    average_map: float
    hit_at: Hits | None = OMITTED
    per_class: dict[str, dict[str, float]]


def require_shared_names(predictions: Detections, truth: Truth) -> None:
    """Refuse files that do not belong together.

    Raises:
        InputError: no video of the predictions is in the truth, or none of their classes.
    """
    for what, given, known in (
        ("videos", list(predictions.results), list(truth.database)),
        (
            "classes",
            [one.label for said in predictions.results.values() for one in said],
            [one.label for video in truth.database.values() for one in video.annotations],
        ),
    ):
        if given and known and not set(given) & set(known):
            raise InputError(
                f"none of the {what} of the predictions is in the truth: {given[0]!r} here, {known[0]!r} there; "
                "name them as in the truth"
            )


def score(
    predictions: Detections,
    truth: Truth,
    *,
    rule: str,
    subset: str | None = None,
    overlaps: Sequence[float] | None = None,
) -> Score:
    """Rate predictions by the rule of a kit: detections, or a classification if none of them has a segment.

    A classification is rated as detections of whole videos: a video counts once for each of its labels.

    Args:
        predictions: of any videos.
        truth: of their videos.
        rule: which kit is followed.
        subset: of the truth's videos that count; None for the one that the predictions' videos belong to.
        overlaps: that a hit needs, above 0 and at most 1, none twice; None for the usual ones of the rule.

    Raises:
        InputError: the rule is unknown, only some predictions have segments, the subset is not clear or has no
            annotation.
    """
    if rule not in RULES:
        raise InputError(f"the rule is {rule!r}; give {' or '.join(RULES)}")
    task = _task(predictions)
    if task == "classification" and overlaps:
        raise InputError("overlaps are given, but the predictions have no segments; leave the overlaps out")
    used = subset if subset is not None else _subset_of(predictions, truth)
    segments = _true_segments(truth, used, task)
    ambiguous = segments.pop(AMBIGUOUS, {})
    found = _by_class(predictions, segments)
    needed = {f"{each:g}": each for each in overlaps or RULES[rule].overlaps} if task == "detection" else {"video": 0.5}
    per_class = {
        label: dict(
            zip(needed, _precisions(found[label], by_video, ambiguous, [*needed.values()], RULES[rule]), strict=True)
        )
        for label, by_video in sorted(segments.items())
    }
    means = {name: float(np.mean([each[name] for each in per_class.values()])) for name in needed}
    return Score(
        rule=rule,
        task=task,
        subset=used,
        counts=_counts(predictions, found, segments),
        map=means,
        average_map=float(np.mean(list(means.values()))),
        hit_at=_hits(predictions, segments) if task == "classification" else None,
        per_class=per_class,
    )


def _task(predictions: Detections) -> Task:
    with_segment = without = None
    for video, said in predictions.results.items():
        for one in said:
            if one.segment is None:
                without = video
            else:
                with_segment = video
    if with_segment is not None and without is not None:
        raise InputError(
            f"a prediction of {without!r} has no segment, one of {with_segment!r} has; give a segment to all of them, "
            "or, for a classification, to none"
        )
    return "detection" if without is None else "classification"


def _subset_of(predictions: Detections, truth: Truth) -> str | None:
    known = [video for video in predictions.results if video in truth.database]
    subsets = {truth.database[video].subset for video in known or truth.database}
    if len(subsets) != 1:
        names = ", ".join(sorted(map(str, subsets)))
        raise InputError(f"the predictions are of videos of several subsets ({names}); choose one with --subset")
    return subsets.pop()


def _true_segments(truth: Truth, subset: str | None, task: Task) -> dict[str, dict[str, Segments]]:
    """The segments of each class and video of a subset; for a classification, one of each."""
    listed: defaultdict[str, defaultdict[str, list[Segment]]] = defaultdict(lambda: defaultdict(list))
    for video, shown in truth.database.items():
        for number, one in enumerate(shown.annotations if shown.subset == subset else ()):
            if task == "detection" and one.segment is None:
                raise InputError(f"annotation {number} of {video!r} has no segment; detections are rated by segments")
            if task == "detection" and one.segment is not None:
                listed[one.label][video].append(one.segment)
            elif one.label != AMBIGUOUS:
                listed[one.label][video] = [_WHOLE]
    if not listed.keys() - {AMBIGUOUS}:
        subsets = ", ".join(sorted({str(video.subset) for video in truth.database.values()}))
        raise InputError(f"no video of the subset {subset} has an annotation; the truth has {subsets}: choose one")
    return {
        label: {video: np.array(segments) for video, segments in by_video.items()} for label, by_video in listed.items()
    }


def _by_class(predictions: Detections, labels: Collection[str]) -> dict[str, list[Found]]:
    """The predictions of each class of the truth, in the order of the file."""
    found: dict[str, list[Found]] = {label: [] for label in labels}
    for video, said in predictions.results.items():
        for one in said:
            if one.label in found:
                found[one.label].append((video, one))
    return found


def _precisions(
    found: Sequence[Found], truth: ByVideo, ambiguous: ByVideo, overlaps: Sequence[float], rule: Rule
) -> list[float]:
    """AP of a class by overlap."""
    ranked = rule.ranked(found)
    segments = np.array([one.segment or _WHOLE for _, one in ranked]).reshape(-1, 2)  # [D, 2]
    rows = defaultdict(list)
    for row, (video, _) in enumerate(ranked):
        rows[video].append(row)
    hits = np.zeros((len(overlaps), len(ranked)), bool)  # [T, D]
    spared = np.zeros(len(ranked), bool)
    for video, own in rows.items():
        if video in truth:
            hits[:, own] = rule.hits(segments[own], truth[video], np.array(overlaps))
        if rule.spares and video in ambiguous:
            spared[own] = seconds_shared(segments[own], ambiguous[video]).any(axis=1)
    ranks = (hits | ~spared).cumsum(axis=1)
    positives = sum(map(len, truth.values()))
    return [
        average_precision(ranks[t, hits[t]], positives, interpolated=rule.interpolated) for t in range(len(overlaps))
    ]


def _counts(predictions: Detections, found: Mapping[str, Sequence[Found]], segments: Mapping[str, ByVideo]) -> Counts:
    videos = {video for by_video in segments.values() for video in by_video}
    counted = [video for of_class in found.values() for video, _ in of_class]
    return Counts(
        videos=len(videos),
        truths=sum(len(each) for by_video in segments.values() for each in by_video.values()),
        predictions=len(counted),
        other_videos=sum(video not in videos for video in counted),
        other_classes=sum(map(len, predictions.results.values())) - len(counted),
    )


def _hits(predictions: Detections, segments: Mapping[str, ByVideo]) -> Hits:
    labels = defaultdict(set)
    for label, by_video in segments.items():
        for video in by_video:
            labels[video].add(label)
    shares: dict[str, list[float]] = {str(k): [] for k in _TOP}
    for video, own in labels.items():
        ranked = sorted(predictions.results.get(video, []), key=lambda one: one.score)[::-1]  # of equal ones the last
        for k in _TOP:
            shares[str(k)].append(len(own & {one.label for one in ranked[:k]}) / len(own))
    return Hits(
        any={k: float(np.mean(np.array(each) > 0)) for k, each in shares.items()},
        mean={k: float(np.mean(each)) for k, each in shares.items()},
    )


# Printing


def print_score(rated: Score) -> None:
    """Print the mAP by overlap as a table, and what was rated."""
    table = Table()
    table.add_column("overlap")
    table.add_column("mAP", justify="right")
    for name, mean in (*rated.map.items(), ("mean", rated.average_map)):
        table.add_row(name, f"{mean:.4f}")
    subset = f", subset {rated.subset}" if rated.subset else ""
    terminal = console()
    terminal.print(f"{rated.task} by the rule {rated.rule}{subset}, {len(rated.per_class)} classes")
    terminal.print(table)
    if hits := rated.hit_at:
        for name, shares in (("hit", hits.any), ("average hit", hits.mean)):
            terminal.print(", ".join(f"{name}@{k} {share:.4f}" for k, share in shares.items()))
    counts = rated.counts
    terminal.print(f"{counts.predictions} predictions and {counts.truths} truths in {counts.videos} videos")
    if counts.other_videos:
        terminal.print(f"{counts.other_videos} predictions are wrong: their video has no annotation in the subset")
    if counts.other_classes:
        terminal.print(f"{counts.other_classes} further predictions, of classes that the truth lacks, do not count")
