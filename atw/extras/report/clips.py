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
        start = _start(times, curves[looking])
        end = min(start + LONGEST_S, times.seconds)
        numbers = _frames(times, start, end)
        shown = Times(np.clip(np.append(times.edges[numbers], end), start, end) - start, times.source)
        # One at a time: a large frame has 50 MB.
        film = small_film((_small(shard.frames(stored.entry, [number])[0]) for number in numbers), shown)
        still = shard.frames(stored.entry, [numbers[len(numbers) // 2]])[0]
    if not film:
        return None
    address = f"data:video/webm;base64,{base64.b64encode(film).decode('ascii')}"
    bars = {stream: _shares(curve, start, end) for stream, curve in curves.items()}
    return PlayedClip(address, jpeg_address(still), start, end, times.seconds <= LONGEST_S, bars)


def _start(times: Times, curve: Curve) -> float:
    """Return when the clip starts, seconds."""
    seconds, weights = curve
    middle = float(seconds[weights.argmax()])
    return max(0.0, min(middle - LONGEST_S / 2, times.seconds - LONGEST_S))


def _frames(times: Times, start: float, end: float) -> list[int]:
    """Return the frames that are shown between two times; of many, those at even moments."""
    inside = np.flatnonzero((times.edges[1:] > start) & (times.edges[:-1] < end))
    if len(inside) > MOST_FRAMES:
        moments = np.linspace(start, end, MOST_FRAMES, endpoint=False)
        inside = np.unique(np.searchsorted(times.edges[1:], moments, side="right"))
    numbers: list[int] = inside.tolist()
    return numbers


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
