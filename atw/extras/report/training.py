"""How the networks were trained: history.jsonl as curves."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go

from atw.extras.report.charts import DASHES, PERCENT, STREAM_COLOURS, axis, figure
from atw.extras.report.gathered import Gathered

POINTS = 160  # of a curve; each is the mean of as many iterations as that takes
_PANELS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("loss", "loss", "loss", {}),
    ("accuracy", "accuracy", "accuracy of the training", {"tickformat": PERCENT, "range": [0, 1.02]}),
    ("learning-rate", "learning_rate", "learning rate", {"rangemode": "tozero"}),
    ("flat", "flat_attention", "videos with flat attention", {"tickformat": PERCENT, "range": [-0.02, 1.02]}),
)
_HELD_OUT = {"loss": "validation_loss", "accuracy": "validation_accuracy"}

Curve = tuple[list[float], list[float]]


def training(gathered: Gathered) -> dict[str, Any]:
    """Curves of each stream: `last`, by stream its last iteration with mean loss and accuracy, and `figures`."""
    last = {}
    for stream, rows in gathered.histories.items():
        loss, accuracy = (curve(rows, key)[1] for key in ("loss", "accuracy"))
        last[stream] = {
            "iterations": rows[-1]["iteration"] if rows else 0,
            "loss": loss[-1] if loss else None,
            "accuracy": accuracy[-1] if accuracy else None,
        }
    drawn = {f"training-{name}": _panel(gathered, key, title, vertical) for name, key, title, vertical in _PANELS}
    return {"last": last, "points": POINTS, "figures": {name: one for name, one in drawn.items() if one.data}}


def curve(rows: Sequence[dict[str, float | None]], key: str) -> Curve:
    """Iterations and values of a curve, without rows that have no value, as means over equal runs of at most POINTS."""
    known = [(float(row["iteration"] or 0), float(value)) for row in rows if (value := row.get(key)) is not None]
    if not known:
        return [], []
    points = np.array(known)
    edges = np.linspace(0, len(points), min(POINTS, len(points)) + 1).round().astype(int)
    means = np.array([points[first:last].mean(axis=0) for first, last in pairwise(edges)])
    return means[:, 0].tolist(), means[:, 1].tolist()


def _panel(gathered: Gathered, key: str, title: str, vertical: dict[str, Any]) -> go.Figure:
    traces = []
    for stream, rows in gathered.histories.items():
        for name, what, marks in ((stream, key, "lines"), (f"{stream}, held out", _HELD_OUT.get(key), "markers")):
            iterations, values = curve(rows, what) if what else ([], [])
            if values:
                traces.append(
                    go.Scatter(
                        name=name,
                        mode=marks,
                        x=iterations,
                        y=values,
                        line={"color": STREAM_COLOURS[stream], "dash": DASHES[stream], "width": 2},
                        marker={"color": STREAM_COLOURS[stream], "size": 6},
                    )
                )
    return figure(
        traces,
        height_px=290,
        xaxis=axis("iteration", hoverformat=".0f"),
        yaxis=axis(title, automargin=True, **vertical),
        hovermode="x unified",
    )
