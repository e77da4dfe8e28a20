"""Sections of the page that show videos: attention over time, and the worst errors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from scipy.special import softmax

from atw.evaluate.attention import StreamAttention
from atw.evaluate.detection_files import Detection
from atw.evaluate.scores import Scores
from atw.extras.drawing.flow_wheel import disc, flow_to_colours
from atw.extras.drawing.scored_videos import VideoSelection, best_detections, heading, lanes, select_rows
from atw.extras.report.charts import (
    PERCENT,
    PageSection,
    Picture,
    axis,
    chart,
    frame_pictures,
    jpeg_address,
    plain,
    spread,
    stream_line,
)
from atw.extras.report.clips import PlayedClip, clip_of
from atw.extras.report.inputs import ReportInputs
from atw.shards import Shard, dequantise
from atw.videos.times import Times

ATTENTION_VIDEOS = 4
ATTENTION_FRAMES = 8
MISTAKES = 12
MISTAKE_PICTURES = 4
_LARGEST = 4.0  # times the average weight; the last bin has all weights above
_HOVERED = 40  # points of a bar that is as long as the video
_BINS = 40
_PERCENTILE = 99.0
_LEAST_FULL_PX = 1.0
_WHEEL_PX = 72


@dataclass(frozen=True)
class AttentionVideo:
    """A video with a clip of it, and its attention over time above some of its frames."""

    video: str
    title: str
    clip: PlayedClip | None
    frames: list[Picture]


@dataclass(frozen=True, kw_only=True)
class Attention(PageSection):
    """The section about attention; the figure `attention-0` belongs to the first video, and so on."""

    streams: dict[str, StreamAttention]
    videos: list[AttentionVideo]


def flat_shares(inputs: ReportInputs) -> dict[str, float]:
    """Return the share of the test videos with flat attention, by stream with attention."""
    return {
        stream: float(one.flat.mean())
        for stream, one in inputs.scores.items()
        if one.recorded(str, "settings", "train", "model", "consensus") == "attention"
    }


def attention(inputs: ReportInputs) -> Attention:
    """Return the section about attention; its videos are those of attention.png for the same seed."""
    first = inputs.first
    predicted = inputs.fused.argmax(axis=1)
    videos, figures = [], {"attention": _attention_histogram(inputs)}
    rows = select_rows(first, predicted, VideoSelection(count=ATTENTION_VIDEOS, seed=inputs.seed))
    detected = inputs.detect(rows) if inputs.result.detections else {}
    for number, row in enumerate(rows):
        stored = inputs.stored["rgb"][first.videos[row]]
        with Shard(stored.path) as shard:
            times = shard.times(stored.entry)
        title = heading(first.label(row), first.classes[int(predicted[row])])
        clip = clip_of(stored, inputs.curves(row), inputs.looking)
        videos.append(AttentionVideo(first.videos[row], title, clip, frame_pictures(stored, ATTENTION_FRAMES)))
        figures[f"attention-{number}"] = _attention_over_time(inputs, row, times, detected.get(first.videos[row]))
    return Attention(streams=inputs.attention, videos=videos, figures=figures)


def _attention_histogram(inputs: ReportInputs) -> go.Figure:
    edges = np.linspace(0, _LARGEST, _BINS + 1)
    traces = []
    for stream, one in inputs.scores.items():
        times_average = one.attention * one.snippets[:, None, None]  # [V, crops, M]
        relative = np.minimum(times_average.swapaxes(1, 2)[one.own], _LARGEST)
        shares = np.histogram(relative, edges)[0] / relative.size
        line = stream_line(stream, shape="hv")
        steps = [*shares.tolist(), float(shares[-1])]
        traces.append(go.Scatter(name=stream, x=edges.round(3).tolist(), y=steps, mode="lines", line=line))
    return chart(
        traces,
        height_px=300,
        xaxis=axis(f"weight, times average (last: {_LARGEST:g} and more)"),
        yaxis=axis("share of the snippets", tickformat=PERCENT, automargin=True, rangemode="tozero"),
        hovermode="x unified",
    )


def _attention_over_time(
    inputs: ReportInputs, row: int, times: Times, detected: Sequence[Detection] | None
) -> go.Figure:
    """The attention of each stream; above it what is detected and shown, unless no actions are known (None)."""
    traces = [
        go.Scatter(
            name=stream,
            x=np.round(seconds, 3).tolist(),
            y=(weights.astype(np.float64) * len(weights)).round(4).tolist(),
            mode="lines",
            line=stream_line(stream),
        )
        for stream, (seconds, weights) in inputs.curves(row).items()
    ]
    above: dict[str, object] = {}
    if detected is not None:
        bars = action_bars(inputs.first, row, detected, times.seconds)
        heights = [bar.y[0] for bar in bars]
        lowest, highest = min([0, *heights]), max([1, *heights])
        middles = [lowest / 2, (1 + highest) / 2]
        names = {"tickvals": middles, "ticktext": ["detected", "actions"], "tickfont": {"size": 11}}
        span = [lowest - 0.6, highest + 0.6]
        above = {"yaxis2": axis("", domain=[0.8, 1], range=span, showgrid=False, zeroline=False, **names)}
        traces += bars
    return chart(
        traces,
        height_px=270 if above else 210,
        xaxis=axis("", range=[0, times.seconds], ticksuffix=" s", hoverformat=".2f"),
        yaxis=axis("times average", rangemode="tozero", domain=[0, 0.74 if above else 1]),
        **above,
        margin={"l": 52, "r": 12, "t": 34, "b": 26},  # left and right as the row of frames below
        hovermode="x unified",
    )


def action_bars(first: Scores, row: int, detected: Sequence[Detection], end: float) -> list[go.Scatter]:
    """The known actions of a video, and what is detected in it: bars on the axis above the curves, up to its end.

    Those that overlap have lanes of their own: actions from height 1 up, detections from 0 down. A bar has points all
    along, because only points answer the mouse.
    """
    known = list(first.actions.shown_in(row))
    bars = [
        (1 + lane, plain(first.classes[label]), segment, "var(--ink)")
        for lane, (label, segment) in zip(lanes([segment for _, segment in known]), known, strict=True)
    ]
    found = [(one, one.segment) for one in best_detections(detected) if one.segment]
    bars += [
        (-lane, f"{plain(one.label)} {one.score:.2f}", segment, "var(--fused)")
        for lane, (one, segment) in zip(lanes([segment for _, segment in found]), found, strict=True)
    ]
    shown = [(start, min(stop, end)) for _, _, (start, stop), _ in bars]
    points = [np.linspace(start, stop, 1 + math.ceil((stop - start) / end * _HOVERED)) for start, stop in shown]
    return [
        go.Scatter(
            x=seconds.round(3).tolist(),
            y=[height] * len(seconds),
            name="action" if height > 0 else "detected",
            text=[text] * len(seconds),
            hovertemplate="%{text}",
            mode="lines",
            line={"width": 4, "color": colour},
            yaxis="y2",
            showlegend=False,
        )
        for (height, text, _, colour), seconds in zip(bars, points, strict=True)
    ]


@dataclass(frozen=True)
class StreamOpinion:
    """The most probable class of a stream."""

    predicted: str
    probability: float


@dataclass(frozen=True)
class FlowPictures:
    """Fields of a stream in colours; motion of `full_px` has the full colour, in all streams of a video."""

    stream: str
    full_px: float
    pictures: list[Picture]


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A wrong video with the probabilities of its class, of several the highest, and of the predicted one."""

    video: str
    label: str
    predicted: str
    label_probability: float
    predicted_probability: float
    streams: dict[str, StreamOpinion]
    clip: PlayedClip | None
    frames: list[Picture]
    flow: list[FlowPictures]


