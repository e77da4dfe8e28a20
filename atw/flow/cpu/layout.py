"""How the numba kernels lay out their arrays, and how they are compiled.

The state of one pyramid level is ten planes whose rows alternate in one flat array: row y of plane k starts at
((y + 1) * PLANES + k) * stride and its pixels at + 1, so that an iteration works through one run of memory. The margins
replace edge cases: column -1 and row -1 of the dual planes stay zero, and column W of the flow repeats column W - 1.

Arrays are flat and indices unsigned on purpose: with slices or signed indices the same loops run 4 times slower,
because LLVM then no longer makes vector code of them.

A kernel calls only kernels of its own file: numba's cache on disk notices changes of that file alone.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from llvmlite import binding

from atw.flow.pairs import FloatArray

# Rows of ten planes could overlap as far as LLVM knows; by default it gives up on so many run-time checks.
for _option in ("--runtime-memory-check-threshold=200", "--memory-check-merge-threshold=1000"):
    binding.set_option("atw", _option)

Function = TypeVar("Function", bound=Callable[..., Any])

PLANES = 10
# Coefficients of the linearised data term: unit gradient, residual and step limit, see `linearise`.
NORMAL_X, NORMAL_Y, RESIDUAL, LIMIT = range(4)
# The flow in px, and theta times the dual variable of each of its components.
FLOW_X, FLOW_Y = 4, 5
DUAL_X, DUAL_Y = 6, 8


def compiled(function: Function) -> Function:
    """Compile `function` with numba: fast floating point, kept on disk, and without the GIL while it runs."""
    dispatcher: Function = numba.njit(fastmath=True, error_model="numpy", nogil=True, cache=True)(function)
    return dispatcher


def row_stride(width: int) -> int:
    """Floats from a row of one plane to that of the next: `width`, a margin on either side, and whole cache lines."""
    return (width + 2 + 15) // 16 * 16


def empty_state(height: int, width: int) -> FloatArray:
    """Return the flat state of a level with all planes and margins zero."""
    return np.zeros((height + 1) * PLANES * row_stride(width), np.float32)


def plane(state: FloatArray, index: int, height: int, width: int) -> FloatArray:
    """View of the `height` x `width` pixels of one plane of `state`."""
    rows = state.reshape(height + 1, PLANES, row_stride(width))
    return rows[1:, index, 1 : width + 1]
