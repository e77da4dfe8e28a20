"""The data model of a shard: header, rows of the index, quantised displacements, encoded items and checksums."""

import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

import cv2
import h5py
import numpy as np
import zstandard
from numpy.typing import NDArray

from atw.files import digest
from atw.hdf5 import read_attribute

FORMAT = 3
SINGLE = "single"  # stands in place of a dataset's name if a shard holds one video alone
ZERO = 128  # the stored value of no motion
_STREAMS = ("rgb", "flow", "warped")
_AS_JSON = ("settings", "software", "flow")
_LARGEST = {"width": 4096, "height": 4096, "items": 1 << 40}  # sides as in the configuration


@dataclass(frozen=True, kw_only=True)
class Header:
    """The attributes of a shard that its maker sets, in the order in which they are stored; empty ones are not stored.

    Args:
        settings: of the job that made the shard, see `atw.config.ShardSettings`.
        software: versions by package.
        bound: displacements are clipped to this many pixels (flow, warped).
        zero: the stored value of no motion (flow, warped).
        flow: effective parameters of TV-L1, and `backend` (flow, warped).
    """

    stream: str
    dataset: str = ""
    shard: str = ""
    width: int
    height: int
    settings: dict[str, Any]
    software: dict[str, Any] = field(default_factory=dict)
    bound: float = 0.0
    zero: int = 0
    flow: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, attributes: Mapping[str, Any]) -> Self:
        """Check all attributes of a shard, and return those of its maker.

        Raises:
            ValueError, KeyError, TypeError: one is impossible or missing.
        """
        header = cls(**{each.name: attributes[each.name] for each in fields(cls) if each.name in attributes})
        if header.stream not in _STREAMS:
            raise ValueError(f"its stream is {header.stream!r}")
        for name, largest in _LARGEST.items():
            value = attributes[name]
            if not isinstance(value, int) or not 0 <= value <= largest:
                raise ValueError(f"its {name} is {value!r}")
        if not isinstance(attributes["digest"], str) or not isinstance(header.settings, dict):
            raise ValueError("its digest is not text, or its settings are not an object")
        if header.stream != "rgb" and not header.bound > 0:
            raise ValueError(f"its bound is {header.bound!r}")
        return header

    @property
    def item_shape(self) -> tuple[int, int, int]:
        """Shape of a decoded item: (H, W, 3) of a frame, (2, H, W) of a field."""
        return (self.height, self.width, 3) if self.stream == "rgb" else (2, self.height, self.width)

    def attributes(self) -> dict[str, int | float | str]:
        """Return the attributes as they are stored."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        as_json = {name: json.dumps(values[name], sort_keys=True) for name in _AS_JSON if values[name]}
        stored = values | as_json | {"settings": json.dumps(self.settings, sort_keys=True)}
        return {"format": FORMAT} | {name: value for name, value in stored.items() if value}


def read_attributes(file: h5py.File) -> dict[str, Any]:
    """Return the attributes of a shard, those that are JSON parsed; ValueError as in `read_attribute`."""
    found = {name: read_attribute(file, name) for name in file.attrs}
    return found | {name: json.loads(str(found[name])) for name in _AS_JSON if name in found}


@dataclass
class Entry:
    """One video of a shard: a row of `index`.

    Args:
        video: id.
        label: class name.
        first: number of its first item.
        count: number of its items, 0 if quarantined.
        decoded: frames decoded.
        declared: frames that its header promises, -1 if it does not say.
        fps: mean frames per second, 0 if unknown.
        start: when the first frame is shown on the file's own clock, seconds.
        width: original width, pixels.
        height: original height, pixels.
        repaired: faults of the file that were mended, "" if there are none.
        notes: harmless peculiarities, "" if there are none.
        quarantined: why the video is left out, "" if it is not.
        sha256: of the video file.
        clipped: share of displacements beyond the bound (flow, warped).
        accepted: share of pairs whose homography was accepted (warped).
        still: share of pairs between which the camera stood still, which are accepted too (warped).
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


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Compare `Shard.files` of two shards; return the videos that were read from different files."""
    return [video for video, content in one.items() if other.get(video, content) != content]


def checksum(attributes: Mapping[str, Any], entries: Sequence[Entry]) -> str:
    """Compute the attribute `checksum`: the digest of the other attributes and the rows of the index."""
    covered = {name: value for name, value in attributes.items() if name != "checksum"}
    return digest([covered, [vars(entry) for entry in entries]])


def index_bytes(entries: Sequence[Entry], times: str) -> bytes:
    """Return the bytes that the attribute `digest` covers beside the items; `times` is the attribute of that name."""
    return json.dumps([asdict(entry) for entry in entries], sort_keys=True).encode() + times.encode()


def times_digest(offsets: NDArray[np.int64], edges: NDArray[np.float64]) -> str:
    """Compute the attribute `times`: the SHA-256 of the bytes of `time_offset` and of `time`."""
    return hashlib.sha256(offsets.tobytes() + edges.tobytes()).hexdigest()


def quantise(flow: NDArray[np.float32], bound: float) -> NDArray[np.uint8]:
    """Store displacements in pixels as levels 1..255: round(128 + 255 d / (2 bound)), half to even, clipped.

    Levels are 2 bound / 255 pixels apart, and no motion is exactly level 128.
    """
    levels: NDArray[np.uint8] = np.clip(np.rint(flow * np.float32(255 / (2 * bound))) + ZERO, 1, 255).astype(np.uint8)
    return levels


def dequantise(levels: NDArray[np.uint8], bound: float) -> NDArray[np.float32]:
    """Return displacements in pixels; the error of those that were not clipped is at most half a level."""
    return (levels.astype(np.float32) - ZERO) * np.float32(2 * bound / 255)


def encode_frame(frame: NDArray[np.uint8], quality: int) -> bytes:
    """Encode a BGR frame as JPEG with 4:2:0 chroma."""
    chroma = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420)
    _, encoded = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality, *chroma])
    return encoded.tobytes()


def encode_field(levels: NDArray[np.uint8], level: int) -> bytes:
    """Encode a quantised field [2, H, W] as the Zstandard frame that HDF5's filter reads."""
    compressor = zstandard.ZstdCompressor(level=level, write_content_size=True)
    return compressor.compress(np.ascontiguousarray(levels).tobytes())


