"""CUDA kernels that work on one pixel per thread, and the arrays that all CUDA kernels share.

Arrays are flat. Images of a level are [2 B, H, pitch], both images of a pair one after the other; gradients of the
second images [B, 2, H, pitch]; planes [B, PLANES, H, pitch]; control [B FIELDS + 1], its last element the number of
pairs still at work. The grid is (columns, rows, images or pairs).

Everything is float32: to numba, a bare Python float, or an integer times a float, would be float64.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import cuda
from numba.cuda.core import config

from atw.jit import kept_on_disk

# Planes of a pair on a pyramid level: four coefficients of the data term, then two halves of the state, each with the
# flow and its dual variables. A launch reads one half and writes the other, so no tile sees its neighbour's new values.
NORMAL_X, NORMAL_Y, RESIDUAL, LIMIT = range(4)
STATE = 4
FLOW_X, FLOW_Y = range(2)
DUAL_X, DUAL_Y = 2, 3  # of the x component; those of the y component are two further
STATE_PLANES = 6
PLANES = STATE + 2 * STATE_PLANES

# Integers per pair that control its iterations: how many are done in this warp, after how many it ends, which half of
# the state holds the flow, and how many tiles have finished the present launch.
DONE, END, HALF, ARRIVED = range(4)
FIELDS = 4

# Coarse levels of few pairs are small; numba would warn of each.
config.CUDA_LOW_OCCUPANCY_WARNINGS = 0

BLOCK = (32, 8)

f32 = np.float32
i32 = np.int32
i64 = np.int64
u64 = np.uint64

ZERO, HALF_PX, ONE, TWO = f32(0), f32(0.5), f32(1), f32(2)
MOST_LEVELS = f32(127)  # from no motion to the bound
# Below this |g|^2 a pixel has no data term.
FLAT = f32(np.finfo(np.float32).eps)
# Keys' cubic convolution with a = -0.75: coefficients of |t|^3, |t|^2 (and 1) within one pixel, and of the next one.
NEAR3, NEAR2 = f32(1.25), f32(-2.25)
FAR3, FAR2, FAR1, FAR0 = f32(-0.75), f32(3.75), f32(-6.0), f32(3.0)


# The simulator takes no options on generated code.
_INLINE = {} if config.ENABLE_CUDASIM else {"forceinline": True}

# An integer of any width, or a condition; numba infers it from the calls.
Int = Any
Function = TypeVar("Function", bound=Callable[..., Any])


def row_pitch(width: int) -> int:
    """Return the floats from row to row of an image or plane: whole runs of 128 bytes."""
    return (width + 31) // 32 * 32


def kernel(threads: int) -> Callable[[Callable[..., None]], Any]:
    """Decorate a kernel whose blocks have `threads` threads: fast floating point, kept on disk once compiled."""
    bounds = {} if config.ENABLE_CUDASIM else {"launch_bounds": threads}
    return functools.partial(kept_on_disk, compile_it=functools.partial(cuda.jit, fastmath=True, **bounds))


def device_function(function: Function) -> Function:
    """Decorate a function that is inlined into the kernels that call it."""
    compiled: Function = cuda.jit(device=True, fastmath=True, **_INLINE)(function)
    return compiled


pixelwise = kernel(BLOCK[0] * BLOCK[1])


@device_function
def near(distance: f32) -> f32:
    """Return the weight of Keys' kernel at a distance of at most 1 px."""
    return (NEAR3 * distance + NEAR2) * distance * distance + ONE


@device_function
def far(distance: f32) -> f32:
    """Return the weight of Keys' kernel at a distance of 1 to 2 px."""
    return ((FAR3 * distance + FAR2) * distance + FAR1) * distance + FAR0


@device_function
def state_at(pair: Int, half: Int, height: Int, pitch: Int) -> Int:
    """Return the index of the first state plane of a half of a pair."""
    return (i64(pair) * i64(PLANES) + i64(STATE) + i64(STATE_PLANES) * i64(half)) * i64(height) * i64(pitch)


@device_function
def bilinear(source: Any, at: Int, height: Int, width: Int, pitch: Int, y: f32, x: f32) -> Any:
    """Sample the plane that starts at index `at`; a point outside is moved onto the plane."""
    y = min(max(y, ZERO), f32(height - 1))
    x = min(max(x, ZERO), f32(width - 1))
    top, left = min(i32(y), i32(height - 2)), min(i32(x), i32(width - 2))
    down, right = y - f32(top), x - f32(left)
    upper = at + i64(top) * i64(pitch) + i64(left)
    lower = upper + i64(pitch)
    first = source[u64(upper)] + down * (source[u64(lower)] - source[u64(upper)])
    second = source[u64(upper + 1)] + down * (source[u64(lower + 1)] - source[u64(upper + 1)])
    return first + right * (second - first)


