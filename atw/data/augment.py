"""Crops and mirror images of snippets, in uint8: what becomes of it on the device costs it nothing to convert.

Training draws TSN's multi-scale corner crop: height and width come from a list of sizes, at most one step apart, and
the place from 13 fixed points. All snippets of one video share their box and their flip. Test takes the centre, or the
four corners and the centre, or those five and their mirror images.

Mirroring a flow field also turns its x component round. Levels of flow are 1..255 with zero motion at 128, so that is
256 - v exactly. The mirror image is taken after the resize: a snippet and its mirror differ by nothing else.

Shapes: N snippets of a video, L fields of a stack, H and W of the stored frames, C channels, S side of the output.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from atw.data.resize import resize
from atw.files import InputError

SNAP_PX = 3
"""A crop side that differs from the network's input by less than this becomes the input's: no resize for 1 or 2 px."""

_CENTRE = (2, 2)
_CORNERS = ((0, 0), (0, 4), (4, 0), (4, 4))
_FIXED_POINTS = (
    *_CORNERS,
    _CENTRE,
    *((0, 2), (2, 0), (2, 4), (4, 2)),
    *((1, 1), (1, 3), (3, 1), (3, 3)),
)
"""Row and column of a crop's place, in quarters of the free space: corners, centre, edges, quarter points."""


class Box(NamedTuple):
    """A rectangle of a frame, in px."""

    top: int
    left: int
    height: int
    width: int


class Crop(NamedTuple):
    """A box and whether what it holds is mirrored."""

    box: Box
    flip: bool


def crop_box(height: int, width: int, *, scales: tuple[float, ...], size: int, rng: np.random.Generator) -> Box:
    """Draw the multi-scale corner crop of a frame; uniform over the pairs of sides and over the 13 points.

    A side is int(scale * min(height, width)), or `size`, the network's input in px, where the two are within `SNAP_PX`.
    """
    shorter = min(height, width)
    if not scales or not all(0 < scale <= 1 for scale in scales):
        raise InputError(f"crop scales {scales}: give at least one, each above 0 and at most 1")
    sides = [max(int(scale * shorter), 1) for scale in scales]
    sides = [size if abs(side - size) < SNAP_PX and size <= shorter else side for side in sides]
    pairs = [(h, w) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= 1]
    crop_height, crop_width = pairs[rng.integers(len(pairs))]
    return _place(height, width, crop_height, crop_width, _FIXED_POINTS[rng.integers(len(_FIXED_POINTS))])


def test_boxes(height: int, width: int, *, crop: int, crops: int) -> list[Crop]:
    """Give the 1, 5 or 10 squares of side `crop` px that a test video is scored on.

    1: centre. 5: top left, top right, bottom left, bottom right, centre. 10: those five, then their mirror images.
    """
    if crops not in (1, 5, 10):
        raise InputError(
            f"crops {crops}: take 1 (centre), 5 (corners and centre) or 10 (those and their mirror images)"
        )
    if not 1 <= crop <= min(height, width):
        raise InputError(f"crop {crop} px: must be at least 1 and fit into frames of {width} x {height} px")
    points = (_CENTRE,) if crops == 1 else (*_CORNERS, _CENTRE)
    boxes = [_place(height, width, crop, crop, point) for point in points]
    return [Crop(box, flip) for flip in ((False, True) if crops == 10 else (False,)) for box in boxes]


def cut_snippets(
    items: Iterable[tuple[list[int], NDArray[np.uint8]]],
    crops: Sequence[Crop],
    *,
    shape: tuple[int, ...],
    size: int,
    stream: str,
) -> NDArray[np.uint8]:
    """Crops of the snippets of one video, resized to `size` px a side: uint8 [len(crops), N, C, S, S].

    The resize is bilinear with antialiasing; a box of the right size is not resized.

    Args:
        items: every frame [H, W, 3] or field [2, H, W] once, with the places among the N L where it belongs.
        crops: what to cut from each.
        shape: N snippets of L items; L is 1 in rgb, where C = 3, else C = 2 L in the order x1 y1 x2 y2 ...
        size: S in px.
        stream: rgb, flow or warped.
    """
    N, L = shape
    channels = 3 if stream == "rgb" else 2
    images = np.empty((len(crops), N * L, channels, size, size), np.uint8)
    for places, item in items:
        for crop, of_crop in zip(crops, images, strict=True):
            _cut(item, crop, of_crop[places[0]], stream)
            of_crop[places[1:]] = of_crop[places[0]]
    return images.reshape(len(crops), N, L * channels, size, size)


def _cut(item: NDArray[np.uint8], crop: Crop, out: NDArray[np.uint8], stream: str) -> None:
    top, left, height, width = crop.box
    rows, columns = slice(top, top + height), slice(left, left + width)
    planes = cv2.split(item[rows, columns]) if stream == "rgb" else item[:, rows, columns]
    for plane, image in zip(planes, out, strict=True):
        resize(plane, image, mirror=crop.flip)
    if crop.flip and stream != "rgb":
        np.negative(out[0], out=out[0])  # in uint8: 256 - v


def _place(height: int, width: int, crop_height: int, crop_width: int, point: tuple[int, int]) -> Box:
    row, column = point
    return Box((height - crop_height) * row // 4, (width - crop_width) * column // 4, crop_height, crop_width)
