"""The demo's videos: an actor does one of eight actions for a while before a moving camera; real video files.

The action fills one interval of the video (`Rendering.action_share`). Before and after it the actor fidgets, and in
half of the videos it holds a still pose of some action, so that a single frame is ambiguous. An untrimmed video
(`Rendering.movements` above 0) has many such poses, and short movements of no class, around the action.

The scene is the class's own with probability .6, else any, so that rgb is informative and not sufficient. Every action
looks like itself in a mirror. Scene, geometry, camera and noise have generators of their own: a change of one leaves
the others as they were.
"""

import csv
import math
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from numpy.typing import NDArray

from atw.config import ListedVideo, Rendering, RenderSettings
from atw.datasets.demo import CLASSES, demo_videos, is_trimmed
from atw.extras.demo.actor import (
    MOVEMENTS,
    REST,
    Colour,
    Colours,
    action_pose,
    draw_actor,
    draw_disc,
    movement_pose,
)
from atw.files import InputError, atomic_path
from atw.terminal import meter

Image = NDArray[np.uint8]

WIDTH, HEIGHT, FPS = 128, 96, 25
_TRIMMED = Rendering()
_OVERSAMPLING = 2  # drawn larger and averaged down, for smooth edges
_W, _H = WIDTH * _OVERSAMPLING, HEIGHT * _OVERSAMPLING
_OWN_SCENE = 0.6
_HOLDS = 0.5
_HELD = ("wave", "jack", "kick", "squat", "bow")
_DISTRACTION = (12, 36)  # frames of a movement of no class; a held pose takes twice as many, for it moves slowly
_CAMERA = 0.3  # scale of all camera motion
_NOISE_LEVELS = 4
_SEEDS_OF_TRIMMED = 2**64  # beyond those of all other videos
_DISCS_EVERY = 72  # frames: longer videos have more of them


@dataclass(frozen=True)
class Clip:
    """A rendered video.

    Args:
        frames: uint8 [T, HEIGHT, WIDTH, 3] BGR.
        action_first: first frame of the action, from 0.
        action_last: its last frame.
    """

    frames: Image
    action_first: int
    action_last: int


@dataclass(frozen=True)
class _Disc:
    """A distractor that drifts across."""

    centre: NDArray[np.float64]
    velocity: NDArray[np.float64]
    radius: float
    colours: tuple[Colour, Colour]
    first: int
    frames: int
    in_front: bool

    def draw(self, image: Image, frame: int, camera: NDArray[np.float64]) -> None:
        if not self.first <= frame < self.first + self.frames:
            return
        place = self.centre + self.velocity * (frame - self.first - self.frames / 2)
        seen = camera[:, :2] @ place + camera[:, 2]
        radius = self.radius * math.hypot(camera[0, 0], camera[1, 0])
        draw_disc(image, seen, radius, self.colours[0])
        draw_disc(image, seen + 0.2 * self.radius, 0.55 * radius, self.colours[1])