@device_function
def nearest(value: f32) -> Any:
    """Round a value that is not negative, half to even; Python's `round` would compute in double precision."""
    whole = i32(value)
    rest = value - f32(whole)
    return whole + i32(rest > HALF_PX or (rest == HALF_PX and whole % 2 == 1))


@pixelwise
def convert(frames: Any, images: Any, height: int, width: int, pitch: int) -> None:
    """Store uint8 `frames` [2 B, H, W] as the finest level."""
    x, y = cuda.grid(2)
    image = i64(cuda.blockIdx.z)
    if x < width and y < height:
        row = image * i64(height) + i64(y)
        images[u64(row * i64(pitch) + i64(x))] = f32(frames[u64(row * i64(width) + i64(x))])


@pixelwise
def shrink(
    source: Any,
    source_height: int,
    source_width: int,
    source_pitch: int,
    images: Any,
    height: int,
    width: int,
    pitch: int,
    scale: f32,
) -> None:
    """Fill the next coarser level bilinearly, pixel centres at halves; `scale` is source pixels per pixel."""
    x, y = cuda.grid(2)
    image = i64(cuda.blockIdx.z)
    if x < width and y < height:
        at = image * i64(source_height) * i64(source_pitch)
        from_y, from_x = (f32(y) + HALF_PX) * scale - HALF_PX, (f32(x) + HALF_PX) * scale - HALF_PX
        value = bilinear(source, at, source_height, source_width, source_pitch, from_y, from_x)
        images[u64((image * i64(height) + i64(y)) * i64(pitch) + i64(x))] = value


@pixelwise
def differentiate(images: Any, gradients: Any, height: int, width: int, pitch: int) -> None:
    """Compute central differences of the second images; edge pixels stand for missing neighbours."""
    x, y = cuda.grid(2)
    pair = i64(cuda.blockIdx.z)
    if x < width and y < height:
        size = i64(height) * i64(pitch)
        image, target = (i64(2) * pair + i64(1)) * size, i64(2) * pair * size
        row = i64(y) * i64(pitch)
        left, right = image + row + i64(max(x - 1, 0)), image + row + i64(min(x + 1, width - 1))
        up = image + i64(max(y - 1, 0)) * i64(pitch) + i64(x)
        down = image + i64(min(y + 1, height - 1)) * i64(pitch) + i64(x)
        gradients[u64(target + row + i64(x))] = HALF_PX * (images[u64(right)] - images[u64(left)])
        gradients[u64(target + size + row + i64(x))] = HALF_PX * (images[u64(down)] - images[u64(up)])


@pixelwise
def begin(planes: Any, control: Any, height: int, width: int, pitch: int) -> None:
    """Set the flow and its dual variables on the coarsest level to zero."""
    x, y = cuda.grid(2)
    pair = i64(cuda.blockIdx.z)
    if x < width and y < height:
        at = state_at(pair, 0, height, pitch) + i64(y) * i64(pitch) + i64(x)
        for _ in range(STATE_PLANES):
            planes[u64(at)] = ZERO
            at += i64(height) * i64(pitch)
        if x == 0 and y == 0:
            control[u64(pair * FIELDS + HALF)] = 0
            control[u64(pair * FIELDS + ARRIVED)] = 0


@pixelwise
def enlarge(
    coarse: Any,
    coarse_height: int,
    coarse_width: int,
    coarse_pitch: int,
    planes: Any,
    control: Any,
    height: int,
    width: int,
    pitch: int,
    scale_y: f32,
    scale_x: f32,
    factor: f32,
) -> None:
    """Set the flow on a level to `factor` times that of the coarser one, and its dual variables to zero."""
    x, y = cuda.grid(2)
    pair = i64(cuda.blockIdx.z)
    if x < width and y < height:
        half = control[u64(pair * FIELDS + HALF)]
        source = state_at(pair, half, coarse_height, coarse_pitch)
        at = state_at(pair, half, height, pitch) + i64(y) * i64(pitch) + i64(x)
        from_y, from_x = (f32(y) + HALF_PX) * scale_y - HALF_PX, (f32(x) + HALF_PX) * scale_x - HALF_PX
        for plane in range(STATE_PLANES):
            value = ZERO
            if plane < DUAL_X:
                value = factor * bilinear(coarse, source, coarse_height, coarse_width, coarse_pitch, from_y, from_x)
                source += i64(coarse_height) * i64(coarse_pitch)
            planes[u64(at)] = value
            at += i64(height) * i64(pitch)


