"""Flow with the motion of the camera taken out ("warped flow").

A homography from `prev` to `next`, fitted to descriptor matches and to corners displaced by the flow, stands for the
motion of the camera. `next` is warped by it into the coordinates of `prev`, and the flow from `prev` to that image is
what moved by itself. People are not masked when fitting; RANSAC is left to reject what does not move with the camera.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from atw.files import InputError
from atw.flow.engine import estimate
from atw.flow.opencv import one_opencv_thread
from atw.flow.pairs import FloatArray, check_pairs, check_threads, each_pair
from atw.flow.parameters import check_ranges

DESCRIPTORS = ("sift", "none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class WarpParameters:
    """How the camera's motion is found; the defaults are those of the tool behind the published flow.

    `descriptors` are "sift" or "none"; matches may move by up to `max_displacement` px in x and in y. Up to `corners`
    corners, at least `distance` px apart and of at least `quality` times the best one's strength, are displaced by the
    flow. With more than `min_matches` of both together a homography is fitted by RANSAC, `threshold` px from which a
    match counts as an inlier; with more than `min_inliers` it is accepted. Pixels whose source lies outside the image
    or within `border` px of its edge are not warped.
    """

    descriptors: str = "sift"
    max_displacement: float = 25.0
    corners: int = 1000
    quality: float = 0.001
    distance: float = 3.0
    min_matches: int = 50
    min_inliers: int = 25
    threshold: float = 1.0
    border: int = 5

    def __post_init__(self) -> None:
        if self.descriptors not in DESCRIPTORS:
            allowed = ", ".join(DESCRIPTORS)
            raise InputError(f"warp parameter descriptors is {self.descriptors!r}; choose one of {allowed}")
        check_ranges(self, _RANGES, "warp")


_RANGES: Mapping[str, tuple[float, float]] = {
    "max_displacement": (1.0, 1000.0),
    "corners": (0, 100_000),
    "quality": (1e-6, 1.0),
    "distance": (0.0, 1000.0),
    "min_matches": (3, 100_000),
    "min_inliers": (3, 100_000),
    "threshold": (0.01, 100.0),
    "border": (0, 1000),
}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Compensated:
    """A pair's second image in the coordinates of the first, and how it came about.

    `warped` is uint8 [H, W]. `homography`, float64 [3, 3], takes points (x, y, 1) of the first image to the second; if
    it was not `accepted` it is the identity and `warped` the second image itself. `residual_px` is the inliers' mean
    distance from where the homography puts them, NaN if none was fitted.
    """

    warped: NDArray[np.uint8]
    homography: NDArray[np.float64]
    matches: int
    inliers: int
    accepted: bool
    residual_px: float


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """SIFT points of an image, float32 [N, 2] (px, x before y), and their descriptors, float32 [N, 128]."""

    points: FloatArray
    descriptors: FloatArray


def compensate(
    prev: NDArray[np.uint8],
    next: NDArray[np.uint8],  # noqa: A002 - as in `estimate`
    flow: FloatArray,
    *,
    settings: WarpParameters,
) -> Compensated:
    """Take the motion of the camera between two images [H, W] out of the second, given their flow [2, H, W] in px.

    Deterministic: OpenCV seeds its RANSAC with a constant.
    """
    return compensate_batch(prev[None], next[None], flow[None], settings, threads=1)[0]


def estimate_warped(
    prev: NDArray[np.uint8],
    next: NDArray[np.uint8],  # noqa: A002 - as in `estimate`
    flow: FloatArray,
    *,
    warp: WarpParameters,
    preset: str = "opencv4",
    backend: str = "auto",
    threads: int = 1,
    **overrides: Any,
) -> tuple[FloatArray, list[Compensated]]:
    """Flow with the camera's motion taken out, float32 [B, 2, H, W] in px, and each pair's `Compensated`.

    `flow` [B, 2, H, W] is that from `prev` to `next` [B, H, W]; it may come from a shard, where it is rounded. The
    other arguments, and the errors, are those of `estimate`. Where consecutive pairs share an image its descriptors
    are found only once, so whole videos are cheaper than scattered pairs.
    """
    pairs = compensate_batch(prev, next, flow, warp, threads)
    steady = np.stack([pair.warped for pair in pairs]) if pairs else next
    return estimate(prev, steady, preset=preset, backend=backend, threads=threads, **overrides), pairs


def compensate_batch(
    prev: NDArray[np.uint8], next_: NDArray[np.uint8], flow: FloatArray, settings: WarpParameters, threads: int
) -> list[Compensated]:
    """`compensate` for each pair of a batch, `threads` of them at a time."""
    check_pairs(prev, next_)
    check_flow(flow, prev)
    check_threads(threads)
    pairs: dict[int, Compensated] = {}

    def fill(index: int) -> None:
        matches = corner_matches(prev[index], flow[index], settings)
        if settings.descriptors == "sift":
            similar = descriptor_matches(before[index], after[index], settings.max_displacement)
            matches = np.concatenate([matches, similar], axis=1)
        pairs[index] = fit_and_warp(prev[index], next_[index], matches, settings)

    with one_opencv_thread():
        if settings.descriptors == "sift":
            before, after = find_features(prev, next_, threads)
        each_pair(fill, len(prev), threads)
    return [pairs[index] for index in range(len(prev))]


def check_flow(flow: FloatArray, images: NDArray[np.uint8]) -> None:
    """Raise InputError unless `flow` is float32 [B, 2, H, W] for images [B, H, W]."""
    expected = (len(images), 2, *images.shape[1:])
    if flow.dtype != np.float32 or flow.shape != expected:
        raise InputError(f"flow: the given flow is {flow.dtype} {flow.shape}; it must be float32 {expected}, in px")


def fit_and_warp(
    prev: NDArray[np.uint8], next_: NDArray[np.uint8], matches: FloatArray, settings: WarpParameters
) -> Compensated:
    """Fit a homography to `matches` [2, M, 2] and, if it is good enough, warp `next_` by it."""
    sources, targets = matches
    fitted, inliers, residual_px = None, 0, float("nan")
    if len(sources) > settings.min_matches:
        fitted, mask = cv2.findHomography(sources, targets, cv2.RANSAC, settings.threshold)
        kept = np.zeros(len(sources), bool) if fitted is None else mask.ravel() > 0
        inliers = int(kept.sum())
        if inliers > 0:
            misses = cv2.perspectiveTransform(sources[kept, None], fitted)[:, 0] - targets[kept]
            residual_px = float(np.hypot(misses[:, 0], misses[:, 1]).mean())
    accepted = inliers > settings.min_inliers
    homography = np.asarray(fitted, np.float64) if accepted else np.eye(3)
    return Compensated(
        warped=warp_back(prev, next_, homography, settings.border) if accepted else next_,
        homography=homography,
        matches=len(sources),
        inliers=inliers,
        accepted=accepted,
        residual_px=residual_px,
    )


def corner_matches(prev: NDArray[np.uint8], flow: FloatArray, settings: WarpParameters) -> FloatArray:
    """Corners of `prev` and where the flow takes them: float32 [2, M, 2], px, x before y."""
    corners = None
    if settings.corners > 0:
        corners = cv2.goodFeaturesToTrack(prev, settings.corners, settings.quality, settings.distance)
    if corners is None:
        return np.empty((2, 0, 2), np.float32)
    points = corners.reshape(-1, 2).astype(np.float32)
    columns, rows = points.astype(np.int64).T
    return np.stack([points, points + flow[:, rows, columns].T])


def find_features(
    prev: NDArray[np.uint8], next_: NDArray[np.uint8], threads: int
) -> tuple[list[Features], list[Features]]:
    """`sift_features` of both sides of a batch [B, H, W]; an image that is next and then prev is looked at once."""
    last = len(prev) - 1
    shared = [index < last and np.array_equal(next_[index], prev[index + 1]) for index in range(len(prev))]
    images = [*prev, *(next_[index] for index in range(len(prev)) if not shared[index])]
    found: dict[int, Features] = {}

    def fill(index: int) -> None:
        found[index] = sift_features(images[index])

    each_pair(fill, len(images), threads)
    before = [found[index] for index in range(len(prev))]
    others = iter(range(len(prev), len(images)))
    after = [before[index + 1] if shared[index] else found[next(others)] for index in range(len(prev))]
    return before, after


def sift_features(image: NDArray[np.uint8]) -> Features:
    """Find the SIFT points of an image [H, W]."""
    cv: Any = cv2
    keypoints, descriptors = cv.SIFT_create().detectAndCompute(image, None)
    if not keypoints:
        return Features(np.empty((0, 2), np.float32), np.empty((0, 128), np.float32))
    return Features(cv.KeyPoint.convert(keypoints), descriptors)


def descriptor_matches(prev: Features, next_: Features, max_displacement_px: float) -> FloatArray:
    """Points of one image and the most similar nearby one of the other: float32 [2, M, 2], px, x before y."""
    if not len(prev.points) or not len(next_.points):
        return np.empty((2, 0, 2), np.float32)
    near = (np.abs(prev.points[:, None] - next_.points[None]) <= max_displacement_px).all(axis=2)  # [N, N']
    found = cv2.BFMatcher(cv2.NORM_L2).match(prev.descriptors, next_.descriptors, near.astype(np.uint8))
    sources = prev.points[[match.queryIdx for match in found]]
    return np.stack([sources, next_.points[[match.trainIdx for match in found]]])


def warp_back(
    prev: NDArray[np.uint8], next_: NDArray[np.uint8], homography: NDArray[np.float64], border_px: int
) -> NDArray[np.uint8]:
    """`next_` in the coordinates of `prev`, bilinear; `prev` itself where the source is near the edge or outside."""
    height, width = prev.shape
    inner = np.zeros_like(prev)
    inner[border_px : height - border_px, border_px : width - border_px] = 1
    size = (width, height)
    warped = cv2.warpPerspective(next_, homography, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    known = cv2.warpPerspective(inner, homography, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    return np.where(known > 0, warped, prev).astype(np.uint8, copy=False)
