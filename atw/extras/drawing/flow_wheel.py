"""Flow as colours: the direction of motion as hue, its length as saturation.

The colour code of Baker et al., "A Database and Evaluation Methodology for Optical Flow" (2011), section 4.1 and its
published code: 55 hues, which are denser where the eye tells more of them apart. Red is motion to the right; clockwise
follow yellow (down), green and cyan (left), blue and magenta (up).
"""

import numpy as np
from numpy.typing import NDArray

Colours = NDArray[np.uint8]

# Steps from a pure hue to the next one, that hue, and the channel that rises or falls on the way.
_ARCS = (
    (15, (255, 0, 0), 1, +1),  # red to yellow
    (6, (255, 255, 0), 0, -1),  # yellow to green
    (4, (0, 255, 0), 2, +1),  # green to cyan
    (11, (0, 255, 255), 1, -1),  # cyan to blue
    (13, (0, 0, 255), 0, +1),  # blue to magenta
    (6, (255, 0, 255), 2, -1),  # magenta to red
)
_BEYOND = 0.75  # brightness of motion longer than the full length


def wheel() -> Colours:
    """Return the 55 hues in RGB, uint8 [55, 3], clockwise from motion to the right."""
    hues = []
    for steps, start, channel, sign in _ARCS:
        for step in range(steps):
            hue = list(start)
            hue[channel] += sign * (255 * step // steps)
            hues.append(hue)
    return np.array(hues, np.uint8)


def flow_to_colours(flow: NDArray[np.float32], *, full_px: float) -> Colours:
    """Return the colours of fields [..., 2, H, W] in px, x before y, as RGB uint8 [..., H, W, 3].

    No motion is white, motion of `full_px` has its pure hue, longer motion is darker, and unknown motion (not finite)
    is black.
    """
    x, y = np.moveaxis(flow.astype(np.float64), -3, 0)  # [..., H, W]
    known = np.isfinite(x) & np.isfinite(y)
    x, y = np.where(known, x, 0), np.where(known, y, 0)
    hues = wheel() / 255.0
    # As in the published code, the last hue stands at a full turn, as the first one does.
    place = np.arctan2(y, x) / (2 * np.pi) % 1.0 * (len(hues) - 1)
    lower = place.astype(np.int64)
    share = (place - lower)[..., None]
    pure = (1 - share) * hues[lower] + share * hues[(lower + 1) % len(hues)]  # [..., H, W, 3]
    length = (np.hypot(x, y) / full_px)[..., None]
    shade = np.where(length <= 1, 1 - length * (1 - pure), _BEYOND * pure)
    return np.where(known[..., None], np.floor(255 * shade), 0).astype(np.uint8)


def disc(side_px: int) -> Colours:
    """Draw the wheel as RGB uint8 [side_px, side_px, 3], pure at its rim and white in the middle.

    The colour of a point is that of motion from the centre to the point; outside the disc it is black.
    """
    across = (np.arange(side_px, dtype=np.float32) + 0.5) / side_px * 2 - 1
    field = np.stack(np.meshgrid(across, across))  # [2, side, side]
    inside = np.hypot(*field) <= 1
    return flow_to_colours(np.where(inside, field, np.float32(np.nan)), full_px=1.0)
