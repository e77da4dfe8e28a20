"""Sections of the page about accuracy: the result with its warnings, and its classes."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from atw.evaluate.compare import Comparison, compare, outcomes
from atw.evaluate.metrics import Accuracy, guess_accuracies, mean_class_interval
from atw.evaluate.result import verdict
from atw.extras.report.charts import (
    COLOUR_BAR,
    COLOUR_SCALE,
    FUSED_COLOUR,
    NO_TITLE_MARGIN,
    PERCENT,
    STREAM_COLOURS,
    SYMBOLS,
    PageSection,
    axis,
    chart,
    class_axis,
    plain,
)
from atw.extras.report.inputs import ReportInputs
from atw.extras.report.pipeline import CLIPPED_SHARE, FlowQuality
from atw.extras.report.videos import flat_shares

CONFUSIONS = 30
_FLAT_SHARE = 0.1
_CLIPPED_VIDEOS = 0.05
_ACCEPTED_SHARE = 0.5
_BAR_PX = 34


@dataclass(frozen=True)
class AccuracyRow:
    """A stream or the fusion; the fusion has no weight."""

    name: str
    weight: float | None
    accuracy: Accuracy
    mean_class_ci95: tuple[float, float]


@dataclass(frozen=True)
class Addition:
    """The fusion compared with the fusion of all other streams, named in `without`, at their weights."""

    stream: str
    without: str
    compared: Comparison


@dataclass(frozen=True, kw_only=True)
class Headline(PageSection):
    """The result in numbers.

    Args:
        rows: the streams, then the fusion.
        additions: what each stream adds.
        chance: accuracy of a guess among all classes.
        largest: share of the test videos in the most frequent class.
        verdict: what the accuracy of the fusion is worth, in a sentence.
        warnings: what speaks against believing the result.
    """

    rows: list[AccuracyRow]
    additions: list[Addition]
    chance: float
    largest: float
    verdict: str
    warnings: list[str]


def headline(inputs: ReportInputs, flow: Mapping[str, FlowQuality]) -> Headline:
    """Return the first section of the page; `flow` has the quality of flow and warped, if there are any."""
    result = inputs.result
    fused = AccuracyRow("fused", None, result.accuracy, _mean_class_interval(inputs, inputs.fused))
    rows = [
        AccuracyRow(
            stream,
            inputs.weights.get(stream),
            accuracy,
            _mean_class_interval(inputs, inputs.scores[stream].video_logits),
        )
        for stream, accuracy in result.streams.items()
    ]
    chance, largest = guess_accuracies(inputs.first.listed_truth)
    return Headline(
        rows=[*rows, fused],
        additions=list(_additions(inputs)),
        chance=chance,
        largest=largest,
        verdict=verdict(result.accuracy, max(chance, largest)),
        warnings=[*_accuracy_warnings(inputs), *_flow_warnings(flow), *_video_warnings(inputs)],
        figures={"headline": _headline_figure([*rows, fused], chance)},
    )


def _mean_class_interval(inputs: ReportInputs, logits: NDArray[np.floating]) -> tuple[float, float]:
    right, videos = Counter[str](), Counter[str]()
    for label, is_right in outcomes(logits, inputs.first).values():
        videos[label] += 1
        right[label] += is_right
    counts = np.array([(right[label], videos[label]) for label in inputs.first.classes])  # [K, 2]
    return mean_class_interval(counts[:, 0], counts[:, 1], seed=inputs.seed)


def _additions(inputs: ReportInputs) -> Iterator[Addition]:
    for stream in inputs.weights:
        others = {name: weight for name, weight in inputs.weights.items() if name != stream}
        if others:
            without = outcomes(inputs.fuse(others), inputs.first)
            compared = compare(without, inputs.outcomes["fused"], seed=inputs.seed)
            yield Addition(stream, " + ".join(others), compared)


def _accuracy_warnings(inputs: ReportInputs) -> Iterator[str]:
    fused = inputs.result.accuracy
    best, accuracy = max(inputs.result.streams.items(), key=lambda item: item[1].top1)
    if len(inputs.weights) > 1 and accuracy.top1 >= fused.top1:
        yield f"Fusion gains nothing here: {best} alone has a top-1 of {100 * accuracy.top1:.1f}%."
    for stream, share in flat_shares(inputs).items():
        if share > _FLAT_SHARE:
            yield (
                f"The attention of {stream} is flat in {100 * share:.0f}% of the test videos: there it is an average."
            )


def _flow_warnings(flow: Mapping[str, FlowQuality]) -> Iterator[str]:
    for stream, quality in flow.items():
        if quality.clipped_videos > _CLIPPED_VIDEOS * quality.videos:
            yield (
                f"{quality.clipped_videos} of {quality.videos} videos have more than {100 * CLIPPED_SHARE:.0f}% of "
                f"their {stream} displacements beyond the bound of {quality.bound_px:g} px: raise flow.bound."
            )
        if quality.accepted is not None and quality.accepted < _ACCEPTED_SHARE:
            yield (
                f"Camera motion was compensated in {100 * quality.accepted:.0f}% of the pairs of frames only: "
                "elsewhere warped flow is plain flow."
            )


def _video_warnings(inputs: ReportInputs) -> Iterator[str]:
    bad = len(inputs.result.videos.quarantined)
    test = len(inputs.first.quarantined)
    if test:
        yield f"Test videos that could not be decoded, and count as wrong in every number: {test}."
    if bad > test:
        yield f"Training videos that could not be decoded, and were left out: {bad - test}."


def _headline_figure(rows: list[AccuracyRow], chance: float) -> go.Figure:
    traces = []
    for row in rows:
        top1, (low, high) = row.accuracy.top1, row.accuracy.top1_ci95
        colour = STREAM_COLOURS.get(row.name, FUSED_COLOUR)
        traces.append(
            go.Scatter(
                x=[top1],
                y=[row.name],
                error_x={"array": [high - top1], "arrayminus": [top1 - low], "color": colour, "width": 7},
                marker={"color": colour, "size": 13},
                hovertemplate=f"%{{y}}: %{{x:.1%}}, {low:.1%} to {high:.1%}<extra></extra>",
                showlegend=False,
            )
        )
    line = {"color": "var(--soft)", "dash": "dot", "width": 2}
    return chart(
        traces,
        height_px=70 + 44 * len(rows),
        xaxis=axis("top-1, with 95% interval; dotted: chance", tickformat=PERCENT, range=[0, 1.02]),
        yaxis=axis(type="category", autorange="reversed", automargin=True),
        margin=NO_TITLE_MARGIN,
        shapes=[{"type": "line", "x0": chance, "x1": chance, "yref": "paper", "y0": 0, "y1": 1, "line": line}],
    )


@dataclass(frozen=True)
class ClassRow:
    """A class with its number of listed test videos; accuracies and gain are None without a test video."""

    number: int
    name: str
    videos: int
    streams: dict[str, float | None]
    fused: float | None
    gain: float | None

    @property
    def rank(self) -> tuple[bool, float, float, int]:
        """Sort by falling gain, then by falling accuracy."""
        return self.gain is None, -(self.gain or 0.0), -(self.fused or 0.0), self.number


@dataclass(frozen=True)
class Confusion:
    """Videos of a class that are taken for another one, as a number and as a share of the class's decoded videos."""

    places: tuple[int, int]
    label: str
    taken: str
    videos: int
    share: float


