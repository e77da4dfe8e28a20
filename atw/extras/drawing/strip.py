"""One picture of a prediction: frames of the video, attention over time, windows, and the most probable classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from numpy.typing import NDArray

from atw.extras.drawing.curves import draw_attention, picture, save
from atw.extras.drawing.moments import Curve
from atw.extras.drawing.palette import shortened

_COLUMNS = 6
_BARS = "#56B4E9"


@dataclass(frozen=True, eq=False)
class Windows:
    """Probabilities [windows, classes] of the classes named, in windows from `starts` to `ends`, seconds."""

    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    classes: tuple[str, ...]
    probabilities: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Strip:
    """What the picture shows.

    Args:
        title: above everything.
        seconds: length of the video.
        images: when each frame is shown, and its RGB image [H, W, 3].
        curves: attention by stream.
        labels: names and probabilities, the most probable first.
        windows: None for none.
    """

    title: str
    seconds: float
    images: Sequence[tuple[float, NDArray[np.uint8]]]
    curves: Mapping[str, Curve]
    labels: Sequence[tuple[str, float]]
    windows: Windows | None = field(default=None)


def write_strip(strip: Strip, out: Path) -> None:
    """Draw `strip` as a PNG file."""
    heights = [1.1, 1.6] + ([0.25 + 0.22 * len(strip.windows.classes)] if strip.windows else [])
    figure = Figure(figsize=(11, 1.2 + 1.35 * sum(heights)), layout="constrained")
    figure.suptitle(strip.title, fontsize=12, parse_math=False)
    grid = GridSpec(len(heights), _COLUMNS + 2, figure=figure, height_ratios=heights)
    for column, (seconds, image) in enumerate(strip.images):
        picture(figure.add_subplot(grid[0, column]), image, f"{seconds:.2f} s")
    _draw_labels(figure.add_subplot(grid[:2, _COLUMNS:]), strip.labels)
    attention = figure.add_subplot(grid[1, :_COLUMNS])
    draw_attention(attention, strip.curves, seconds=strip.seconds)
    attention.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=3, frameon=False, fontsize=8)
    if strip.windows:
        _draw_windows(figure, grid, strip.windows, attention)
    save(figure, out)


def frames_shown() -> int:
    """How many frames a strip has room for."""
    return _COLUMNS


def _draw_labels(axes: Axes, labels: Sequence[tuple[str, float]]) -> None:
    places = np.arange(len(labels))
    axes.barh(places, [probability for _, probability in labels], color=_BARS, height=0.6)
    for place, (label, probability) in enumerate(labels):
        axes.text(
            0.02, place - 0.38, f"{shortened(label)}  {probability:.3f}", fontsize=9, va="bottom", parse_math=False
        )
    axes.set_ylim(len(labels) - 0.4, -0.9)
    axes.set_xlim(0, 1)
    axes.set_yticks([])
    axes.set_xlabel("probability")
    axes.spines[["top", "right", "left"]].set_visible(False)


def _draw_windows(figure: Figure, grid: GridSpec, windows: Windows, above: Axes) -> None:
    """Probability of each class in each window, drawn where no later window covers it."""
    axes = figure.add_subplot(grid[2, :_COLUMNS], sharex=above)
    mesh: Any = None
    for start, end, row in zip(windows.starts, windows.ends, windows.probabilities, strict=True):
        edges = np.arange(len(row) + 1) - 0.5
        mesh = axes.pcolormesh([start, end], edges, row[:, None], cmap="cividis", vmin=0, vmax=1)
    axes.set_yticks(
        np.arange(len(windows.classes)),
        labels=[shortened(name) for name in windows.classes],
        fontsize=8,
        parse_math=False,
    )
    axes.set_ylim(len(windows.classes) - 0.5, -0.5)
    axes.set_xlabel("time (s), each window by itself")
    figure.colorbar(mesh, ax=axes, label="probability", location="right", aspect=8)
