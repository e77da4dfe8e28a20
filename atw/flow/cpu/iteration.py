"""The iterations of TV-L1 between two warps, on the CPU.

The scheme is that of Zach, Pock and Bischof, "A duality based approach for realtime TV-L1 optical flow" (2007), in the
semi-implicit form used by OpenCV. With the data term linearised, rho(u) = r + g . u, one iteration is

    u <- u - clip(rho / |g|, -l |g|, l |g|) g / |g| + theta div p        l = lambda theta
    p <- (p + tau / theta grad u) / (1 + tau / theta |grad u|)           separately for both components of u

with backward divergence, forward gradient and zero gradient at the far edges. g / |g|, r / |g|, l |g| and theta p are
what the planes of the state hold, which leaves the fewest operations here.
"""

from typing import Any

from atw.flow.cpu.layout import (
    DUAL_X,
    DUAL_Y,
    FLOW_X,
    FLOW_Y,
    LEFT,
    LIMIT,
    NORMAL_X,
    NORMAL_Y,
    PLANES,
    RESIDUAL,
    Row,
)
from atw.flow.cpu.vectors import Emitter, Vector, emitted
from atw.flow.pairs import FloatArray
from atw.jit import compiled

# AVX-512 estimates to 14 bits without a Newton step. Ten more bits of the quotient move the flow by a hundredth of a
# level, and cost 7% of the time; an error of the root shortens or lengthens a step only.
PRECISION = {"root_bits": 12, "quotient_bits": 14}
_TINY = 1e-20  # keeps the reciprocal square root of zero finite


def _primal(row: Row, above: Row) -> tuple[Vector, Vector, Vector]:
    """Update the flow; returns its two components and their squared update (px^2)."""
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


def _sum_inside(emit: Emitter, sums: Any, squared: Vector, width: Any, x: Any) -> None:
    """Add to `sums`, but for the lanes beyond the last pixel."""
    emit.store(emit.load(sums) + squared.where(emit.below(emit.builder.sub(width, x)), 0.0), sums)


@emitted
def primal_row(emit: Emitter, state: Any, row: Any, above: Any, stride: Any, width: Any) -> float:
    """Update the flow in the row that starts at `row`; returns the sum of its squared updates (px^2)."""
    sums = emit.variable(emit.broadcast(0.0))
    with emit.loop(width) as x:
        _, _, squared = _primal(Row(emit, state, row, stride, x), Row(emit, state, above, stride, x))
        _sum_inside(emit, sums, squared, width, x)
    total: float = emit.load(sums).sum()
    return total


@emitted
def primal_dual_row(
    emit: Emitter, state: Any, row: Any, above: Any, stride: Any, width: Any, tau: Any, rate: Any
) -> None:
    """Update the flow in one row, and the duals in the row above, which wait for it."""
    emit.estimate(**PRECISION)
    taus, rates = emit.broadcast(tau), emit.broadcast(rate)
    with emit.loop(width) as x:
        upper = Row(emit, state, above, stride, x)
        u, v, _ = _primal(Row(emit, state, row, stride, x), upper)
        _dual(upper, {FLOW_X: u, FLOW_Y: v}, taus, rates)


@emitted
def measured_primal_dual_row(
    emit: Emitter, state: Any, row: Any, above: Any, stride: Any, width: Any, tau: Any, rate: Any
) -> float:
    """`primal_dual_row` that returns the sum of the squared updates of the flow (px^2)."""
    emit.estimate(**PRECISION)
    taus, rates = emit.broadcast(tau), emit.broadcast(rate)
    sums = emit.variable(emit.broadcast(0.0))
    with emit.loop(width) as x:
        upper = Row(emit, state, above, stride, x)
        u, v, squared = _primal(Row(emit, state, row, stride, x), upper)
        _dual(upper, {FLOW_X: u, FLOW_Y: v}, taus, rates)
        _sum_inside(emit, sums, squared, width, x)
    total: float = emit.load(sums).sum()
    return total


@emitted
def dual_row(emit: Emitter, state: Any, row: Any, stride: Any, width: Any, tau: Any, rate: Any) -> None:
    """Update the duals in the last row, below which the flow goes on as it is."""
    emit.estimate(**PRECISION)
    taus, rates = emit.broadcast(tau), emit.broadcast(rate)
    with emit.loop(width) as x:
        here = Row(emit, state, row, stride, x)
        _dual(here, {flow: here.load(flow) for flow in (FLOW_X, FLOW_Y)}, taus, rates)


@compiled
def iterate(state: FloatArray, height: int, width: int, stride: int, count: int, tau: float, theta: float) -> float:
    """Run `count` iterations on a level; returns the sum of squared updates (px^2) of the last one.

    The iterations sweep down the image together, each one row behind the one before it, so that a row is still in the
    cache when its next turn comes. The result is that of one after the other.
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
    `enough` asks for all iterations. Returns the iterations done.
    """
    done = 0
    while done < iterations:
        count = min(block, iterations - done)
        squared = iterate(state, height, width, stride, count, tau, theta)
        done += count
        if squared <= enough:
            break
    return done
