"""What each stream stores of a video: functions from decoded frames to encoded items, in bounded memory."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from atw import flow as tvl1
from atw.preprocess.masks import read_masks
from atw.shards import Entry, Shard, dequantise, encode_field, encode_frame, quantise
from atw.videos import Frame

_BLOCK = 32  # frames in memory at once


@dataclass
class Items:
    """The encoded items of one video and what the index says about them beside the decoder's audit."""

    encoded: list[bytes] = field(default_factory=list)
    clipped: float = 0.0
    accepted: float = 0.0
    still: float = 0.0
    inliers: float = 0.0
    residual: float = 0.0


@dataclass(frozen=True)
class Job:
    """What the videos of a shard share: settings, cores, and progress.

    Args:
        settings: what `atw.config.shard_settings` gives.
        threads: says how many a video may use at the moment.
        count: is told of each number of items finished.
    """

    settings: dict[str, Any]
    threads: Callable[[], int] = lambda: 1
    count: Callable[[int], None] = lambda _: None


def frames_to_items(frames: Iterable[Frame], job: Job) -> Items:
    """rgb: every frame as a JPEG image."""
    items = Items()
    for frame in frames:
        items.encoded.append(encode_frame(frame, job.settings["preprocess"]["jpeg_quality"]))
        job.count(1)
    return items


def flow_to_items(frames: Iterable[Frame], job: Job) -> Items:
    """flow: TV-L1 from each frame to the next."""
    packer = _FieldPacker(job)
    for previous, following in _pairs(frames):
        packer.add(tvl1.estimate(previous, following, threads=job.threads(), **estimator(job.settings)))
    return packer.items


def warped_to_items(frames: Iterable[Frame], job: Job, flow: Shard, entry: Entry) -> Items:
    """warped: TV-L1 again after the camera's motion, found with the help of the stored flow if so set, is taken out."""
    packer = _FieldPacker(job)
    settings = job.settings
    warp = warp_parameters(settings)
    masks = settings["warp"]["masks"]
    cameras = []
    first = 0
    for previous, following in _pairs(frames):
        count = len(previous)
        known = None
        if warp.matches != "tracks":
            known = dequantise(flow.fields(entry, first, count), settings["flow"]["bound"])
        mask = None
        if masks is not None:
            excluded = read_masks(Path(masks), entry, first, count + 1, following.shape[1:])
            mask = (excluded[:-1], excluded[1:])
        fields, found = tvl1.estimate_warped(
            previous, following, known, warp=warp, mask=mask, threads=job.threads(), **estimator(settings)
        )
        packer.add(fields)
        cameras += found
        first += count
    _summarise(cameras, packer.items)
    return packer.items


def _summarise(cameras: list[tvl1.Compensated], items: Items) -> None:
    accepted = [camera for camera in cameras if camera.accepted]
    items.accepted = len(accepted) / max(len(cameras), 1)
    items.still = sum(camera.still for camera in cameras) / max(len(cameras), 1)
    if accepted:
        items.inliers = float(np.mean([camera.inliers / camera.matches for camera in accepted]))
        items.residual = float(np.mean([camera.residual_px for camera in accepted]))


def warp_parameters(settings: dict[str, Any]) -> tvl1.WarpParameters:
    """How the settings of a shard ask for the camera's motion to be found."""
    return tvl1.WarpParameters(**{name: value for name, value in settings["warp"].items() if name != "masks"})


def estimator(settings: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of `atw.flow.estimate` that the settings of a shard ask for."""
    return {name: value for name, value in settings["flow"].items() if value is not None and name != "bound"}


class _FieldPacker:
    """Quantises and compresses fields as they come, and keeps count of clipped displacements."""

    def __init__(self, job: Job) -> None:
        self._bound: float = job.settings["flow"]["bound"]
        self._level: int = job.settings["preprocess"]["zstd_level"]
        self._count = job.count
        self._clipped = self._values = 0
        self.items = Items()

    def add(self, fields: NDArray[np.float32]) -> None:
        self.items.encoded += [encode_field(levels, self._level) for levels in quantise(fields, self._bound)]
        self._clipped += int(np.count_nonzero(np.abs(fields) > self._bound))
        self._values += fields.size
        self.items.clipped = self._clipped / self._values
        self._count(len(fields))


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
