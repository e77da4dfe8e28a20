"""TV-L1 for pairs of images on one core: the pyramid and the warps around the kernels."""

from atw.flow.cpu.iteration import relax
from atw.flow.cpu.layout import FLOW_X, FLOW_Y, empty_image, empty_state, plane, row_stride, state_length
from atw.flow.cpu.linearise import empty_packed, linearise, pack, packed_part
from atw.flow.cpu.pyramid import enlarge, fill_pyramid
from atw.flow.pairs import FloatArray, Images
from atw.flow.parameters import Parameters, pyramid_sizes

# Iterations that sweep the image together: the more, the rarer a level comes from memory, as long as the rows in work
# stay in the second-level cache. Like OpenCV's CUDA code, look at the update after every second one.
BLOCK = 30
BLOCK_WITH_TEST = 2


class Solver:
    """TV-L1 between images of one size; one thread at a time.

    It keeps its working memory, about 100 bytes a pixel, from pair to pair: taking it from the system anew costs a
    fifth of the time.
    """

    def __init__(self, height: int, width: int, settings: Parameters) -> None:
        self._settings = settings
        self._sizes = pyramid_sizes(height, width, settings)
        self._first, self._second = ([empty_image(*size) for size in self._sizes] for _ in range(2))
        self._packed = empty_packed(*self._sizes[0])
        # A level needs its own state and the next coarser one, so that two of them take turns.
        self._rooms = [empty_state(*size) for size in self._sizes[:2]]

    def solve(self, first: Images, second: Images, flow: FloatArray) -> None:
        """Fill `flow` [2, H, W] in px with that from `first` to `second`, both [H, W]."""
        widths = [width for _, width in self._sizes]
        fill_pyramid(self._first, first, widths, self._settings.scale_step)
        fill_pyramid(self._second, second, widths, self._settings.scale_step)
        coarsest = len(self._sizes) - 1
        for level in reversed(range(len(self._sizes))):
            state, size = self._state(level), self._sizes[level]
            state.fill(0)
            if level < coarsest:
                enlarge(self._state(level + 1), self._sizes[level + 1], state, size, self._settings.scale_step)
            self._solve_level(level, state)
        for component, index in enumerate((FLOW_X, FLOW_Y)):
            flow[component] = plane(self._state(0), index, *self._sizes[0])

    def _state(self, level: int) -> FloatArray:
        return self._rooms[level % 2][: state_length(*self._sizes[level])]

    def _solve_level(self, level: int, state: FloatArray) -> None:
        height, width = self._sizes[level]
        stride, given = row_stride(width), self._settings
        tested = given.epsilon > 0
        block, enough = (BLOCK_WITH_TEST, given.epsilon**2 * height * width) if tested else (BLOCK, -1.0)
        packed = packed_part(self._packed, height, width)
        pack(self._second[level], width, packed)
        for _ in range(given.warps):
            linearise(self._first[level], packed, state, width, stride, given.lambda_ * given.theta)
            relax(state, height, width, stride, given.tau, given.theta, given.iterations, block, enough)
