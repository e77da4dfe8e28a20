"""What all figures of the page share. Colours are names of the page's style sheet, so that figures follow its theme."""

from typing import Any

import plotly.graph_objects as go

from atw.errors import printable
from atw.extras.drawing.palette import COLOURS, shortened

STREAM_COLOURS = {name: f"var(--{name})" for name in COLOURS}
FUSED_COLOUR = "var(--fused)"
DASHES = {"rgb": "solid", "flow": "dash", "warped": "dashdot"}
SYMBOLS = {"rgb": "circle", "flow": "square", "warped": "diamond"}
PERCENT = ".0%"


def figure(traces: list[Any], *, height_px: int, **layout: Any) -> go.Figure:
    """A figure as wide as its place on the page, without a background of its own."""
    general = {
        "template": go.layout.Template(),
        "height": height_px,
        "margin": {"l": 56, "r": 12, "t": 34, "b": 46},
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "var(--ink)"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"bgcolor": "var(--raised)", "bordercolor": "var(--line)", "font": {"color": "var(--ink)"}},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"},
        "dragmode": False,
    }
    return go.Figure(traces, general | layout)


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """A horizontal or vertical axis."""
    lines = {"gridcolor": "var(--line)", "zerolinecolor": "var(--line)", "linecolor": "var(--line)"}
    return {"title": {"text": title, "font": {"size": 13}}, **lines, "fixedrange": True, **more}


def class_axis(names: list[str], title: str = "", **more: Any) -> dict[str, Any]:
    """An axis of classes, which its traces name as `plain` does; long names are shortened beside it only."""
    aliases = {plain(name): plain(shortened(name)) for name in names if shortened(name) != name}
    return axis(title, type="category", automargin=True, labelalias=aliases, **more)


def plain(text: str) -> str:
    """Text that Plotly shows as it is: it takes some HTML for its own markup."""
    return printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
