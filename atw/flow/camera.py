"""Match points of two images and fit the camera's motion to them: a homography.

Matches are float32 [2, M, 2]: M points of the first image, then where they are in the second, in px, x before y.
Usable pixels are uint8 [H, W], 255 where an image may be matched, as OpenCV takes masks, or None for all of it.
"""

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from atw.config import Warp
from atw.flow.pairs import FloatArray

Image = NDArray[np.uint8]
Homography = NDArray[np.float64]

METHODS: Mapping[str, int] = MappingProxyType(
    {
        "usac_fast": cv2.USAC_FAST,
        "usac_default": cv2.USAC_DEFAULT,
        "usac_accurate": cv2.USAC_ACCURATE,
        "usac_prosac": cv2.USAC_PROSAC,
        "usac_magsac": cv2.USAC_MAGSAC,
        "ransac": cv2.RANSAC,
        "lmeds": cv2.LMEDS,
    }
)
_SMALLEST_SCALE, _LARGEST_SCALE = 0.25, 4.0
_WINDOW_PX = 15
_LEVELS_ABOVE_THE_FIRST = 3
# 30 steps, until one is below .01 px, take a quarter longer, and the homography is no better.
_TRACK_UNTIL = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 10, 0.03)


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """SIFT points of an image, float32 [N, 2] (px, x before y), and their descriptors, float32 [N, 128]."""

    points: FloatArray
    descriptors: FloatArray


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Compensated:
    """A pair's second image in the coordinates of the first, and how it came about.

    `warped` is uint8 [H, W]. `homography`, float64 [3, 3], takes points (x, y, 1) of the first image to the second. If
    none was `accepted`, or the camera stands `still`, it is the identity and `warped` the second image itself.
    `residual_px` is the inliers' mean distance from where the fitted homography puts them, NaN without inliers.
    """

    warped: Image
    homography: Homography
    matches: int
    inliers: int
    accepted: bool
    still: bool
    residual_px: float


def find_corners(image: Image, usable: Image | None, warp: Warp) -> FloatArray:
    """Return the strongest corners (Shi-Tomasi) of an image [H, W], strongest first: float32 [M, 2], px, x before y."""
    corners = cv2.goodFeaturesToTrack(image, warp.corners, warp.quality, warp.distance, mask=usable)
    return np.empty((0, 2), np.float32) if corners is None else corners.reshape(-1, 2).astype(np.float32)


def track_matches(first: Image, second: Image, corners: FloatArray) -> FloatArray:
    """Match those corners [M, 2] of `first` that pyramidal Lucas-Kanade finds in `second`."""
    if not len(corners):
        return np.empty((2, 0, 2), np.float32)
    targets, found, _ = cv2.calcOpticalFlowPyrLK(
        first,
        second,
        corners[:, None],
        None,
        winSize=(_WINDOW_PX, _WINDOW_PX),
        maxLevel=_LEVELS_ABOVE_THE_FIRST,
        criteria=_TRACK_UNTIL,
    )
    kept = found.ravel() > 0
    return np.stack([corners[kept], targets.reshape(-1, 2)[kept]])


def flow_matches(corners: FloatArray, flow: FloatArray) -> FloatArray:
    """Match corners [M, 2] with the points to which the flow [2, H, W] takes them."""
    columns, rows = corners.astype(np.int64).T
    return np.stack([corners, corners + flow[:, rows, columns].T])


def sift_features(image: Image, usable: Image | None) -> Features:
    """Find the SIFT points of an image [H, W]."""
    keypoints, descriptors = cv2.SIFT_create().detectAndCompute(image, usable)  # type: ignore[attr-defined]
    if not keypoints:
        return Features(np.empty((0, 2), np.float32), np.empty((0, 128), np.float32))
    return Features(np.asarray(cv2.KeyPoint.convert(keypoints), np.float32), descriptors)


def sift_matches(first: Features, second: Features) -> FloatArray:
    """Match points of two images that are each other's most similar one."""
    if not len(first.points) or not len(second.points):
        return np.empty((2, 0, 2), np.float32)
    found = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(first.descriptors, second.descriptors)
    sources = first.points[[match.queryIdx for match in found]]
    return np.stack([sources, second.points[[match.trainIdx for match in found]]])


def only_near(matches: FloatArray, max_displacement_px: float) -> FloatArray:
    """Keep the matches whose points are at most so far apart in x and in y."""
    kept: NDArray[np.bool_] = (np.abs(matches[0] - matches[1]) <= max_displacement_px).all(axis=1)
    return matches[:, kept]


