"""Accuracy over the weights of the fusion: how much the result owes to them."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from atw.evaluate.choice import count_correct, grid
from atw.extras.report.charts import PERCENT, axis, figure
from atw.extras.report.gathered import Gathered

_BELOW = {"orientation": "h", "y": -0.34, "len": 0.7}
_SCALE = [[0, "var(--low)"], [1, "var(--high)"]]


def surface(gathered: Gathered) -> dict[str, Any]:
    """Top-1 on the test videos, quarantined ones counting as wrong, for weights of all streams that sum to 1.

    Returns:
        `points`, each with `weights` and `top1`; `best` and `worst` of these; `used`, the weights of the result, made
        to sum to 1; `top1` with them; `figures`, none for a single stream.
    """
    streams = list(gathered.scores)
    total = gathered.result["accuracy"]["total"]
    points = []
    for place in grid(len(streams)) if len(streams) > 1 else ():
        weights = dict(zip(streams, place, strict=True))
        correct = count_correct(gathered.scores, weights=weights, on=gathered.on)
        points.append({"weights": weights, "top1": correct / total})
    whole = sum(gathered.weights.values())
    used = {stream: gathered.weights.get(stream, 0.0) / whole for stream in streams}
    top1 = gathered.result["accuracy"]["top1"]
    accuracies = [point["top1"] for point in points]
    draw = _triangle if len(streams) > 2 else _line
    return {
        "points": points,
        "best": max(accuracies, default=None),
        "worst": min(accuracies, default=None),
        "used": used,
        "top1": top1,
        "figures": {"surface": draw(points, used, top1)} if points else {},
    }


def _triangle(points: list[dict[str, Any]], used: dict[str, float], top1: float) -> go.Figure:
    corners = dict(zip("abc", used, strict=True))
    told = [" : ".join(f"{weight:.1f}" for weight in point["weights"].values()) for point in points]
    tried = go.Scatterternary(
        **{corner: [point["weights"][stream] for point in points] for corner, stream in corners.items()},
        mode="markers",
        customdata=np.array([told, [f"{point['top1']:.1%}" for point in points]]).T.tolist(),
        marker={"symbol": "hexagon", "size": 25, "color": [point["top1"] for point in points], "colorscale": _SCALE}
        | {"colorbar": {"thickness": 10, "tickformat": PERCENT, "outlinewidth": 0, **_BELOW}},
        hovertemplate=f"{' : '.join(used)} = %{{customdata[0]}}<br>top-1 %{{customdata[1]}}<extra></extra>",
        showlegend=False,
        cliponaxis=False,
    )
    chosen = go.Scatterternary(
        **{corner: [used[stream]] for corner, stream in corners.items()},
        mode="markers",
        name="weights of the result",
        marker={"symbol": "star", "size": 17, "color": "var(--mark)", "line": {"color": "var(--paper)", "width": 1.5}},
        hovertemplate=f"used: top-1 {top1:.1%}<extra></extra>",
        cliponaxis=False,
    )
    sides = {
        f"{corner}axis": {
            "title": {"text": f"{stream}<br>\u00a0" if corner == "a" else f"<br>{stream}"},
            "showgrid": False,
            "linecolor": "var(--line)",
        }
        | {"showticklabels": False, "ticks": "", "layer": "below traces"}
        for corner, stream in corners.items()
    }
    return figure(
        [tried, chosen],
        height_px=430,
        ternary={"sum": 1, "bgcolor": "rgba(0,0,0,0)", **sides},
        margin={"l": 40, "r": 40, "t": 60, "b": 70},
        legend={"orientation": "h", "x": 0, "y": 1.1, "xanchor": "left", "yanchor": "bottom"},
    )


def _line(points: list[dict[str, Any]], used: dict[str, float], top1: float) -> go.Figure:
    one, other = used
    ordered = sorted((point["weights"][one], point["top1"]) for point in points)
    curve = go.Scatter(
        x=[place for place, _ in ordered],
        y=[accuracy for _, accuracy in ordered],
        mode="lines+markers",
        line={"color": "var(--fused)"},
        hovertemplate=f"{one} %{{x:.1f}}: top-1 %{{y:.1%}}<extra></extra>",
        showlegend=False,
    )
    chosen = go.Scatter(
        x=[used[one]],
        y=[top1],
        mode="markers",
        name="weights of the result",
        marker={"symbol": "star", "size": 17, "color": "var(--mark)"},
        hovertemplate=f"used: top-1 {top1:.1%}<extra></extra>",
    )
    return figure(
        [curve, chosen],
        height_px=320,
        xaxis=axis(f"weight of {one}, the rest is of {other}"),
        yaxis=axis("top-1", tickformat=PERCENT, automargin=True),
    )