def decode_frame(stored: bytes) -> NDArray[np.uint8]:
    """Decode a JPEG image to RGB, [H, W, 3]; ValueError if it is none."""
    image = _decode_image(stored, cv2.IMREAD_COLOR)
    rgb: NDArray[np.uint8] = cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    return rgb


def decode_luma(stored: bytes) -> NDArray[np.uint8]:
    """Decode the brightness of a JPEG image, [H, W]; ValueError if it is none."""
    return _decode_image(stored, cv2.IMREAD_GRAYSCALE)


def _decode_image(stored: bytes, colours: int) -> NDArray[np.uint8]:
    # Do not turn a frame: an image of somebody else may ask for that.
    image = cv2.imdecode(np.frombuffer(stored, np.uint8), colours | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise ValueError("no image")
    return np.asarray(image, np.uint8)


class _PerThread(threading.local):
    """A decompressor takes a tenth of a field's time to set up, and serves one thread at a time."""

    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor()


_PER_THREAD = _PerThread()


def decode_field(stored: bytes, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Decode a Zstandard frame to a read-only field of that shape.

    HDF5's own filter returns arbitrary memory for a frame that is cut off.
    """
    return np.frombuffer(_PER_THREAD.decompressor.decompress(stored), np.uint8).reshape(shape)


def places_of(numbers: Sequence[int] | NDArray[np.integer]) -> dict[int, list[int]]:
    """Map each number to its places in `numbers`. The keys rise, which is the fastest order to read a file in."""
    places: dict[int, list[int]] = {}
    for place in np.argsort(numbers, kind="stable").tolist():
        places.setdefault(int(numbers[place]), []).append(place)
    return places
