"""How good a flow field is: the energy that TV-L1 minimises, endpoint error, and distance in stored levels."""

import cv2
import numpy as np
from numpy.typing import NDArray

from atw.flow.pairs import FloatArray

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]

# Flow is stored as levels of 40/255 px, 128 being no motion; longer displacements are clipped.
BOUND_PX = 20.0
LEVELS_PER_PX = 255 / (2 * BOUND_PX)
# One weight for every row of the table, whatever the schedule: the presets all have it.
LAMBDA = 0.15


def endpoint_error(flow: FloatArray, truth: FloatArray, valid: Mask) -> float:
    """Mean length (px) of the difference of two fields [2, H, W] where `valid` [H, W] is true."""
    difference = flow.astype(np.float64) - truth
    return float(np.hypot(*difference)[valid].mean())


def energy(first: Image, second: Image, flow: FloatArray) -> float:
    """Mean over the pixels of LAMBDA |I1(x + u) - I0(x)| + |grad u_x| + |grad u_y|: what TV-L1 makes small.

    Images [H, W] are in 0..255, the flow [2, H, W] in px. I1 is sampled by OpenCV's bicubic remap, which rounds
    positions to 1/32 px and is given the nearest border pixel outside the image. Gradients are forward differences,
    zero at the far edges, as in the model.
    """
    height, width = first.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    moved = cv2.remap(
        second.astype(np.float32), x + flow[0], y + flow[1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    total = LAMBDA * np.abs(moved - first.astype(np.float64))
    for component in flow.astype(np.float64):
        along = np.diff(component, axis=1, append=component[:, -1:])
        across = np.diff(component, axis=0, append=component[-1:])
        total += np.hypot(along, across)
    return float(total.mean())


def levels_apart(a: FloatArray, b: FloatArray) -> float:
    """Mean absolute difference of two flow fields in stored levels, clipped to +-20 px but not rounded."""
    clipped = [np.clip(flow.astype(np.float64), -BOUND_PX, BOUND_PX) for flow in (a, b)]
    return float(LEVELS_PER_PX * np.abs(clipped[0] - clipped[1]).mean())


def stored_levels_apart(a: FloatArray, b: FloatArray) -> float:
    """Mean absolute difference of two flow fields in stored levels, clipped and rounded as a shard has them."""
    rounded = [np.clip(np.rint(flow * np.float32(LEVELS_PER_PX)), -127, 127) for flow in (a, b)]
    return float(np.abs(rounded[0] - rounded[1]).mean())
