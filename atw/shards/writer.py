"""Writing a shard: whole or not at all."""

import hashlib
import json
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
from atw.shards.layout import FORMAT, Entry, checksum, index_bytes, read_attributes, times_digest
from atw.videos.times import NO_TIMES

_COPY_BYTES = 1 << 24


class Encoded(Protocol):
    """Encoded items of a video: a list, or something that does not keep them in memory."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[bytes]: ...


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
        self._edges: list[NDArray[np.float64]] = []
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
        plain = {
            name: json.dumps(value, sort_keys=True) if isinstance(value, dict) else value
            for name, value in attributes.items()
        }
        describe(self._file, plain)

    def add(self, entry: Entry, items: Encoded, edges: NDArray[np.float64] = NO_TIMES) -> None:
        """Append a video; `first` and `count` of the entry are filled in here.

        `edges` are those of its `atw.videos.times.Times`, empty where its file does not say when frames are shown.
        """
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
        self._edges.append(edges if entry.count else NO_TIMES)

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
        times = self._write_times()
        self._digest.update(index_bytes(self._entries, times))
        self._describe({"items": self._items, "times": times, "digest": self._digest.hexdigest()})
        self._describe({"checksum": checksum(read_attributes(self._file), self._entries)})
        return self._digest.hexdigest()

    def _write_times(self) -> str:
        edges = np.concatenate([NO_TIMES, *self._edges])
        offsets = np.cumsum([0, *map(len, self._edges)], dtype=np.int64)
        self._file["time_offset"], self._file["time"] = offsets, edges
        return times_digest(offsets, edges)


def _columns(entries: Sequence[Entry]) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {}
    for column in fields(Entry):
        values = [getattr(entry, column.name) for entry in entries]
        if column.type is str:
            columns[column.name] = texts(values)
        else:
            columns[column.name] = np.array(values, np.int64 if column.type is int else np.float64)
    return columns


@contextmanager
def create(path: Path, attributes: dict[str, Any]) -> Iterator[Writer]:
    """A writer whose shard appears under `path` whole or not at all.

    Args:
        path: of the shard.
        attributes: stream, dataset, shard, width, height, bound, zero, settings and software.

    Raises:
        InputError: the disk is full or cannot be written to.
    """
    with (
        atomic_path(path) as temporary,
        tempfile.TemporaryFile(dir=path.parent) as spool,
        new_file(temporary) as file,
    ):
        writer = Writer(file, spool, attributes)
        yield writer
        writer.finish()
