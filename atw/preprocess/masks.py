"""Mask files: one PNG a frame, nonzero where the camera's motion must not be looked for (usually people)."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from atw.files import InputError
from atw.shards import Entry


def read_masks(folder: Path, entry: Entry, first: int, count: int, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Masks of `count` frames of a video from number `first` on: bool [count, H, W], True where excluded.

    Frame i's is `folder`/<video id>/<i, at least five digits>.png, of the working size `shape` (H, W) or of the video's
    own, resized to the nearest pixel. Where it has several channels, a pixel is excluded by any of the colours.

    Raises InputError for a file that is missing, no image, or of another size.
    """
    masks = np.empty((count, *shape), bool)
    for index in range(count):
        masks[index] = _read(folder / entry.video / f"{first + index:05d}.png", entry, shape)
    return masks


def _read(path: Path, entry: Entry, shape: tuple[int, int]) -> NDArray[np.bool_]:
    if not path.is_file():
        raise InputError(
            f"mask {path} of {entry.video} is missing; warp.masks needs one PNG for each frame of each video, "
            "counted from 00000.png"
        )
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"mask {path} is no image that can be read; write it as PNG, nonzero where excluded")
    height, width = shape
    if image.shape[:2] not in (shape, (entry.height, entry.width)):
        found = f"{image.shape[1]} x {image.shape[0]}"
        raise InputError(
            f"mask {path} is {found} px; give it the size of the video, {entry.width} x {entry.height} px, "
            f"or the working size, {width} x {height} px"
        )
    excluded = image.any(axis=2).astype(np.uint8)
    resized = cv2.resize(excluded, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(resized, bool)
