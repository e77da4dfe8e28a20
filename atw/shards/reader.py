"""Reading a shard, which may be damaged, or come from someone who means harm: nothing in it is believed unchecked."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import zstandard
from numpy.typing import NDArray

from atw.files import InputError, digest
from atw.hdf5 import DAMAGE, dataset, filters, open_file, read_attribute, read_whole
from atw.shards.layout import (
    FORMAT,
    Entry,
    checksum,
    decode_field,
    decode_frame,
    places_of,
    read_attributes,
)
from atw.shards.times import read_times
from atw.videos.times import Times

Numbers = Sequence[int] | NDArray[np.integer]
REMEDY = "delete the file, and the workflow makes it again"
_STREAMS = ("rgb", "flow", "warped")
_MARK = "shard"  # the attribute that every version of the format has, and score files have not
_LARGEST_SIDE_PX = 4096  # as in the configuration
_END_OF_IMAGE = b"\xff\xd9"


class Shard:
    """A shard opened for reading.

    The file is opened read-only in this process: an HDF5 handle must not cross a fork.

    Args:
        path: of the file.
        seal: what `seal` was when the shard was opened before. Its index is then not read and checked again, which is
            most of the time that opening takes, and `entries` is empty.

    Raises:
        InputError: not a shard, of another format version, damaged, or not the one that was opened before; names the
            file and the remedy.
    """

    def __init__(self, path: Path, *, seal: str | None = None) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self._times: dict[str, Times] | None = None
        with self._reading():
            file = self._file = open_file(path)
        try:
            with self._reading():
                self._open(file, seal)
        except BaseException:
            file.close()
            raise

    def _open(self, file: h5py.File, seal: str | None) -> None:
        found = read_attribute(file, "format") if "format" in file.attrs else None
        if found != FORMAT:
            raise InputError(f"shard {self.path} has format {found}, this version reads {FORMAT}; {REMEDY}")
        self.attributes = read_attributes(file)
        if seal is None:
            self.entries = _entries(file)
            # HDF5 itself would believe a wrong label, range or setting.
            if self.attributes["checksum"] != checksum(self.attributes, self.entries):
                raise ValueError("the checksum of attributes and index differs")
        elif seal != self.seal:
            raise InputError(f"shard {self.path} was replaced or damaged while it was in use; start this job again")
        self._check_attributes()
        items = int(self.attributes["items"])
        self._checksums = read_whole(file, "crc32", np.uint32, (items,))
        self._data = dataset(file, "data")
        self._offsets = self._checked_offsets(file, items) if self.stream == "rgb" else None
        if self.stream != "rgb":
            self._check_fields(items)
        if seal is None:
            self._check_ranges(items)

    @property
    def seal(self) -> str:
        """Digest of the attributes, among them a checksum of the index and the SHA-256 of the items."""
        return digest(self.attributes)

    @property
    def stream(self) -> str:
        """rgb, flow or warped."""
        return str(self.attributes["stream"])

    @property
    def digest(self) -> str:
        """SHA-256 over index and items, as the writer recorded it."""
        return str(self.attributes["digest"])

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 of the file that each video was read from, "" of none that could be read."""
        return {entry.video: entry.sha256 for entry in self.entries}

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise InputError(f"shard {self.path} does not exist; the workflow makes it") from None
        except (*DAMAGE, zstandard.ZstdError) as error:
            reason = str(error).strip() or type(error).__name__
            raise InputError(f"shard {self.path} is damaged or no shard ({reason}); {REMEDY}") from None

    def _check_attributes(self) -> None:
        if self.stream not in _STREAMS:
            raise ValueError(f"its stream is {self.stream!r}")
        for name, largest in (("width", _LARGEST_SIDE_PX), ("height", _LARGEST_SIDE_PX), ("items", 1 << 40)):
            value = self.attributes[name]
            if not isinstance(value, int) or not 0 <= value <= largest:
                raise ValueError(f"its {name} is {value!r}")
        if not isinstance(self.attributes["digest"], str) or not isinstance(self.attributes["settings"], dict):
            raise ValueError("its digest or its settings are no such thing")
        if self.stream != "rgb" and not self.attributes["bound"] > 0:
            raise ValueError(f"its bound is {self.attributes['bound']!r}")

    def _checked_offsets(self, file: h5py.File, items: int) -> NDArray[Any]:
        offsets = read_whole(file, "offset", np.int64, (items + 1,))
        data = self._data
        if data.dtype != np.uint8 or data.ndim != 1 or data.chunks or data.id.get_storage_size() != len(data):
            raise ValueError("data is not a block of bytes")
        if offsets[0] != 0 or offsets[-1] != len(data) or (np.diff(offsets) < 0).any():
            raise ValueError("the offsets of the images are impossible")
        return offsets

    def _check_fields(self, items: int) -> None:
        data = self._data
        form = (data.dtype, data.chunks, filters(data))
        if form != (np.uint8, (1, *self.item_shape), [hdf5plugin.Zstd.filter_id]):
            raise ValueError("data is not chunks of a field each, compressed with Zstandard")
        if data.shape != (items, *self.item_shape):
            raise ValueError(f"{items} items promised, data has the shape {data.shape}")

    def _check_ranges(self, items: int) -> None:
        listed = sum(entry.count for entry in self.entries)
        if items != listed:
            raise ValueError(f"{items} items promised, {listed} in the index")
        if len({entry.video for entry in self.entries}) < len(self.entries):
            raise ValueError("a video is listed twice")
        firsts = [*(entry.first for entry in self.entries), items]
        for entry, (first, following) in zip(self.entries, pairwise(firsts), strict=True):
            if entry.count < 0 or first + entry.count != following or first < 0:
                raise ValueError(f"{entry.video!r} has the impossible items {first} to {first + entry.count - 1}")

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of a field: (2, H, W)."""
        return (2, int(self.attributes["height"]), int(self.attributes["width"]))

    def stored(self, entry: Entry, number: int) -> bytes:
        """The bytes of an item of a video as they are in the file, checked: a JPEG image, or a Zstandard frame.

        Raises:
            InputError: damaged; names the file, the item, the video and the remedy.
        """
        _check_numbers(entry, [number])
        with self._reading():
            return self._item(entry, number)

    def _item(self, entry: Entry, number: int) -> bytes:
        item = entry.first + number
        name = f"{'frame' if self.stream == 'rgb' else 'field'} {number} of {entry.video}"
        if self._offsets is not None:
            stored: bytes = self._data[self._offsets[item] : self._offsets[item + 1]].tobytes()
        else:
            # HDF5's Zstandard filter does not look at the checksum inside the frame.
            unfiltered, stored = self._data.id.read_direct_chunk((item, 0, 0, 0))
            if unfiltered:
                raise ValueError(f"{name} is not compressed")
        if zlib.crc32(stored) != self._checksums[item]:
            raise ValueError(f"the checksum of {name} differs")
        # A decoder would take memory for whatever size the item says.
        _, height, width = self.item_shape
        if self._offsets is not None:
            fits = _has_size(stored, height, width)
        else:
            fits = zstandard.frame_content_size(stored) == 2 * height * width
        if not fits:
            raise ValueError(f"{name} is not of {width} x {height} px")
        # Some decoders fill what is missing of an image with whatever lies in memory.
        if self._offsets is not None and not stored.endswith(_END_OF_IMAGE):
            raise ValueError(f"{name} is cut off")
        return stored

    def items(self, entry: Entry, numbers: Numbers) -> Iterator[tuple[list[int], NDArray[np.uint8]]]:
        """Frames [H, W, 3] in RGB, or quantised fields [2, H, W], of a video; the array may be read-only.

        Each that is wanted is decoded once, in the order of the file, and comes with its places in `numbers`.
        """
        _check_numbers(entry, numbers)
        for number, places in places_of(numbers).items():
            with self._reading():
                item = self._frame(entry, number) if self.stream == "rgb" else self._field(entry, number)
            yield places, item

    def _frame(self, entry: Entry, number: int) -> NDArray[np.uint8]:
        stored = self._item(entry, number)
        try:
            image = decode_frame(stored)
        except ValueError:
            raise ValueError(f"frame {number} of {entry.video} is no image") from None
        if image.shape != (*self.item_shape[1:], 3):
            raise ValueError(f"frame {number} of {entry.video} has the shape {image.shape} when decoded")
        return image

    def _field(self, entry: Entry, number: int) -> NDArray[np.uint8]:
        try:
            return decode_field(self._item(entry, number), self.item_shape)
        except zstandard.ZstdError as error:
            raise ValueError(f"field {number} of {entry.video} cannot be unpacked: {error}") from None

    def frames(self, entry: Entry, numbers: Numbers) -> NDArray[np.uint8]:
        """Frames of a video in RGB: uint8 [len(numbers), H, W, 3]."""
        return self._gathered(entry, numbers, (*self.item_shape[1:], 3))

    def fields(self, entry: Entry, numbers: Numbers) -> NDArray[np.uint8]:
        """Quantised fields of a video: uint8 [len(numbers), 2, H, W]."""
        return self._gathered(entry, numbers, self.item_shape)

    def _gathered(self, entry: Entry, numbers: Numbers, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        out = np.empty((len(numbers), *shape), np.uint8)
        for places, item in self.items(entry, numbers):
            for place in places:
                out[place] = item
        return out

    def times(self, entry: Entry) -> Times:
        """When each frame of a video is shown; of a flow stream too, whose field i leads from frame i to frame i + 1.

        The shard was opened without a seal.

        Raises:
            InputError: damaged; names the file and the remedy.
        """
        if self._times is None:
            with self._reading():
                self._times = read_times(self._file, self.attributes, self.entries)
        return self._times[entry.video]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "Shard":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_other(path: Path) -> str | None:
    """What an HDF5 file without the mark of a shard is, in words; None of a shard, and of what cannot be opened."""
    try:
        with open_file(path) as file:
            names = set(file.attrs)
    except DAMAGE:
        return None
    if _MARK in names:
        return None
    return "a score file" if "subset" in names else "an HDF5 file of another kind"


def _check_numbers(entry: Entry, numbers: Numbers) -> None:
    """Beyond the items of one video lie those of the next."""
    for number in numbers:
        if not 0 <= number < entry.count:
            raise IndexError(f"{entry.video} has {entry.count} items, and no item {number}")


def _entries(file: h5py.File) -> list[Entry]:
    rows = len(dataset(file, "index/video"))
    columns = {}
    for column in fields(Entry):
        dtype = bytes if column.type is str else np.int64 if column.type is int else np.float64
        values = read_whole(file, f"index/{column.name}", dtype, (rows,))
        columns[column.name] = [value.decode() for value in values] if column.type is str else values.tolist()
    return [Entry(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def _has_size(image: bytes, height: int, width: int) -> bool:
    """Whether a JPEG image declares this size."""
    place = 2
    while image[:2] == b"\xff\xd8" and place + 9 <= len(image) and image[place] == 0xFF:
        marker, length = image[place + 1], int.from_bytes(image[place + 2 : place + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return struct.unpack_from(">HH", image, place + 5) == (height, width)
        place += 2 + length
    return False
