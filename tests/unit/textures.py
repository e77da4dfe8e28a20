"""Textures that move, and TV-L1 by the textbook, for the tests of optical flow."""

from pathlib import Path

import cv2
import numpy as np

from atw import flow as tvl1
from atw.config import Flow, Warp

VIDEOS = Path(__file__).parents[3] / "shared" / "data"
TAU, THETA = 0.25, 0.3
FAST, OPENCV4 = Flow(preset="fast", backend="numba"), Flow(preset="opencv4", backend="numba")


def texture(seed: int, height: int, width: int) -> np.ndarray:
    """Smooth noise, float32 in 0..255."""
    noise = np.random.default_rng(seed).standard_normal((height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2) + 2 * cv2.GaussianBlur(noise, (0, 0), 8)
    scene: np.ndarray = np.clip(128 + 55 * smooth / smooth.std(), 0, 255).astype(np.float32)
    return scene


def moved(image: np.ndarray, x_px: float, y_px: float) -> np.ndarray:
    """`image` with its contents displaced, uint8."""
    matrix = np.array([[1, 0, x_px], [0, 1, y_px]], np.float64)
    size = image.shape[::-1]
    warped = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    rounded: np.ndarray = np.clip(np.rint(warped), 0, 255).astype(np.uint8)
    return rounded


def pair(seed: int, height: int, width: int, x_px: float, y_px: float) -> np.ndarray:
    """Two images [2, H, W] of a texture that moves."""
    scene = texture(seed, height, width)
    return np.stack([moved(scene, 0, 0), moved(scene, x_px, y_px)])


def footage() -> tuple[np.ndarray, np.ndarray]:
    """Two batches [2, 96, 128]: frames of real videos where they lie beside the repository, else rendered."""
    pairs = []
    for path in sorted(VIDEOS.glob("ucf101/*/*.avi"))[:2]:
        video = cv2.VideoCapture(str(path))
        frames = [video.read() for _ in range(6)]
        grey = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for read, frame in frames if read]
        pairs.append(np.stack([cv2.resize(grey[index], (128, 96)) for index in (0, 5)]))
    if not pairs:
        pairs = [pair(seed, 96, 128, 2.5, -1.25) for seed in (0, 1)]
        for seed, images in enumerate(pairs):
            images[1, 30:60, 40:80] = moved(texture(seed, 96, 128), -3.0, 2.0)[30:60, 40:80]
    first, second = np.ascontiguousarray(np.stack(pairs).swapaxes(0, 1))
    return first, second


def levels_apart(flow: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Mean distance of two flows [B, 2, H, W] by pair, in stored levels of 40/255 px that are not rounded."""
    difference = np.clip(flow, -20, 20) - np.clip(other, -20, 20)
    return np.asarray(np.abs(255 * difference / 40).mean(axis=(1, 2, 3)))


def iterate_by_textbook(planes: np.ndarray, most: int, enough: float = -1.0) -> tuple[np.ndarray, float, int]:
    """TV-L1's iteration in float64 on whole images.

    `planes` [6, H, W] are the coefficients of the data term (unit gradient, residual, limit) and the flow. Returns the
    flow [2, H, W], the last squared update and the iterations until it was at most `enough` after every second one.
    """
    nx, ny, rho, limit, *flow = planes.astype(np.float64)
    u = np.stack(flow)
    p = np.zeros((2, 2, *u.shape[1:]))  # component, direction
    squared = np.nan
    for count in range(1, most + 1):
        v = u - np.clip(rho + nx * u[0] + ny * u[1], -limit, limit) * np.stack([nx, ny])
        divergence = np.diff(p[:, 0], axis=2, prepend=0) + np.diff(p[:, 1], axis=1, prepend=0)
        squared = float(((v + THETA * divergence - u) ** 2).sum())
        u = v + THETA * divergence
        gradient = np.stack([np.diff(u, axis=2, append=u[:, :, -1:]), np.diff(u, axis=1, append=u[:, -1:])], axis=1)
        length = np.sqrt((gradient**2).sum(axis=1, keepdims=True))
        p = (p + TAU / THETA * gradient) / (1 + TAU / THETA * length)
        if count % 2 == 0 and squared <= enough:
            break
    return u, squared, count


def estimate_warped(
    first: np.ndarray, second: np.ndarray, known: np.ndarray | None, flow: Flow, warp: Warp, *, threads: int = 1
) -> tuple[np.ndarray, list[tvl1.Compensated]]:
    """Flow [B, 2, H, W] in px without the camera's motion, and what was found of each pair."""
    pairs = tvl1.compensate(first, second, known, warp, threads=threads)
    return tvl1.estimate(first, tvl1.steady(pairs, second), flow, threads=threads), pairs
