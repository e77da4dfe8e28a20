"""How a picture of any shape becomes one of the working size."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from atw.config import Fit

Image = NDArray[Any]


def resize(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Stretch bilinearly, or by area averaging if a side shrinks to half or less (bilinear would alias)."""
    rows, columns = image.shape[:2]
    if (columns, rows) == (width, height):
        return np.ascontiguousarray(image)
    shrinks = rows >= 2 * height or columns >= 2 * width
    resized: Any = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(resized, np.uint8)


def fit_to(image: Image, width: int, height: int, fit: Fit, resize: Callable[[Image, int, int], Image]) -> Image:
    """Return a picture [H, W, ...] at the working size, by `resize(image, width, height)` and the setting `fit`.

    `stretch` scales both sides on their own. The others keep the shape of things: `crop` cuts off what is too much of
    the longer side, equally at both ends, and `letterbox` puts zeros (black) beside the whole picture.
    """
    rows, columns = image.shape[:2]
    if fit == "stretch":
        return resize(image, width, height)
    if fit == "crop":
        scale = max(width / columns, height / rows)
        down, across = (_middle(side, round(wanted / scale)) for side, wanted in ((rows, height), (columns, width)))
        return resize(image[down, across], width, height)
    scale = min(width / columns, height / rows)
    down, across = (_middle(wanted, round(side * scale)) for side, wanted in ((rows, height), (columns, width)))
    framed = np.zeros((height, width, *image.shape[2:]), image.dtype)
    framed[down, across] = resize(image, across.stop - across.start, down.stop - down.start)
    return framed


def _middle(whole: int, part: int) -> slice:
    """The middle of `whole` pixels, at least one and at most all of them."""
    part = min(max(part, 1), whole)
    return slice((whole - part) // 2, (whole - part) // 2 + part)
