"""The state of a pyramid level on the CPU, and the iterations of TV-L1 that sweep over its rows.

The state is ten planes whose rows alternate in one flat array, so that an iteration works through one run of memory:
row y of plane k starts at ((y + 1) * PLANES + k) * stride, and its pixels LEFT later. Rows start at cache lines and are
whole vectors; lanes beyond the last pixel fall into the margin. Margins replace edge cases: column -1 and row -1 of
the dual planes stay zero, and column W of the flow repeats column W - 1.

The scheme is that of Zach, Pock and Bischof, "A duality based approach for realtime TV-L1 optical flow" (2007), in the
semi-implicit form used by OpenCV. With the data term linearised, rho(u) = r + g . u, one iteration is

    u <- u - clip(rho / |g|, -l |g|, l |g|) g / |g| + theta div p        l = lambda theta
    p <- (p + tau / theta grad u) / (1 + tau / theta |grad u|)           separately for both components of u

with backward divergence, forward gradient and zero gradient at the far edges. The planes hold g / |g|, r / |g|, l |g|
and theta p, which leaves the fewest operations.
"""

from typing import Any

import numpy as np

from atw.flow.cpu.vectors import LANES, Emitter, Vector, emitted
from atw.flow.pairs import FloatArray
from atw.jit import compiled

LEFT = LANES
PLANES = 10
# Coefficients of the linearised data term: unit gradient, residual and step limit, see `linearise`.
NORMAL_X, NORMAL_Y, RESIDUAL, LIMIT = range(4)
# The flow in px, and theta times the dual variable of each of its components (the y part is one plane further).
FLOW_X, FLOW_Y = 4, 5
DUAL_X, DUAL_Y = 6, 8

_CACHE_LINE = 64
# AVX-512 estimates to 14 bits without a Newton step. Ten more bits of the quotient move the flow by a hundredth of a
# level and cost 7% of the time; an error of the root only shortens or lengthens a step.
_PRECISION = {"root_bits": 12, "quotient_bits": 14}
_TINY = 1e-20  # keeps the reciprocal square root of zero finite


def whole_vectors(width: int) -> int:
    """Return the lanes of the vectors that `width` pixels fill."""
    return (width + LANES - 1) // LANES * LANES


def row_stride(width: int) -> int:
    """Return the floats from row to row: a margin, then whole vectors for the pixels and the column after them."""
    return LEFT + whole_vectors(width + 1)