@device_function
def bicubic(source: Any, at: Int, height: Int, width: Int, pitch: Int, y: Int, x: Int, down: Any, right: Any) -> f32:
    """Sample the plane that starts at index `at`, edges repeated, with weights for -1 .. 2 from (y, x)."""
    total = ZERO
    for row in range(4):
        line = at + i64(min(max(y + row - 1, 0), height - 1)) * i64(pitch)
        along = ZERO
        for column in range(4):
            along += right[column] * source[u64(line + i64(min(max(x + column - 1, 0), width - 1)))]
        total += down[row] * along
    return total


@pixelwise
def linearise(
    images: Any,
    gradients: Any,
    planes: Any,
    control: Any,
    height: int,
    width: int,
    pitch: int,
    weight: f32,
    iterations: int,
) -> None:
    """Fill the coefficients for the present flow, as `atw.flow.cpu.linearise` does, and set the iterations to do.

    `weight` is lambda theta.
    """
    x, y = cuda.grid(2)
    pair = i64(cuda.blockIdx.z)
    if x < width and y < height:
        size, pixel = i64(height) * i64(pitch), i64(y) * i64(pitch) + i64(x)
        flow = state_at(pair, control[u64(pair * FIELDS + HALF)], height, pitch) + pixel
        u, v = planes[u64(flow + FLOW_X * size)], planes[u64(flow + FLOW_Y * size)]
        to_x, to_y = f32(x) + u, f32(y) + v
        seen = to_x >= -HALF_PX and to_x <= f32(width) - HALF_PX and to_y >= -HALF_PX and to_y <= f32(height) - HALF_PX
        # Samples that are not used must still have integer indices.
        to_x, to_y = min(max(to_x, -ONE), f32(width)), min(max(to_y, -ONE), f32(height))
        left, top = i32(math.floor(to_x)), i32(math.floor(to_y))
        tx, ty = to_x - f32(left), to_y - f32(top)
        right = (far(ONE + tx), near(tx), near(ONE - tx), far(TWO - tx))
        down = (far(ONE + ty), near(ty), near(ONE - ty), far(TWO - ty))
        second = bicubic(images, (2 * pair + 1) * size, height, width, pitch, top, left, down, right)
        gx = bicubic(gradients, 2 * pair * size, height, width, pitch, top, left, down, right)
        gy = bicubic(gradients, (2 * pair + 1) * size, height, width, pitch, top, left, down, right)
        squared = gx * gx + gy * gy
        inverse = ZERO
        if seen and squared > FLAT:
            inverse = ONE / f32(math.sqrt(squared))
        at = pair * PLANES * size + pixel
        planes[u64(at + NORMAL_X * size)] = gx * inverse
        planes[u64(at + NORMAL_Y * size)] = gy * inverse
        residual = second - gx * u - gy * v - images[u64(2 * pair * size + pixel)]
        planes[u64(at + RESIDUAL * size)] = residual * inverse
        planes[u64(at + LIMIT * size)] = weight * squared * inverse
        if x == 0 and y == 0:
            control[u64(pair * FIELDS + DONE)] = 0
            control[u64(pair * FIELDS + END)] = iterations
            if pair == 0:
                control[u64(cuda.gridDim.z * FIELDS)] = cuda.gridDim.z


@device_function
def flow_and_target(
    control: Any, pair: Int, component: Int, y: Int, x: Int, height: Int, width: Int, pitch: Int
) -> Any:
    """Return the index of a flow component at a pixel in the planes, and in an array [B, 2, H, W] without padding."""
    half = control[u64(pair * FIELDS + HALF)]
    plane = state_at(pair, half, height, pitch) + component * i64(height) * i64(pitch)
    target = ((2 * pair + component) * i64(height) + i64(y)) * i64(width) + i64(x)
    return u64(plane + i64(y) * i64(pitch) + i64(x)), u64(target)


@pixelwise
def export(planes: Any, control: Any, flow: Any, height: int, width: int, pitch: int) -> None:
    """Store the flow [B, 2, H, W] without the padding of its rows."""
    x, y = cuda.grid(2)
    pair = i64(cuda.blockIdx.z)
    if x < width and y < height:
        for component in range(2):
            source, target = flow_and_target(control, pair, component, y, x, height, width, pitch)
            flow[target] = planes[source]


@pixelwise
def export_levels(
    planes: Any, control: Any, levels: Any, clipped: Any, height: int, width: int, pitch: int, bound: f32, scale: f32
) -> None:
    """Store the levels of the flow [B, 2, H, W] as `atw.shards.quantise` does; add up what is beyond `bound` (px)."""
    x, y = cuda.grid(2)
    pair = i64(cuda.blockIdx.z)
    if x < width and y < height:
        for component in range(2):
            source, target = flow_and_target(control, pair, component, y, x, height, width, pitch)
            moved = planes[source]
            steps = nearest(min(abs(moved * scale), MOST_LEVELS))
            levels[target] = i32(128) + (steps if moved > ZERO else -steps)
            if abs(moved) > bound:
                cuda.atomic.add(clipped, 0, 1)
