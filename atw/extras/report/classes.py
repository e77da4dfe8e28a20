"""Class by class: what the fusion gains, and which classes are taken for which."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from atw.extras.report.charts import PERCENT, STREAM_COLOURS, SYMBOLS, class_axis, figure, plain
from atw.extras.report.charts import axis as plain_axis
from atw.extras.report.gathered import Gathered

CONFUSIONS = 30
ROW_PX = 34


def classes(gathered: Gathered) -> dict[str, Any]:
    """Accuracies by class and the confusions of the fusion.

    Returns:
        `best`, the single stream with the highest top-1; `rows`, a class each with its number of listed test videos,
        its accuracies and `gain`, that of the fusion over `best`, None without a test video; sorted by falling gain, so
        that figures and tables agree; `confusions`, the most frequent ones; `cells`, [true, taken for, videos] of all
        that are not 0, by place in `rows`; `figures`, whose matrix is empty: the page fills it from `cells`.
    """
    result = gathered.result
    best = max(result["streams"], key=lambda stream: result["streams"][stream]["top1"])
    names, matrix = result["classes"], np.array(result["confusion"])
    listed = _listed(gathered, matrix)
    rows = []
    for number, name in enumerate(names):
        fused = result["accuracy"]["per_class"][name]
        streams = {stream: accuracy["per_class"][name] for stream, accuracy in result["streams"].items()}
        gain = None if fused is None else fused - streams[best]
        rows.append({"number": number, "name": name, "videos": int(listed[number]), "fused": fused, "gain": gain})
        rows[-1]["streams"] = streams
    rows.sort(key=lambda row: (row["gain"] is None, -(row["gain"] or 0.0), -(row["fused"] or 0.0), row["number"]))
    place = {row["number"]: position for position, row in enumerate(rows)}
    cells = sorted(
        [place[true], place[taken], int(matrix[true, taken])] for true, taken in np.argwhere(matrix).tolist()
    )
    return {
        "best": best,
        "rows": rows,
        "cells": cells,
        "confusions": _confusions(rows, cells),
        "figures": {"classes": _bars(rows, best), "confusion": _matrix(rows)},
    }


def _listed(gathered: Gathered, confusion: Any) -> Any:
    """Test videos of each class, the quarantined ones included."""
    quarantined = [label for _, label, _ in gathered.first.quarantined]
    return confusion.sum(axis=1) + np.bincount(quarantined, minlength=len(confusion))


def _confusions(rows: list[dict[str, Any]], cells: list[list[int]]) -> list[dict[str, Any]]:
    decoded = np.bincount([true for true, _, _ in cells], [videos for _, _, videos in cells], minlength=len(rows))
    wrong = sorted((cell for cell in cells if cell[0] != cell[1]), key=lambda cell: (-cell[2], cell[0], cell[1]))
    return [
        {
            "places": [true, taken],
            "label": rows[true]["name"],
            "taken": rows[taken]["name"],
            "videos": videos,
            "share": float(videos / decoded[true]),
        }
        for true, taken, videos in wrong[:CONFUSIONS]
    ]


def _bars(rows: list[dict[str, Any]], best: str) -> go.Figure:
    names = [plain(row["name"]) for row in rows]
    told = [
        "no test video" if row["gain"] is None else f"{100 * row['gain']:+.0f} points, {row['videos']} videos"
        for row in rows
    ]
    bars = go.Bar(
        name="fused",
        orientation="h",
        x=[row["fused"] for row in rows],
        y=names,
        customdata=told,
        text=["" if row["gain"] is None else f"{100 * row['gain']:+.0f}" for row in rows],
        textposition="inside",
        insidetextanchor="start",
        insidetextfont={"color": "var(--ink)"},
        marker={"color": "var(--bar)"},
        hovertemplate="fused %{x:.1%} (%{customdata})<extra></extra>",
    )
    dots = [
        go.Scatter(
            name=stream,
            mode="markers",
            x=[row["streams"][stream] for row in rows],
            y=names,
            customdata=told,
            marker={"color": STREAM_COLOURS[stream], "symbol": SYMBOLS[stream], "size": 10}
            | {"line": {"color": "var(--paper)", "width": 1}},
            hovertemplate=f"{stream} %{{x:.1%}}<extra></extra>",
        )
        for stream in rows[0]["streams"]
    ]
    return figure(
        [bars, *dots],
        height_px=110 + ROW_PX * len(rows),
        xaxis=plain_axis(f"accuracy; in the bar: points over {best} alone", tickformat=PERCENT, range=[0, 1.04]),
        yaxis=class_axis([row["name"] for row in rows], autorange="reversed"),
        hovermode="y unified",
        bargap=0.35,
    )


def _matrix(rows: list[dict[str, Any]]) -> go.Figure:
    names = [row["name"] for row in rows]
    trace = go.Heatmap(
        z=[],
        x=[plain(name) for name in names],
        y=[plain(name) for name in names],
        zmin=0,
        zmax=1,
        colorscale=[[0, "var(--low)"], [1, "var(--high)"]],
        colorbar={"thickness": 10, "tickformat": PERCENT, "outlinewidth": 0, "x": 1.01, "xpad": 4},
        hoverongaps=False,
        hovertemplate="%{y}<br>taken for %{x}<br>%{customdata} videos, %{z:.0%}<extra></extra>",
        xgap=1 if len(rows) <= 60 else 0,
        ygap=1 if len(rows) <= 60 else 0,
    )
    return figure(
        [trace],
        height_px=min(900, 190 + 30 * len(rows)),
        xaxis=class_axis(names, "taken for", tickangle=-90, showgrid=False) | {"fixedrange": False},
        yaxis=class_axis(names, "true class", autorange="reversed", showgrid=False) | {"fixedrange": False},
        dragmode="zoom",
        margin={"l": 56, "r": 12, "t": 8, "b": 60},
    )
