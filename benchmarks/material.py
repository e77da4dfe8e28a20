"""What flow is measured on: real frames, pairs with published ground truth, and frames moved by a known field."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from atw.files import InputError
from atw.flow.pairs import FloatArray, Images

WIDTH_PX, HEIGHT_PX = 340, 256
SUFFIXES = {".avi", ".mp4", ".mkv", ".webm", ".mov"}
# Of a long video the beginning is enough.
MOST_FRAMES = 500
SMALLEST_PEAK_PX, LARGEST_PEAK_PX = 2.0, 8.0


class Pairs(NamedTuple):
    """Consecutive grey frames: `first` and `second` are uint8 [N, H, W], `names` say which clip and frame."""

    names: list[str]
    first: Images
    second: Images


class TruthPair(NamedTuple):
    """Two images [H, W] and the flow [2, H, W] (px) between them, known where `valid` [H, W] is true."""

    name: str
    first: NDArray[np.uint8]
    second: NDArray[np.uint8]
    flow: FloatArray
    valid: NDArray[np.bool_]


def video_pairs(folder: Path, count: int) -> Pairs:
    """`count` pairs at the working size from as many clips as there are, up to `count`.

    Clips come from the subfolders in turn. A clip's pairs lie evenly in it; a clip that cannot be decoded is left out.
    Raises InputError where there are no videos.
    """
    clips = {}
    for path in folders_in_turn(find_videos(folder)):
        frames = grey_frames(path)
        if len(frames) > 1:
            clips[path] = frames
        if len(clips) == count:
            break
    if not clips:
        raise InputError(f"none of the videos in {folder} can be decoded; give another folder with --videos")
    names, first, second = [], [], []
    for index in range(count):
        path = list(clips)[index % len(clips)]
        of_clip = len(range(index % len(clips), count, len(clips)))
        frame = (index // len(clips) + 1) * (len(clips[path]) - 1) // (of_clip + 1)
        names.append(f"{path.name} {frame}")
        first.append(clips[path][frame])
        second.append(clips[path][frame + 1])
    return Pairs(names, np.stack(first), np.stack(second))


def find_videos(folder: Path) -> list[Path]:
    """The videos anywhere in `folder`, in order; InputError where there are none."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise InputError(f"no videos in {folder}; name a folder with {', '.join(sorted(SUFFIXES))} files by --videos")
    return found


def folders_in_turn(paths: list[Path]) -> list[Path]:
    """The paths, one of each folder in turn until all are used."""
    places: dict[Path, int] = {}
    turns = []
    for path in paths:
        turn = places.get(path.parent, 0)
        places[path.parent] = turn + 1
        turns.append((turn, path))
    return [path for _, path in sorted(turns)]


def grey_frames(path: Path) -> list[NDArray[np.uint8]]:
    """The first frames of a video, grey and at the working size; empty where it cannot be decoded."""
    video = cv2.VideoCapture(str(path))
    frames: list[NDArray[np.uint8]] = []
    while len(frames) < MOST_FRAMES:
        read, frame = video.read()
        if not read:
            break
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
        frames.append(cv2.resize(grey, (WIDTH_PX, HEIGHT_PX)))
    return frames


def truth_pairs(folder: Path) -> list[TruthPair]:
    """The pairs NAME-img0.png, NAME-img1.png with their flow NAME-gt.flo in `folder`.

    Raises InputError where there are none, where a file is missing or cannot be read, and where sizes differ at all.
    """
    fields = sorted(folder.glob("*-gt.flo"))
    if not fields:
        raise InputError(f"no ground truth in {folder}; name a folder with NAME-gt.flo and both images by --truth")
    pairs = []
    for path in fields:
        name = path.name.removesuffix("-gt.flo")
        flow = read_flo(path)
        images: list[NDArray[np.uint8]] = []
        for image_path in (folder / f"{name}-img0.png", folder / f"{name}-img1.png"):
            image = cv2.imread(str(image_path), cv2.IMREAD_GRAYSCALE) if image_path.exists() else None
            if image is None:
                raise InputError(f"{image_path} is missing or no image; each -gt.flo needs its -img0.png and -img1.png")
            if image.shape != flow.shape[1:]:
                raise InputError(f"{image_path} is {image.shape} but its flow is {flow.shape[1:]} (height, width)")
            images.append(image.astype(np.uint8))
        pairs.append(TruthPair(name, images[0], images[1], flow, np.ones(flow.shape[1:], bool)))
    if len({pair.first.shape for pair in pairs}) > 1:
        raise InputError(f"the images in {folder} are not of one size; give a folder for each size with --truth")
    return pairs


def read_flo(path: Path) -> FloatArray:
    """Flow [2, H, W] in px from a Middlebury .flo file.

    It is the float 202021.25, width and height as int32, then x and y of every pixel by rows as float32, all of it
    little-endian. Raises InputError where the file is anything else.
    """
    content = path.read_bytes()
    if len(content) < 12 or np.frombuffer(content, "<f4", 1)[0] != np.float32(202021.25):
        raise InputError(f"{path} is not a .flo file: it does not begin with the float 202021.25")
    width, height = np.frombuffer(content, "<i4", 2, offset=4).tolist()
    if width < 1 or height < 1 or len(content) != 12 + 8 * width * height:
        raise InputError(f"{path} says {width} x {height} px but has {len(content)} bytes; the file is damaged")
    interleaved = np.frombuffer(content, "<f4", offset=12).reshape(height, width, 2)
    return np.ascontiguousarray(interleaved.transpose(2, 0, 1), np.float32)


def moved_pairs(frames: Images) -> list[TruthPair]:
    """Every frame as the second image of a pair whose flow is known, the largest motion going from 2 to 8 px.

    The first image is I0(x) = I1(x + u(x)), sampled by a cubic spline in double precision and rounded to grey levels,
    so that u is the flow from I0 to I1. Pixels that come from outside the frame are not valid.
    """
    pairs = []
    height, width = frames.shape[1:]
    y, x = np.mgrid[:height, :width]
    for index, peak_px in enumerate(np.linspace(SMALLEST_PEAK_PX, LARGEST_PEAK_PX, len(frames))):
        field = smooth_field(height, width, peak_px=float(peak_px), seed=index)
        to_x, to_y = x + field[0], y + field[1]
        sampled = map_coordinates(frames[index].astype(np.float64), [to_y, to_x], order=3, mode="mirror")
        first = np.clip(np.rint(sampled), 0, 255).astype(np.uint8)
        valid = (to_x >= 0) & (to_x <= width - 1) & (to_y >= 0) & (to_y <= height - 1)
        pairs.append(TruthPair(f"moved {index}", first, frames[index], field.astype(np.float32), valid))
    return pairs


def smooth_field(height: int, width: int, *, peak_px: float, seed: int) -> NDArray[np.float64]:
    """An affine motion plus one sine wave in each component, [2, H, W], scaled so that the longest vector is `peak_px`.

    Waves are between half and one and a half image widths long, which keeps the field free of folds.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / width - 0.5
    field = np.empty((2, height, width))
    for component in field:
        shift, along_x, along_y = rng.normal(size=3)
        angle, phase = rng.uniform(0, 2 * np.pi, 2)
        waves = rng.uniform(2 / 3, 2)
        wave = np.sin(2 * np.pi * waves * (np.cos(angle) * x + np.sin(angle) * y) + phase)
        component[:] = shift + along_x * x + along_y * y + wave
    field *= peak_px / np.hypot(*field).max()
    return field
