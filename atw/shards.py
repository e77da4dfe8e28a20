"""The shard format, version 2: one HDF5 file per dataset, stream and shard, readable with plain h5py and hdf5plugin.

    rgb           data    uint8 [bytes]                 JPEG images one after the other
                  offset  int64 [items + 1]             image i is data[offset[i]:offset[i + 1]]
    flow, warped  data    uint8 [items, 2, H, W]        a chunk a field, compressed with Zstandard; channel 0 is x
    all           crc32   uint32 [items]                of each item's stored bytes: the image, or the compressed chunk
                  index/* one row a video, sorted by id (see `Entry`); a quarantined video has a reason and no items
    attributes    format, stream, dataset, shard, width, height, bound, zero, items, digest, checksum; as JSON settings,
                  software and flow, the effective parameters and the backend of flow and warped

A video's items are `first` to `first + count - 1`: n frames in rgb, n - 1 fields in flow and warped, field i going from
frame i to frame i + 1. Displacements are quantised to 1..255 with zero at 128, so a horizontal flip is exactly 256 - v.
`digest` is the SHA-256 over index and items, `checksum` that of the canonical JSON form of the list of the other
attributes and the rows of the index; nothing in the file depends on when, where or how fast it was written.
"""

import hashlib
import json
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any, Protocol

import cv2
import h5py
import hdf5plugin
import numpy as np
import zstandard
from numpy.typing import NDArray

from atw.files import InputError, atomic_path, digest

FORMAT = 2
ZERO = 128  # the stored value of no motion
_COPY_BYTES = 1 << 24


