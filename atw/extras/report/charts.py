"""Parts of the page that its sections share: Plotly figures, and small JPEG pictures as data addresses.

Colours are names from the page's style sheet, so that figures follow its theme.
"""

import base64
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from atw.errors import printable
from atw.extras.drawing import COLOURS, shortened
from atw.extras.drawing.scored_videos import StoredVideo
from atw.shards import Shard

STREAM_COLOURS = {name: f"var(--{name})" for name in COLOURS}
FUSED_COLOUR = "var(--fused)"
DASHES = {"rgb": "solid", "flow": "dash", "warped": "dashdot"}
SYMBOLS = {"rgb": "circle", "flow": "square", "warped": "diamond"}
PERCENT = ".0%"
COLOUR_SCALE = [[0, "var(--low)"], [1, "var(--high)"]]
COLOUR_BAR = {"thickness": 10, "tickformat": PERCENT, "outlinewidth": 0}
NO_TITLE_MARGIN = {"l": 56, "r": 12, "t": 8, "b": 46}
PICTURE_WIDTH_PX = 160
_JPEG_QUALITY = 80


def chart(traces: list[Any], *, height_px: int, **layout: Any) -> go.Figure:
    """Return a figure that is as wide as its place on the page and has no background of its own."""
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


def axis(title: str = "", **more: Any) -> dict[str, object]:
    """Return a horizontal or vertical axis."""
    lines = {"gridcolor": "var(--line)", "zerolinecolor": "var(--line)", "linecolor": "var(--line)"}
    return {"title": {"text": title, "font": {"size": 13}, "standoff": 10}, **lines, "fixedrange": True, **more}


def class_axis(names: list[str], title: str = "", **more: Any) -> dict[str, object]:
    """Return an axis of classes that shortens long labels; its traces name the classes as `plain` does."""
    aliases = {plain(name): plain(shortened(name)) for name in names if shortened(name) != name}
    return axis(title, type="category", automargin=True, labelalias=aliases, **more)


def stream_line(stream: str, **more: Any) -> dict[str, object]:
    """Return the line of a stream, with its colour and its dashes."""
    return {"color": STREAM_COLOURS[stream], "dash": DASHES[stream], "width": 2, **more}


def plain(text: str) -> str:
    """Escape text that Plotly would take for markup."""
    return printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


@dataclass(frozen=True, kw_only=True)
class PageSection:
    """A section of the page; `figures` are by the name of their place on the page."""

    figures: dict[str, go.Figure]


class Picture(NamedTuple):
    """A picture on the page, and the time in its video that it shows."""

    seconds: float
    address: str


def jpeg_address(image: NDArray[np.uint8]) -> str:
    """Encode an RGB image [H, W, 3] as a data address; images wider than `PICTURE_WIDTH_PX` are shrunk."""
    height, width = image.shape[:2]
    if width > PICTURE_WIDTH_PX:
        size = (PICTURE_WIDTH_PX, max(1, round(height * PICTURE_WIDTH_PX / width)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    pixels = np.ascontiguousarray(image[..., ::-1])
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")


def spread(count: int, wanted: int) -> list[int]:
    """Return at most `wanted` of `count` numbers in rising order: the middles of as many equal parts."""
    parts = min(count, wanted)
    return [int((2 * part + 1) * count / (2 * parts)) for part in range(parts)]


def frame_pictures(video: StoredVideo, wanted: int) -> list[Picture]:
    """Return at most `wanted` frames, spread over a video."""
    numbers = spread(video.entry.count, wanted)
    with Shard(video.path) as shard:
        images = shard.frames(video.entry, numbers)
        times = shard.times(video.entry)
    return [Picture(times.of_frame(number), jpeg_address(image)) for number, image in zip(numbers, images, strict=True)]