@dataclass(frozen=True)
class Mistakes:
    """The worst errors, the number of all wrong videos that could be decoded, and the colour wheel of flow."""

    wrong: int
    videos: list[Mistake]
    wheel: str


def mistakes(inputs: ReportInputs) -> Mistakes:
    """Return the wrong videos whose wrong class has the highest probability, at most `MISTAKES`."""
    shares = inputs.shares
    wrong = np.flatnonzero(~inputs.right & (inputs.first.labels >= 0))
    worst = wrong[np.argsort(-shares[wrong].max(axis=1), kind="stable")][:MISTAKES]
    wheel = disc(_WHEEL_PX)
    on_white = np.where((wheel == 0).all(axis=2, keepdims=True), np.uint8(255), wheel)
    return Mistakes(len(wrong), [_mistake(inputs, row, shares[row]) for row in worst.tolist()], jpeg_address(on_white))


class VideoRow(NamedTuple):
    """A listed test video: what it shows, what the fusion says, how sure, and what each stream says.

    Without `predicted` it could not be decoded, and without `label` it shows no class.
    """

    video: str
    label: str
    predicted: str
    probability: float
    right: bool
    streams: tuple[str, ...]


def all_test_videos(inputs: ReportInputs) -> list[VideoRow]:
    """Return all listed test videos, those that could not be decoded behind the others."""
    first, shares = inputs.first, inputs.shares
    said = np.array([one.video_logits.argmax(axis=1) for one in inputs.scores.values()]).T  # [V, streams]
    rows = [
        VideoRow(
            video,
            inputs.labels(row),
            first.classes[int(shares[row].argmax())],
            round(float(shares[row].max()), 3),
            bool(inputs.right[row]),
            tuple(first.classes[number] for number in said[row].tolist()),
        )
        for row, video in enumerate(first.videos)
    ]
    return rows + [
        VideoRow(video, first.classes[label] if label >= 0 else "", "", 0.0, False, ("",) * len(inputs.scores))
        for video, label, _ in first.quarantined
    ]


