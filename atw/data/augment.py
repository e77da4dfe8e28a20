"""Crops and mirror images of snippets, in uint8 on the device that the frames are on.

Training draws TSN's multi-scale corner crop: height and width come from a list of sizes, at most one step apart, and
the place from 13 fixed points. All snippets of one video share their box and their flip. Test takes the centre, or the
four corners and the centre, or those five and their mirror images.

Mirroring a flow field also turns its x component round. Levels of flow are 1..255 with zero motion at 128, so that is
256 - v exactly. The mirror image is taken after the resize: a snippet and its mirror differ by nothing else.

Shapes: N snippets of a video, L fields of a stack, H and W of the stored frames, C channels, S side of the output.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

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


def apply(frames: Tensor, *, box: Box, size: int, flip: bool, stream: str) -> Tensor:
    """Crop, resize to `size` px a side and mirror all snippets of one video: uint8 [N, C, S, S], in memory of its own.

    `frames` is uint8: rgb [N, H, W, 3], giving C = 3; flow and warped [N, L, 2, H, W], giving C = 2 L in the order
    x1 y1 x2 y2 ... The resize is bilinear with antialiasing; a box of the right size is not resized.
    """
    top, left, height, width = box
    rows, columns = slice(top, top + height), slice(left, left + width)
    if stream == "rgb":
        images = frames[:, rows, columns].permute(0, 3, 1, 2)  # [N, 3, h, w]
    else:
        images = frames[..., rows, columns].flatten(1, 2)  # [N, 2 L, h, w]
    if (height, width) != (size, size):
        images = _resize(images, size)  # [N, C, S, S]
    if not flip:
        return images.clone(memory_format=torch.contiguous_format)
    mirrored = images.flip(3).contiguous()
    if stream != "rgb":
        mirrored[:, 0::2].neg_()  # in uint8: 256 - v
    return mirrored


def _resize(images: Tensor, size: int) -> Tensor:
    if images.device.type != "cpu":
        return _resize_in_float(images, size)
    N, C, height, width = images.shape
    if C > 4:
        # Torch's fast path for uint8 takes up to 4 channels: 3.6 times faster for the planes of flow stacks.
        images = images.reshape(-1, math.gcd(N * C, 4), height, width)
    return _interpolate(images, size).reshape(N, C, size, size)


def _resize_in_float(images: Tensor, size: int) -> Tensor:
    """Resize where torch has no kernel for uint8, which is everywhere but on the CPU: within one level of it."""
    return _interpolate(images.float(), size).round_().to(torch.uint8)


def _interpolate(images: Tensor, size: int) -> Tensor:
    return F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)


def _place(height: int, width: int, crop_height: int, crop_width: int, point: tuple[int, int]) -> Box:
    row, column = point
    return Box((height - crop_height) * row // 4, (width - crop_width) * column // 4, crop_height, crop_width)
