"""Flow with the motion of the camera taken out ("warped flow").

A homography from the first image of a pair to the second stands for the motion of the camera. The second image is
warped back by it, and the flow from the first image to the result is what moved by itself. Masks keep people out of the
fit; without masks the robust fit has to reject what does not move with the camera.
"""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from atw.config import Warp
from atw.errors import InputError
from atw.flow.camera import (
    Compensated,
    Image,
    find_corners,
    fit_and_warp,
    flow_matches,
    only_into,
    only_near,
    sift_features,
    sift_matches,
    track_matches,
)
from atw.flow.engine import one_opencv_thread
from atw.flow.pairs import FloatArray, Images, check_pairs, each_pair

Mask = tuple[NDArray[np.bool_], NDArray[np.bool_]]
"""Where pixels must not be matched: bool [B, H, W] of all first and of all second images."""
Usable = tuple[list[Image | None], list[Image | None]]
Found = TypeVar("Found")


def steady(pairs: list[Compensated], second: Images) -> Images:
    """Return the second images [B, H, W] of a batch with the camera's motion taken out."""
    return np.stack([pair.warped for pair in pairs]) if pairs else second


def compensate(
    first: Images, second: Images, known: FloatArray | None, warp: Warp, *, mask: Mask | None = None, threads: int = 1
) -> list[Compensated]:
    """Take the motion of the camera out of each second image of a batch.

    Args:
        first: the first images, as for `estimate`.
        second: the second images, as for `estimate`.
        known: the plain flow, float32 [B, 2, H, W] in px, computed or read from a shard. It may be None for matches of
            the kind "tracks", which do not use it.
        warp: how to find the camera's motion; its folder of masks is not read here.
        mask: excludes people from the matches.
        threads: as for `estimate`.

    Raises:
        InputError: as `estimate`, and if flow is needed or masks have another shape.
    """
    check_pairs(first, second)
    if known is None and warp.matches != "tracks":
        raise InputError(f"flow: matches of the kind {warp.matches!r} need the flow")
    pairs: dict[int, Compensated] = {}

    def fill(index: int) -> None:
        corners = find_corners(first[index], usable[0][index], warp)
        if known is None or warp.matches == "tracks":
            matches = track_matches(first[index], second[index], corners)
        else:
            matches = flow_matches(corners, known[index])
        if warp.matches == "sift":
            similar = sift_matches(features[0][index], features[1][index])
            matches = np.concatenate([matches, similar], axis=1)
        matches = only_into(only_near(matches, warp.max_displacement), usable[1][index])
        pairs[index] = fit_and_warp(first[index], second[index], matches, warp)

    with one_opencv_thread():
        usable = _usable_pixels(first, second, mask)
        if warp.matches == "sift":
            features = each_image(first, second, usable, sift_features, threads)
        each_pair(fill, len(first), threads)
    return [pairs[index] for index in range(len(first))]


def _usable_pixels(first: Images, second: Images, mask: Mask | None) -> Usable:
    if mask is None:
        return [None] * len(first), [None] * len(second)
    for excluded in mask:
        if excluded.shape != first.shape:
            raise InputError(f"flow: the masks are {excluded.shape} and the images {first.shape}; they must be alike")
    usable, usable_after = (np.where(excluded, np.uint8(0), np.uint8(255)) for excluded in mask)
    return list(usable), list(usable_after)


def each_image(
    first: Images, second: Images, usable: Usable, look: Callable[[Image, Image | None], Found], threads: int
) -> tuple[list[Found], list[Found]]:
    """Call `look` with every image of a batch and its usable pixels, once for equal ones.

    In a video, the second image of a pair is the first of the next.
    """
    images = [*zip(first, usable[0], strict=True), *zip(second, usable[1], strict=True)]
    keys = [(image.tobytes(), None if pixels is None else pixels.tobytes()) for image, pixels in images]
    distinct = list(dict(zip(keys, images, strict=True)).items())
    found: dict[tuple[bytes, bytes | None], Found] = {}

    def fill(index: int) -> None:
        key, image = distinct[index]
        found[key] = look(*image)

    each_pair(fill, len(distinct), threads)
    results = [found[key] for key in keys]
    return results[: len(first)], results[len(first) :]
