"""How the CPU kernels lay out their arrays.

The state of one pyramid level is ten planes whose rows alternate in one flat array, so that an iteration works through
one run of memory: row y of plane k starts at ((y + 1) * PLANES + k) * stride, and its pixels LEFT later. Rows start at
cache lines and are whole vectors; what a vector does beyond the last pixel stays in the margin. The margins replace
edge cases: column -1 and row -1 of the dual planes stay zero, and column W of the flow repeats column W - 1.
"""

from typing import Any

import numpy as np

from atw.flow.cpu.vectors import LANES, Emitter, Vector
from atw.flow.pairs import FloatArray

LEFT = LANES
PLANES = 10
# Coefficients of the linearised data term: unit gradient, residual and step limit, see `linearise`.
NORMAL_X, NORMAL_Y, RESIDUAL, LIMIT = range(4)
# The flow in px, and theta times the dual variable of each of its components.
FLOW_X, FLOW_Y = 4, 5
DUAL_X, DUAL_Y = 6, 8

_CACHE_LINE = 64


def whole_vectors(width: int) -> int:
    """Lanes of the vectors that `width` pixels fill."""
    return (width + LANES - 1) // LANES * LANES


def row_stride(width: int) -> int:
    """Floats from a row to the next: a margin, then whole vectors for the pixels and the column after the last one."""
    return LEFT + whole_vectors(width + 1)


def aligned_zeros(count: int) -> FloatArray:
    """Flat float32 zeros that start at a cache line; one more element follows that may be read."""
    spare = _CACHE_LINE // 4
    room = np.zeros(count + spare, np.float32)
    start = -(room.ctypes.data // 4) % spare
    return room[start : start + count]


def state_length(height: int, width: int) -> int:
    """Floats of the state of a level."""
    return (height + 1) * PLANES * row_stride(width)


def empty_state(height: int, width: int) -> FloatArray:
    """Return the flat state of a level with all planes and margins zero."""
    return aligned_zeros(state_length(height, width))


def plane(state: FloatArray, index: int, height: int, width: int) -> FloatArray:
    """View of the `height` x `width` pixels of one plane of `state`."""
    rows = state.reshape(height + 1, PLANES, row_stride(width))
    return rows[1:, index, LEFT : LEFT + width]


def empty_image(height: int, width: int) -> FloatArray:
    """Return an image [H, stride] of zeros with the margins of a plane."""
    return aligned_zeros(height * row_stride(width)).reshape(height, row_stride(width))


class Row:
    """Vectors of one row of a state, in code being emitted, at the column `x` that a loop has come to."""

    def __init__(self, emit: Emitter, state: Any, row: Any, stride: Any, x: Any) -> None:
        self._emit = emit
        builder = emit.builder
        at = builder.add(row, x)
        self._planes = [
            emit.address(state, builder.add(at, builder.mul(stride, stride.type(index)))) for index in range(PLANES)
        ]

    def load(self, plane: int, right: int = 0) -> Vector:
        """Pixels of one plane, or those `right` of them."""
        return self._emit.load(self._planes[plane], right)

    def store(self, plane: int, vector: Vector) -> None:
        """Write pixels of one plane."""
        self._emit.store(vector, self._planes[plane])