class Encoded(Protocol):
    """Encoded items of a video: a list, or something that does not keep them in memory."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[bytes]: ...


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
        fps: frames a second, 0 where unknown.
        width: original width, pixels.
        height: original height, pixels.
        repaired: what was mended, "" when nothing was.
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
    width: int = 0
    height: int = 0
    repaired: str = ""
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


class Writer:
    """Adds videos to a shard in order of their ids; items come encoded, so that many threads can encode them."""

    def __init__(self, file: h5py.File, spool: IO[bytes], attributes: dict[str, Any]) -> None:
        self._file = file
        self._spool = spool
        self._rgb = attributes["stream"] == "rgb"
        self._entries: list[Entry] = []
        self._items = 0
        self._digest = hashlib.sha256()
        self._offsets = [0]
        self._checksums: list[int] = []
        self._describe({"format": FORMAT, **attributes})
        if not self._rgb:
            shape = (2, int(attributes["height"]), int(attributes["width"]))
            level = attributes["settings"]["preprocess"]["zstd_level"]
            self._data = file.create_dataset(
                "data",
                (0, *shape),
                "uint8",
                maxshape=(None, *shape),
                chunks=(1, *shape),
                **hdf5plugin.Zstd(clevel=level),
            )

    def _describe(self, attributes: dict[str, Any]) -> None:
        for name, value in attributes.items():
            text = json.dumps(value, sort_keys=True) if isinstance(value, dict) else value
            # Fixed length: HDF5 keeps no checksum of variable-length strings, and can hang on damaged ones.
            self._file.attrs[name] = np.bytes_(text.encode()) if isinstance(text, str) else text

    def add(self, entry: Entry, items: Encoded) -> None:
        """Append a video; `first` and `count` of the entry are filled in here."""
        entry.first, entry.count = self._items, len(items)
        if self._rgb:
            for item in items:
                self._spool.write(item)
                self._offsets.append(self._offsets[-1] + len(item))
        else:
            self._data.resize(self._items + len(items), axis=0)
            for number, item in enumerate(items, start=self._items):
                self._data.id.write_direct_chunk((number, 0, 0, 0), item)
        for item in items:
            self._checksums.append(zlib.crc32(item))
            self._digest.update(item)
        self._items += len(items)
        self._entries.append(entry)

    def finish(self) -> str:
        """Write the index and the digest; returns the digest."""
        if self._rgb:
            # A contiguous dataset needs its size, known only now; a chunked one would read far more than a frame.
            data = self._file.create_dataset("data", (self._offsets[-1],), "uint8")
            self._spool.seek(0)
            for start in range(0, self._offsets[-1], _COPY_BYTES):
                piece = np.frombuffer(self._spool.read(_COPY_BYTES), np.uint8)
                data[start : start + len(piece)] = piece
            self._file["offset"] = np.array(self._offsets, np.int64)
        self._file["crc32"] = np.array(self._checksums, np.uint32)
        index = self._file.create_group("index")
        for name, column in _columns(self._entries).items():
            index[name] = column
        self._digest.update(json.dumps([asdict(entry) for entry in self._entries], sort_keys=True).encode())
        self._describe({"items": self._items, "digest": self._digest.hexdigest()})
        self._describe({"checksum": _checksum(_attributes(self._file), self._entries)})
        return self._digest.hexdigest()


def _columns(entries: Sequence[Entry]) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {}
    for column in fields(Entry):
        values = [getattr(entry, column.name) for entry in entries]
        if column.type is str:
            # Fixed length: variable-length strings read 14 times slower.
            encoded = [value.encode() for value in values]
            columns[column.name] = np.array(encoded, f"S{max([1, *map(len, encoded)])}")
        else:
            columns[column.name] = np.array(values, np.int64 if column.type is int else np.float64)
    return columns


@contextmanager
def create(path: Path, attributes: dict[str, Any]) -> Iterator[Writer]:
    """A writer whose shard appears under `path` whole or not at all.

    Args:
        path: of the shard.
        attributes: stream, dataset, shard, width, height, bound, zero, settings and software.
    """
    with (
        atomic_path(path) as temporary,
        tempfile.TemporaryFile(dir=path.parent) as spool,
        h5py.File(temporary, "w", libver=("v110", "v110")) as file,
    ):
        writer = Writer(file, spool, attributes)
        yield writer
        writer.finish()


class Shard:
    """A shard opened for reading.

    The file is opened read-only at the first access in each process: an HDF5 handle must not cross a fork.

    Raises:
        InputError: not a shard, of another format version, or damaged; names the file and the remedy.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._reading():
            file = self._file = h5py.File(path, "r")
            self.attributes = _attributes(file)
            if self.attributes.get("format") != FORMAT:
                raise InputError(
                    f"shard {path} has format {self.attributes.get('format')}, this version reads {FORMAT}; "
                    "delete the file, and the workflow makes it again"
                )
            self.entries = _entries(file)
            self._offsets = file["offset"][:] if self.stream == "rgb" else None
            self._checksums = file["crc32"][:]
            self._data = file["data"]
            self._check_index()

    @property
    def stream(self) -> str:
        """rgb, flow or warped."""
        return str(self.attributes["stream"])

    @property
    def digest(self) -> str:
        """SHA-256 over index and items, as the writer recorded it."""
        return str(self.attributes["digest"])

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise InputError(f"shard {self.path} does not exist; the workflow makes it") from None
        except (OSError, KeyError, ValueError, RuntimeError) as error:
            raise InputError(
                f"shard {self.path} is damaged or no shard ({error}); delete the file, and the workflow makes it again"
            ) from None

    def _check_index(self) -> None:
        # HDF5 itself would believe a wrong label, range or setting.
        if self.attributes["checksum"] != _checksum(self.attributes, self.entries):
            raise ValueError("the checksum of attributes and index differs")
        items = int(self.attributes["items"])
        stored = len(self._checksums) if self.stream == "rgb" else len(self._data)
        listed = sum(entry.count for entry in self.entries)
        if not items == stored == listed:
            raise ValueError(f"{items} items promised, {listed} in the index, {stored} stored")

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of a field: (2, H, W)."""
        return (2, int(self.attributes["height"]), int(self.attributes["width"]))

    def frames(self, entry: Entry, numbers: Sequence[int]) -> NDArray[np.uint8]:
        """Frames of a video in RGB: uint8 [len(numbers), H, W, 3]."""
        assert self._offsets is not None
        out = np.empty((len(numbers), self.attributes["height"], self.attributes["width"], 3), np.uint8)
        for row, number in enumerate(numbers):
            item = entry.first + int(number)
            with self._reading():
                blob = self._data[self._offsets[item] : self._offsets[item + 1]]
                self._check_item(blob.tobytes(), item, f"frame {number} of {entry.video}")
                cv2.cvtColor(cv2.imdecode(blob, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB, dst=out[row])
        return out

    def fields(self, entry: Entry, first: int, count: int) -> NDArray[np.uint8]:
        """`count` consecutive quantised fields of a video: uint8 [count, 2, H, W]."""
        out = np.empty((count, *self._data.shape[1:]), np.uint8)
        start = entry.first + first
        with self._reading():
            for item in range(start, start + count):
                # HDF5's Zstandard filter does not look at the checksum inside the frame.
                _, chunk = self._data.id.read_direct_chunk((item, 0, 0, 0))
                self._check_item(chunk, item, f"field {item - entry.first} of {entry.video}")
            self._data.read_direct(out, np.s_[start : start + count])
        return out

    def _check_item(self, stored: bytes, item: int, name: str) -> None:
        if zlib.crc32(stored) != self._checksums[item]:
            raise ValueError(f"the checksum of {name} differs")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "Shard":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _checksum(attributes: dict[str, Any], entries: Sequence[Entry]) -> str:
    covered = {name: value for name, value in attributes.items() if name != "checksum"}
    return digest([covered, [asdict(entry) for entry in entries]])


def _attributes(file: h5py.File) -> dict[str, Any]:
    attributes = {name: value.item() if isinstance(value, np.generic) else value for name, value in file.attrs.items()}
    attributes = {name: value.decode() if isinstance(value, bytes) else value for name, value in attributes.items()}
    for name in ("settings", "software", "flow"):
        if name in attributes:
            attributes[name] = json.loads(attributes[name])
    return attributes


def _entries(file: h5py.File) -> list[Entry]:
    columns = {}
    for column in fields(Entry):
        values = file["index"][column.name][:]
        columns[column.name] = [value.decode() for value in values] if column.type is str else values.tolist()
    return [Entry(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]
