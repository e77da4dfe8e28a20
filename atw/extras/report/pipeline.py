"""Sections of the page about the run: training curves, quality of the flow, bad videos, times of jobs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from atw.extras.report.charts import NO_TITLE_MARGIN, PERCENT, STREAM_COLOURS, PageSection, axis, chart, stream_line
from atw.extras.report.inputs import HistoryRow, ReportInputs
from atw.preprocess.audit import Finding
from atw.shards import Entry, Shard
from atw.terminal import read_usage

POINTS = 160  # of a curve; each is the mean of several iterations if there are more
CLIPPED_SHARE = 0.01
FINDINGS = 200
_WORST = 8
_BINS = 20
_RULES = {"rgb": "frames", "flow": "flow", "warped": "warped"}
_HELD_OUT = {
    "loss": "validation_loss",
    "accuracy": "validation_accuracy",
    "attention_entropy": "validation_entropy",
}
_NOISY = ("loss", "accuracy")  # of single batches: a smooth line in front of the pale one
_PANELS: tuple[tuple[str, str, str, dict[str, object]], ...] = (
    ("loss", "loss", "loss", {}),
    ("accuracy", "accuracy", "accuracy of the training", {"tickformat": PERCENT, "range": [0, 1.02]}),
    ("learning-rate", "learning_rate", "learning rate", {"rangemode": "tozero"}),
    ("entropy", "attention_entropy", "entropy of the attention", {"tickformat": PERCENT, "range": [-0.02, 1.02]}),
    ("auc", "validation_auc", "AUC of the weights, held out", {"range": [-0.02, 1.02]}),
)


@dataclass(frozen=True)
class TrainingEnd:
    """The number of iterations of a stream, and the last points of its curves, None if it has none."""

    iterations: int
    loss: float | None
    accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class TrainingCurves(PageSection):
    """The section about training: how each stream ended, and its curves."""

    last: dict[str, TrainingEnd]
    points: int


def training(inputs: ReportInputs) -> TrainingCurves:
    """Return the section about training, without figures that would be empty."""
    last = {}
    for stream, rows in inputs.histories.items():
        loss, accuracy = (curve(rows, key)[1] for key in ("loss", "accuracy"))
        iterations = rows[-1].iteration if rows else 0
        last[stream] = TrainingEnd(iterations, loss[-1] if loss else None, accuracy[-1] if accuracy else None)
    drawn = {f"training-{name}": _panel(inputs, key, title, vertical) for name, key, title, vertical in _PANELS}
    figures = {name: figure for name, figure in drawn.items() if figure.data}
    return TrainingCurves(last=last, points=POINTS, figures=figures)


def curve(rows: Sequence[HistoryRow], key: str) -> tuple[list[float], list[float]]:
    """Return iterations and values of a curve, as at most `POINTS` means over equal runs of the rows with a value."""
    known = [(row.iteration, value) for row in rows if (value := getattr(row, key)) is not None]
    if not known:
        return [], []
    points = np.array(known, np.float64)
    edges = np.linspace(0, len(points), min(POINTS, len(points)) + 1).round().astype(int)
    means = np.array([points[first:last].mean(axis=0) for first, last in pairwise(edges)])
    return means[:, 0].tolist(), means[:, 1].tolist()


def smoothed(values: list[float]) -> list[float]:
    """Return the mean of a twentieth of the points to each side of each point, of fewer at the ends."""
    beside = len(values) // 20
    return [float(np.mean(values[max(0, place - beside) : place + beside + 1])) for place in range(len(values))]


def _panel(inputs: ReportInputs, key: str, title: str, vertical: dict[str, object]) -> go.Figure:
    traces = []
    for stream, rows in inputs.histories.items():
        iterations, values = curve(rows, key)
        if key in _NOISY and (smooth := smoothed(values)) != values:
            pale = {"opacity": 0.3, "showlegend": False, "hoverinfo": "skip"}
            traces.append(
                go.Scatter(mode="lines", x=iterations, y=values, line=stream_line(stream, dash="solid"), **pale)
            )
            values = smooth
        if values:
            traces.append(go.Scatter(name=stream, mode="lines", x=iterations, y=values, line=stream_line(stream)))
        iterations, values = curve(rows, _HELD_OUT[key]) if key in _HELD_OUT else ([], [])
        if values:
            marker = {"color": STREAM_COLOURS[stream], "size": 6}
            traces.append(go.Scatter(name=f"{stream}, held out", mode="markers", x=iterations, y=values, marker=marker))
    return chart(
        traces,
        height_px=290,
        xaxis=axis("iteration", hoverformat=".0f"),
        yaxis=axis(title, automargin=True, **vertical),
        hovermode="x unified",
    )


@dataclass(frozen=True, kw_only=True)
class FlowQuality:
    """Quality of flow or warped flow over all videos in the result's shards, training videos and other splits included.

    Args:
        videos: how many.
        bound_px: displacements beyond it are clipped.
        clipped: mean share of clipped displacements.
        clipped_videos: videos with more than `CLIPPED_SHARE` of them.
        worst: the most clipped videos.
        accepted: mean share of pairs of frames with an accepted homography; None for flow, as all below.
        still: mean share of pairs with a still camera.
        static: videos whose camera never moves.
        residual_px: mean residual of the homographies.
    """

    videos: int
    bound_px: float
    clipped: float
    clipped_videos: int
    worst: list[Entry]
    accepted: float | None = None
    still: float | None = None
    static: int | None = None
    residual_px: float | None = None


@dataclass(frozen=True, kw_only=True)
class Health(PageSection):
    """The section about flow and bad videos; `more` is the number of findings that are not shown."""

    streams: dict[str, FlowQuality]
    findings: list[Finding]
    more: int


def health(inputs: ReportInputs) -> Health:
    """Return the section about flow, from the indexes of the shards, and about bad videos."""
    streams: dict[str, FlowQuality] = {}
    figures = {}
    for stream in ("flow", "warped"):
        if stream in inputs.stored:
            entries = [video.entry for video in inputs.stored[stream].values()]
            with Shard(next(iter(inputs.stored[stream].values())).path) as shard:
                bound_px = shard.header.bound
            streams[stream] = _quality(stream, entries, bound_px)
            figures[f"health-{stream}"] = _quality_figure(stream, entries)
    more = max(0, len(inputs.findings) - FINDINGS)
    return Health(streams=streams, findings=inputs.findings[:FINDINGS], more=more, figures=figures)


def _quality(stream: str, entries: list[Entry], bound_px: float) -> FlowQuality:
    clipped = np.array([entry.clipped for entry in entries])
    worst = sorted(entries, key=lambda entry: (-entry.clipped, entry.video))[:_WORST]
    camera: dict[str, Any] = {}
    if stream == "warped":
        camera = {
            "accepted": float(np.mean([entry.accepted for entry in entries])),
            "still": float(np.mean([entry.still for entry in entries])),
            "static": sum(entry.still == 1 for entry in entries),
            "residual_px": float(np.mean([entry.residual for entry in entries])),
        }
    return FlowQuality(
        videos=len(entries),
        bound_px=bound_px,
        clipped=float(clipped.mean()),
        clipped_videos=int((clipped > CLIPPED_SHARE).sum()),
        worst=[entry for entry in worst if entry.clipped > 0],
        **camera,
    )


def _quality_figure(stream: str, entries: list[Entry]) -> go.Figure:
    """Draw videos by their share of clipped displacements, or, for warped flow, of accepted homographies."""
    if stream == "warped":
        values, title = np.array([entry.accepted for entry in entries]), "pairs with compensated camera motion"
    else:
        values, title = np.array([entry.clipped for entry in entries]), "displacements beyond the bound"
    largest = 1.0 if stream == "warped" else max(CLIPPED_SHARE, float(values.max()))
    edges = np.linspace(0, largest, _BINS + 1)
    bars = go.Bar(
        x=((edges[:-1] + edges[1:]) / 2).tolist(),
        y=np.histogram(values, edges)[0].tolist(),
        width=largest / _BINS,
        marker={"color": STREAM_COLOURS[stream], "line": {"color": "var(--paper)", "width": 1}},
        hovertemplate="%{y} videos at %{x:.1%}<extra></extra>",
    )
    return chart(
        [bars],
        height_px=260,
        xaxis=axis(title, tickformat=PERCENT if largest > 0.2 else ".1%"),
        yaxis=axis("videos", automargin=True),
        margin=NO_TITLE_MARGIN,
    )


@dataclass(frozen=True)
class StageTime:
    """The jobs of a stage, how many logs say what they took, and the sums over these; None if no job says."""

    stage: str
    jobs: int
    measured: int
    seconds: float | None
    joules: float | None


def stage_times(inputs: ReportInputs, logs: Path) -> list[StageTime]:
    """Return what the stages took, from the logs of their jobs in the folder `logs`."""
    times = []
    for stage, names in _logs(inputs):
        usages = [one for name in names if (one := read_usage(logs / f"{name}.log"))]
        joules = [one.joules for one in usages if one.joules is not None]
        seconds = sum(one.seconds for one in usages) if usages else None
        energy = sum(joules) if joules and len(joules) == len(usages) else None
        times.append(StageTime(stage, len(names), len(usages), seconds, energy))
    return times


def _logs(inputs: ReportInputs) -> Iterator[tuple[str, list[str]]]:
    """Yield the stages with the names of their logs, as the rules of the workflow have them."""
    first = inputs.first
    experiment = f"/experiments/{first.experiment}" if first.experiment else ""
    place = f"{first.dataset}{experiment}/{first.split}"
    for stream, rule in _RULES.items():
        shards = sorted((inputs.scores.get(stream) or first).recorded(dict, "shards"))
        if stream in inputs.stored:
            yield rule, [f"{rule}/{first.dataset}/{Path(name).name}" for name in shards]
    for rule in ("train", "score"):
        for stream in inputs.scores:
            yield f"{rule} {stream}", [f"{rule}/{place}/{stream}"]
    yield "fuse", [f"fuse/{place}"]
