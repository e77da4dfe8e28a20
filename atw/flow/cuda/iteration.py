"""The CUDA kernel that iterates: several iterations a launch on tiles held in registers.

Each thread keeps a patch of pixels, ten floats a pixel: the coefficients of the data term and the state. What
neighbouring patches need of each other, columns of p_x and u sideways and rows of p_y and u up and down, goes through
shared memory, with two barriers an iteration. The formulas are those of the CPU, see `atw.flow.cpu.iteration`; what
lies outside the image is zero and stays so, because gradients across and outside the edges are taken as zero.

The stopping rule needs no host. Every launch runs up to t iterations from one half of the state into the other and
adds up the squared updates of each second iteration. Per pair, the last tile to finish looks at the sums: none small,
the halves swap roles; the last one small, they do and the pair is done; an earlier one small, nothing is swapped and
the pair is set to end there, so that the next launch repeats the part of this one that counts. Blocks of finished pairs
return at once. This costs up to one launch a warp, and each pair stops at exactly the iteration it would alone.

The sums are kept as integers, in units of 2^-30 of the limit, because integers add up to the same in any order.
"""

import math
from functools import cache
from typing import Any

import numpy as np
from numba import cuda, float32

from atw.flow.cuda.kernels import ONE, ZERO, Int, device_function, f32, i64, kernel, u64
from atw.flow.cuda.layout import (
    ARRIVED,
    DONE,
    DUAL_X,
    DUAL_Y,
    END,
    FIELDS,
    HALF,
    LIMIT,
    NORMAL_X,
    NORMAL_Y,
    PLANES,
    RESIDUAL,
    STATE,
    STATE_PLANES,
    Tile,
)

u32 = np.uint32

# The limit of the stopping rule as an integer, and what the sum of one column of threads is cut to.
SMALL = 1 << 30
MOST = f32(1 << 40)


@device_function
def clip(value: f32, limit: f32) -> f32:
    """Bring `value` into -limit .. limit."""
    return min(max(value, -limit), limit)


@device_function
def settle(control: Any, sums: Any, tested: Int, looks: Int, pair: Int, count: Int, pairs: Int) -> None:
    """Decide for a pair after a launch of `count` iterations, see the text above; `looks` sums belong to a pair."""
    record = pair * FIELDS
    done, small_after = control[u64(record + DONE)], 0
    for look in range(looks if tested else 0):
        # Exchanging reads what other blocks have added, where a plain load may find an old copy, and clears it.
        squared = cuda.atomic.exch(sums, u64(pair * looks + look), i64(0))
        if small_after == 0 and 2 * (look + 1) <= count and squared <= SMALL:
            small_after = 2 * (look + 1)
    control[u64(record + ARRIVED)] = 0
    if small_after > 0:
        control[u64(record + END)] = done + small_after
    if small_after == 0 or small_after == count:
        control[u64(record + DONE)] = done + count
        control[u64(record + HALF)] = 1 - control[u64(record + HALF)]
        if control[u64(record + END)] == done + count:
            cuda.atomic.add(control, u64(pairs * FIELDS), -1)


