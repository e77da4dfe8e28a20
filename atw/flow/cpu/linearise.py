"""Linearising the data term of TV-L1: the second image and its gradients, warped by the flow found so far.

With g = grad I1 at x + u0, rho(u) = I1(x + u0) + g . (u - u0) - I0(x). Samples are bicubic with Keys' kernel (a =
-0.75). Outside the image everything is zero, its gradients as well, so that there is no data term: OpenCV's choices.
"""

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from atw.flow.cpu.layout import FLOW_X, FLOW_Y, LIMIT, NORMAL_X, NORMAL_Y, PLANES, RESIDUAL, compiled
from atw.flow.pairs import FloatArray

u64 = numba.uint64
f32 = numba.float32

# The kernel reaches 1 px before and 2 px after; with one more on each side, far samples can be clamped onto zeros.
PAD_BEFORE, PAD_AFTER = 3, 4
# Below this |g|^2 a pixel has no data term (OpenCV's FLT_EPSILON).
FLAT = float(np.finfo(np.float32).eps)

# Keys' kernel for the four samples around a point t after the second one, as polynomials in t: rows t^0 .. t^3.
KEYS = ((0.0, 1.0, 0.0, 0.0), (-0.75, 0.0, 0.75, 0.0), (1.5, -2.25, 1.5, -0.75), (-0.75, 1.25, -1.25, 0.75))


def _polynomial(builder: Any, rows: list[Any], point: Any) -> Any:
    """Emit Horner's scheme for vectors of coefficients, lowest power first."""
    value = rows[-1]
    for row in reversed(rows[:-1]):
        value = builder.fadd(builder.fmul(value, point, flags=["fast"]), row, flags=["fast"])
    return value


def _broadcast(builder: Any, scalar: Any, lanes: int) -> Any:
    vector = ir.Constant(ir.VectorType(ir.FloatType(), lanes), ir.Undefined)
    first = builder.insert_element(vector, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, vector, _lanes([0] * lanes))


def _lanes(order: list[int]) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order)


def _weights(builder: Any, point: Any, repeat: int) -> Any:
    """Emit the four weights at `point`, each `repeat` times in a row."""
    kind = ir.VectorType(ir.FloatType(), 4 * repeat)
    rows = [ir.Constant(kind, [weight for weight in row for _ in range(repeat)]) for row in KEYS]
    return _polynomial(builder, rows, _broadcast(builder, point, 4 * repeat))


