"""The motion of the camera between two images as a homography: its settings, how it is fitted, when it is believed."""

import dataclasses
import math
from collections.abc import Mapping
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from atw.files import InputError
from atw.flow.pairs import FloatArray
from atw.flow.parameters import check_ranges

Image = NDArray[np.uint8]
Homography = NDArray[np.float64]

MATCHES = ("tracks", "flow", "sift")
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class WarpParameters:
    """How the camera's motion is found; docs/decisions.md has the measurements behind the defaults.

    `matches` says what the homography is fitted to: "tracks", corners of the first image tracked to the second;
    "flow", the corners displaced by the flow; "sift", those and SIFT matches, which is what the tool behind the
    published flow meant to do. Matches further apart than `max_displacement` px in x or in y are dropped. There are up
    to `corners` corners, at least `distance` px apart and of at least `quality` times the best one's strength.

    With more than `min_matches` a homography is fitted by `method`, a match counting as an inlier up to `threshold` px;
    with more than `min_inliers` it is accepted. One that moves no corner of the image by more than `still` px is noise:
    the camera stands still. Pixels whose source is outside the image or within `border` px of its edge are not warped.
    """

    matches: str = "tracks"
    max_displacement: float = 50.0
    corners: int = 1000
    quality: float = 0.001
    distance: float = 12.0
    min_matches: int = 50
    min_inliers: int = 25
    method: str = "usac_fast"
    threshold: float = 1.0
    still: float = 0.25
    border: int = 5

    def __post_init__(self) -> None:
        for name, allowed in (("matches", MATCHES), ("method", tuple(METHODS))):
            value = getattr(self, name)
            if value not in allowed:
                raise InputError(f"warp parameter {name} is {value!r}; choose one of {', '.join(allowed)}")
        check_ranges(self, _RANGES, "warp")


_RANGES: Mapping[str, tuple[float, float]] = {
    "max_displacement": (1.0, 1000.0),
    "corners": (0, 100_000),
    "quality": (1e-6, 1.0),
    "distance": (0.0, 1000.0),
    "min_matches": (3, 100_000),
    "min_inliers": (3, 100_000),
    "threshold": (0.01, 100.0),
    "still": (0.0, 100.0),
    "border": (0, 1000),
}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Compensated:
    """A pair's second image in the coordinates of the first, and how it came about.

    `warped` is uint8 [H, W]. `homography`, float64 [3, 3], takes points (x, y, 1) of the first image to the second. If
    none was `accepted`, and where the camera stands `still`, it is the identity and `warped` the second image itself.
    `residual_px` is the inliers' mean distance from where the fitted homography puts them, NaN without inliers.
    """

    warped: Image
    homography: Homography
    matches: int
    inliers: int
    accepted: bool
    still: bool
    residual_px: float


def fit_and_warp(prev: Image, next_: Image, matches: FloatArray, settings: WarpParameters) -> Compensated:
    """Fit a homography to `matches` [2, M, 2] and, if it is good enough and no noise, warp `next_` by it."""
    height, width = prev.shape
    fitted, inliers, residual_px = None, 0, math.nan
    if matches.shape[1] > settings.min_matches:
        fitted = fit_homography(matches, settings)
    if fitted is not None:
        misses = distances(matches, fitted)
        kept = misses <= settings.threshold
        inliers = int(kept.sum())
        residual_px = float(misses[kept].mean()) if inliers else math.nan
    homography, accepted, still = np.eye(3), False, False
    if fitted is not None and inliers > settings.min_inliers and plausible(fitted, height, width):
        accepted = True
        still = corner_motion(fitted, height, width) <= settings.still
        homography = np.eye(3) if still else fitted
    return Compensated(
        warped=warp_back(prev, next_, homography, settings.border) if accepted and not still else next_,
        homography=homography,
        matches=matches.shape[1],
        inliers=inliers,
        accepted=accepted,
        still=still,
        residual_px=residual_px,
    )


def fit_homography(matches: FloatArray, settings: WarpParameters) -> Homography | None:
    """The homography that most of the matches [2, M, 2] follow, None if they determine none.

    Deterministic: OpenCV seeds its sampling with a constant. The last step is a least-squares fit to the matches within
    half the threshold, where what moves almost with the camera no longer pulls.
    """
    sources, targets = matches
    fitted, _ = cv2.findHomography(sources, targets, METHODS[settings.method], settings.threshold)
    if fitted is None:
        return None
    close = distances(matches, fitted) <= settings.threshold / 2
    if close.sum() > settings.min_inliers:
        refined, _ = cv2.findHomography(sources[close], targets[close], 0)
        if refined is not None:
            fitted = refined
    return np.asarray(fitted, np.float64) if np.isfinite(fitted).all() else None


def distances(matches: FloatArray, homography: Homography) -> NDArray[np.float64]:
    """How far (px) the second points of matches [2, M, 2] are from where the homography takes the first: [M]."""
    sources, targets = matches.astype(np.float64)
    misses = transform(sources, homography) - targets
    return np.asarray(np.hypot(misses[:, 0], misses[:, 1]), np.float64)


def transform(points: NDArray[np.float64], homography: Homography) -> NDArray[np.float64]:
    """Points [M, 2] (x, y) as the homography moves them, float64 [M, 2]."""
    moved = cv2.perspectiveTransform(points[:, None].astype(np.float64), homography)
    return np.asarray(moved[:, 0], np.float64)


def image_corners(height: int, width: int) -> NDArray[np.float64]:
    """The centres of the four corner pixels in their order around the image: [4, 2], x before y."""
    return np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float64)


def corner_motion(homography: Homography, height: int, width: int) -> float:
    """The largest displacement (px) of a corner of the image; small motions are nowhere larger than at a corner."""
    corners = image_corners(height, width)
    return float(np.hypot(*(transform(corners, homography) - corners).T).max())


def plausible(homography: Homography, height: int, width: int) -> bool:
    """Whether a camera can have done this in the time of a frame.

    No: a homography that sends a part of the image to infinity, mirrors it, folds it, or shrinks or enlarges it
    anywhere to less than a quarter or more than four times its area.
    """
    if homography[2, 2] == 0:
        return False
    scaled = homography / homography[2, 2]
    # Affine in x and y, so that it is extreme at corners; so then is det / depth^3, the determinant of the Jacobian.
    depths = scaled[2] @ np.c_[image_corners(height, width), np.ones(4)].T
    if not (depths > 0).all():
        return False
    scales = np.linalg.det(scaled) / depths**3
    return bool((scales > _SMALLEST_SCALE).all() and (scales < _LARGEST_SCALE).all())


def warp_back(prev: Image, next_: Image, homography: Homography, border_px: int) -> Image:
    """`next_` in the coordinates of `prev`, bilinear; `prev` itself where the source is near the edge or outside."""
    height, width = prev.shape
    inner = np.zeros_like(prev)
    inner[border_px : height - border_px, border_px : width - border_px] = 1
    size = (width, height)
    warped = cv2.warpPerspective(next_, homography, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    known = cv2.warpPerspective(inner, homography, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    return np.where(known > 0, warped, prev).astype(np.uint8, copy=False)
