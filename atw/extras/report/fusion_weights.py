"""Section of the page about the weights of the fusion: how much the result depends on them."""

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from atw.evaluate.fuse import count_correct, weight_grid
from atw.extras.report.charts import COLOUR_BAR, COLOUR_SCALE, FUSED_COLOUR, PERCENT, PageSection, axis, chart
from atw.extras.report.inputs import ReportInputs


@dataclass(frozen=True)
class WeightPoint:
    """Weights of all streams that sum to 1, and the top-1 of the test videos with them."""

    weights: dict[str, float]
    top1: float


@dataclass(frozen=True, kw_only=True)
class FusionWeights(PageSection):
    """How top-1 depends on the weights: every point of a grid, and the weights of the result, which sum to 1 here."""

    points: list[WeightPoint]
    used: WeightPoint


def fusion_weights(inputs: ReportInputs) -> FusionWeights:
    """Return top-1 for other weights of the fusion; quarantined videos count as wrong. One stream has no figure."""
    streams, fused = list(inputs.scores), inputs.result.accuracy
    points = []
    for values in weight_grid(len(streams)) if len(streams) > 1 else ():
        weights = dict(zip(streams, values, strict=True))
        correct = count_correct(inputs.scores, weights=weights, on=inputs.result.fusion.on)
        points.append(WeightPoint(weights, correct / fused.total))
    whole = sum(inputs.weights.values())
    used = WeightPoint({stream: inputs.weights.get(stream, 0.0) / whole for stream in streams}, fused.top1)
    draw = _triangle if len(streams) > 2 else _line
    return FusionWeights(points=points, used=used, figures={"surface": draw(points, used)} if points else {})


def _triangle(points: list[WeightPoint], used: WeightPoint) -> go.Figure:
    corners = dict(zip("abc", used.weights, strict=True))
    told = [[" : ".join(f"{w:.1f}" for w in point.weights.values()), f"{point.top1:.1%}"] for point in points]
    colours = {"color": [point.top1 for point in points], "colorscale": COLOUR_SCALE}
    tried = go.Scatterternary(
        **{corner: [point.weights[stream] for point in points] for corner, stream in corners.items()},
        mode="markers",
        customdata=told,
        marker={"symbol": "hexagon", "size": 25, **colours}
        | {"colorbar": {**COLOUR_BAR, "orientation": "h", "y": -0.34, "len": 0.7}},
        hovertemplate=f"{' : '.join(used.weights)} = %{{customdata[0]}}<br>top-1 %{{customdata[1]}}<extra></extra>",
        showlegend=False,
        cliponaxis=False,
    )
    chosen = go.Scatterternary(
        **{corner: [used.weights[stream]] for corner, stream in corners.items()},
        **_star(used, line={"color": "var(--paper)", "width": 1.5}),
        cliponaxis=False,
    )
    bare = {"showgrid": False, "linecolor": "var(--line)", "showticklabels": False, "ticks": ""}
    sides = {
        f"{corner}axis": {"title": {"text": f"{stream}<br>\u00a0" if corner == "a" else f"<br>{stream}"}, **bare}
        | {"layer": "below traces"}
        for corner, stream in corners.items()
    }
    return chart(
        [tried, chosen],
        height_px=430,
        ternary={"sum": 1, "bgcolor": "rgba(0,0,0,0)", **sides},
        margin={"l": 40, "r": 40, "t": 60, "b": 70},
        legend={"orientation": "h", "x": 0, "y": 1.1, "xanchor": "left", "yanchor": "bottom"},
    )


def _line(points: list[WeightPoint], used: WeightPoint) -> go.Figure:
    one, other = used.weights
    ordered = sorted(points, key=lambda point: point.weights[one])
    curve = go.Scatter(
        x=[point.weights[one] for point in ordered],
        y=[point.top1 for point in ordered],
        mode="lines+markers",
        line={"color": FUSED_COLOUR},
        hovertemplate=f"{one} %{{x:.1f}}: top-1 %{{y:.1%}}<extra></extra>",
        showlegend=False,
    )
    chosen = go.Scatter(x=[used.weights[one]], y=[used.top1], **_star(used))
    return chart(
        [curve, chosen],
        height_px=320,
        xaxis=axis(f"weight of {one}, the rest is of {other}"),
        yaxis=axis("top-1", tickformat=PERCENT, automargin=True),
    )


def _star(used: WeightPoint, **more: Any) -> dict[str, object]:
    return {
        "mode": "markers",
        "name": "weights of the result",
        "marker": {"symbol": "star", "size": 17, "color": "var(--mark)", **more},
        "hovertemplate": f"used: top-1 {used.top1:.1%}<extra></extra>",
    }
