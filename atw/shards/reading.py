"""Reading a shard. It may be damaged, or come from someone who means harm: nothing in it is believed unchecked."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import h5py
import hdf5plugin
import numpy as np
import zstandard
from numpy.typing import NDArray

from atw.files import InputError, digest
from atw.hdf5 import DAMAGE, dataset, filters, open_file, read_attribute, read_whole
from atw.shards.format import (
    FORMAT,
    Entry,
    Header,
    checksum,
    decode_field,
    decode_frame,
    decode_luma,
    places_of,
    read_attributes,
    times_digest,
)
from atw.videos.times import Times

Numbers = Sequence[int] | NDArray[np.integer]
REMEDY = "delete the file, and the workflow makes it again"
_END_OF_IMAGE = b"\xff\xd9"


class Shard:
    """A shard opened for reading.

    The file is opened read-only in this process: an HDF5 handle must not cross a fork.

    Args:
        path: of the file.
        seal: the `seal` of the shard when it was opened before. The index, which takes most of the time of opening, is
            then not read and checked again, and `entries` is empty.

    Attributes:
        header: the attributes that its maker set.
        entries: the rows of the index, sorted by video id.
        digest: SHA-256 over items, index and times, as the writer recorded it.
        times_digest: SHA-256 over the times, as the writer recorded it.
        seal: digest of the attributes, among them a checksum of the index and the SHA-256 of the items.

    Raises:
        InputError: not a shard, of another format version, damaged, or not the one that was opened before; names the
            file and the remedy.
    """

    def __init__(self, path: Path, *, seal: str | None = None) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self._times: dict[str, Times] = {}
        with self._reading():
            self._file = open_file(path)
            try:
                self._open(seal)
            except BaseException:
                self._file.close()
                raise

    def _open(self, seal: str | None) -> None:
        file = self._file
        found = read_attribute(file, "format") if "format" in file.attrs else None
        if found != FORMAT:
            raise InputError(f"shard {self.path} has format {found}, this version reads {FORMAT}; {REMEDY}")
        attributes = read_attributes(file)
        self.seal = digest(attributes)
        if seal is None:
            self.entries = _read_index(file)
            # HDF5 itself would believe a wrong label, range or setting.
            if attributes["checksum"] != checksum(attributes, self.entries):
                raise ValueError("the checksum of attributes and index differs")
        elif seal != self.seal:
            raise InputError(f"shard {self.path} was replaced or damaged while it was in use; start this job again")
        self.header = Header.read(attributes)
        self.digest = str(attributes["digest"])
        self.times_digest = str(attributes["times"])
        items = int(attributes["items"])
        self._checksums = read_whole(file, "crc32", np.uint32, (items,))
        self._data = dataset(file, "data")
        self._offsets = self._read_offsets(items) if self.stream == "rgb" else None
        if self.stream != "rgb":
            self._check_fields(items)
        if seal is None:
            self._check_ranges(items)

    @property
    def stream(self) -> str:
        """rgb, flow or warped."""
        return self.header.stream

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 of the file that each video was read from, "" if none could be read."""
        return {entry.video: entry.sha256 for entry in self.entries}

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise InputError(
                f"shard {self.path} does not exist; the workflow makes it, unless another folder of shards is meant"
            ) from None
        except (*DAMAGE, zstandard.ZstdError) as error:
            reason = str(error).strip() or type(error).__name__
            raise InputError(f"shard {self.path} is damaged or no shard ({reason}); {REMEDY}") from None

    def _read_offsets(self, items: int) -> NDArray[Any]:
        offsets = read_whole(self._file, "offset", np.int64, (items + 1,))
        data = self._data
        if data.dtype != np.uint8 or data.ndim != 1 or data.chunks or data.id.get_storage_size() != len(data):
            raise ValueError("data is not a block of bytes")
        if not _rises(offsets, len(data)):
            raise ValueError("the offsets of the images are impossible")
        return offsets

    def _check_fields(self, items: int) -> None:
        data, shape = self._data, self.header.item_shape
        if (data.dtype, data.chunks, filters(data)) != (np.uint8, (1, *shape), [hdf5plugin.Zstd.filter_id]):
            raise ValueError("data does not have one chunk per field, compressed with Zstandard")
        if data.shape != (items, *shape):
            raise ValueError(f"{items} items promised, data has the shape {data.shape}")

    def _check_ranges(self, items: int) -> None:
        listed = sum(entry.count for entry in self.entries)
        if items != listed:
            raise ValueError(f"{items} items promised, {listed} in the index")
        if len(self.files) < len(self.entries):
            raise ValueError("a video is listed twice")
        expected = 0
        for entry in self.entries:
            if entry.count < 0 or entry.first != expected:
                last = entry.first + entry.count - 1
                raise ValueError(f"{entry.video!r} has the impossible items {entry.first} to {last}")
            expected += entry.count

    def stored(self, entry: Entry, number: int) -> bytes:
        """Return the bytes of an item as they are in the file, checked: a JPEG image, or a Zstandard frame.

        Raises:
            InputError: damaged; names the file, the item, the video and the remedy.
        """
        _check_numbers(entry, [number])
        with self._reading():
            return self._item(entry, number)

    def _item(self, entry: Entry, number: int) -> bytes:
        item = entry.first + number
        name = self._name(entry, number)
        if self._offsets is not None:
            stored: bytes = self._data[self._offsets[item] : self._offsets[item + 1]].tobytes()
        else:
            # HDF5's Zstandard filter does not look at the checksum inside the frame.
            unfiltered, stored = self._data.id.read_direct_chunk((item, 0, 0, 0))
            if unfiltered:
                raise ValueError(f"{name} is not compressed")
        if zlib.crc32(stored) != self._checksums[item]:
            raise ValueError(f"the checksum of {name} differs")
        height, width = self.header.height, self.header.width
        # A decoder takes memory for whatever size the item declares.
        if self._offsets is not None:
            fits = _declares_size(stored, height, width)
        else:
            fits = zstandard.frame_content_size(stored) == 2 * height * width
        if not fits:
            raise ValueError(f"{name} is not of {width} x {height} px")
        # Some decoders fill what is missing of an image with whatever lies in memory.
        if self._offsets is not None and not stored.endswith(_END_OF_IMAGE):
            raise ValueError(f"{name} is cut off")
        return stored

    def _name(self, entry: Entry, number: int) -> str:
        return f"{'frame' if self.stream == 'rgb' else 'field'} {number} of {entry.video}"

    def items(self, entry: Entry, numbers: Numbers) -> Iterator[tuple[list[int], NDArray[np.uint8]]]:
        """Yield frames [H, W, 3] in RGB, or quantised fields [2, H, W], of a video; the array may be read-only.

        Each one is decoded once, in the order of the file, and comes with its places in `numbers`.
        """
        _check_numbers(entry, numbers)
        for number, places in places_of(numbers).items():
            with self._reading():
                item = self._decoded(entry, number)
            yield places, item

    def _decoded(self, entry: Entry, number: int) -> NDArray[np.uint8]:
        stored = self._item(entry, number)
        name = self._name(entry, number)
        if self.stream != "rgb":
            try:
                return decode_field(stored, self.header.item_shape)
            except zstandard.ZstdError as error:
                raise ValueError(f"{name} cannot be unpacked: {error}") from None
        try:
            image = decode_frame(stored)
        except ValueError:
            raise ValueError(f"{name} is no image") from None
        if image.shape != self.header.item_shape:
            raise ValueError(f"{name} has the shape {image.shape} when decoded")
        return image

    def luma(self, entry: Entry, number: int) -> NDArray[np.uint8]:
        """Return the brightness of a frame of a video: uint8 [H, W]."""
        stored = self.stored(entry, number)
        with self._reading():
            return decode_luma(stored)

    def frames(self, entry: Entry, numbers: Numbers) -> NDArray[np.uint8]:
        """Return frames of a video in RGB: uint8 [len(numbers), H, W, 3]."""
        return self._gathered(entry, numbers)

    def fields(self, entry: Entry, numbers: Numbers) -> NDArray[np.uint8]:
        """Return quantised fields of a video: uint8 [len(numbers), 2, H, W]."""
        return self._gathered(entry, numbers)

    def _gathered(self, entry: Entry, numbers: Numbers) -> NDArray[np.uint8]:
        out = np.empty((len(numbers), *self.header.item_shape), np.uint8)
        for places, item in self.items(entry, numbers):
            out[places] = item
        return out

    def times(self, entry: Entry) -> Times:
        """Return when each frame of a video is shown; field i of a flow stream leads from frame i to frame i + 1.

        The shard must have been opened without a seal.

        Raises:
            InputError: damaged; names the file and the remedy.
        """
        if not self._times:
            with self._reading():
                self._times = self._read_times()
        return self._times[entry.video]

    def _read_times(self) -> dict[str, Times]:
        offsets = read_whole(self._file, "time_offset", np.int64, (len(self.entries) + 1,))
        edges = read_whole(self._file, "time", np.float64, (None,))
        if times_digest(offsets, edges) != self.times_digest:
            raise ValueError("the checksum of the times differs")
        if not _rises(offsets, len(edges)):
            raise ValueError("the offsets of the times are impossible")
        found = {}
        for entry, (first, end) in zip(self.entries, pairwise(offsets.tolist()), strict=True):
            frames = entry.count + (self.stream != "rgb") if entry.count else 0
            own = edges[first:end]
            if not _are_possible(own, frames) or not 0 <= entry.fps < np.inf:
                raise ValueError(f"the times of {entry.video} are impossible")
            found[entry.video] = Times.of(own, frames=frames, fps=entry.fps)
        return found

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_numbers(entry: Entry, numbers: Numbers) -> None:
    """Refuse items beyond those of one video, which are those of the next."""
    for number in numbers:
        if not 0 <= number < entry.count:
            raise IndexError(f"{entry.video} has {entry.count} items, and no item {number}")