def only_into(matches: FloatArray, usable: Image | None) -> FloatArray:
    """Keep the matches whose second point lies on a usable pixel of the second image, or outside of it."""
    if usable is None:
        return matches
    height, width = usable.shape
    columns, rows = np.rint(matches[1]).astype(np.int64).T
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    kept = ~inside
    kept[inside] = usable[rows[inside], columns[inside]] > 0
    return matches[:, kept]


def fit_and_warp(first: Image, second: Image, matches: FloatArray, warp: Warp) -> Compensated:
    """Fit a homography to matches, and warp `second` by it if it is accepted and the camera moved."""
    height, width = first.shape
    fitted, inliers, residual_px = None, 0, math.nan
    if matches.shape[1] > warp.min_matches:
        fitted = fit_homography(matches, warp)
    if fitted is not None:
        misses = distances(matches, fitted)
        kept = misses <= warp.threshold
        inliers = int(kept.sum())
        residual_px = float(misses[kept].mean()) if inliers else math.nan
    homography, accepted, still = np.eye(3), False, False
    if fitted is not None and inliers > warp.min_inliers and plausible(fitted, height, width):
        accepted = True
        still = corner_motion(fitted, height, width) <= warp.still
        homography = np.eye(3) if still else fitted
    return Compensated(
        warped=warp_back(first, second, homography, warp.border) if accepted and not still else second,
        homography=homography,
        matches=matches.shape[1],
        inliers=inliers,
        accepted=accepted,
        still=still,
        residual_px=residual_px,
    )


def fit_homography(matches: FloatArray, warp: Warp) -> Homography | None:
    """Return the homography that most of the matches follow, None if they determine none.

    Deterministic: OpenCV seeds its sampling with a constant. The last step is a least-squares fit to the matches within
    half the threshold, so that points which move almost with the camera no longer pull.
    """
    sources, targets = matches
    fitted, _ = cv2.findHomography(sources, targets, METHODS[warp.method], warp.threshold)
    if fitted is None:
        return None
    close = distances(matches, fitted) <= warp.threshold / 2
    if close.sum() > warp.min_inliers:
        refined, _ = cv2.findHomography(sources[close], targets[close], 0)
        if refined is not None:
            fitted = refined
    return np.asarray(fitted, np.float64) if np.isfinite(fitted).all() else None


def distances(matches: FloatArray, homography: Homography) -> NDArray[np.float64]:
    """Return the distance (px) of each second point from where the homography takes the first: [M]."""
    sources, targets = matches.astype(np.float64)
    misses = transform(sources, homography) - targets
    return np.asarray(np.hypot(misses[:, 0], misses[:, 1]), np.float64)


def transform(points: NDArray[np.float64], homography: Homography) -> NDArray[np.float64]:
    """Move points [M, 2] (x, y) by the homography, float64 [M, 2]."""
    moved = cv2.perspectiveTransform(points[:, None].astype(np.float64), homography)
    return np.asarray(moved[:, 0], np.float64)


def image_corners(height: int, width: int) -> NDArray[np.float64]:
    """Return the centres of the four corner pixels in their order around the image: [4, 2], x before y."""
    return np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float64)


def corner_motion(homography: Homography, height: int, width: int) -> float:
    """Return the largest displacement (px) of a corner of the image, where small motions are largest."""
    corners = image_corners(height, width)
    return float(np.hypot(*(transform(corners, homography) - corners).T).max())


def plausible(homography: Homography, height: int, width: int) -> bool:
    """Whether a camera can have moved like this between two frames.

    It cannot send a part of the image to infinity, mirror or fold it, or change the area of any part to less than a
    quarter or more than four times.
    """
    if homography[2, 2] == 0:
        return False
    scaled = homography / homography[2, 2]
    # The depth is affine in x and y, so it is extreme at corners, and so is det / depth^3, the Jacobian's determinant.
    depths = scaled[2] @ np.c_[image_corners(height, width), np.ones(4)].T
    if not (depths > 0).all():
        return False
    scales = np.linalg.det(scaled) / depths**3
    return bool((scales > _SMALLEST_SCALE).all() and (scales < _LARGEST_SCALE).all())


def warp_back(first: Image, second: Image, homography: Homography, border_px: int) -> Image:
    """Return `second` in the coordinates of `first`, bilinear; `first` where the source is near or over the edge."""
    height, width = first.shape
    inner = np.zeros_like(first)
    inner[border_px : height - border_px, border_px : width - border_px] = 1
    size = (width, height)
    warped = cv2.warpPerspective(second, homography, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    known = cv2.warpPerspective(inner, homography, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    return np.where(known > 0, warped, first).astype(np.uint8, copy=False)
