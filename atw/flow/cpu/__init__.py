"""The backend `numba`: TV-L1 on the CPU by kernels that numba compiles, with one thread per pair."""

import threading

import numpy as np
from numpy.typing import NDArray

from atw.flow.cpu.linearise import STEPS, empty_packed, linearise, pack, packed_part
from atw.flow.cpu.rows import FLOW_X, FLOW_Y, LEFT, empty_image, empty_state, plane, relax, row_stride, state_length
from atw.flow.pairs import FloatArray, Images, Parameters, each_pair, pyramid_sizes
from atw.jit import compiled

# Iterations that sweep over the image together: the more, the less often a level is read from memory, as long as the
# rows in work fit the second-level cache. With a stopping rule, look at the update after every second iteration, as
# OpenCV's CUDA code does.
_BLOCK = 30
_BLOCK_WITH_TEST = 2
# The memory for larger images is freed after a call: at most 100 MB per thread stay.
_KEPT_PIXELS = 1 << 20
_of_thread = threading.local()


def solve(first: Images, second: Images, settings: Parameters, threads: int) -> FloatArray:
    """Compute the flow [B, 2, H, W] in px between checked batches [B, H, W]."""
    flow = np.empty((len(first), 2, *first.shape[1:]), np.float32)

    def fill(index: int) -> None:
        _solver(first.shape[1], first.shape[2], settings).solve(first[index], second[index], flow[index])

    try:
        each_pair(fill, len(first), threads)
    finally:
        if first[:1].size > _KEPT_PIXELS:
            _of_thread.__dict__.clear()
    return flow


def _solver(height: int, width: int, settings: Parameters) -> "Solver":
    """Return the calling thread's last solver if it fits, else a new one."""
    held = _of_thread.__dict__
    key = height, width, settings
    if held.get("key") != key:
        held.clear()
        held.update(key=key, solver=Solver(height, width, settings))
    solver: Solver = held["solver"]
    return solver


class Solver:
    """Computes TV-L1 between images of one size; to be used by one thread at a time.

    It keeps its working memory, about 100 bytes per pixel, from pair to pair: allocating it anew costs a fifth of the
    time.
    """

    def __init__(self, height: int, width: int, settings: Parameters) -> None:
        self._settings = settings
        self._sizes = pyramid_sizes(height, width, settings)
        self._first, self._second = ([empty_image(*size) for size in self._sizes] for _ in range(2))
        self._packed = empty_packed(*self._sizes[0])
        # A level needs its own state and that of the next coarser one, so two of them take turns.
        self._states = [empty_state(*size) for size in self._sizes[:2]]

    def solve(self, first: Images, second: Images, flow: FloatArray) -> None:
        """Fill `flow` [2, H, W] in px with the flow from `first` to `second`, both [H, W]."""
        widths = [width for _, width in self._sizes]
        fill_pyramid(self._first, first, widths, self._settings.scale_step)
        fill_pyramid(self._second, second, widths, self._settings.scale_step)
        coarsest = len(self._sizes) - 1
        for level in reversed(range(len(self._sizes))):
            state = self._state(level)
            state.fill(0)
            if level < coarsest:
                self._enlarge_flow(level + 1, level)
            self._solve_level(level, state)
        for component, index in enumerate((FLOW_X, FLOW_Y)):
            flow[component] = plane(self._state(0), index, *self._sizes[0])

    def _state(self, level: int) -> FloatArray:
        return self._states[level % 2][: state_length(*self._sizes[level])]

    def _enlarge_flow(self, coarse: int, fine: int) -> None:
        source, target = self._sizes[coarse], self._sizes[fine]
        scale_y, scale_x = source[0] / target[0], source[1] / target[1]
        for index in (FLOW_X, FLOW_Y):
            before, after = plane(self._state(coarse), index, *source), plane(self._state(fine), index, *target)
            resize(before, after, scale_y, scale_x, 1 / self._settings.scale_step)

    def _solve_level(self, level: int, state: FloatArray) -> None:
        height, width = self._sizes[level]
        stride, given = row_stride(width), self._settings
        tested = given.epsilon > 0
        block, enough = (_BLOCK_WITH_TEST, given.epsilon**2 * height * width) if tested else (_BLOCK, -1.0)
        packed = packed_part(self._packed, height, width)
        pack(self._second[level], width, packed)
        for _ in range(given.warps_of(level)):
            linearise(self._first[level], packed, state, width, stride, given.lambda_ * given.theta)
            relax(state, height, width, stride, given.tau, given.theta, given.iterations, block, enough)


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
    """Return a view of an image [H, stride] without its margins, [H, W]."""
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