@intrinsic  # type: ignore[untyped-decorator]
def store_bicubic(
    context: Any, packed: Any, at: Any, pitch: Any, tx: Any, ty: Any, samples: Any, to: Any
) -> tuple[Any, Any]:
    """Store at samples[to : to + 4] the 4 x 4 pixels of `packed` from index `at`, weighted for the point (tx, ty).

    Four taps of four channels are one vector of 16 floats. Written as LLVM instructions because numba leaves plain code
    for it scalar (2.5 times slower); LLVM splits the vectors where the machine has shorter ones.
    """
    del context

    def generate(target: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, at, pitch, tx, ty, samples, to = arguments
        source = target.make_array(signature.args[0])(target, builder, source).data
        samples = target.make_array(signature.args[5])(target, builder, samples).data
        taps = ir.VectorType(ir.FloatType(), 16)
        down = _weights(builder, ty, 1)
        total = None
        for row in range(4):
            pointer = builder.bitcast(builder.gep(source, [at]), taps.as_pointer())
            loaded = builder.load(pointer, align=4)
            weight = builder.shuffle_vector(down, down, _lanes([row] * 16))
            term = builder.fmul(loaded, weight, flags=["fast"])
            total = term if total is None else builder.fadd(total, term, flags=["fast"])
            at = builder.add(at, pitch)
        total = builder.fmul(total, _weights(builder, tx, 4), flags=["fast"])
        for half in (8, 4):
            low = builder.shuffle_vector(total, total, _lanes(list(range(half))))
            high = builder.shuffle_vector(total, total, _lanes(list(range(half, 2 * half))))
            total = builder.fadd(low, high, flags=["fast"])
        pointer = builder.bitcast(builder.gep(samples, [to]), ir.VectorType(ir.FloatType(), 4).as_pointer())
        builder.store(total, pointer, align=4)
        return target.get_dummy_value()

    return numba.types.void(packed, at, pitch, tx, ty, samples, to), generate


@compiled
def pack(image: FloatArray) -> FloatArray:
    """Interleave `image` [H, W] with its central gradients, inside a margin of zeros.

    Returns a flat array of (H + 7) x (W + 7) pixels of four values: intensity, d/dx, d/dy, 0. At the edges of the image
    the gradient takes the edge pixel for the missing neighbour.
    """
    height, width = image.shape
    pitch = 4 * (width + PAD_BEFORE + PAD_AFTER)
    packed = np.zeros((height + PAD_BEFORE + PAD_AFTER) * pitch, np.float32)
    half = f32(0.5)
    for y in range(height):
        up, down = max(y - 1, 0), min(y + 1, height - 1)
        target = (y + PAD_BEFORE) * pitch + 4 * PAD_BEFORE
        for x in range(width):
            left, right = max(x - 1, 0), min(x + 1, width - 1)
            packed[target + 4 * x] = image[y, x]
            packed[target + 4 * x + 1] = half * (image[y, right] - image[y, left])
            packed[target + 4 * x + 2] = half * (image[down, x] - image[up, x])
    return packed


@compiled
def sample_row(
    packed: FloatArray, height: int, width: int, y: int, state: FloatArray, row: int, stride: int, samples: FloatArray
) -> None:
    """Fill `samples` [4 W] with the packed image at the pixels of row `y` displaced by the flow in the state."""
    pitch = u64(4 * (width + PAD_BEFORE + PAD_AFTER))
    flow_x, flow_y = u64(row) + u64(FLOW_X) * u64(stride), u64(row) + u64(FLOW_Y) * u64(stride)
    low, high_x, high_y = f32(-2), f32(width + 1), f32(height + 1)
    for x in range(width):
        i = u64(x)
        px = min(max(f32(x) + state[flow_x + i], low), high_x)
        py = min(max(f32(y) + state[flow_y + i], low), high_y)
        floor_x, floor_y = np.floor(px), np.floor(py)
        at = u64(int(floor_y) + PAD_BEFORE - 1) * pitch + u64(4) * u64(int(floor_x) + PAD_BEFORE - 1)
        store_bicubic(packed, at, pitch, px - floor_x, py - floor_y, samples, u64(4) * i)


@compiled
def linearise(reference: FloatArray, packed: FloatArray, state: FloatArray, stride: int, weight: float) -> None:
    """Fill the coefficient planes of `state` for its flow planes.

    `reference` [H, W] is the first image, `packed` the second one as made by `pack`, `weight` is lambda theta.
    """
    height, width = reference.shape
    s = u64(stride)
    samples = np.empty(4 * width, np.float32)
    zero, one, two = f32(0), f32(1), u64(2)
    for y in range(height):
        row = (y + 1) * PLANES * stride + 1
        sample_row(packed, height, width, y, state, row, stride, samples)
        for x in range(width):
            i, j = u64(row) + u64(x), u64(4) * u64(x)
            gx, gy = samples[j + u64(1)], samples[j + two]
            squared = gx * gx + gy * gy
            inverse = zero if squared <= f32(FLAT) else one / np.sqrt(squared)
            rho = samples[j] - gx * state[i + u64(FLOW_X) * s] - gy * state[i + u64(FLOW_Y) * s]
            state[i + u64(NORMAL_X) * s] = gx * inverse
            state[i + u64(NORMAL_Y) * s] = gy * inverse
            state[i + u64(RESIDUAL) * s] = (rho - reference[y, x]) * inverse
            state[i + u64(LIMIT) * s] = f32(weight) * squared * inverse