def render_clip(label: str, *, seed: int, rendering: Rendering = _TRIMMED) -> Clip:
    """Render the video of a class and seed; the same at every call."""
    number = CLASSES.index(label)
    scenes, geometry, cameras, noise = (np.random.default_rng([part, number, seed]) for part in range(4))
    fewest, most = rendering.frames
    count = int(geometry.integers(fewest, most + 1))
    length = round(count * geometry.uniform(*rendering.action_share))
    first = int(geometry.integers(2, count - length - 1))
    scene = number if scenes.random() < _OWN_SCENE else int(scenes.integers(len(CLASSES)))
    background = _background(scene, scenes)
    camera = _camera_path(count, cameras)
    poses = _poses(label, count, first, length, geometry, rendering.movements)
    root = np.array([_W + geometry.uniform(-9, 9) * _OVERSAMPLING, _H + geometry.uniform(2, 8) * _OVERSAMPLING])
    height = geometry.uniform(46, 58) * _OVERSAMPLING
    colours = _colours(geometry)
    discs = [_disc(count, geometry) for _ in range(geometry.integers(0, 3) * max(1, count // _DISCS_EVERY))]
    frames = np.empty((count, HEIGHT, WIDTH, 3), np.uint8)
    for frame in range(count):
        matrix = _camera_matrix(camera[frame])
        image = cv2.warpAffine(background, matrix, (_W, _H), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        for disc in discs:
            if not disc.in_front:
                disc.draw(image, frame, matrix)
        draw_actor(image, poses[frame], root=root, height=height, camera=matrix, colours=colours)
        for disc in discs:
            if disc.in_front:
                disc.draw(image, frame, matrix)
        small = cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.int16)
        small += noise.integers(-_NOISE_LEVELS, _NOISE_LEVELS + 1, small.shape, dtype=np.int16)
        frames[frame] = np.clip(small, 0, 255)
    return Clip(frames, first, first + length - 1)


def _poses(
    label: str, count: int, first: int, length: int, rng: np.random.Generator, movements: float
) -> NDArray[np.float64]:
    """Return the pose of every frame: [count, 12]."""
    period, strength = rng.uniform(9, 14), rng.uniform(0.75, 1.15)
    side = ("left", "right")[rng.integers(2)]
    phase = rng.uniform(0, 2 * math.pi) if label in ("wave", "walk") else 0.0
    sizes = np.array([0.06, 0.03, 0.12, 0.2, 0.6, 0.5, 0.6, 0.5, 0.25, 0.3, 0.25, 0.3])
    fidget = _smooth_noise(count, 6.0, 12, rng) * 0.25 * sizes
    hold = np.zeros((count, 12))
    around = ((0, first), (first + length, count))
    if movements:
        for start, stop in around:
            hold += _distraction(start, stop, count, movements, rng)
    elif rng.random() < _HOLDS:
        for start, stop in around:
            if stop - start > 5:
                hold += _hold(start, stop, count, period, rng)
    frames = np.arange(count)
    # The action fades in and out over three frames.
    share = np.clip(np.minimum(frames - first + 1, first + length - frames) / 3, 0, 1)
    poses: NDArray[np.float64] = REST + fidget + hold * (1 - share[:, None])
    for frame in np.flatnonzero(share):
        added = action_pose(label, int(frame) - first, period=period, strength=strength, side=side, phase=phase)
        # A half-finished turn cannot fade: it would turn back.
        poses[frame] += added if label == "spin" else share[frame] * added
    return poses


def _distraction(start: int, stop: int, count: int, movements: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return held poses and movements of no class between two frames, `movements` per 100 frames: [count, 12]."""
    poses = np.zeros((count, 12))
    edges = np.linspace(start, stop, round(movements * (stop - start) / 100) + 1).astype(int)
    for slot_start, slot_stop in pairwise(edges.tolist()):  # one in each slot, so that none overlap
        holds = bool(rng.random() < _HOLDS)
        duration = int(min(rng.integers(*_DISTRACTION) * (1 + holds), slot_stop - slot_start))
        begin = int(rng.integers(slot_start, slot_stop - duration + 1))
        period, strength = rng.uniform(9, 14), rng.uniform(0.75, 1.15)
        if holds:
            poses += _hold(begin, begin + duration, count, period, rng, fade=15)
            continue
        name, side = MOVEMENTS[rng.integers(len(MOVEMENTS))], ("left", "right")[rng.integers(2)]
        for frame in range(begin, begin + duration):
            share = min(frame - begin + 1, begin + duration - frame, 3) / 3
            pose = movement_pose(name, frame - begin, period=period, strength=strength, side=side)
            poses[frame] += share * pose
    return poses


def _hold(
    start: int, stop: int, count: int, period: float, rng: np.random.Generator, *, fade: int = 6
) -> NDArray[np.float64]:
    """Return a still pose of some action from `start` to `stop`, over `fade` frames at both ends: [count, 12]."""
    label = _HELD[rng.integers(len(_HELD))]
    moment = rng.uniform(0.3, 0.7) * period
    side = ("left", "right")[rng.integers(2)]
    pose = action_pose(label, moment, period=period, strength=0.8, side=side, phase=0)
    frames = np.arange(count)
    share: NDArray[np.float64] = np.clip(np.minimum(frames - start + 1, stop - frames) / fade, 0, 1)
    return share[:, None] * pose


def _smooth_noise(count: int, period: float, columns: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return normal values every `period` frames, smoothly joined: [count, columns]."""
    knots = rng.standard_normal((math.ceil(count / period) + 4, columns))
    time = np.arange(count) / period + 1
    index = time.astype(int)
    share = (time - index)[:, None]
    share = share * share * (3 - 2 * share)
    noise: NDArray[np.float64] = knots[index] * (1 - share) + knots[index + 1] * share
    return noise


def _camera_path(count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return slow pan, zoom and roll with shake on top: [count, 4], x and y in output pixels, log zoom, roll."""
    time = np.arange(count)
    path = np.zeros((count, 4))
    for column, size in enumerate((9, 5, 0.07, 0.045)):
        for share, pace in ((1.0, 1.0), (0.35, 0.4)):
            wave = np.sin(2 * math.pi * time / (rng.uniform(22, 40) * pace) + rng.uniform(0, 2 * math.pi))
            path[:, column] += size * share * rng.uniform(0.4, 1.2) * wave
    path[:, :2] += 0.9 * _smooth_noise(count, 2.0, 2, rng)
    path[:, 2:] += 0.006 * _smooth_noise(count, 2.0, 2, rng)
    return _CAMERA * path


def _camera_matrix(state: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the matrix from world to image, both oversampled, 2 x 3."""
    x, y, log_zoom, roll = state
    cosine, sine = math.cos(roll) * math.exp(log_zoom), math.sin(roll) * math.exp(log_zoom)
    turn = np.array([[cosine, -sine], [sine, cosine]])
    # The world is twice as wide and high as the image, which looks at its middle.
    centre = np.array([_W + x * _OVERSAMPLING, _H + y * _OVERSAMPLING])
    matrix: NDArray[np.float64] = np.c_[turn, np.array([_W / 2, _H / 2]) - turn @ centre]
    return matrix


def _background(scene: int, rng: np.random.Generator) -> Image:
    """Draw texture and clutter; the scene sets their hue and the usual shape of the clutter."""
    hue = int((scene * 22.5 + rng.normal(0, 4)) % 180)
    height, width = 2 * _H, 2 * _W
    texture = np.zeros((height, width, 3), np.float32)
    for cell in (8, 16, 40):
        grid = (height // cell + 2, width // cell + 2)
        knots = 0.5 * rng.standard_normal((*grid, 3)) + rng.standard_normal((*grid, 1))
        layer = cv2.resize(knots.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        texture += layer * (4 + 0.35 * cell)
    texture += np.array(_colour(hue, rng.integers(50, 120), rng.integers(90, 190)), np.float32)
    image: Image = np.clip(texture, 0, 255).astype(np.uint8)
    for _ in range(70):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        a, b = int(rng.integers(8, 40)), int(rng.integers(8, 40))
        colour = _colour(hue + rng.integers(-12, 13), rng.integers(50, 170), rng.integers(40, 220))
        shape = int(rng.integers(4)) if rng.random() < 0.35 else scene % 4
        if shape == 0:
            cv2.rectangle(image, (x, y), (x + a, y + b), colour, -1, cv2.LINE_AA)
        elif shape == 1:
            cv2.circle(image, (x, y), a // 2 + 3, colour, -1, cv2.LINE_AA)
        elif shape == 2:
            end = (x + int(rng.integers(-60, 60)), y + int(rng.integers(-60, 60)))
            cv2.line(image, (x, y), end, colour, int(rng.integers(3, 8)), cv2.LINE_AA)
        else:
            cv2.fillConvexPoly(image, np.array([[x, y], [x + a, y + b], [x - b, y + a]], np.int32), colour, cv2.LINE_AA)
    return image


def _colours(rng: np.random.Generator) -> Colours:
    def near(hue: int, saturation: int, value: int) -> Colour:
        return _colour(hue + rng.integers(-7, 8), saturation + rng.integers(-25, 26), value + rng.integers(-25, 26))

    parts = (near(2, 215, 215), near(115, 200, 190), near(25, 215, 225))
    patterns = (near(2, 160, 90), near(115, 120, 90), near(25, 170, 110))
    return Colours(parts, patterns, (150, 190, 230))


def _disc(count: int, rng: np.random.Generator) -> _Disc:
    flat = np.array([1, 0.6])  # wide as the image is
    return _Disc(
        centre=rng.uniform(-70, 70, 2) * flat * _OVERSAMPLING + [_W, _H],
        velocity=rng.normal(0, 1.6, 2) * flat * _OVERSAMPLING,
        radius=rng.uniform(4, 9) * _OVERSAMPLING,
        colours=(_any_colour(rng), _any_colour(rng)),
        first=int(rng.integers(0, count - 8)),
        frames=int(rng.integers(14, 40)),
        in_front=bool(rng.integers(2)),
    )


def _any_colour(rng: np.random.Generator) -> Colour:
    return _colour(rng.integers(180), rng.integers(90, 255), rng.integers(60, 250))


def _colour(hue: int | np.integer, saturation: int | np.integer, value: int | np.integer) -> Colour:
    """Convert OpenCV's HSV, in which hue goes round at 180, to BGR."""
    levels = np.array([[[hue % 180, min(max(saturation, 0), 255), min(max(value, 0), 255)]]], np.uint8)
    blue, green, red = cv2.cvtColor(levels, cv2.COLOR_HSV2BGR)[0, 0].tolist()
    return blue, green, red


def write_clip(path: Path, frames: Image) -> None:
    """Write frames as a Motion-JPEG AVI file, the same bytes for the same frames.

    Raises:
        InputError: OpenCV cannot open the file, or what it wrote is not all of the frames.
    """
    with atomic_path(path) as temporary, TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        named = Path(folder, "clip.avi")  # OpenCV takes the container from the name
        writer = cv2.VideoWriter(str(named), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (WIDTH, HEIGHT))
        if not writer.isOpened():
            raise InputError(
                f"OpenCV cannot write Motion-JPEG to {named}: check the folder's free space and permissions"
            )
        for frame in frames:
            writer.write(frame)
        writer.release()
        # OpenCV reports no error for a frame that it could not write.
        capture = cv2.VideoCapture(str(named))
        whole = 0
        while capture.grab():
            whole += 1
        capture.release()
        if whole != len(frames):
            raise InputError(f"only {whole} of {len(frames)} frames of {path} were written: is the disk full?")
        named.replace(temporary)


def write_dataset(root: Path, settings: RenderSettings, *, processes: int) -> None:
    """Render the videos of a split below `root`, then write split{split}.csv with the true interval of each action."""
    split = settings.split
    rows = demo_videos(
        split, train=settings.train_per_class, trimmed=settings.trimmed_per_class, test=settings.test_per_class
    )
    untrimmed = settings.part(Rendering)
    jobs = [
        (root / row.video, row.label, _seed(settings.seed, split, row), _TRIMMED if is_trimmed(row) else untrimmed)
        for row in rows
    ]
    # A fork would copy OpenCV's threads in an unknown state.
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(processes, mp_context=context) as pool,
        meter(f"rendering split{split}", "videos", len(jobs)) as progress,
        atomic_path(root / f"split{split}.csv") as listing,
        listing.open("w", newline="", encoding="utf-8") as stream,
    ):
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(("path", "label", "subset", "action_first", "action_last"))
        for row, (first, last) in zip(rows, pool.map(_render_file, *zip(*jobs, strict=True)), strict=True):
            table.writerow((row.video, row.label, row.subset, first, last))
            progress.advance(1)


def _seed(seed: int, split: int, row: ListedVideo) -> int:
    number = int(row.video.rpartition("_")[2].removesuffix(".avi"))
    return is_trimmed(row) * _SEEDS_OF_TRIMMED + ((seed * 3 + split) * 2 + (row.subset == "test")) * 1000 + number


def _render_file(path: Path, label: str, seed: int, rendering: Rendering) -> tuple[int, int]:
    cv2.setNumThreads(1)
    clip = render_clip(label, seed=seed, rendering=rendering)
    write_clip(path, clip.frames)
    return clip.action_first, clip.action_last
