"""What each stream stores of a video: functions from decoded frames to encoded items, in bounded memory."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from atw import flow as tvl1
from atw.shards import Entry, Shard, dequantise, encode_field, encode_frame, quantise
from atw.videos import Frame

_BLOCK = 32  # frames in memory at once


@dataclass
class Items:
    """The encoded items of one video and what the index says about them beside the decoder's audit."""

    encoded: list[bytes] = field(default_factory=list)
    clipped: float = 0.0
    accepted: float = 0.0
    inliers: float = 0.0
    residual: float = 0.0


def frames_to_items(frames: Iterable[Frame], settings: dict[str, Any]) -> Items:
    """rgb: every frame as a JPEG image."""
    quality = settings["preprocess"]["jpeg_quality"]
    return Items([encode_frame(frame, quality) for frame in frames])


def flow_to_items(frames: Iterable[Frame], settings: dict[str, Any]) -> Items:
    """flow: TV-L1 from each frame to the next."""
    packer = _FieldPacker(settings)
    for previous, following in _pairs(frames):
        packer.add(tvl1.estimate(previous, following, **estimator(settings)))
    return packer.items


def warped_to_items(frames: Iterable[Frame], settings: dict[str, Any], flow: Shard, entry: Entry) -> Items:
    """warped: TV-L1 again after the camera's motion, found with the help of the stored flow, is taken out."""
    packer = _FieldPacker(settings)
    warp = tvl1.WarpParameters(**settings["warp"])
    summaries = []
    first = 0
    for previous, following in _pairs(frames):
        known = dequantise(flow.fields(entry, first, len(previous)), settings["flow"]["bound"])
        fields, cameras = tvl1.estimate_warped(previous, following, known, warp=warp, **estimator(settings))
        packer.add(fields)
        summaries += cameras
        first += len(previous)
    items = packer.items
    accepted = [camera for camera in summaries if camera.accepted]
    items.accepted = len(accepted) / max(len(summaries), 1)
    if accepted:
        items.inliers = float(np.mean([camera.inliers / camera.matches for camera in accepted]))
        items.residual = float(np.mean([camera.residual_px for camera in accepted]))
    return items


def estimator(settings: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of `atw.flow.estimate` that the settings of a shard ask for."""
    chosen = {name: value for name, value in settings["flow"].items() if value is not None and name != "bound"}
    return {**chosen, "threads": 1}  # threads work on videos, not inside one


class _FieldPacker:
    """Quantises and compresses fields as they come, and keeps count of clipped displacements."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._bound: float = settings["flow"]["bound"]
        self._level: int = settings["preprocess"]["zstd_level"]
        self._clipped = self._values = 0
        self.items = Items()

    def add(self, fields: NDArray[np.float32]) -> None:
        self.items.encoded += [encode_field(levels, self._level) for levels in quantise(fields, self._bound)]
        self._clipped += int(np.count_nonzero(np.abs(fields) > self._bound))
        self._values += fields.size
        self.items.clipped = self._clipped / self._values


def _pairs(frames: Iterable[Frame]) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Consecutive grey frames in blocks: (previous, next), each uint8 [up to _BLOCK, H, W]."""
    greys = (cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in frames)
    block = list(islice(greys, 1))
    while True:
        block += islice(greys, _BLOCK)
        if len(block) < 2:
            return
        stacked = np.stack(block)
        yield stacked[:-1], stacked[1:]
        block = block[-1:]
