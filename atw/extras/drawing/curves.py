"""What all pictures share: colours that the colour-blind tell apart, attention over time, and saving."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from atw.extras.drawing.moments import Curve
from atw.extras.drawing.palette import COLOURS
from atw.files import InputError, atomic_path

# The dashes tell the streams apart without colour too.
_DASHES = {"rgb": "-", "flow": "--", "warped": "-."}
_DPI = 120
_LEAST_TOP = 2.0  # flat attention stands in the middle


def draw_attention(axes: Axes, curves: Mapping[str, Curve], *, seconds: float) -> None:
    """Draw the weights of each stream over time, in multiples of the average weight 1/M."""
    for stream, (times, weights) in curves.items():
        axes.plot(times, weights * len(weights), _DASHES[stream], color=COLOURS[stream], label=stream, linewidth=1.6)
    axes.axhline(1, color="0.6", linewidth=0.8, zorder=0)
    axes.set_xlim(0, seconds)
    highest = max(float(weights.max()) * len(weights) for _, weights in curves.values())
    axes.set_ylim(0, max(_LEAST_TOP, 1.05 * highest))
    axes.set_xlabel("time (s)")
    axes.set_ylabel("attention (1 = average)")
    axes.spines[["top", "right"]].set_visible(False)


def picture(axes: Axes, image: NDArray[np.uint8], title: str, *, colour: str = "black") -> None:
    """Show an RGB image [H, W, 3] without axes, with a line above it."""
    axes.imshow(image)
    axes.set_axis_off()
    axes.set_title(title, fontsize=8, color=colour, pad=3, parse_math=False)


def save(figure: Figure, out: Path) -> None:
    """Write a PNG file, the same bytes for the same figure."""
    if out.suffix.lower() != ".png":
        raise InputError(f"the picture {out} must be a .png file; change its name")
    with atomic_path(out) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI, metadata={"Software": None})
