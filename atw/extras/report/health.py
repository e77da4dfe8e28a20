"""Whether the flow can be believed, from the indexes of the shards, and which videos are bad."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from atw.extras.report.charts import PERCENT, STREAM_COLOURS, axis, figure
from atw.extras.report.gathered import Gathered
from atw.extras.report.headline import CLIPPED_SHARE
from atw.shards import Entry, Shard

WORST = 8
FINDINGS = 200
_BINS = 20


def health(gathered: Gathered) -> dict[str, Any]:
    """Flow and bad videos; the flow of all videos in the result's shards, other splits' and training videos included.

    Returns:
        `streams`: of flow and warped, where there are any: `videos`; `bound_px`; `clipped`, the mean share of
        displacements beyond it, `clipped_videos` with more than `CLIPPED_SHARE`; of warped also `accepted` and `still`,
        mean shares of pairs of frames (None for flow), `static`, videos whose camera stands still throughout,
        `residual_px`; `worst`, the most clipped videos; `findings`, quarantined and repaired videos, the first
        `FINDINGS`, and `more`, how many there are beyond; `figures`.
    """
    streams, figures = {}, {}
    for stream in ("flow", "warped"):
        if stream in gathered.stored:
            entries = [entry for _, entry in gathered.stored[stream].values()]
            streams[stream] = _summary(gathered, stream, entries)
            figures[f"health-{stream}"] = _figure(stream, entries)
    return {
        "streams": streams,
        "findings": gathered.findings[:FINDINGS],
        "more": max(0, len(gathered.findings) - FINDINGS),
        "figures": figures,
    }


def _summary(gathered: Gathered, stream: str, entries: list[Entry]) -> dict[str, Any]:
    path, _ = next(iter(gathered.stored[stream].values()))
    with Shard(path) as shard:
        bound = float(shard.attributes["bound"])
    warped = stream == "warped"
    clipped = np.array([entry.clipped for entry in entries])
    worst = sorted(entries, key=lambda entry: (-entry.clipped, entry.video))[:WORST]
    return {
        "videos": len(entries),
        "bound_px": bound,
        "clipped": float(clipped.mean()),
        "clipped_videos": int((clipped > CLIPPED_SHARE).sum()),
        "accepted": float(np.mean([entry.accepted for entry in entries])) if warped else None,
        "still": float(np.mean([entry.still for entry in entries])) if warped else None,
        "static": sum(entry.still == 1 for entry in entries) if warped else None,
        "residual_px": float(np.mean([entry.residual for entry in entries])) if warped else None,
        "worst": [{"video": entry.video, "clipped": entry.clipped} for entry in worst if entry.clipped > 0],
    }


def _figure(stream: str, entries: list[Entry]) -> go.Figure:
    """Videos by the share of clipped displacements, or, for warped flow, of pairs with an accepted homography."""
    if stream == "warped":
        values, title = np.array([entry.accepted for entry in entries]), "pairs with compensated camera motion"
    else:
        values, title = np.array([entry.clipped for entry in entries]), "displacements beyond the bound"
    largest = 1.0 if stream == "warped" else max(CLIPPED_SHARE, float(values.max()))
    edges = np.linspace(0, largest, _BINS + 1)
    counts = np.histogram(values, edges)[0]
    bars = go.Bar(
        x=((edges[:-1] + edges[1:]) / 2).tolist(),
        y=counts.tolist(),
        width=largest / _BINS,
        marker={"color": STREAM_COLOURS[stream], "line": {"color": "var(--paper)", "width": 1}},
        hovertemplate="%{y} videos at %{x:.1%}<extra></extra>",
    )
    return figure(
        [bars],
        height_px=260,
        xaxis=axis(title, tickformat=PERCENT if largest > 0.2 else ".1%"),
        yaxis=axis("videos", automargin=True),
        margin={"l": 56, "r": 12, "t": 8, "b": 46},
    )
