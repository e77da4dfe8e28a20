"""Encode a video for each stream: functions from decoded frames to encoded items, in bounded memory."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from atw import flow as tvl1
from atw.config import FieldSettings, FieldShards, FrameShards, ShardSettings, StoredFramesSettings, WarpedShards
from atw.files import InputError
from atw.flow.pairs import each_pair
from atw.preprocess.resources import Resources, Spool
from atw.shards import Entry, decode_luma, dequantise, encode_field, encode_frame
from atw.videos.decode import Audit, Frame
from atw.videos.fit import fit_to

# Of the pairs of a video in memory at once: 48 at 340 x 256, 32 MB of flow.
BLOCK_PIXELS = 1 << 22
_NO_IMAGE = np.empty((0, 0), np.uint8)

StoredFlow = Callable[[Sequence[int]], NDArray[np.uint8]]
"""Returns known quantised fields of a video by their numbers: uint8 [len(numbers), 2, H, W]."""


@dataclass
class Items:
    """The encoded items of one video, and their figures for the index, which `Entry` explains."""

    encoded: Spool | list[bytes]
    clipped: float = 0.0
    accepted: float = 0.0
    still: float = 0.0
    inliers: float = 0.0
    residual: float = 0.0


def fill_in(entry: Entry, audit: Audit, items: Items) -> None:
    """Fill in a row of the index from the decoder's findings and the figures of the items."""
    entry.decoded, entry.declared, entry.fps = audit.decoded, audit.declared or -1, audit.fps
    entry.width, entry.height, entry.sha256 = audit.width, audit.height, audit.sha256
    entry.start, entry.repaired, entry.notes = audit.start, "; ".join(audit.repaired), "; ".join(audit.notes)
    add_figures(entry, items)


def add_figures(entry: Entry, items: Items) -> None:
    """Fill in the figures of the items alone, in a row that has the decoder's findings."""
    entry.clipped, entry.accepted, entry.still = items.clipped, items.accepted, items.still
    entry.inliers, entry.residual = items.inliers, items.residual


def to_items(
    frames: Iterable[Frame], settings: ShardSettings, resources: Resources, entry: Entry, flow: StoredFlow | None = None
) -> Items:
    """Encode a video for the stream of the settings; `entry` and `flow` as in `warped_to_items`.

    Frames are uint8 [H, W, 3] BGR; for flow also [H, W], the brightness of stored ones.
    """
    if isinstance(settings, FrameShards):
        return frames_to_items(frames, settings, resources)
    if isinstance(settings, WarpedShards):
        return warped_to_items(frames, settings, resources, entry, flow)
    return flow_to_items(frames, settings, resources)


def frames_to_items(frames: Iterable[Frame], settings: FrameShards, resources: Resources) -> Items:
    """Encode every frame as a JPEG image (rgb)."""
    items = Items(resources.storage())
    for frame in frames:
        items.encoded.extend([encode_frame(frame, settings.preprocess.jpeg_quality)])
        resources.count(1)
    return items


def flow_to_items(frames: Iterable[Frame], settings: FieldShards, resources: Resources) -> Items:
    """Compute TV-L1 from each frame to the next (flow)."""
    blocks = (
        tvl1.estimate_stored(previous, following, settings.flow, threads=resources.threads())
        for previous, following in _pairs(frames, settings, resources)
    )
    return _pack(blocks, settings, resources)


