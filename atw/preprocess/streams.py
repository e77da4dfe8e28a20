"""What each stream stores of a video: functions from decoded frames to encoded items, in bounded memory."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from atw import flow as tvl1
from atw.config import FieldShards, FrameShards, WarpedShards
from atw.flow.pairs import each_pair
from atw.preprocess.masks import read_masks
from atw.shards import Encoded, Entry, dequantise, encode_field, encode_frame, quantise
from atw.videos.decode import Frame

# Of the pairs of a video in memory at once: 48 at 340 x 256, 32 MB of flow.
_BLOCK_PIXELS = 1 << 22
_NOTHING = np.empty((0, 0), np.uint8)


class Room(Encoded, Protocol):
    """Where encoded items are collected."""

    def extend(self, items: Iterable[bytes], /) -> None:
        """Add items at the end."""


class StoredFlow(Protocol):
    """Where the fields of a video are known from: a shard, or what has been computed of a new video."""

    def fields(self, entry: Entry, numbers: Sequence[int], /) -> NDArray[np.uint8]:
        """Quantised fields of a video: uint8 [len(numbers), 2, H, W]."""


@dataclass
class Items:
    """The encoded items of one video and what the index says about them beside the decoder's audit."""

    encoded: Room
    clipped: float = 0.0
    accepted: float = 0.0
    still: float = 0.0
    inliers: float = 0.0
    residual: float = 0.0

    def describe(self, entry: Entry) -> None:
        """Copy to a row of the index what it says about them."""
        entry.clipped, entry.accepted, entry.still = self.clipped, self.accepted, self.still
        entry.inliers, entry.residual = self.inliers, self.residual


@dataclass(frozen=True)
class Job:
    """What the videos of a shard share: cores, progress, and room.

    Args:
        threads: says how many a video may use at the moment.
        count: is told of each number of items finished.
        room: makes the place for the items of a video.
    """

    threads: Callable[[], int] = lambda: 1
    count: Callable[[int], None] = lambda _: None
    room: Callable[[], Room] = list


def frames_to_items(frames: Iterable[Frame], settings: FrameShards, job: Job) -> Items:
    """rgb: every frame as a JPEG image."""
    items = Items(job.room())
    for frame in frames:
        items.encoded.extend([encode_frame(frame, settings.preprocess.jpeg_quality)])
        job.count(1)
    return items


def flow_to_items(frames: Iterable[Frame], settings: FieldShards, job: Job) -> Items:
    """flow: TV-L1 from each frame to the next."""
    packer = _FieldPacker(settings, job)
    for previous, following in _pairs(frames, job.threads):
        packer.add(tvl1.estimate(previous, following, settings.flow, threads=job.threads()))
    return packer.items


def warped_to_items(
    frames: Iterable[Frame], settings: WarpedShards, job: Job, flow: StoredFlow | None, entry: Entry
) -> Items:
    """warped: TV-L1 again after the camera's motion, found with the help of the stored flow if so set, is taken out.

    `flow` holds the flow of the video, whose row is `entry`; matches of the kind "tracks" do without.
    """
    packer = _FieldPacker(settings, job)
    warp = settings.warp
    cameras = []
    first = 0
    for previous, following in _pairs(frames, job.threads):
        count = len(previous)
        known = None
        if flow and warp.matches != "tracks":
            known = dequantise(flow.fields(entry, range(first, first + count)), settings.flow.bound)
        mask = None
        if warp.masks is not None:
            excluded = read_masks(Path(warp.masks), entry, first, count + 1, following.shape[1:])
            mask = (excluded[:-1], excluded[1:])
        fields, found = tvl1.estimate_warped(
            previous, following, known, settings.flow, warp, mask=mask, threads=job.threads()
        )
        packer.add(fields)
        # Without the images, of which a long video has too many.
        cameras += [replace(camera, warped=_NOTHING) for camera in found]
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


class _FieldPacker:
    """Quantises and compresses fields as they come, and keeps count of clipped displacements."""

    def __init__(self, settings: FieldShards, job: Job) -> None:
        self._job, self._level = job, settings.preprocess.zstd_level
        self._bound = settings.flow.bound
        self._clipped = self._values = 0
        self.items = Items(job.room())

    def add(self, fields: NDArray[np.float32]) -> None:
        encoded: dict[int, bytes] = {}

        def encode(index: int) -> None:
            levels = quantise(fields[index], self._bound)
            encoded[index] = encode_field(levels, self._level)

        each_pair(encode, len(fields), self._job.threads())
        self.items.encoded.extend(encoded[index] for index in range(len(fields)))
        self._clipped += int(np.count_nonzero(np.abs(fields) > self._bound))
        self._values += fields.size
        self.items.clipped = self._clipped / self._values
        self._job.count(len(fields))


def _pairs(
    frames: Iterable[Frame], threads: Callable[[], int]
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Consecutive grey frames in blocks: (previous, next), each uint8 [pairs, H, W], enough for all threads."""
    greys = (cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in frames)
    last = list(islice(greys, 1))
    while more := list(islice(greys, max(threads(), _BLOCK_PIXELS // last[0].size))):
        images = np.stack(last + more)
        yield images[:-1], images[1:]
        last = more[-1:]