def aligned_zeros(count: int) -> FloatArray:
    """Return flat float32 zeros that start at a cache line; one more element after them may be read."""
    spare = _CACHE_LINE // 4
    room = np.zeros(count + spare, np.float32)
    start = -(room.ctypes.data // 4) % spare
    return room[start : start + count]


def state_length(height: int, width: int) -> int:
    """Return the number of floats of a level's state."""
    return (height + 1) * PLANES * row_stride(width)


def empty_state(height: int, width: int) -> FloatArray:
    """Return the flat state of a level with all planes and margins zero."""
    return aligned_zeros(state_length(height, width))


def plane(state: FloatArray, index: int, height: int, width: int) -> FloatArray:
    """Return a view of the `height` x `width` pixels of one plane."""
    rows = state.reshape(height + 1, PLANES, row_stride(width))
    return rows[1:, index, LEFT : LEFT + width]


def empty_image(height: int, width: int) -> FloatArray:
    """Return an image [H, stride] of zeros with the margins of a plane."""
    return aligned_zeros(height * row_stride(width)).reshape(height, row_stride(width))


class Row:
    """Emits loads and stores of one row of the state at column `x` of a loop."""

    def __init__(self, emit: Emitter, state: Any, row: Any, stride: Any, x: Any) -> None:
        self._emit = emit
        builder = emit.builder
        at = builder.add(row, x)
        self._planes = [
            emit.address(state, builder.add(at, builder.mul(stride, stride.type(index)))) for index in range(PLANES)
        ]

    def load(self, plane: int, right: int = 0) -> Vector:
        """Load pixels of a plane, or those `right` of them."""
        return self._emit.load(self._planes[plane], right)

    def store(self, plane: int, vector: Vector) -> None:
        """Write pixels of a plane."""
        self._emit.store(vector, self._planes[plane])


def _primal(row: Row, above: Row) -> tuple[Vector, Vector, Vector]:
    """Update the flow; return its two components and their squared update (px^2)."""
    u, v = row.load(FLOW_X), row.load(FLOW_Y)
    nx, ny, limit = row.load(NORMAL_X), row.load(NORMAL_Y), row.load(LIMIT)
    step = (row.load(RESIDUAL) + nx * u + ny * v).clip(-limit, limit)
    du, dv = (
        (row.load(dual) - row.load(dual, -1)) + (row.load(dual + 1) - above.load(dual + 1)) - step * normal
        for dual, normal in ((DUAL_X, nx), (DUAL_Y, ny))
    )
    u, v = u + du, v + dv
    row.store(FLOW_X, u)
    row.store(FLOW_Y, v)
    return u, v, du * du + dv * dv


def _dual(row: Row, below: dict[int, Vector], tau: Vector, rate: Vector) -> None:
    """Update the duals from the flow there and `below`; `rate` is tau / theta."""
    for flow, dual in ((FLOW_X, DUAL_X), (FLOW_Y, DUAL_Y)):
        u = row.load(flow)
        ux, uy = row.load(flow, 1) - u, below[flow] - u
        squared = ux * ux + uy * uy + _TINY
        shrink = 1 / (1 + rate * (squared * (1 / squared.sqrt())))
        along, across = (row.load(dual) + tau * ux) * shrink, (row.load(dual + 1) + tau * uy) * shrink
        row.store(dual, along)
        row.store(dual + 1, across)


def _add_inside(emit: Emitter, sums: Any, squared: Vector, width: Any, x: Any) -> None:
    """Add to `sums` all lanes but those beyond the last pixel."""
    emit.store(emit.load(sums) + squared.where(emit.below(emit.builder.sub(width, x)), 0.0), sums)


@emitted
def primal_row(emit: Emitter, state: Any, row: Any, above: Any, stride: Any, width: Any) -> float:
    """Update the flow in the row that starts at `row`; return the sum of its squared updates (px^2)."""
    sums = emit.variable(emit.broadcast(0.0))
    with emit.loop(width) as x:
        _, _, squared = _primal(Row(emit, state, row, stride, x), Row(emit, state, above, stride, x))
        _add_inside(emit, sums, squared, width, x)
    total: float = emit.load(sums).sum()
    return total


@emitted
def primal_dual_row(
    emit: Emitter, state: Any, row: Any, above: Any, stride: Any, width: Any, tau: Any, rate: Any
) -> None:
    """Update the flow in one row, then the duals in the row above, which wait for it."""
    _primal_dual(emit, state, row, above, stride, width, tau, rate, None)


@emitted
def measured_primal_dual_row(
    emit: Emitter, state: Any, row: Any, above: Any, stride: Any, width: Any, tau: Any, rate: Any
) -> float:
    """Do as `primal_dual_row` and return the sum of the squared updates of the flow (px^2)."""
    sums = emit.variable(emit.broadcast(0.0))
    _primal_dual(emit, state, row, above, stride, width, tau, rate, sums)
    total: float = emit.load(sums).sum()
    return total


def _primal_dual(
    emit: Emitter, state: Any, row: Any, above: Any, stride: Any, width: Any, tau: Any, rate: Any, sums: Any
) -> None:
    emit.estimate(**_PRECISION)
    taus, rates = emit.broadcast(tau), emit.broadcast(rate)
    with emit.loop(width) as x:
        upper = Row(emit, state, above, stride, x)
        u, v, squared = _primal(Row(emit, state, row, stride, x), upper)
        _dual(upper, {FLOW_X: u, FLOW_Y: v}, taus, rates)
        if sums is not None:
            _add_inside(emit, sums, squared, width, x)


@emitted
def dual_row(emit: Emitter, state: Any, row: Any, stride: Any, width: Any, tau: Any, rate: Any) -> None:
    """Update the duals in the last row; the flow below it is the same."""
    emit.estimate(**_PRECISION)
    taus, rates = emit.broadcast(tau), emit.broadcast(rate)
    with emit.loop(width) as x:
        here = Row(emit, state, row, stride, x)
        _dual(here, {flow: here.load(flow) for flow in (FLOW_X, FLOW_Y)}, taus, rates)


@compiled
def iterate(state: FloatArray, height: int, width: int, stride: int, count: int, tau: float, theta: float) -> float:
    """Run `count` iterations on a level; return the sum of squared updates (px^2) of the last one.

    The iterations sweep down the image together, each one row behind the one before it, so that a row is still in the
    cache at its next turn. The result is that of one iteration after the other.
    """
    squared = 0.0
    rate = tau / theta
    pitch = PLANES * stride
    for wave in range(height + count - 1):
        for n in range(max(0, wave - (height - 1)), min(count - 1, wave) + 1):
            y = wave - n
            above = y * pitch + LEFT
            row = above + pitch
            if y == 0:
                updates = primal_row(state, row, above, stride, width)
                squared += updates if n == count - 1 else 0.0
            elif n == count - 1:
                squared += measured_primal_dual_row(state, row, above, stride, width, tau, rate)
            else:
                primal_dual_row(state, row, above, stride, width, tau, rate)
            for flow in (FLOW_X, FLOW_Y):
                end = row + flow * stride + width
                state[end] = state[end - 1]
            if y == height - 1:
                dual_row(state, row, stride, width, tau, rate)
    return squared


@compiled
def relax(
    state: FloatArray,
    height: int,
    width: int,
    stride: int,
    tau: float,
    theta: float,
    iterations: int,
    block: int,
    enough: float,
) -> int:
    """Iterate on a level, `block` iterations at a time, until `iterations` are done or the update is small.

    It is small when the sum of squared updates (px^2) of a block's last iteration is at most `enough`; a negative
    `enough` never stops early. Returns the iterations done.
    """
    done = 0
    while done < iterations:
        count = min(block, iterations - done)
        squared = iterate(state, height, width, stride, count, tau, theta)
        done += count
        if squared <= enough:
            break
    return done
