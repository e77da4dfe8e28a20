"""Where the attention looks: how unevenly it weighs, and some videos over time with their frames."""

from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from atw.extras.drawing.moments import Choice, attention_curves, draw_rows
from atw.extras.report.charts import DASHES, PERCENT, STREAM_COLOURS, axis, figure
from atw.extras.report.gathered import Gathered
from atw.extras.report.headline import flat_shares
from atw.extras.report.pictures import frames
from atw.shards import Shard
from atw.videos.times import Times

VIDEOS = 4
FRAMES = 8
LARGEST = 4.0  # times the average weight; the last bin has all that is above
_BINS = 40
_SIDES_PX = {"l": 52, "r": 12}  # as the row of frames below has them


def attention(gathered: Gathered) -> dict[str, Any]:
    """The weights of all test videos, and of some.

    Returns:
        `streams`: by name, `flat` (see `flat_shares`; None for a consensus without attention), `half`, the smallest
        share of the snippets that has half of the weight, on average over videos and crops; `videos`: those that the
        picture of attention has too, each with its `frames`; `figures`.
    """
    flat = flat_shares(gathered)
    streams = {
        name: {"flat": flat.get(name), "half": half_of_weight(one.attention)} for name, one in gathered.scores.items()
    }
    videos = _videos(gathered)
    curves = {f"attention-{number}": video.pop("curve") for number, video in enumerate(videos)}
    return {"streams": streams, "videos": videos, "figures": {"attention": _distribution(gathered), **curves}}


def half_of_weight(weights: NDArray[np.float32]) -> float:
    """The smallest share of the snippets that has half of the weight; .5 where all weigh the same."""
    falling = -np.sort(-weights.astype(np.float64), axis=2)
    enough = falling.cumsum(axis=2) >= 0.5 - 1e-6  # weights are stored in single precision
    return float((enough.argmax(axis=2) + 1).mean() / weights.shape[2])


def _distribution(gathered: Gathered) -> go.Figure:
    edges = np.linspace(0, LARGEST, _BINS + 1)
    traces = []
    for stream, one in gathered.scores.items():
        relative = np.minimum(one.attention * one.attention.shape[2], LARGEST)
        shares = np.histogram(relative, edges)[0] / relative.size
        traces.append(
            go.Scatter(
                name=stream,
                x=edges.round(3).tolist(),
                y=[*shares.tolist(), float(shares[-1])],
                mode="lines",
                line={"color": STREAM_COLOURS[stream], "dash": DASHES[stream], "width": 2, "shape": "hv"},
            )
        )
    return figure(
        traces,
        height_px=300,
        xaxis=axis(f"weight, times average (last: {LARGEST:g} and more)"),
        yaxis=axis("share of the snippets", tickformat=PERCENT, automargin=True, rangemode="tozero"),
        hovermode="x unified",
    )


def _videos(gathered: Gathered) -> list[dict[str, Any]]:
    """Drawn as the picture of attention draws them, for the same seed."""
    one, stored = gathered.first, gathered.stored["rgb"]
    counts = {video: stored[video][1].count for video in one.videos}
    predicted = gathered.fused.argmax(axis=1)
    shown = []
    for row in draw_rows(one, predicted, Choice(count=VIDEOS, seed=gathered.seed)):
        path, entry = stored[one.videos[row]]
        with Shard(path) as shard:
            times = shard.times(entry)
        shown.append(
            {
                "video": one.videos[row],
                "label": one.classes[int(one.labels[row])],
                "predicted": one.classes[int(predicted[row])],
                "frames": frames(path, entry, FRAMES),
                "curve": _over_time(gathered, row, counts, times),
            }
        )
    return shown


def _over_time(gathered: Gathered, row: int, counts: dict[str, int], times: Times) -> go.Figure:
    traces = [
        go.Scatter(
            name=stream,
            x=np.round(seconds, 3).tolist(),
            y=(weights.astype(np.float64) * len(weights)).round(4).tolist(),
            mode="lines",
            line={"color": STREAM_COLOURS[stream], "dash": DASHES[stream], "width": 2},
        )
        for stream, (seconds, weights) in attention_curves(gathered.scores, row, counts, times).items()
    ]
    return figure(
        traces,
        height_px=210,
        xaxis=axis("", range=[0, times.seconds], ticksuffix=" s", hoverformat=".2f"),
        yaxis=axis("times average", rangemode="tozero"),
        margin={**_SIDES_PX, "t": 34, "b": 26},
        hovermode="x unified",
    )
