"""Flow with the motion of the camera taken out ("warped flow").

A homography from the first image of a pair to the second stands for the motion of the camera. The second image is
warped back by it, and the flow from the first image to the result is what moved by itself. Masks keep people out of the
fit; without masks the robust fit has to reject what does not move with the camera.
"""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from atw.config import Flow, Warp
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
from atw.flow.engine import estimate, one_opencv_thread
from atw.flow.pairs import FloatArray, Images, check_pairs, each_pair

Excluded = NDArray[np.bool_] | NDArray[np.uint8]
# Pixels that must not be matched, True or nonzero: a function from an image [H, W] to an array [H, W], called once per
# image, or those arrays [B, H, W] of all first and of all second images.
Mask = Callable[[Image], Excluded] | tuple[Excluded, Excluded]
Usable = tuple[list[Image | None], list[Image | None]]
Found = TypeVar("Found")


def estimate_warped(
    first: Images,
    second: Images,
    known: FloatArray | None,
    flow: Flow,
    warp: Warp,
    *,
    mask: Mask | None = None,
    threads: int = 1,
) -> tuple[FloatArray, list[Compensated]]:
    """Compute flow without the camera's motion, float32 [B, 2, H, W] in px, and each pair's `Compensated`.

    Where the camera stands still the flow is exactly that of `estimate`.

    Args:
        first: the first images, as for `estimate`.
        second: the second images, as for `estimate`.
        known: the plain flow [B, 2, H, W] in px, computed or read from a shard. It may be None for matches of the kind
            "tracks", which do not use it.
        flow: how to compute the flow.
        warp: how to find the camera's motion; its folder of masks is not read here.
        mask: excludes people from the matches; a function is called from each thread.
        threads: as for `estimate`.

    Raises:
        InputError: as `estimate`, and for masks or flow of another shape.
    """
    pairs = compensate(first, second, known, warp, mask=mask, threads=threads)
    return estimate(first, steady(pairs, second), flow, threads=threads), pairs


def steady(pairs: list[Compensated], second: Images) -> Images:
    """Return the second images [B, H, W] of a batch with the camera's motion taken out."""
    return np.stack([pair.warped for pair in pairs]) if pairs else second


def compensate(
    first: Images, second: Images, known: FloatArray | None, warp: Warp, *, mask: Mask | None = None, threads: int = 1
) -> list[Compensated]:
    """Take the motion of the camera out of each second image of a batch; arguments as for `estimate_warped`."""
    check_pairs(first, second)
    _check_flow(known, first, warp)
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
        usable = _usable_pixels(first, second, mask, threads)
        if warp.matches == "sift":
            features = each_image(first, second, usable, sift_features, threads)
        each_pair(fill, len(first), threads)
    return [pairs[index] for index in range(len(first))]


def _check_flow(known: FloatArray | None, images: Images, warp: Warp) -> None:
    expected = (len(images), 2, *images.shape[1:])
    if known is None and warp.matches != "tracks":
        raise InputError(f"flow: matches of the kind {warp.matches!r} need the flow; it must be float32 {expected}")
    if known is not None and (known.dtype != np.float32 or known.shape != expected):
        raise InputError(f"flow: the given flow is {known.dtype} {known.shape}; it must be float32 {expected}, in px")


def _usable_pixels(first: Images, second: Images, mask: Mask | None, threads: int) -> Usable:
    unmasked: Usable = ([None] * len(first), [None] * len(second))
    if mask is None:
        return unmasked
    if callable(mask):
        function = mask
        return each_image(first, second, unmasked, lambda image, _: _invert(function(image), image.shape), threads)
    for name, excluded, images in (("first", mask[0], first), ("second", mask[1], second)):
        if len(excluded) != len(images):
            raise InputError(f"flow: there are {len(excluded)} masks for {len(images)} {name} images; give as many")
    shape = first.shape[1:]
    return [_invert(excluded, shape) for excluded in mask[0]], [_invert(excluded, shape) for excluded in mask[1]]


def _invert(excluded: Excluded, shape: tuple[int, ...]) -> Image:
    if not isinstance(excluded, np.ndarray) or excluded.dtype not in (np.bool_, np.uint8) or excluded.shape != shape:
        found = f"{excluded.dtype} {excluded.shape}" if isinstance(excluded, np.ndarray) else type(excluded).__name__
        raise InputError(f"flow: a mask is {found}; it must be bool or uint8 {shape}, True where pixels are excluded")
    return np.where(excluded, np.uint8(0), np.uint8(255))


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