@dataclass(frozen=True, kw_only=True)
class Classes(PageSection):
    """Accuracies by class and the confusions of the fusion. The figure of the matrix is empty: the page fills it.

    Args:
        best: the stream with the highest top-1.
        rows: sorted by what the fusion gains over `best`; figures and tables use this order.
        cells: true class and predicted class, by place in `rows`, with the number of videos, if any.
        confusions: the most frequent ones.
    """

    best: str
    rows: list[ClassRow]
    cells: list[tuple[int, int, int]]
    confusions: list[Confusion]


def classes(inputs: ReportInputs) -> Classes:
    """Return the section about the classes."""
    result = inputs.result
    best = max(result.streams, key=lambda stream: result.streams[stream].top1)
    matrix = np.array(result.confusion)
    labels = inputs.first.listed_labels
    listed = np.bincount(labels[labels >= 0], minlength=len(matrix))
    rows = []
    for number, name in enumerate(result.classes):
        fused = result.accuracy.per_class[name]
        streams = {stream: accuracy.per_class[name] for stream, accuracy in result.streams.items()}
        of_best = streams[best]
        gain = None if fused is None or of_best is None else fused - of_best
        rows.append(ClassRow(number, name, int(listed[number]), streams, fused, gain))
    rows.sort(key=lambda row: row.rank)
    place = {row.number: position for position, row in enumerate(rows)}
    cells = sorted(
        (place[true], place[taken], int(matrix[true, taken])) for true, taken in np.argwhere(matrix).tolist()
    )
    return Classes(
        best=best,
        rows=rows,
        cells=cells,
        confusions=_confusions(rows, cells),
        figures={"classes": _class_bars(rows, best), "confusion": _confusion_matrix([row.name for row in rows])},
    )


