"""Ways to find matches between two images that the package does not have, beside those that it has."""

from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np

from atw.config import Warp
from atw.flow.camera import Image, find_corners, flow_matches, track_matches
from atw.flow.pairs import FloatArray

Described = tuple[Any, Any]
_KEYPOINT_PX = 31.0


class Descriptor(NamedTuple):
    """`describe` gives keypoints and descriptors of an image, compared by `norm`."""

    norm: int
    describe: Callable[[Image], Described]


def of(finder: Any, norm: int = cv2.NORM_HAMMING) -> Descriptor:
    """A method that finds and describes in one."""
    return Descriptor(norm, lambda image: finder.detectAndCompute(image, None))


def corners_described(describer: Any) -> Descriptor:
    """Up to 500 corners, at least 5 px apart, described by a method that finds none itself."""

    def describe(image: Image) -> Described:
        corners = find_corners(image, None, Warp(corners=500, distance=5.0))
        keypoints = [cv2.KeyPoint(float(x), float(y), _KEYPOINT_PX) for x, y in corners]
        return describer.compute(image, keypoints)

    return Descriptor(cv2.NORM_HAMMING, describe)


def fast_described(describer: Any) -> Descriptor:
    """The 500 strongest FAST points, described by a method that finds none itself."""
    finder = cv2.FastFeatureDetector.create(10)

    def describe(image: Image) -> Described:
        strongest = sorted(finder.detect(image), key=lambda point: -point.response)[:500]
        return describer.compute(image, strongest)

    return Descriptor(cv2.NORM_HAMMING, describe)


def descriptors() -> dict[str, Descriptor]:
    """Every free descriptor of OpenCV that is worth a try, by name."""
    cv: Any = cv2
    extra = cv.xfeatures2d
    return {
        "SIFT": of(cv.SIFT_create(), cv2.NORM_L2),
        "SIFT, 300 points": of(cv.SIFT_create(300), cv2.NORM_L2),
        "SIFT, 300 points, 1 layer": of(cv.SIFT_create(300, nOctaveLayers=1), cv2.NORM_L2),
        "ORB, 500 points": of(cv.ORB_create(500, fastThreshold=7)),
        "ORB, 500 points, 1 level": of(cv.ORB_create(500, nlevels=1, fastThreshold=7)),
        "ORB, 1000 points": of(cv.ORB_create(1000, fastThreshold=7)),
        "BRISK": of(cv.BRISK_create(40)),
        "AKAZE": of(cv.AKAZE_create()),
        "KAZE": of(cv.KAZE_create(), cv2.NORM_L2),
        "corners + BRIEF": corners_described(extra.BriefDescriptorExtractor_create(32)),
        "corners + FREAK": corners_described(extra.FREAK_create(False, False)),
        "corners + LATCH": corners_described(extra.LATCH_create(32, False)),
        "corners + BEBLID": corners_described(extra.BEBLID_create(5.0, extra.BEBLID_SIZE_256_BITS)),
        "corners + TEBLID": corners_described(extra.TEBLID_create(5.0, extra.TEBLID_SIZE_256_BITS)),
        "FAST + BRIEF": fast_described(extra.BriefDescriptorExtractor_create(32)),
        "FAST + TEBLID": fast_described(extra.TEBLID_create(5.0, extra.TEBLID_SIZE_256_BITS)),
    }


def mutual(norm: int, before: Described, after: Described) -> FloatArray:
    """Matches [2, M, 2] of points that are each other's most similar one."""
    if before[1] is None or after[1] is None:
        return np.empty((2, 0, 2), np.float32)
    found = cv2.BFMatcher(norm, crossCheck=True).match(before[1], after[1])
    points = [
        np.asarray(cv2.KeyPoint.convert(described[0]), np.float32).reshape(-1, 2) for described in (before, after)
    ]
    sources = points[0][[match.queryIdx for match in found]]
    return np.stack([sources, points[1][[match.trainIdx for match in found]]])


def tracked(first: Image, second: Image, settings: Warp) -> FloatArray:
    """Corners and where they are found again, as `matches: tracks` has it."""
    return track_matches(first, second, find_corners(first, None, settings))


def displaced(first: Image, flow: FloatArray, settings: Warp) -> FloatArray:
    """Corners displaced by the flow [2, H, W], as `matches: flow` has it."""
    return flow_matches(find_corners(first, None, settings), flow)
