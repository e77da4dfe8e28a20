"""The picture of attention: a block for each video, frames on the left and weights over time on the right."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray

from atw.extras.drawing.curves import draw_attention, picture, save
from atw.extras.drawing.moments import Curve
from atw.extras.drawing.palette import COLOURS
from atw.videos.times import Source

_COLUMNS = 4
_CURVE_COLUMNS = 4
_BLOCK_INCHES = 2.9
_SHADE = "#F0E442"


@dataclass(frozen=True, eq=False)
class Picked:
    """A frame: its number, when its middle is shown, its weight, and its RGB image [H, W, 3]."""

    frame: int
    seconds: float
    weight: float
    image: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Plate:
    """What is shown of a video.

    Args:
        video: its id.
        label: its class.
        predicted: the class that the fused streams give it.
        seconds: its length.
        times: where seconds come from, see `atw.videos.times.Times`.
        flat: whether every weight of the stream is the same.
        highest: the frames with the highest weights, falling; of a flat one, frames of its first half in time.
        lowest: those with the lowest, rising; of a flat one, frames of its second half.
        curves: attention by stream.
        action_seconds: start and end of the action, None where nobody knows.
    """

    video: str
    label: str
    predicted: str
    seconds: float
    times: Source
    flat: bool
    highest: list[Picked]
    lowest: list[Picked]
    curves: dict[str, Curve]
    action_seconds: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """All but the images."""
        return {
            "video": self.video,
            "label": self.label,
            "predicted": self.predicted,
            "seconds": self.seconds,
            "times": self.times,
            "action_seconds": self.action_seconds,
            "flat": self.flat,
            "highest": [_described(one) for one in self.highest],
            "lowest": [_described(one) for one in self.lowest],
            "attention": {
                stream: {"seconds": seconds.tolist(), "weight": weights.tolist()}
                for stream, (seconds, weights) in self.curves.items()
            },
        }


def _described(one: Picked) -> dict[str, float]:
    return {"frame": one.frame, "seconds": float(one.seconds), "weight": one.weight}


def write_plate(plates: Sequence[Plate], stream: str, out: Path) -> None:
    """Draw a block for each video as a .png; `stream` is the one whose weights stand above the frames."""
    figure = Figure(figsize=(12, _BLOCK_INCHES * len(plates)), layout="constrained")
    blocks = figure.subfigures(len(plates), 1, squeeze=False)[:, 0]
    for block, plate in zip(blocks, plates, strict=True):
        _draw(block, plate, stream)
    save(figure, out)


def _draw(block: SubFigure, plate: Plate, stream: str) -> None:
    verdict = "" if plate.predicted == plate.label else f", taken for {plate.predicted}"
    block.suptitle(f"{plate.label}{verdict}   ({plate.video})", fontsize=10, parse_math=False)
    grid = block.add_gridspec(2, _COLUMNS + _CURVE_COLUMNS)
    for row, (name, frames) in enumerate((("highest", plate.highest), ("lowest", plate.lowest))):
        for column, one in enumerate(frames):
            axes = block.add_subplot(grid[row, column])
            picture(axes, one.image, f"w = {one.weight:.3f}, {one.seconds:.2f} s")
            if column == 0:
                axes.text(
                    -0.06,
                    0.5,
                    f"{'all equal' if plate.flat else name} ({stream})",
                    rotation=90,
                    ha="right",
                    va="center",
                    transform=axes.transAxes,
                    fontsize=8,
                    color=COLOURS[stream],
                )
    axes = block.add_subplot(grid[:, _COLUMNS:])
    if plate.action_seconds:
        axes.axvspan(*plate.action_seconds, color=_SHADE, alpha=0.35, linewidth=0, label="action", zorder=0)
    draw_attention(axes, plate.curves, seconds=plate.seconds)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=8)
