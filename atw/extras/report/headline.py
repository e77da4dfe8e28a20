"""The number first: accuracies with intervals, what each stream adds, and what speaks against believing them."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from atw.evaluate.compare import compare, outcomes
from atw.evaluate.fuse import fuse
from atw.evaluate.metrics import mean_class_interval, wilson_interval
from atw.evaluate.scores import flat_attention
from atw.extras.report.charts import FUSED_COLOUR, PERCENT, STREAM_COLOURS, axis, figure
from atw.extras.report.gathered import Gathered

WIDE_INTERVAL = 0.1
FLAT_SHARE = 0.1
CLIPPED_SHARE = 0.01
CLIPPED_VIDEOS = 0.05
ACCEPTED_SHARE = 0.5


def headline(gathered: Gathered, health: dict[str, Any]) -> dict[str, Any]:
    """Numbers, warnings and a figure.

    Args:
        gathered: the result.
        health: of the flow, see `atw.extras.report.health`.

    Returns:
        `rows` of accuracies as in fused.json, with `mean_class_ci95`, the fusion last; `additions`, what each stream
        adds; `chance` of a guess among all classes, and `largest`, the share of the test videos that the most frequent
        class has; `warnings`; `figures`.
    """
    result = gathered.result
    named = {**result["streams"], "fused": result["accuracy"]}
    logits: dict[str, NDArray[np.floating]] = {
        **{name: one.video_logits for name, one in gathered.scores.items()},
        "fused": gathered.fused,
    }
    rows = [
        {
            "name": name,
            "weight": gathered.weights.get(name),
            "mean_class_ci95": _mean_class_interval(gathered, logits[name]),
            **accuracy,
        }
        for name, accuracy in named.items()
    ]
    classes = Counter(label for label, _ in gathered.outcomes["fused"].values())
    said = {
        "rows": rows,
        "additions": list(_additions(gathered)),
        "chance": 1 / len(result["classes"]),
        "largest": max(classes.values()) / result["accuracy"]["total"],
        "figures": {"headline": _figure(rows, 1 / len(result["classes"]))},
    }
    return said | {"warnings": list(_warnings(gathered, said, health))}


def _mean_class_interval(gathered: Gathered, logits: NDArray[np.floating]) -> tuple[float, float]:
    right, videos = Counter[str](), Counter[str]()
    for label, is_right in outcomes(logits, gathered.first).values():
        videos[label] += 1
        right[label] += is_right
    counts = np.array([(right[label], videos[label]) for label in gathered.first.classes])  # [K, 2]
    return mean_class_interval(counts[:, 0], counts[:, 1], seed=gathered.seed)


def _additions(gathered: Gathered) -> Iterator[dict[str, Any]]:
    """The fusion compared with the fusion of the other streams, at their weights."""
    for stream in gathered.weights:
        others = {name: weight for name, weight in gathered.weights.items() if name != stream}
        if others:
            without = outcomes(fuse(gathered.scores, weights=others, on=gathered.on), gathered.first)
            compared = compare(without, gathered.outcomes["fused"], seed=gathered.seed)
            yield {"stream": stream, "without": " + ".join(others), **compared}


def flat_shares(gathered: Gathered) -> dict[str, float]:
    """Of streams with attention, the share of the test videos in which all snippets weigh the same."""
    return {
        stream: float(flat_attention(one.attention).mean())
        for stream, one in gathered.scores.items()
        if one.told(str, "settings", "train", "model", "consensus") == "attention"
    }


def _warnings(gathered: Gathered, said: dict[str, Any], health: dict[str, Any]) -> Iterator[str]:
    fused = gathered.result["accuracy"]
    low, _ = fused["top1_ci95"]
    if low <= max(said["chance"], said["largest"]):
        yield "The 95% interval of the fused top-1 reaches down to what guessing gives."
    # Of few videos that are all right, or all wrong, the bootstrap is certain.
    wilson_low, wilson_high = wilson_interval(fused["correct"], fused["total"])
    if wilson_high - wilson_low > WIDE_INTERVAL:
        yield (
            f"{fused['total']} test videos are few: by Wilson's 95% interval the fused top-1 is anything from "
            f"{100 * wilson_low:.1f}% to {100 * wilson_high:.1f}%, and small differences mean little."
        )
    best, accuracy = max(gathered.result["streams"].items(), key=lambda item: item[1]["top1"])
    if len(gathered.weights) > 1 and accuracy["top1"] >= fused["top1"]:
        yield f"Fusion gains nothing here: {best} alone has a top-1 of {100 * accuracy['top1']:.1f}%."
    for stream, share in flat_shares(gathered).items():
        if share > FLAT_SHARE:
            yield (
                f"The attention of {stream} is flat in {100 * share:.0f}% of the test videos: there it is an average."
            )
    yield from _flow_warnings(health)
    yield from _quarantine_warnings(gathered)


def _flow_warnings(health: dict[str, Any]) -> Iterator[str]:
    for stream, found in health["streams"].items():
        if found["clipped_videos"] > CLIPPED_VIDEOS * found["videos"]:
            yield (
                f"{found['clipped_videos']} of {found['videos']} videos have more than {100 * CLIPPED_SHARE:.0f}% of "
                f"their {stream} displacements beyond the bound of {found['bound_px']:g} px: raise flow.bound."
            )
        if found["accepted"] is not None and found["accepted"] < ACCEPTED_SHARE:
            yield (
                f"Camera motion was compensated in {100 * found['accepted']:.0f}% of the pairs of frames only: "
                "elsewhere warped flow is plain flow."
            )


def _quarantine_warnings(gathered: Gathered) -> Iterator[str]:
    bad = len(gathered.result["videos"]["quarantined"])
    test = len(gathered.first.quarantined)
    if test:
        yield f"Test videos that could not be decoded, and count as wrong in every number: {test}."
    if bad > test:
        yield f"Training videos that could not be decoded, and were left out: {bad - test}."


def _figure(rows: list[dict[str, Any]], chance: float) -> go.Figure:
    traces = []
    for row in rows:
        low, high = row["top1_ci95"]
        colour = STREAM_COLOURS.get(row["name"], FUSED_COLOUR)
        traces.append(
            go.Scatter(
                x=[row["top1"]],
                y=[row["name"]],
                error_x={"array": [high - row["top1"]], "arrayminus": [row["top1"] - low], "color": colour, "width": 7},
                marker={"color": colour, "size": 13},
                hovertemplate=f"%{{y}}: %{{x:.1%}}, {low:.1%} to {high:.1%}<extra></extra>",
                showlegend=False,
            )
        )
    return figure(
        traces,
        height_px=70 + 44 * len(rows),
        xaxis=axis("top-1, with 95% interval; dotted: chance", tickformat=PERCENT, range=[0, 1.02]),
        yaxis=axis(type="category", autorange="reversed", automargin=True),
        margin={"l": 56, "r": 12, "t": 8, "b": 46},
        shapes=[
            {"type": "line", "x0": chance, "x1": chance, "yref": "paper", "y0": 0, "y1": 1}
            | {"line": {"color": "var(--soft)", "dash": "dot", "width": 2}}
        ],
    )
