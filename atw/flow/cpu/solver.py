"""TV-L1 for one pair of images on one core: the pyramid and the warps around the numba kernels."""

import numpy as np
from numpy.typing import NDArray

from atw.flow.cpu.iteration import relax
from atw.flow.cpu.layout import FLOW_X, FLOW_Y, compiled, empty_state, plane, row_stride
from atw.flow.cpu.linearise import linearise, pack
from atw.flow.pairs import FloatArray
from atw.flow.parameters import Parameters, pyramid_sizes

# Iterations that sweep the image together. Like OpenCV's CUDA code, look at the update after every second one.
BLOCK = 10
BLOCK_WITH_TEST = 2


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


def build_pyramid(image: NDArray[np.uint8], sizes: list[tuple[int, int]], scale_step: float) -> list[FloatArray]:
    """Levels of `image` [H, W] as float32 in 0..255, finest first."""
    levels = [image.astype(np.float32)]
    for size in sizes[1:]:
        smaller = np.empty(size, np.float32)
        resize(levels[-1], smaller, 1 / scale_step, 1 / scale_step, 1.0)
        levels.append(smaller)
    return levels


def enlarge(coarse: FloatArray, coarse_size: tuple[int, int], size: tuple[int, int], scale_step: float) -> FloatArray:
    """Return the state of the next finer level, with the flow of the coarse one."""
    state = empty_state(*size)
    scale_y, scale_x = coarse_size[0] / size[0], coarse_size[1] / size[1]
    for index in (FLOW_X, FLOW_Y):
        resize(plane(coarse, index, *coarse_size), plane(state, index, *size), scale_y, scale_x, 1 / scale_step)
    return state


def solve_pair(first: NDArray[np.uint8], second: NDArray[np.uint8], settings: Parameters) -> FloatArray:
    """Flow [2, H, W] in px from `first` to `second`, both [H, W]."""
    sizes = pyramid_sizes(first.shape[0], first.shape[1], settings)
    first_levels = build_pyramid(first, sizes, settings.scale_step)
    second_levels = build_pyramid(second, sizes, settings.scale_step)
    tested = settings.epsilon > 0
    block = BLOCK_WITH_TEST if tested else BLOCK
    state = empty_state(*sizes[-1])
    for level in reversed(range(len(sizes))):
        height, width = sizes[level]
        stride = row_stride(width)
        if level < len(sizes) - 1:
            state = enlarge(state, sizes[level + 1], sizes[level], settings.scale_step)
        packed = pack(second_levels[level])
        enough = settings.epsilon**2 * height * width if tested else -1.0
        for _ in range(settings.warps):
            linearise(first_levels[level], packed, state, stride, settings.lambda_ * settings.theta)
            relax(state, height, width, stride, settings.tau, settings.theta, settings.iterations, block, enough)
    return np.stack([plane(state, index, *sizes[0]) for index in (FLOW_X, FLOW_Y)])
