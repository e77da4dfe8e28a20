"""Linearise the data term of TV-L1: warp the second image and its gradients by the flow found so far.

With g = grad I1 at x + u0, rho(u) = I1(x + u0) + g . (u - u0) - I0(x). Samples are bicubic with Keys' kernel (a =
-0.75), with the edges of the image repeated. A pixel that the flow takes out of the image has no data term.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atw.flow.cpu.rows import (
    FLOW_X,
    FLOW_Y,
    LEFT,
    LIMIT,
    NORMAL_X,
    NORMAL_Y,
    PLANES,
    RESIDUAL,
    Row,
    whole_vectors,
)
from atw.flow.cpu.vectors import LANES, Emitter, Vector, emitted, interleave, total
from atw.flow.pairs import FloatArray
from atw.jit import compiled

# The kernel reaches 1 px before and 2 px after a sample, and samples are clamped to 1 px outside the image.
PAD_BEFORE, PAD_AFTER = 2, 3
# Packed images are int16 in steps of 1/128: exact for the finest level, whose gradients are halves of whole numbers,
# and half the memory of float32.
STEPS = 128.0
CHANNELS = 4
# Below this |g|^2 a pixel has no data term (OpenCV's FLT_EPSILON).
FLAT = float(np.finfo(np.float32).eps)


def empty_packed(height: int, width: int) -> NDArray[np.int16]:
    """Return an array for the result of `pack`."""
    return np.zeros(_packed_shape(height, width), np.int16)


def packed_part(room: NDArray[np.int16], height: int, width: int) -> NDArray[np.int16]:
    """Return the part of such an array that a smaller image needs."""
    rows, pitch = _packed_shape(height, width)
    return room.reshape(-1)[: rows * pitch].reshape(rows, pitch)


def _packed_shape(height: int, width: int) -> tuple[int, int]:
    return height + PAD_BEFORE + PAD_AFTER, CHANNELS * (PAD_BEFORE + whole_vectors(width) + PAD_AFTER)


@emitted
def pack_row(emit: Emitter, image: Any, row: Any, up: Any, down: Any, width: Any, packed: Any, to: Any) -> None:
    """Interleave a row of pixels from index `row` with its gradients; `up` and `down` are the rows around it."""
    with emit.loop(width) as x:
        here, above, below = (emit.address(image, emit.builder.add(start, x)) for start in (row, up, down))
        centre = emit.load(here)
        along = 0.5 * (emit.load(here, 1) - emit.load(here, -1))
        across = 0.5 * (emit.load(below) - emit.load(above))
        channels = [STEPS * channel for channel in (centre, along, across)] + [emit.broadcast(0.0)]
        target = emit.builder.add(to, emit.builder.mul(x, x.type(CHANNELS)))
        emit.store_int16(interleave(channels), emit.address(packed, target))


@compiled
def pack(image: FloatArray, width: int, packed: NDArray[np.int16]) -> None:
    """Interleave an image with its central gradients, and repeat the edges outside.

    `image` [H, stride] has its pixels LEFT columns later, and a copy of the edge pixel on either side of each row. A
    pixel of `packed`, see `empty_packed`, is intensity, d/dx, d/dy, 0, times `STEPS`. At the edges of the image the
    gradient takes the edge pixel for the missing neighbour.
    """
    height, stride = image.shape
    rows, pitch = packed.shape
    flat, target = image.reshape(-1), packed.reshape(-1)
    for row in range(rows):
        y = min(max(row - PAD_BEFORE, 0), height - 1)
        up, down = max(y - 1, 0), min(y + 1, height - 1)
        first = row * pitch + CHANNELS * PAD_BEFORE
        pack_row(flat, y * stride + LEFT, up * stride + LEFT, down * stride + LEFT, width, target, first)
        last = first + CHANNELS * (width - 1)
        for channel in range(CHANNELS):
            for x in range(CHANNELS, CHANNELS * PAD_BEFORE + 1, CHANNELS):
                target[first - x + channel] = target[first + channel]
            for x in range(CHANNELS, CHANNELS * PAD_AFTER + 1, CHANNELS):
                target[last + x + channel] = target[last + channel]


def _keys(part: Vector, scale: float) -> Vector:
    """Return the weights of four samples around a point `part` after the second one, times `scale`, lane by lane."""
    rest, square = 1 - part, part * part
    first, last = -0.75 * part * (rest * rest), -0.75 * rest * square
    second = (1.25 * part - 2.25) * square + 1
    third = 1 - first - second - last
    return interleave([scale * weight for weight in (first, second, third, last)])


def _add_taps(pixels: Sequence[Vector]) -> Vector:
    """Sum four taps of four channels each, for four pixels: pixel by pixel, four channels."""

    def halve(first: Vector, second: Vector) -> Vector:
        quarters = [range(4 * quarter, 4 * quarter + 4) for quarter in range(8)]
        even = [lane for quarter in quarters[0::2] for lane in quarter]
        odd = [lane for quarter in quarters[1::2] for lane in quarter]
        return first.shuffle(second, even) + first.shuffle(second, odd)

    return halve(halve(pixels[0], pixels[1]), halve(pixels[2], pixels[3]))


def _channel(quads: Sequence[Vector], channel: int) -> Vector:
    """Pick one channel of 16 pixels that come in fours, four channels each."""
    order = range(channel, 2 * LANES, CHANNELS)
    return quads[0].shuffle(quads[1], order).shuffle(quads[2].shuffle(quads[3], order), range(LANES))


def _sample(emit: Emitter, packed: Any, pitch: Any, x: Vector, y: Vector) -> list[Vector]:
    """Sample intensity, d/dx and d/dy of the packed image at 16 points at most one pixel outside of it."""
    builder = emit.builder
    left, top = x.floor(), y.floor()
    weights_x = emit.spill(_keys(x - left, 1.0).value)
    weights_y = emit.spill(_keys(y - top, 1 / STEPS).value)
    columns, rows = (emit.spill((side + float(PAD_BEFORE - 1)).to_int32()) for side in (left, top))

    def element(pointer: Any, index: int) -> Any:
        return builder.load(emit.address(pointer, x_type(index)))

    x_type = pitch.type
    quads = []
    for quad in range(4):
        pixels = []
        for lane in range(4 * quad, 4 * quad + 4):
            row, column = (builder.sext(element(pointer, lane), x_type) for pointer in (rows, columns))
            at = builder.add(builder.mul(row, pitch), builder.mul(column, x_type(CHANNELS)))
            taps = []
            for down in range(4):
                weight = emit.broadcast(element(weights_y, 4 * lane + down))
                taps.append(emit.load_int16(emit.address(packed, at)) * weight)
                at = builder.add(at, pitch)
            across = emit.load(weights_x, 4 * lane, lanes=4).pick([tap for tap in range(4) for _ in range(CHANNELS)])
            pixels.append(total(taps) * across)
        quads.append(_add_taps(pixels))
    return [_channel(quads, channel) for channel in range(3)]


@emitted
def linearise_row(
    emit: Emitter,
    reference: Any,
    packed: Any,
    pitch: Any,
    state: Any,
    row: Any,
    stride: Any,
    height: Any,
    width: Any,
    y: Any,
    weight: Any,
) -> None:
    """Fill the coefficients of row `y`, which starts at `row` of the state."""
    emit.estimate(root_bits=20, quotient_bits=20)
    builder = emit.builder
    right, bottom, across = (emit.broadcast(emit.to_float(size)) for size in (width, height, y))
    weights = emit.broadcast(weight)
    start = builder.add(builder.mul(y, stride), stride.type(LEFT))
    with emit.loop(width) as x:
        here = Row(emit, state, row, stride, x)
        u, v = here.load(FLOW_X), here.load(FLOW_Y)
        px, py = emit.count_up(x) + u, across + v
        seen = px.between(-0.5, right - 0.5), py.between(-0.5, bottom - 0.5), emit.below(builder.sub(width, x))
        warped, gx, gy = _sample(emit, packed, pitch, px.clip(-1, right), py.clip(-1, bottom))
        squared = gx * gx + gy * gy
        inverse = (1 / squared.sqrt()).where(emit.all(squared.above(FLAT), *seen), 0.0)
        rho = warped - gx * u - gy * v - emit.load(emit.address(reference, builder.add(start, x)))
        here.store(NORMAL_X, gx * inverse)
        here.store(NORMAL_Y, gy * inverse)
        here.store(RESIDUAL, rho * inverse)
        here.store(LIMIT, weights * (squared * inverse))


@compiled
def linearise(
    reference: FloatArray, packed: NDArray[np.int16], state: FloatArray, width: int, stride: int, weight: float
) -> None:
    """Fill the coefficient planes of `state` for its flow planes.

    `reference` [H, stride] is the first image, as `pack` takes it, `packed` the second one, `weight` lambda theta.
    """
    height = reference.shape[0]
    flat, source = reference.reshape(-1), packed.reshape(-1)
    for y in range(height):
        row = (y + 1) * PLANES * stride + LEFT
        linearise_row(flat, source, packed.shape[1], state, row, stride, height, width, y, weight)