def _confusions(rows: list[ClassRow], cells: list[tuple[int, int, int]]) -> list[Confusion]:
    decoded = Counter[int]()
    for true, _, videos in cells:
        decoded[true] += videos
    wrong = sorted((cell for cell in cells if cell[0] != cell[1]), key=lambda cell: (-cell[2], cell[0], cell[1]))
    return [
        Confusion((true, taken), rows[true].name, rows[taken].name, videos, videos / decoded[true])
        for true, taken, videos in wrong[:CONFUSIONS]
    ]


def _class_bars(rows: list[ClassRow], best: str) -> go.Figure:
    names = [plain(row.name) for row in rows]
    gains = ["" if row.gain is None else f"{100 * row.gain:+.0f}" for row in rows]
    told = [
        f"{gain} points, {row.videos} videos" if gain else "no test video"
        for gain, row in zip(gains, rows, strict=True)
    ]
    bars = go.Bar(
        name="fused",
        orientation="h",
        x=[row.fused for row in rows],
        y=names,
        customdata=told,
        text=gains,
        textposition="inside",
        insidetextanchor="start",
        insidetextfont={"color": "var(--ink)"},
        marker={"color": "var(--bar)"},
        hovertemplate="fused %{x:.1%} (%{customdata})<extra></extra>",
    )
    outline = {"line": {"color": "var(--paper)", "width": 1}}
    dots = [
        go.Scatter(
            name=stream,
            mode="markers",
            x=[row.streams[stream] for row in rows],
            y=names,
            customdata=told,
            marker={"color": STREAM_COLOURS[stream], "symbol": SYMBOLS[stream], "size": 10, **outline},
            hovertemplate=f"{stream} %{{x:.1%}}<extra></extra>",
        )
        for stream in rows[0].streams
    ]
    return chart(
        [bars, *dots],
        height_px=110 + _BAR_PX * len(rows),
        xaxis=axis(f"accuracy; in the bar: points over {best} alone", tickformat=PERCENT, range=[0, 1.04]),
        yaxis=class_axis([row.name for row in rows], autorange="reversed"),
        hovermode="y unified",
        bargap=0.35,
    )


def _confusion_matrix(names: list[str]) -> go.Figure:
    gap = 1 if len(names) <= 60 else 0
    trace = go.Heatmap(
        z=[],
        x=[plain(name) for name in names],
        y=[plain(name) for name in names],
        zmin=0,
        zmax=1,
        colorscale=COLOUR_SCALE,
        colorbar={**COLOUR_BAR, "x": 1.01, "xpad": 4},
        hoverongaps=False,
        hovertemplate="%{y}<br>taken for %{x}<br>%{customdata} videos, %{z:.0%}<extra></extra>",
        xgap=gap,
        ygap=gap,
    )
    return chart(
        [trace],
        height_px=min(900, 190 + 30 * len(names)),
        xaxis=class_axis(names, "taken for", tickangle=-90, showgrid=False) | {"fixedrange": False},
        yaxis=class_axis(names, "true class", autorange="reversed", showgrid=False) | {"fixedrange": False},
        dragmode="zoom",
        margin={"l": 56, "r": 12, "t": 8, "b": 60},
    )