def warped_to_items(
    frames: Iterable[Frame], settings: WarpedShards, resources: Resources, entry: Entry, flow: StoredFlow | None
) -> Items:
    """Take the camera's motion out of each pair of frames, then compute TV-L1 again (warped).

    The motion is found with the help of `flow` unless `warp.matches` is "tracks". `entry` is the row of the video, from
    which the paths and sizes of its masks follow.
    """
    cameras: list[tvl1.Compensated] = []

    def compensated() -> Iterator[tvl1.StoredFlow]:
        warp = settings.warp
        for previous, following in _pairs(frames, settings, resources):
            first, count = len(cameras), len(previous)
            known = mask = None
            if flow and warp.matches != "tracks":
                known = dequantise(flow(range(first, first + count)), settings.flow.bound)
            if warp.masks is not None:
                excluded = read_masks(Path(warp.masks), entry, first, count + 1, settings.preprocess)
                mask = (excluded[:-1], excluded[1:])
            found = tvl1.compensate(previous, following, known, warp, mask=mask, threads=resources.threads())
            still = tvl1.steady(found, following)
            # Without the images, of which a long video has too many.
            cameras.extend(replace(camera, warped=_NO_IMAGE) for camera in found)
            yield tvl1.estimate_stored(previous, still, settings.flow, threads=resources.threads())

    items = _pack(compensated(), settings, resources)
    accepted = [camera for camera in cameras if camera.accepted]
    items.accepted = len(accepted) / max(len(cameras), 1)
    items.still = sum(camera.still for camera in cameras) / max(len(cameras), 1)
    if accepted:
        items.inliers = float(np.mean([camera.inliers / camera.matches for camera in accepted]))
        items.residual = float(np.mean([camera.residual_px for camera in accepted]))
    return items


def _pairs(
    frames: Iterable[Frame], settings: FieldShards, resources: Resources
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield consecutive grey frames in blocks: (previous, next), each uint8 [pairs, H, W], enough for all threads."""
    greys = (_grey(frame, settings.preprocess) for frame in frames)
    last = list(islice(greys, 1))
    while more := list(islice(greys, max(resources.threads(), BLOCK_PIXELS // last[0].size))):
        images = np.stack(last + more)
        yield images[:-1], images[1:]
        last = more[-1:]


def _grey(frame: Frame, settings: FieldSettings) -> NDArray[np.uint8]:
    """The brightness of a frame, of its stored copy if flow is computed from that."""
    if frame.ndim == 2:
        return frame
    if isinstance(settings, StoredFramesSettings):
        return decode_luma(encode_frame(frame, settings.jpeg_quality))
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8)


def _pack(blocks: Iterable[tvl1.StoredFlow], settings: FieldShards, resources: Resources) -> Items:
    """Compress blocks of fields, and count clipped displacements."""
    items = Items(resources.storage())
    clipped = values = 0
    for block in blocks:
        items.encoded.extend(_encode(block.levels, settings.preprocess.zstd_level, resources.threads()))
        clipped += block.clipped
        values += block.levels.size
        resources.count(len(block.levels))
    items.clipped = clipped / max(values, 1)
    return items


def _encode(fields: NDArray[np.uint8], level: int, threads: int) -> list[bytes]:
    encoded = [b""] * len(fields)

    def encode(index: int) -> None:
        encoded[index] = encode_field(fields[index], level)

    each_pair(encode, len(fields), threads)
    return encoded


def read_masks(folder: Path, entry: Entry, first: int, count: int, size: FieldSettings) -> NDArray[np.bool_]:
    """Read masks of `count` frames of a video from number `first` on: bool [count, H, W], True if excluded.

    The camera's motion must not be looked for where a mask is nonzero (usually on people). The mask of frame i is
    `folder`/<video id>/<i, at least five digits>.png, of the working size or of the video's own; then it is fitted as
    the frames are, to the nearest pixel. If it has several channels, a pixel is excluded by any of the colours.

    Raises:
        InputError: a file is missing, no image, or of another size.
    """
    paths = (folder / entry.video / f"{number:05d}.png" for number in range(first, first + count))
    return np.stack([_read_mask(path, entry, size) for path in paths])


def _read_mask(path: Path, entry: Entry, size: FieldSettings) -> NDArray[np.bool_]:
    if not path.is_file():
        raise InputError(
            f"mask {path} of {entry.video} is missing; warp.masks needs one PNG for each frame of each video, "
            "counted from 00000.png"
        )
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"mask {path} is no image that can be read; write it as PNG, nonzero where excluded")
    width, height = size.width, size.height
    if image.shape[:2] not in ((height, width), (entry.height, entry.width)):
        found = f"{image.shape[1]} x {image.shape[0]}"
        raise InputError(
            f"mask {path} is {found} px; give it the size of the video, {entry.width} x {entry.height} px, "
            f"or the working size, {width} x {height} px"
        )
    excluded = image.any(axis=2).astype(np.uint8)
    if excluded.shape != (height, width):
        excluded = fit_to(excluded, width, height, size.fit, _nearest)
    return np.asarray(excluded, bool)


def _nearest(mask: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
