"""Bilinear resize of uint8 planes with antialiasing: the bytes that torch gives, in a fraction of its time.

Both passes work along columns, where neighbouring pixels are neighbouring bytes and the weights are the same, so that
the compiler makes vector code of them; for the pass over rows the plane is transposed. One plane at a time stays in the
cache.

The weights are triangles around the source of each pixel's centre, as wide as an output pixel where the image shrinks
(Pillow's and torch's `antialias=True`), rounded to 16 bits. The first pass is over rows, and its result rounded to
uint8: this order and these roundings are torch's.
"""

import functools
import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from atw.jit import compiled

Plane = NDArray[np.uint8]
_LARGEST_WEIGHT = 1 << 15
_SHIFT = 22
_BLOCK = 4096  # columns whose int32 sums stay in the first cache


class Taps(NamedTuple):
    """Output i is the sum over j of weights[i, j] times input first[i] + j, plus a half, in units of 2 ** -22."""

    first: NDArray[np.int64]
    weights: NDArray[np.int32]


def resize(plane: Plane, out: Plane, *, mirror: bool = False) -> None:
    """Resize a plane [h, w] into `out` [H, W], and mirror it left to right if asked to."""
    height, width = out.shape
    if plane.shape[1] != width:
        columns = np.empty((width, plane.shape[0]), np.uint8)
        _weigh(cv2.transpose(plane), *_taps(plane.shape[1], width, mirrored=mirror), columns)
        plane = cv2.transpose(columns)
    elif mirror:
        plane = cv2.flip(plane, 1)
    elif plane.shape[0] != height:
        plane = plane.copy()  # the kernel wants whole rows one after the other
    if plane.shape[0] == height:
        out[:] = plane
    else:
        _weigh(plane, *_taps(plane.shape[0], height), out)


@functools.lru_cache(maxsize=256)
def _taps(length: int, size: int, *, mirrored: bool = False) -> Taps:
    """What `size` pixels are made of in a row of `length`; mirrored, the last pixel comes first."""
    scale = length / size
    reach = max(scale, 1.0)
    centres = scale * (np.arange(size) + 0.5)
    first = np.maximum((centres - reach + 0.5).astype(np.int64), 0)
    counts = np.minimum((centres + reach + 0.5).astype(np.int64), length) - first
    most = min(max(int(counts.max()), 2), length)
    places = np.arange(most)
    weights = np.maximum(1 - abs((places + first[:, None] - centres[:, None] + 0.5) / reach), 0)
    weights *= places < counts[:, None]
    weights /= weights.sum(axis=1, keepdims=True)
    # torch's precision: as many bits as the largest weight leaves of 16.
    shift = min(math.ceil(math.log2((_LARGEST_WEIGHT - 0.5) / weights.max())) - 1, _SHIFT)
    rounded = (weights * (1 << shift) + 0.5).astype(np.int32) << (_SHIFT - shift)
    # A window that ends beyond the row begins earlier, with weights of zero.
    moved = np.maximum(first + most - length, 0)
    for row in np.flatnonzero(moved):
        rounded[row] = np.roll(rounded[row], moved[row])
    order = slice(None, None, -1 if mirrored else 1)
    return Taps(np.ascontiguousarray((first - moved)[order]), np.ascontiguousarray(rounded[order]))


@compiled
def _weigh(source: Plane, first: NDArray[np.int64], weights: NDArray[np.int32], out: Plane) -> None:
    """Every row of `out` [m, c] as a weighted sum of neighbouring rows of `source` [n, c].

    A product of two int32 is an int64 to numba; that 32 bits are enough has to be said, and doubles the speed.
    """
    columns = source.shape[1]
    taps = weights.shape[1]
    half = np.int32(1 << (_SHIFT - 1))
    sums = np.empty(_BLOCK, np.int32)
    for i in range(out.shape[0]):
        a = first[i]
        if taps == 1:
            out[i] = source[a]
            continue
        w0, w1 = weights[i, 0], weights[i, 1]
        if taps == 2:
            for x in range(columns):
                near = np.int32(half + w0 * source[a, x] + w1 * source[a + 1, x])
                out[i, x] = near >> _SHIFT
            continue
        w2 = weights[i, 2]
        if taps == 3:
            for x in range(columns):
                near = np.int32(half + w0 * source[a, x] + w1 * source[a + 1, x] + w2 * source[a + 2, x])
                out[i, x] = near >> _SHIFT
            continue
        for start in range(0, columns, _BLOCK):
            stop = min(start + _BLOCK, columns)
            for x in range(start, stop):
                sums[x - start] = half + w0 * source[a, x] + w1 * source[a + 1, x] + w2 * source[a + 2, x]
            for j in range(3, taps):
                weight = weights[i, j]
                for x in range(start, stop):
                    sums[x - start] += weight * source[a + j, x]
            for x in range(start, stop):
                out[i, x] = sums[x - start] >> _SHIFT
