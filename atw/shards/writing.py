"""Writing a shard: whole or not at all."""

import hashlib
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import IO, Any, Protocol

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from atw.files import atomic_path
from atw.hdf5 import describe, new_file, texts
from atw.shards.format import Entry, Header, checksum, index_bytes, read_attributes, times_digest
from atw.videos.times import NO_TIMES

_COPY_BYTES = 1 << 24


class Encoded(Protocol):
    """Encoded items of a video: a list, or something that does not keep them in memory."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[bytes]: ...


class Writer:
    """Adds videos to a shard in order of their ids; items come encoded, so that many threads can encode them."""

    def __init__(self, file: h5py.File, spool: IO[bytes], header: Header) -> None:
        self._file = file
        self._spool = spool
        self._entries: list[Entry] = []
        self._digest = hashlib.sha256()
        self._offsets = [0]
        self._checksums: list[int] = []
        self._edges: list[NDArray[np.float64]] = []
        self._fields: h5py.Dataset | None = None
        describe(file, header.attributes())
        if header.stream != "rgb":
            self._fields = file.create_dataset(
                "data",
                (0, *header.item_shape),
                "uint8",
                maxshape=(None, *header.item_shape),
                chunks=(1, *header.item_shape),
                **hdf5plugin.Zstd(clevel=header.settings["preprocess"]["zstd_level"]),
            )

    def add(self, entry: Entry, items: Encoded, edges: NDArray[np.float64] = NO_TIMES) -> None:
        """Append a video and fill in `first` and `count` of its entry.

        `edges` are those of its `atw.videos.times.Times`, empty if its file does not say when frames are shown.
        """
        entry.first, entry.count = len(self._checksums), len(items)
        if self._fields is not None:
            self._fields.resize(entry.first + entry.count, axis=0)
        for number, item in enumerate(items, start=entry.first):
            if self._fields is not None:
                self._fields.id.write_direct_chunk((number, 0, 0, 0), item)
            else:
                self._spool.write(item)
                self._offsets.append(self._offsets[-1] + len(item))
            self._checksums.append(zlib.crc32(item))
            self._digest.update(item)
        self._entries.append(entry)
        self._edges.append(edges if entry.count else NO_TIMES)

    def finish(self) -> None:
        """Write images, index, times and digests."""
        if self._fields is None:
            self._write_images()
        self._file["crc32"] = np.array(self._checksums, np.uint32)
        index = self._file.create_group("index")
        for column in fields(Entry):
            index[column.name] = _column([getattr(entry, column.name) for entry in self._entries], column.type)
        edges = np.concatenate([NO_TIMES, *self._edges])
        offsets = np.cumsum([0, *map(len, self._edges)], dtype=np.int64)
        self._file["time_offset"], self._file["time"] = offsets, edges
        times = times_digest(offsets, edges)
        self._digest.update(index_bytes(self._entries, times))
        describe(self._file, {"items": len(self._checksums), "times": times, "digest": self._digest.hexdigest()})
        describe(self._file, {"checksum": checksum(read_attributes(self._file), self._entries)})

    def _write_images(self) -> None:
        """Copy the images: a contiguous dataset needs its size, known only now; a chunked one reads far too much."""
        data = self._file.create_dataset("data", (self._offsets[-1],), "uint8")
        self._spool.seek(0)
        for start in range(0, self._offsets[-1], _COPY_BYTES):
            piece = np.frombuffer(self._spool.read(_COPY_BYTES), np.uint8)
            data[start : start + len(piece)] = piece
        self._file["offset"] = np.array(self._offsets, np.int64)


def _column(values: Sequence[Any], kind: object) -> NDArray[Any]:
    if kind is str:
        return texts(values)
    return np.array(values, np.int64 if kind is int else np.float64)


@contextmanager
def create(path: Path, header: Header) -> Iterator[Writer]:
    """Yield a writer; its shard appears at `path` when it is whole, or not at all.

    Raises:
        InputError: the disk is full or cannot be written to.
    """
    with (
        atomic_path(path) as temporary,
        tempfile.TemporaryFile(dir=path.parent) as spool,
        new_file(temporary) as file,
    ):
        writer = Writer(file, spool, header)
        yield writer
        writer.finish()
