"""Rows of the index, attributes, quantised displacements, and items as they are stored."""

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import h5py
import numpy as np
import zstandard
from numpy.typing import NDArray

from atw.files import digest
from atw.hdf5 import read_attribute

# A frame is as its pixels lie: an image of somebody else may ask to be turned when it is shown.
_DECODING = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION

FORMAT = 3
SINGLE = "single"  # stands in place of a dataset's name where a shard is of one video alone
ZERO = 128  # the stored value of no motion
_JSON = ("settings", "software", "flow")


class _OfThread(threading.local):
    """A decompressor takes a tenth of a field's time to set up, and serves one thread at a time."""

    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor()


_OF_THREAD = _OfThread()


@dataclass
class Entry:
    """One video of a shard: a row of `index`.

    Args:
        video: id.
        label: class name.
        first: its first item.
        count: its items, 0 when quarantined.
        decoded: frames decoded.
        declared: frames its header promises, -1 where it says nothing.
        fps: frames a second on average, 0 where unknown.
        start: when the first frame is shown on the file's own clock, seconds.
        width: original width, pixels.
        height: original height, pixels.
        repaired: what was mended, "" when nothing was.
        notes: what is worth knowing and wrong with nothing.
        quarantined: why the video is left out, "" when it is not.
        sha256: of the video file.
        clipped: share of displacements beyond the bound (flow, warped).
        accepted: share of pairs whose homography was accepted (warped).
        still: share of pairs between which the camera stood still; they are among the accepted (warped).
        inliers: mean share of matches that agree with the homography (warped).
        residual: mean distance of those matches from it, pixels (warped).
    """

    video: str
    label: str
    first: int = 0
    count: int = 0
    decoded: int = 0
    declared: int = -1
    fps: float = 0.0
    start: float = 0.0
    width: int = 0
    height: int = 0
    repaired: str = ""
    notes: str = ""
    quarantined: str = ""
    sha256: str = ""
    clipped: float = 0.0
    accepted: float = 0.0
    still: float = 0.0
    inliers: float = 0.0
    residual: float = 0.0


def quantise(flow: NDArray[np.float32], bound: float) -> NDArray[np.uint8]:
    """Displacements in pixels as 1..255: round(128 + 255 d / (2 bound)), half to even, clipped and never 0.

    The step, 2 bound / 255 pixels, is the one of the field; only zero sits on a level of its own.
    """
    levels: NDArray[np.uint8] = np.clip(np.rint(flow * np.float32(255 / (2 * bound))) + ZERO, 1, 255).astype(np.uint8)
    return levels


def dequantise(levels: NDArray[np.uint8], bound: float) -> NDArray[np.float32]:
    """Displacements in pixels from stored levels, off by half a level (bound / 255 pixels) at most unless clipped."""
    return (levels.astype(np.float32) - ZERO) * np.float32(2 * bound / 255)


def encode_frame(frame: NDArray[np.uint8], quality: int) -> bytes:
    """A BGR frame as JPEG with 4:2:0 chroma."""
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    ]
    _, encoded = cv2.imencode(".jpg", frame, options)
    return encoded.tobytes()


def encode_field(field: NDArray[np.uint8], level: int) -> bytes:
    """A quantised field [2, H, W] as the Zstandard frame that HDF5's filter reads."""
    compressor = zstandard.ZstdCompressor(level=level, write_content_size=True)
    return compressor.compress(np.ascontiguousarray(field).tobytes())


def decode_frame(stored: bytes) -> NDArray[np.uint8]:
    """A frame in RGB, [H, W, 3], from its JPEG image; ValueError where it is none."""
    image = cv2.imdecode(np.frombuffer(stored, np.uint8), _DECODING)
    if image is None:
        raise ValueError("no image")
    rgb: NDArray[np.uint8] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    return rgb


def decode_field(stored: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """A field from its Zstandard frame; the array cannot be written to.

    HDF5's own filter gives what lies in memory where a frame is cut off.
    """
    return np.frombuffer(_OF_THREAD.decompressor.decompress(stored), np.uint8).reshape(shape)


def places_of(numbers: Sequence[int] | NDArray[np.integer]) -> dict[int, list[int]]:
    """At which places each number stands, in rising order of the numbers, in which a file is best read."""
    places: dict[int, list[int]] = {}
    for place in np.argsort(numbers, kind="stable").tolist():
        places.setdefault(int(numbers[place]), []).append(place)
    return places


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """The videos that two shards were made from different files of, by what `Shard.files` says of each."""
    return [video for video, content in one.items() if other.get(video, content) != content]


def checksum(attributes: dict[str, Any], entries: Sequence[Entry]) -> str:
    """What the attribute `checksum` is: the digest of the other attributes and the rows of the index."""
    covered = {name: value for name, value in attributes.items() if name != "checksum"}
    return digest([covered, [vars(entry) for entry in entries]])


def index_bytes(entries: Sequence[Entry], times: str) -> bytes:
    """What the attribute `digest` covers beside the items; `times` is the attribute of that name."""
    return json.dumps([asdict(entry) for entry in entries], sort_keys=True).encode() + times.encode()


def times_digest(offsets: NDArray[np.int64], edges: NDArray[np.float64]) -> str:
    """What the attribute `times` is: the SHA-256 of the bytes of `time_offset` and of `time`."""
    return hashlib.sha256(offsets.tobytes() + edges.tobytes()).hexdigest()


def read_attributes(file: h5py.File) -> dict[str, Any]:
    """The attributes of a shard, those that are JSON parsed; ValueError as in `read_attribute`."""
    found = {name: read_attribute(file, name) for name in file.attrs}
    return found | {name: json.loads(str(found[name])) for name in _JSON if name in found}
