"""Flow with the motion of the camera taken out ("warped flow").

A homography from `prev` to `next` stands for the motion of the camera. `next` is warped by it into the coordinates of
`prev`, and the flow from `prev` to that image is what moved by itself. People are excluded from the fit where a mask
says where they are; otherwise the robust fit is left to reject what does not move with the camera.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from atw.files import InputError
from atw.flow.camera import Compensated, Image, WarpParameters, fit_and_warp
from atw.flow.engine import estimate
from atw.flow.matches import (
    find_corners,
    flow_matches,
    only_into,
    only_near,
    sift_features,
    sift_matches,
    track_matches,
)
from atw.flow.opencv import one_opencv_thread
from atw.flow.pairs import FloatArray, Images, check_pairs, check_threads, each_pair

Excluded = NDArray[np.bool_] | NDArray[np.uint8]
# What of each image must not be matched, True or nonzero: a function of an image [H, W] that gives an array [H, W],
# called once an image, or those arrays themselves, of all of prev and of all of next, each [B, H, W].
Mask = Callable[[Image], Excluded] | tuple[Excluded, Excluded]
Seen = TypeVar("Seen")


def compensate(
    prev: Image,
    next: Image,  # noqa: A002 - as in `estimate`
    flow: FloatArray | None,
    *,
    settings: WarpParameters,
    mask: Mask | None = None,
) -> Compensated:
    """Take the motion of the camera between two images [H, W] out of the second.

    `flow` [2, H, W] in px is that between them; matches of the kind "tracks" do without, and it may be None. `mask` is
    as for `estimate_warped`; arrays are [H, W]. Deterministic.
    """
    if isinstance(mask, tuple):
        mask = (mask[0][None], mask[1][None])
    given = None if flow is None else flow[None]
    return compensate_batch(prev[None], next[None], given, settings=settings, mask=mask, threads=1)[0]


def estimate_warped(
    prev: Images,
    next: Images,  # noqa: A002 - as in `estimate`
    flow: FloatArray | None,
    *,
    warp: WarpParameters,
    mask: Mask | None = None,
    preset: str = "opencv4",
    backend: str = "auto",
    threads: int = 1,
    **overrides: Any,
) -> tuple[FloatArray, list[Compensated]]:
    """Flow with the camera's motion taken out, float32 [B, 2, H, W] in px, and each pair's `Compensated`.

    `flow` [B, 2, H, W] is that from `prev` to `next` [B, H, W]; it may come from a shard, where it is rounded, and be
    None for matches of the kind "tracks". Where the camera stands still the result is exactly what `estimate` gives.

    `mask` excludes people from the matches: a function of an image [H, W], or a pair of arrays [B, H, W] for `prev` and
    `next`, True or nonzero where pixels are excluded. With several threads the function is called from each.

    The other arguments, and the errors, are those of `estimate`; masks of another shape raise InputError as well.
    """
    pairs = compensate_batch(prev, next, flow, settings=warp, mask=mask, threads=threads)
    steady = np.stack([pair.warped for pair in pairs]) if pairs else next
    return estimate(prev, steady, preset=preset, backend=backend, threads=threads, **overrides), pairs


def compensate_batch(
    prev: Images,
    next_: Images,
    flow: FloatArray | None,
    *,
    settings: WarpParameters,
    mask: Mask | None,
    threads: int,
) -> list[Compensated]:
    """`compensate` for each pair of a batch [B, H, W], `threads` of them at a time."""
    check_pairs(prev, next_)
    check_flow(flow, prev, settings)
    check_threads(threads)
    pairs: dict[int, Compensated] = {}

    def fill(index: int) -> None:
        corners = find_corners(prev[index], usable[0][index], settings)
        if flow is None or settings.matches == "tracks":
            matches = track_matches(prev[index], next_[index], corners)
        else:
            matches = flow_matches(corners, flow[index])
        if settings.matches == "sift":
            similar = sift_matches(features[0][index], features[1][index])
            matches = np.concatenate([matches, similar], axis=1)
        matches = only_into(only_near(matches, settings.max_displacement), usable[1][index])
        pairs[index] = fit_and_warp(prev[index], next_[index], matches, settings)

    with one_opencv_thread():
        usable = usable_pixels(prev, next_, mask, threads)
        if settings.matches == "sift":
            features = each_image(prev, next_, usable, sift_features, threads)
        each_pair(fill, len(prev), threads)
    return [pairs[index] for index in range(len(prev))]


def check_flow(flow: FloatArray | None, images: Images, settings: WarpParameters) -> None:
    """Raise InputError unless `flow` is float32 [B, 2, H, W] for images [B, H, W], or None and not needed."""
    expected = (len(images), 2, *images.shape[1:])
    if flow is None and settings.matches != "tracks":
        raise InputError(f"flow: matches of the kind {settings.matches!r} need the flow; it must be float32 {expected}")
    if flow is not None and (flow.dtype != np.float32 or flow.shape != expected):
        raise InputError(f"flow: the given flow is {flow.dtype} {flow.shape}; it must be float32 {expected}, in px")


Usable = tuple[list[Image | None], list[Image | None]]


def usable_pixels(prev: Images, next_: Images, mask: Mask | None, threads: int) -> Usable:
    """What may be matched of each image of `prev` and of `next_`: uint8 [H, W], 255 or 0, or None for all of it."""
    unmasked: Usable = ([None] * len(prev), [None] * len(next_))
    if mask is None:
        return unmasked
    if callable(mask):
        of_image = mask
        return each_image(prev, next_, unmasked, lambda image, _: usable_of(of_image(image), image.shape), threads)
    for name, excluded, images in (("prev", mask[0], prev), ("next", mask[1], next_)):
        if len(excluded) != len(images):
            raise InputError(f"flow: there are {len(excluded)} masks for {len(images)} images of {name}; give as many")
    shape = prev.shape[1:]
    return [usable_of(excluded, shape) for excluded in mask[0]], [usable_of(excluded, shape) for excluded in mask[1]]


def usable_of(excluded: Excluded, shape: tuple[int, ...]) -> Image:
    """255 where a mask does not exclude a pixel, else 0. Raises InputError for a mask that is not that of the image."""
    if not isinstance(excluded, np.ndarray) or excluded.dtype not in (np.bool_, np.uint8) or excluded.shape != shape:
        found = f"{excluded.dtype} {excluded.shape}" if isinstance(excluded, np.ndarray) else type(excluded).__name__
        raise InputError(f"flow: a mask is {found}; it must be bool or uint8 {shape}, True where pixels are excluded")
    return np.where(excluded, np.uint8(0), np.uint8(255))


def each_image(
    prev: Images, next_: Images, usable: Usable, look: Callable[[Image, Image | None], Seen], threads: int
) -> tuple[list[Seen], list[Seen]]:
    """`look` at all images of a batch [B, H, W] with their masks; one that is next and then prev is looked at once."""

    def comes_again(index: int) -> bool:
        again = index + 1 < len(prev) and np.array_equal(next_[index], prev[index + 1])
        return again and same_pixels(usable[1][index], usable[0][index + 1])

    shared = [comes_again(index) for index in range(len(prev))]
    images = [*zip(prev, usable[0], strict=True)]
    images += [pair for pair, again in zip(zip(next_, usable[1], strict=True), shared, strict=True) if not again]
    seen: dict[int, Seen] = {}

    def fill(index: int) -> None:
        seen[index] = look(*images[index])

    each_pair(fill, len(images), threads)
    others = iter(range(len(prev), len(images)))
    after = [seen[index + 1] if shared[index] else seen[next(others)] for index in range(len(prev))]
    return [seen[index] for index in range(len(prev))], after


def same_pixels(usable: Image | None, other: Image | None) -> bool:
    """Whether two masks, or none, let the same pixels be matched."""
    if usable is None or other is None:
        return usable is other
    return np.array_equal(usable, other)
