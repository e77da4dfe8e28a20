"""Points of one image and where they are in the next: what a homography is fitted to.

A set of matches is float32 [2, M, 2]: points of the first image, then of the second, in px, x before y. Masks are uint8
[H, W], 255 where an image may be used, as OpenCV takes them, or None where all of it may.
"""

import dataclasses

import cv2
import numpy as np
from numpy.typing import NDArray

from atw.flow.camera import Image, WarpParameters
from atw.flow.pairs import FloatArray

_WINDOW_PX = 15
_LEVELS_ABOVE_THE_FIRST = 3
# 30 steps, until one is below .01 px, take a quarter longer, and the homography is no better.
_TRACK_UNTIL = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 10, 0.03)


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """SIFT points of an image, float32 [N, 2] (px, x before y), and their descriptors, float32 [N, 128]."""

    points: FloatArray
    descriptors: FloatArray


def find_corners(image: Image, usable: Image | None, settings: WarpParameters) -> FloatArray:
    """The strongest corners (Shi-Tomasi) of an image [H, W], strongest first: float32 [M, 2], px, x before y."""
    corners = None
    if settings.corners > 0:
        corners = cv2.goodFeaturesToTrack(image, settings.corners, settings.quality, settings.distance, mask=usable)
    return np.empty((0, 2), np.float32) if corners is None else corners.reshape(-1, 2).astype(np.float32)


def track_matches(prev: Image, next_: Image, corners: FloatArray) -> FloatArray:
    """Corners [M, 2] of `prev` that pyramidal Lucas-Kanade finds again in `next_`, and where."""
    if not len(corners):
        return np.empty((2, 0, 2), np.float32)
    targets, found, _ = cv2.calcOpticalFlowPyrLK(
        prev,
        next_,
        corners[:, None],
        None,
        winSize=(_WINDOW_PX, _WINDOW_PX),
        maxLevel=_LEVELS_ABOVE_THE_FIRST,
        criteria=_TRACK_UNTIL,
    )
    kept = found.ravel() > 0
    return np.stack([corners[kept], targets.reshape(-1, 2)[kept]])


def flow_matches(corners: FloatArray, flow: FloatArray) -> FloatArray:
    """Corners [M, 2] and where the flow [2, H, W] takes them."""
    columns, rows = corners.astype(np.int64).T
    return np.stack([corners, corners + flow[:, rows, columns].T])


def sift_features(image: Image, usable: Image | None) -> Features:
    """The SIFT points of an image [H, W]."""
    keypoints, descriptors = cv2.SIFT_create().detectAndCompute(image, usable)  # type: ignore[attr-defined]
    if not keypoints:
        return Features(np.empty((0, 2), np.float32), np.empty((0, 128), np.float32))
    return Features(np.asarray(cv2.KeyPoint.convert(keypoints), np.float32), descriptors)


def sift_matches(prev: Features, next_: Features) -> FloatArray:
    """Points of two images that are each other's most similar one."""
    if not len(prev.points) or not len(next_.points):
        return np.empty((2, 0, 2), np.float32)
    found = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(prev.descriptors, next_.descriptors)
    sources = prev.points[[match.queryIdx for match in found]]
    return np.stack([sources, next_.points[[match.trainIdx for match in found]]])


def only_near(matches: FloatArray, max_displacement_px: float) -> FloatArray:
    """The matches whose points are at most so far apart in x and in y."""
    kept: NDArray[np.bool_] = (np.abs(matches[0] - matches[1]) <= max_displacement_px).all(axis=1)
    return matches[:, kept]


def only_into(matches: FloatArray, usable: Image | None) -> FloatArray:
    """The matches whose second point lies on a usable pixel of the second image, or outside of it."""
    if usable is None:
        return matches
    height, width = usable.shape
    columns, rows = np.rint(matches[1]).astype(np.int64).T
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    kept = ~inside
    kept[inside] = usable[rows[inside], columns[inside]] > 0
    return matches[:, kept]
