"""The CUDA kernel that iterates: several iterations per launch on tiles that are held in registers.

A thread block works on one tile of one pair. It loads the tile with a halo as wide as the iterations of a launch, runs
them and stores the part that the halo has not spoilt. With t iterations a tile of w x h px advances
(w - 2 t)(h - 2 t) px, for which 10 floats per loaded pixel are read and 6 per advanced pixel written.

Each thread keeps a patch of pixels: the coefficients of the data term and the state. Neighbouring patches exchange
columns of p_x and u and rows of p_y and u through shared memory, with two barriers per iteration. The formulas are
those of `atw.flow.cpu.rows`. Pixels outside the image are zero and stay zero, because gradients across and outside the
edges are taken as zero.

The stopping rule needs no host. Every launch runs up to t iterations from one half of the state into the other and adds
up the squared updates of each second iteration. The last tile of a pair to finish looks at the sums. If none is small,
the halves swap roles. If the last one is small, they swap and the pair is done. If an earlier one is small, nothing is
swapped and the pair is set to end there: the next launch repeats that part of this one. Blocks of finished pairs return
at once. This costs up to one launch per warp, and each pair stops at exactly the iteration at which it would alone.

The sums are integers, in units of 2^-30 of the limit, because integers add up to the same in any order.
"""

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import cuda, float32

from atw.flow.cuda.kernels import (
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
    ONE,
    PLANES,
    RESIDUAL,
    STATE,
    STATE_PLANES,
    ZERO,
    Int,
    device_function,
    f32,
    i32,
    i64,
    kernel,
    u64,
)

u32 = np.uint32

# The limit of the stopping rule as an integer, and the highest sum of one column of threads.
SMALL = 1 << 30
MOST = f32(1 << 40)


class Tile(NamedTuple):
    """The shape of a thread block: `columns` x `rows` threads of `patch_columns` x `patch_rows` px each.

    `iterations` per launch is even, as the update is looked at after every second one, and a multiple of
    `patch_columns`. Half of it exceeds neither `rows` nor twice `patch_rows`: one row of threads adds up the squared
    updates of a look, in the memory through which patches exchange columns.
    """

    columns: int
    rows: int
    patch_columns: int
    patch_rows: int
    iterations: int

    @property
    def width(self) -> int:
        """Loaded width (px)."""
        return self.columns * self.patch_columns

    @property
    def height(self) -> int:
        """Loaded height (px)."""
        return self.rows * self.patch_rows

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return the tiles in x and in y that advance an image of `height` x `width` px."""
        halo = 2 * self.iterations
        return math.ceil(width / (self.width - halo)), math.ceil(height / (self.height - halo))


# 64 x 64 px in 512 threads: 128 registers a thread and 48 KiB of shared memory, the most that needs no permission.
TILE = Tile(columns=32, rows=16, patch_columns=2, patch_rows=4, iterations=6)


def launches(iterations: int, tile: Tile, *, tested: bool) -> int:
    """Return how many launches a warp needs at most: a launch that went past the stop is repeated up to it."""
    return math.ceil(iterations / tile.iterations) + (1 if tested else 0)


@device_function
def clip(value: f32, limit: f32) -> f32:
    """Bring `value` into -limit .. limit."""
    return min(max(value, -limit), limit)


@device_function
def settle(control: Any, sums: Any, tested: Int, looks: Int, pair: Int, count: Int, pairs: Int) -> None:
    """Apply the stopping rule to a pair after a launch of `count` iterations; a pair has `looks` sums."""
    record = pair * FIELDS
    done, small_after = control[u64(record + DONE)], 0
    for look in range(looks if tested else 0):
        # An exchange sees what other blocks have added, while a plain load may find an old copy; it also clears it.
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
    """Make the kernel for blocks of `tile`; its grid is (tiles across, tiles down, pairs).

    A thread's patch has `data`, the four coefficients, and `state`, flow and dual variables, both [planes, patch rows,
    patch columns]. Every loop over a patch is unrolled, so these are registers. Shared memory holds `sides` [4, rows of
    the tile, columns] and `lines` [4, rows, patch columns, columns]: the dual variables of both components, then their
    flow. Arrays are flat.
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
        """Load pixel `i` of the patch, whose first plane is at index `at`; zero if outside the image."""
        for plane in range(STATE):
            data[plane * patch + i] = planes[u64(i32(at + i32(plane * size)))] if inside else ZERO
        first = i32(at + i32((STATE + STATE_PLANES * half) * size))
        for plane in range(STATE_PLANES):
            state[plane * patch + i] = planes[u64(i32(first + i32(plane * size)))] if inside else ZERO

    @device_function
    def show_dual(state: Any, sides: Any, lines: Any, beside: Int, beyond: Int) -> None:
        """Share p_x of the last column and p_y of the last row with the neighbours."""
        for k in range(2):
            for r in range(down):
                sides[beside + u32(k * side + r * columns)] = state[(DUAL_X + 2 * k) * patch + (r + 1) * across - 1]
            for c in range(across):
                lines[beyond + u32(k * line + c * columns)] = state[(DUAL_Y + 2 * k + 1) * patch - across + c]

    @device_function
    def show_flow(state: Any, sides: Any, lines: Any, beside: Int, beyond: Int) -> None:
        """Share the flow of the first column and row with the neighbours."""
        for k in range(2):
            for r in range(down):
                sides[beside + u32((2 + k) * side + r * columns)] = state[k * patch + r * across]
            for c in range(across):
                lines[beyond + u32((2 + k) * line + c * columns)] = state[k * patch + c]

    @device_function
    def descend(data: Any, state: Any, sides: Any, lines: Any, left: Int, above: Int, top: Int) -> f32:
        """Update the flow; return the sum of squared updates in the rows that the tile advances."""
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
        """Update the dual variables; gradients across and outside the edges of the image are zero."""
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
        """Add the squared updates of all threads to the sums of the pair; thread row n does it for look n."""
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
        # A batch has fewer elements than 2^31 (`solver.MOST_PIXELS`). Numba widens each sum and product of integers.
        size = i32(height * pitch)
        base = i32(pair * PLANES * size)
        for i in range(patch):
            x, y = x0 + i % across, y0 + i // across
            inside = x >= 0 and x < width and y >= 0 and y < height
            load(planes, i32(base + y * pitch + x), size, inside, data, state, i, half)
        for look in range(looks):
            squared[look] = ZERO

        # At the edge of the tile any value will do for a missing neighbour: it spoils no more than the halo.
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

        if precision > ZERO:
            add_up(squared, sides, sums, pair, column, row, precision)
        target = i32(base + i32((STATE + STATE_PLANES * (1 - half)) * size))
        for i in range(patch):
            x, y, line_y = x0 + i % across, y0 + i // across, row * down + i // across
            advanced = column >= first_column and column < end_column and line_y >= first_row and line_y < end_row
            if advanced and x < width and y < height:
                for plane in range(STATE_PLANES):
                    at = i32(target + i32(plane * size + y * pitch + x))
                    planes[u64(at)] = state[plane * patch + i]

        cuda.syncthreads()
        if column == 0 and row == 0:
            # The fence is in the thread that signals, after the barrier: all sums of this block precede its arrival.
            cuda.threadfence()
            tiles = cuda.gridDim.x * cuda.gridDim.y
            if cuda.atomic.add(control, u64(pair * FIELDS + ARRIVED), 1) == tiles - 1:
                cuda.threadfence()
                settle(control, sums, precision > ZERO, looks, pair, count, cuda.gridDim.z)

    return iterate
