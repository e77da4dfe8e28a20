"""Image pyramids: levels of images, and the flow of one level enlarged to the next finer one."""

import numpy as np
from numpy.typing import NDArray

from atw.flow.cpu.layout import FLOW_X, FLOW_Y, LEFT, plane
from atw.flow.cpu.linearise import STEPS
from atw.flow.pairs import FloatArray
from atw.jit import compiled


@compiled
def resize(source: FloatArray, target: FloatArray, scale_y: float, scale_x: float, factor: float) -> None:
    """Resize bilinearly with pixel centres at halves, as cv2.resize does, and multiply by `factor`.

    `scale_y` and `scale_x` are source pixels per target pixel.
    """
    source_height, source_width = source.shape
    height, width = target.shape
    gain = np.float32(factor)
    left, part = np.empty(width, np.int64), np.empty(width, np.float32)
    for x in range(width):
        at = min(max((x + 0.5) * scale_x - 0.5, 0.0), source_width - 1.0)
        left[x] = min(int(at), source_width - 2)
        part[x] = at - left[x]
    blended = np.empty(source_width, np.float32)
    for y in range(height):
        at = min(max((y + 0.5) * scale_y - 0.5, 0.0), source_height - 1.0)
        upper = min(int(at), source_height - 2)
        down = np.float32(at - upper)
        for x in range(source_width):
            value = source[upper, x]
            blended[x] = (value + down * (source[upper + 1, x] - value)) * gain
        for x in range(width):
            value = blended[left[x]]
            target[y, x] = value + part[x] * (blended[left[x] + 1] - value)


@compiled
def round_to_steps(image: FloatArray) -> None:
    """Round to what `pack` can hold, so that two equal images stay equal when one of them is packed."""
    step = np.float32(1 / STEPS)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            image[y, x] = np.floor(image[y, x] * np.float32(STEPS) + np.float32(0.5)) * step


def pixels(image: FloatArray, width: int) -> FloatArray:
    """View of an image [H, stride] without its margins, [H, W]."""
    return image[:, LEFT : LEFT + width]


def repeat_edges(image: FloatArray, width: int) -> None:
    """Copy the edge pixels of every row of an image [H, stride] to the columns beside them."""
    image[:, LEFT - 1] = image[:, LEFT]
    image[:, LEFT + width] = image[:, LEFT + width - 1]


def fill_pyramid(levels: list[FloatArray], image: NDArray[np.uint8], widths: list[int], scale_step: float) -> None:
    """Fill `levels`, each [height, stride] and finest first, with `image` [H, W] in 0..255 and repeat the edges."""
    pixels(levels[0], widths[0])[:] = image
    repeat_edges(levels[0], widths[0])
    for finer, coarser, finer_width, width in zip(levels, levels[1:], widths, widths[1:], strict=False):
        resize(pixels(finer, finer_width), pixels(coarser, width), 1 / scale_step, 1 / scale_step, 1.0)
        round_to_steps(pixels(coarser, width))
        repeat_edges(coarser, width)


def enlarge(
    coarse: FloatArray, coarse_size: tuple[int, int], fine: FloatArray, size: tuple[int, int], scale_step: float
) -> None:
    """Put the flow of a coarser state into a finer one."""
    scale_y, scale_x = coarse_size[0] / size[0], coarse_size[1] / size[1]
    for index in (FLOW_X, FLOW_Y):
        resize(plane(coarse, index, *coarse_size), plane(fine, index, *size), scale_y, scale_x, 1 / scale_step)
