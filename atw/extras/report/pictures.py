"""Pictures in the page: small JPEG images as data addresses, so that their number and size are bounded."""

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from atw.shards import Entry, Shard

WIDTH_PX = 160
_QUALITY = 80


def jpeg_address(image: NDArray[np.uint8]) -> str:
    """An RGB image [H, W, 3], made smaller where it is wider than `WIDTH_PX`, as a data address."""
    height, width = image.shape[:2]
    if width > WIDTH_PX:
        size = (WIDTH_PX, max(1, round(height * WIDTH_PX / width)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, encoded = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")


def moments(count: int, wanted: int) -> list[int]:
    """At most `wanted` of `count` items, the middles of as many equal parts, in rising order."""
    parts = min(count, wanted)
    return [int((2 * part + 1) * count / (2 * parts)) for part in range(parts)]


def frames(path: Path, entry: Entry, wanted: int) -> list[dict[str, Any]]:
    """At most `wanted` frames of a video in a shard, as `seconds` and `address`."""
    numbers = moments(entry.count, wanted)
    with Shard(path) as shard:
        images = shard.frames(entry, numbers)
        times = shard.times(entry)
    return [
        {"seconds": times.of_frame(number), "address": jpeg_address(image)}
        for number, image in zip(numbers, images, strict=True)
    ]
