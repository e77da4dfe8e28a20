"""The iterations of TV-L1 between two warps, on the CPU.

The scheme is that of Zach, Pock and Bischof, "A duality based approach for realtime TV-L1 optical flow" (2007), in the
semi-implicit form used by OpenCV. With the data term linearised, rho(u) = r + g . u, one iteration is

    u <- u - clip(rho / |g|, -l |g|, l |g|) g / |g| + theta div p        l = lambda theta
    p <- (p + tau / theta grad u) / (1 + tau / theta |grad u|)           separately for both components of u

with backward divergence, forward gradient and zero gradient at the far edges. g / |g|, r / |g|, l |g| and theta p are
what the planes of the state hold, which leaves the fewest operations here.
"""

import numba
import numpy as np

from atw.flow.cpu.layout import (
    DUAL_X,
    DUAL_Y,
    FLOW_X,
    FLOW_Y,
    LIMIT,
    NORMAL_X,
    NORMAL_Y,
    PLANES,
    RESIDUAL,
    compiled,
)
from atw.flow.pairs import FloatArray

u64 = numba.uint64
f32 = numba.float32


@compiled
def primal_row(state: FloatArray, row: int, above: int, stride: int, width: int) -> np.float32:
    """Update the flow in the row that starts at `row`; returns the sum of its squared updates (px^2)."""
    squared = np.float32(0)
    s, one = u64(stride), u64(1)
    xx, xy, yx, yy = u64(DUAL_X) * s, u64(DUAL_X + 1) * s, u64(DUAL_Y) * s, u64(DUAL_Y + 1) * s
    for x in range(width):
        i, j = u64(row) + u64(x), u64(above) + u64(x)
        nx, ny, limit = state[i + u64(NORMAL_X) * s], state[i + u64(NORMAL_Y) * s], state[i + u64(LIMIT) * s]
        u, v = state[i + u64(FLOW_X) * s], state[i + u64(FLOW_Y) * s]
        rho = state[i + u64(RESIDUAL) * s] + nx * u + ny * v
        step = min(max(rho, -limit), limit)
        du = (state[i + xx] - state[i + xx - one] + state[i + xy] - state[j + xy]) - step * nx
        dv = (state[i + yx] - state[i + yx - one] + state[i + yy] - state[j + yy]) - step * ny
        squared += du * du + dv * dv
        state[i + u64(FLOW_X) * s] = u + du
        state[i + u64(FLOW_Y) * s] = v + dv
    return squared


@compiled
def dual_row(
    state: FloatArray, flow: int, below: int, dual: int, stride: int, width: int, tau: float, rate: float
) -> None:
    """Update the dual of one flow component in one row from the flow there and below; `rate` is tau / theta."""
    step, gain, one = f32(tau), f32(rate), f32(1)
    for x in range(width):
        i = u64(x)
        u = state[u64(flow) + i]
        ux, uy = state[u64(flow) + i + u64(1)] - u, state[u64(below) + i] - u
        shrink = one / (one + gain * np.sqrt(ux * ux + uy * uy))
        along, across = u64(dual) + i, u64(dual) + u64(stride) + i
        state[along] = (state[along] + step * ux) * shrink
        state[across] = (state[across] + step * uy) * shrink


@compiled
def dual_rows(state: FloatArray, row: int, below: int, stride: int, width: int, tau: float, rate: float) -> None:
    """Update the duals of both flow components in the row that starts at `row`."""
    for flow, dual in ((FLOW_X, DUAL_X), (FLOW_Y, DUAL_Y)):
        flow_at = flow * stride
        dual_row(state, row + flow_at, below + flow_at, row + dual * stride, stride, width, tau, rate)


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
            above = y * pitch + 1
            row = above + pitch
            row_squared = primal_row(state, row, above, stride, width)
            for flow in (FLOW_X, FLOW_Y):
                end = row + flow * stride + width
                state[end] = state[end - 1]
            if n == count - 1:
                squared += float(row_squared)
            if y > 0:
                dual_rows(state, above, row, stride, width, tau, rate)
            if y == height - 1:
                dual_rows(state, row, row, stride, width, tau, rate)
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
