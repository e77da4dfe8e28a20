"""Clips on the page: a few seconds of a test video that play, above the attention of each stream meanwhile."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from atw.evaluate.scores import Curve
from atw.extras.drawing.films import small_film
from atw.extras.drawing.scored_videos import StoredVideo
from atw.extras.report.charts import jpeg_address
from atw.shards import Shard
from atw.videos.times import Times

LONGEST_S = 12.0
MOST_FRAMES = 240
STOPS = 48  # colours of a bar
_WIDTH_PX = 240
_FULL = 2.0  # times the average weight: full colour, unless a weight is larger


@dataclass(frozen=True)
class PlayedClip:
    """Some seconds of a video.

    Args:
        address: of the film, a data address.
        still: a frame of it, likewise.
        start: seconds from the start of the video.
        end: likewise.
        whole: whether that is the whole video.
        bars: how much of its colour each stream has while the clip plays, `STOPS` shares.
    """

    address: str
    still: str
    start: float
    end: float
    whole: bool
    bars: dict[str, list[float]]


def clip_of(stored: StoredVideo, curves: Mapping[str, Curve], looking: str) -> PlayedClip | None:
    """Return the clip of a scored video: the seconds around its largest weight if it is long.

    Args:
        stored: the frames of the video.
        curves: its attention by stream.
        looking: the stream whose largest weight counts.

    Returns:
        None where FFmpeg cannot encode it.
    """
    with Shard(stored.path) as shard:
        times = shard.times(stored.entry)
        first, last = _stretch(times, curves[looking])
        numbers = np.unique(np.linspace(first, last, min(MOST_FRAMES, last - first + 1)).round().astype(int))
        images = shard.frames(stored.entry, numbers.tolist())
    start, end = times.stretch(first, last)
    shown = Times(np.append(times.edges[numbers], end) - start, times.source)
    film = small_film((_small(image) for image in images), shown)
    if not film:
        return None
    address = f"data:video/webm;base64,{base64.b64encode(film).decode('ascii')}"
    whole = last - first + 1 == times.frames
    bars = {stream: _shares(curve, start, end) for stream, curve in curves.items()}
    return PlayedClip(address, jpeg_address(images[len(images) // 2]), start, end, whole, bars)


def _stretch(times: Times, curve: Curve) -> tuple[int, int]:
    """Return the first and the last frame of the clip."""
    if times.seconds <= LONGEST_S:
        return 0, times.frames - 1
    seconds, weights = curve
    start = float(np.clip(seconds[weights.argmax()] - LONGEST_S / 2, 0, times.seconds - LONGEST_S))
    inside = np.flatnonzero((times.edges[1:] > start) & (times.edges[:-1] < start + LONGEST_S))
    return int(inside[0]), int(inside[-1])


def _small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an RGB frame as a BGR picture of even sides."""
    height, width = image.shape[:2]
    shrunk = min(1, _WIDTH_PX / width)
    size = [max(2, round(shrunk * side / 2) * 2) for side in (width, height)]
    return np.asarray(cv2.resize(image[..., ::-1], size, interpolation=cv2.INTER_AREA), np.uint8)


def _shares(curve: Curve, start: float, end: float) -> list[float]:
    seconds, weights = curve
    relative = weights.astype(np.float64) * len(weights)
    moments = np.linspace(start, end, STOPS)
    shares: list[float] = (np.interp(moments, seconds, relative) / max(_FULL, relative.max())).round(2).tolist()
    return shares
