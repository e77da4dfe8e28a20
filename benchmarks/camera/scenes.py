"""Pairs of real frames between which the camera's motion is known and a quarter of the image moves by itself."""

import math
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from atw.files import InputError
from atw.flow.camera import Homography, Image, transform
from benchmarks.material import HEIGHT_PX, WIDTH_PX, find_videos, folders_in_turn

MARGIN_PX = 48
GRID_PX = 8
FRAME = 15  # of each video
OWN_MOTION_PX = (5.0, 3.0)
BLUR_PX = 9

# Zoom, roll (degrees), pan (px) of the second view; the names that say more are what `spoil` does to the images.
MOTIONS: dict[str, tuple[float, float, tuple[float, float]]] = {
    "pan": (1.0, 0.0, (6.0, -4.0)),
    "zoom": (1.04, 0.0, (0.0, 0.0)),
    "roll": (1.0, 1.5, (1.0, 2.0)),
    "all three": (0.97, -1.0, (-3.0, 2.5)),
    "large": (1.02, 1.0, (20.0, -14.0)),
    "larger": (1.0, 3.0, (-24.0, 10.0)),
    "large zoom": (1.15, -4.0, (5.0, 5.0)),
    "blurred": (1.0, 0.5, (10.0, -3.0)),
    "noisy": (1.0, 0.5, (5.0, 4.0)),
    "dark": (1.0, 0.5, (4.0, -3.0)),
}


class Scene(NamedTuple):
    """Two images [H, W], the camera's homography from the first to the second, and points of the background [M, 2]."""

    motion: str
    first: Image
    second: Image
    homography: Homography
    background: NDArray[np.float64]


def make_scenes(folder: Path, videos: int) -> list[Scene]:
    """A scene for each motion and each of up to so many videos, which come from the subfolders in turn.

    Raises InputError where fewer than two of the videos can be decoded.
    """
    views: list[Image] = []
    for path in folders_in_turn(find_videos(folder)):
        view = wide_view(path)
        if view is not None:
            views.append(view)
        if len(views) == videos:
            break
    if len(views) < 2:
        raise InputError(f"{len(views)} of the videos in {folder} can be used; at least two are needed")
    rng = np.random.default_rng(0)
    return [
        shoot(view, views[(index + 1) % len(views)], motion, rng)
        for index, view in enumerate(views)
        for motion in MOTIONS
    ]


def wide_view(path: Path) -> Image | None:
    """One grey frame, larger than the working size by a margin on all sides; None where the video has none."""
    video = cv2.VideoCapture(str(path))
    frame = None
    for _ in range(FRAME):
        read, following = video.read()
        frame = following if read else frame
    if frame is None:
        return None
    size = (WIDTH_PX + 2 * MARGIN_PX, HEIGHT_PX + 2 * MARGIN_PX)
    return np.asarray(cv2.resize(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), size), np.uint8)


def camera(zoom: float, roll_degrees: float, pan_px: tuple[float, float]) -> Homography:
    """Homography [3, 3] about the centre of the image, with a little perspective."""
    cosine, sine = zoom * math.cos(math.radians(roll_degrees)), zoom * math.sin(math.radians(roll_degrees))
    centred = np.array([[cosine, -sine, pan_px[0]], [sine, cosine, pan_px[1]], [1e-5, -5e-6, 1]])
    centre = np.array([[1, 0, WIDTH_PX / 2], [0, 1, HEIGHT_PX / 2], [0, 0, 1]])
    return np.asarray(centre @ centred @ np.linalg.inv(centre), np.float64)


def shoot(view: Image, other: Image, motion: str, rng: np.random.Generator) -> Scene:
    """A scene of `view`, with a rectangle of `other` that moves by itself in a quarter of it."""
    homography = camera(*MOTIONS[motion])
    to_image = np.array([[1, 0, -MARGIN_PX], [0, 1, -MARGIN_PX], [0, 0, 1]], np.float64)
    own = np.array([[1, 0, OWN_MOTION_PX[0]], [0, 1, OWN_MOTION_PX[1]], [0, 0, 1]])
    top, left = (MARGIN_PX + rng.integers(0, side // 2) for side in (HEIGHT_PX, WIDTH_PX))
    cover = np.zeros(view.shape, np.uint8)
    cover[top : top + HEIGHT_PX // 2, left : left + WIDTH_PX // 2] = 1

    def look(scene: Image, moved: Homography, flags: int = cv2.INTER_CUBIC) -> NDArray[np.float64]:
        seen = cv2.warpPerspective(scene, moved @ to_image, (WIDTH_PX, HEIGHT_PX), flags=flags)
        return np.asarray(seen, np.float64)

    still = np.eye(3)
    before = look(cover, still, cv2.INTER_NEAREST) > 0
    after = look(cover, homography @ own, cv2.INTER_NEAREST) > 0
    first = np.where(before, look(other, still), look(view, still))
    second = np.where(after, look(other, homography @ own), look(view, homography))
    rows, columns = np.mgrid[:HEIGHT_PX:GRID_PX, :WIDTH_PX:GRID_PX]
    background = ~before[::GRID_PX, ::GRID_PX]
    points = np.stack([columns[background], rows[background]], axis=1).astype(np.float64)
    return Scene(motion, *spoil(first, second, motion, rng), homography, points)


def spoil(
    first: NDArray[np.float64], second: NDArray[np.float64], motion: str, rng: np.random.Generator
) -> tuple[Image, Image]:
    """Both images with noise of their own (1.5 levels; noisy: 8), blurred along the motion or darkened to a quarter."""
    if motion == "blurred":
        kernel = np.zeros((BLUR_PX, BLUR_PX))
        kernel[BLUR_PX // 2] = 1 / BLUR_PX
        second = cv2.filter2D(second, -1, kernel).astype(np.float64)
    light = 0.25 if motion == "dark" else 1.0
    sigma = 8.0 if motion == "noisy" else 1.5
    noisy = [light * image + rng.normal(0, sigma, image.shape) for image in (first, second)]
    spoilt = [np.clip(np.rint(image), 0, 255).astype(np.uint8) for image in noisy]
    return spoilt[0], spoilt[1]


def miss_px(scene: Scene, homography: Homography) -> float:
    """Median distance over the background between where a homography and the camera take it."""
    missed = transform(scene.background, homography) - transform(scene.background, scene.homography)
    return float(np.median(np.hypot(missed[:, 0], missed[:, 1])))