@cache
def iteration_kernel(tile: Tile) -> Any:
    """Kernel for blocks of `tile`, with the grid (tiles across, tiles down, pairs).

    Its parts work on the patch of one thread: `data` holds the four coefficients of its pixels, `state` their flow and
    dual variables, both [planes, patch rows, patch columns]. Every loop over a patch is unrolled, so that these are
    registers. Shared are `sides` [4, rows of the tile, columns] and `lines` [4, rows, patch columns, columns], the dual
    variables of both components before their flow. Arrays are flat.
    """
    columns, rows, across, down, most = tile
    patch, looks, threads = across * down, most // 2, columns * rows
    side, line = threads * down, threads * across
    all_sides, all_lines, all_data, all_state = 4 * side, 4 * line, STATE * patch, STATE_PLANES * patch
    step_x, step_y = tile.width - 2 * most, tile.height - 2 * most
    first_column, end_column = most // across, columns - most // across
    first_row, end_row = most, tile.height - most

    @device_function
    def load(planes: Any, at: Int, size: Int, inside: Int, data: Any, state: Any, i: Int, half: Int) -> None:
        """Set pixel `i` of the patch to the one whose first plane is at index `at`, to zero if outside the image."""
        for plane in range(STATE):
            data[plane * patch + i] = planes[u64(at + plane * size)] if inside else ZERO
        first = at + (STATE + STATE_PLANES * i64(half)) * size
        for plane in range(STATE_PLANES):
            state[plane * patch + i] = planes[u64(first + plane * size)] if inside else ZERO

    @device_function
    def show_dual(state: Any, sides: Any, lines: Any, beside: Int, beyond: Int) -> None:
        """Let the neighbours see p_x of the last column and p_y of the last row."""
        for k in range(2):
            for r in range(down):
                sides[beside + u32(k * side + r * columns)] = state[(DUAL_X + 2 * k) * patch + (r + 1) * across - 1]
            for c in range(across):
                lines[beyond + u32(k * line + c * columns)] = state[(DUAL_Y + 2 * k + 1) * patch - across + c]

    @device_function
    def show_flow(state: Any, sides: Any, lines: Any, beside: Int, beyond: Int) -> None:
        """Let the neighbours see the flow in the first column and row."""
        for k in range(2):
            for r in range(down):
                sides[beside + u32((2 + k) * side + r * columns)] = state[k * patch + r * across]
            for c in range(across):
                lines[beyond + u32((2 + k) * line + c * columns)] = state[k * patch + c]

    @device_function
    def descend(data: Any, state: Any, sides: Any, lines: Any, left: Int, above: Int, top: Int) -> f32:
        """Update the flow; returns the sum of squared updates in the rows that the tile advances."""
        update = ZERO
        for r in range(down):
            update_row = ZERO
            for c in range(across):
                i = r * across + c
                rho = data[RESIDUAL * patch + i] + data[NORMAL_X * patch + i] * state[i]
                rho += data[NORMAL_Y * patch + i] * state[patch + i]
                step = clip(rho, data[LIMIT * patch + i])
                for k in range(2):
                    p_x, p_y = (DUAL_X + 2 * k) * patch + i, (DUAL_Y + 2 * k) * patch + i
                    p_left = sides[left + u32(k * side + r * columns)] if c == 0 else state[p_x - 1]
                    p_above = lines[above + u32(k * line + c * columns)] if r == 0 else state[p_y - across]
                    change = (state[p_x] - p_left) + (state[p_y] - p_above) - step * data[(NORMAL_X + k) * patch + i]
                    state[k * patch + i] += change
                    update_row += change * change
            if top + r >= first_row and top + r < end_row:
                update += update_row
        return update

    @device_function
    def ascend(
        state: Any, sides: Any, lines: Any, right: Int, below: Int, place: Any, sizes: Any, tau: f32, rate: f32
    ) -> None:
        """Update the dual variables; no gradient leads across the edges of the image, and none is outside."""
        for r in range(down):
            for c in range(across):
                i, x, y = r * across + c, place[0] + c, place[1] + r
                open_x, open_y = x >= 0 and x < sizes[1] - 1, y >= 0 and y < sizes[0] - 1
                for k in range(2):
                    flow, p_x, p_y = k * patch + i, (DUAL_X + 2 * k) * patch + i, (DUAL_Y + 2 * k) * patch + i
                    here = state[flow]
                    next_x = sides[right + u32((2 + k) * side + r * columns)] if c == across - 1 else state[flow + 1]
                    next_y = lines[below + u32((2 + k) * line + c * columns)] if r == down - 1 else state[flow + across]
                    u_x, u_y = next_x - here if open_x else ZERO, next_y - here if open_y else ZERO
                    shrink = ONE / (ONE + rate * f32(math.sqrt(u_x * u_x + u_y * u_y)))
                    state[p_x] = (state[p_x] + tau * u_x) * shrink
                    state[p_y] = (state[p_y] + tau * u_y) * shrink

    @device_function
    def add_up(squared: Any, sides: Any, sums: Any, pair: Int, column: Int, row: Int, precision: f32) -> None:
        """Add what the threads of the block have found to the sums of the pair; thread row n does it for look n."""
        for look in range(looks):
            sides[u32(look * threads + row * columns + column)] = squared[look]
        cuda.syncthreads()
        if row < looks and column >= first_column and column < end_column:
            total = ZERO
            for other in range(rows):
                total += sides[u32(row * threads + other * columns + column)]
            cuda.atomic.add(sums, u64(pair * looks + row), i64(min(total * precision, MOST)))

    @kernel(threads)
    def iterate(
        planes: Any, control: Any, sums: Any, height: int, width: int, pitch: int, tau: f32, rate: f32, precision: f32
    ) -> None:
        """Run the next launch of every pair; `rate` is tau / theta.

        `precision` is `SMALL` over the limit (px^2) of the squared update, 0 without stopping rule.
        """
        pair = i64(cuda.blockIdx.z)
        done, half = control[u64(pair * FIELDS + DONE)], control[u64(pair * FIELDS + HALF)]
        count = min(most, control[u64(pair * FIELDS + END)] - done)
        if count <= 0:
            return
        sides = cuda.shared.array(all_sides, float32)
        lines = cuda.shared.array(all_lines, float32)
        data, state = cuda.local.array(all_data, float32), cuda.local.array(all_state, float32)
        squared = cuda.local.array(looks, float32)
        column, row = cuda.threadIdx.x, cuda.threadIdx.y
        x0 = cuda.blockIdx.x * step_x + column * across - most
        y0 = cuda.blockIdx.y * step_y + row * down - most
        size = i64(height) * i64(pitch)
        base = pair * PLANES * size
        for i in range(patch):
            x, y = x0 + i % across, y0 + i // across
            inside = x >= 0 and x < width and y >= 0 and y < height
            load(planes, base + i64(y) * i64(pitch) + i64(x), size, inside, data, state, i, half)
        for look in range(looks):
            squared[look] = ZERO

        # Where the edge of the tile leaves no neighbour any value will do: it spoils no more than the halo.
        beside, beyond = u32(row * down * columns + column), u32(row * across * columns + column)
        left, right = beside - u32(column > 0), beside + u32(column < columns - 1)
        above = beyond - u32(across * columns) if row > 0 else beyond
        below = beyond + u32(across * columns) if row < rows - 1 else beyond
        for n in range(count):
            show_dual(state, sides, lines, beside, beyond)
            cuda.syncthreads()
            update = descend(data, state, sides, lines, left, above, row * down)
            if n % 2 == 1:
                squared[n // 2] = update
            show_flow(state, sides, lines, beside, beyond)
            cuda.syncthreads()
            ascend(state, sides, lines, right, below, (x0, y0), (height, width), tau, rate)

        target = base + (STATE + STATE_PLANES * i64(1 - half)) * size
        for i in range(patch):
            x, y, line_y = x0 + i % across, y0 + i // across, row * down + i // across
            advanced = column >= first_column and column < end_column and line_y >= first_row and line_y < end_row
            if advanced and x < width and y < height:
                for plane in range(STATE_PLANES):
                    at = target + plane * size + i64(y) * i64(pitch) + i64(x)
                    planes[u64(at)] = state[plane * patch + i]

        if precision > ZERO:
            add_up(squared, sides, sums, pair, column, row, precision)
        cuda.syncthreads()
        if column == 0 and row == 0:
            # After the barrier, in the thread that signals: so all that this block has added comes before its arrival.
            cuda.threadfence()
            tiles = cuda.gridDim.x * cuda.gridDim.y
            if cuda.atomic.add(control, u64(pair * FIELDS + ARRIVED), 1) == tiles - 1:
                cuda.threadfence()
                settle(control, sums, precision > ZERO, looks, pair, count, cuda.gridDim.z)

    return iterate