def _mistake(inputs: ReportInputs, row: int, shares: NDArray[np.float64]) -> Mistake:
    first = inputs.first
    stored = inputs.stored["rgb"][first.videos[row]]
    predicted = int(shares.argmax())
    streams = {}
    for stream, one in inputs.scores.items():
        logits = one.video_logits[row].astype(np.float64)
        streams[stream] = StreamOpinion(first.classes[int(logits.argmax())], float(softmax(logits).max()))
    return Mistake(
        video=first.videos[row],
        label=inputs.labels(row),
        predicted=first.classes[predicted],
        label_probability=float(shares[first.truth[row]].max()),
        predicted_probability=float(shares[predicted]),
        streams=streams,
        clip=clip_of(stored, inputs.curves(row), inputs.looking),
        frames=frame_pictures(stored, MISTAKE_PICTURES),
        flow=_flow_pictures(inputs, first.videos[row]),
    )


def _flow_pictures(inputs: ReportInputs, video: str) -> list[FlowPictures]:
    """Show flow with and without the motion of the camera, as far as they are there."""
    fields, seconds = {}, []
    for stream in ("flow", "warped"):
        if stream in inputs.stored:
            path, entry = inputs.stored[stream][video]
            numbers = spread(entry.count, MISTAKE_PICTURES)
            with Shard(path) as shard:
                times = shard.times(entry)
                fields[stream] = dequantise(shard.fields(entry, numbers), shard.header.bound)
            seconds = [times.of_field(number) for number in numbers]
    longest = [np.percentile(np.hypot(field[:, 0], field[:, 1]), _PERCENTILE) for field in fields.values()]
    full_px = max([_LEAST_FULL_PX, *map(float, longest)])
    return [
        FlowPictures(
            stream,
            full_px,
            [
                Picture(moment, jpeg_address(flow_to_colours(field, full_px=full_px)))
                for moment, field in zip(seconds, of, strict=True)
            ],
        )
        for stream, of in fields.items()
    ]