def _read_index(file: h5py.File) -> list[Entry]:
    rows = len(dataset(file, "index/video"))
    columns = {}
    for column in fields(Entry):
        dtype = bytes if column.type is str else np.int64 if column.type is int else np.float64
        values = read_whole(file, f"index/{column.name}", dtype, (rows,))
        columns[column.name] = [value.decode() for value in values] if column.type is str else values.tolist()
    return [Entry(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def _rises(offsets: NDArray[np.int64], end: int) -> bool:
    return bool(offsets[0] == 0 and offsets[-1] == end and (np.diff(offsets) >= 0).all())


def _are_possible(edges: NDArray[np.float64], frames: int) -> bool:
    if not len(edges):
        return True
    if not frames or len(edges) != frames + 1 or not np.isfinite(edges).all():
        return False
    return bool(edges[0] == 0 and edges[-1] > 0 and (np.diff(edges) >= 0).all())


def _declares_size(image: bytes, height: int, width: int) -> bool:
    """Say whether a JPEG image declares this size.

    Own code, because it is strict: nothing may stand between two markers.
    """
    place = 2
    while image[:2] == b"\xff\xd8" and place + 9 <= len(image) and image[place] == 0xFF:
        marker, length = image[place + 1], int.from_bytes(image[place + 2 : place + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return struct.unpack_from(">HH", image, place + 5) == (height, width)
        place += 2 + length
    return False
