"""HDF5 files, the only way in which they are written and read.

New ones have the same bytes for the same content, and a full disk is an exception, never a crash. Those that are read
may be damaged, or come from someone who means harm: what is read lies in the file itself, and takes no more memory than
the file has bytes.
"""

import math
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

DAMAGE = (OSError, LookupError, ValueError, TypeError, AttributeError, RuntimeError, MemoryError)
"""What HDF5, h5py and the checks below raise for a file that cannot be used."""

_SUM_BYTES = 4  # of a Fletcher-32 checksum
_SMALL_BYTES = 1 << 20  # of text that a file may hold before it is on the disk


@contextmanager
def new_file(path: Path) -> Iterator[h5py.File]:
    """An empty file to be filled, on the disk in whole when the block ends.

    Raises:
        OSError: the disk is full, a limit is reached, or the folder cannot be written to.
    """
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    # Data goes to the disk when it is written, where a full disk is an exception; later, HDF5 would crash on it.
    access.set_sieve_buf_size(0)
    access.set_cache(0, 0, 0, 0.0)
    # The file system may have no locks, and files of ours are written under names of their own.
    access.set_file_locking(use_file_locking=False, ignore_when_disabled=True)
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)  # the same content, the same bytes
    file = h5py.File(h5py.h5f.create(bytes(path), h5py.h5f.ACC_TRUNC, fcpl=creation, fapl=access))
    try:
        with _disk_errors():
            yield file
            file.flush()
    except BaseException:
        _abandon(file)
        raise
    file.close()


@contextmanager
def _disk_errors() -> Iterator[None]:
    """Make OSErrors of what HDF5 raises when it creates or flushes: other kinds, with the number in the message."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        number = re.search(r"errno = (\d+)", str(error))
        if not number:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from None


def _abandon(file: h5py.File) -> None:
    """Close a file that is not wanted any more: HDF5 writes what it still holds into memory instead.

    On a full disk it could not write it, and crashes when it cannot.
    """
    memory = os.memfd_create("abandoned file")
    os.dup2(memory, file.id.get_vfd_handle())
    os.close(memory)
    with suppress(RuntimeError, OSError):
        file.close()


def describe(file: h5py.File, attributes: Mapping[str, int | float | str]) -> None:
    """Write attributes, text as UTF-8 of fixed length: HDF5 keeps no checksum of variable-length text."""
    for name, value in attributes.items():
        file.attrs[name] = np.bytes_(value.encode()) if isinstance(value, str) else value


def texts(values: Sequence[str]) -> NDArray[Any]:
    """Text as a column of fixed length, in UTF-8: variable-length text reads 14 times slower."""
    encoded = [value.encode() for value in values]
    length = max([1, *map(len, encoded)])
    return np.array(encoded, h5py.string_dtype("utf-8", length))


def open_file(path: Path) -> h5py.File:
    """A file of whomever, opened read-only; what is in it is to be read by the functions below.

    Raises:
        OSError: there is none, or it is no HDF5 file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("not a regular file")  # a pipe would be waited for
    return h5py.File(path, "r", locking=False)


def read_attribute(file: h5py.File, name: str) -> int | float | str:
    """An attribute that is a number or text.

    Raises:
        ValueError: it is neither, or text of variable length.
    """
    # Looked at before it is read: HDF5 can hang on damaged variable-length text.
    stored = file.attrs.get_id(name)
    believable = stored.dtype.itemsize <= max(_SMALL_BYTES, _bytes_of(file))
    if stored.dtype.kind not in "iufS" or stored.shape != () or not believable:
        raise ValueError(f"the attribute {name} is neither a number nor text of fixed length")
    value: int | float | bytes = file.attrs[name].item()
    return value.decode() if isinstance(value, bytes) else value


def dataset(parent: h5py.Group, name: str) -> h5py.Dataset:
    """A dataset that lies in this very file: links and external storage could show any file of the reader's."""
    found: Any = parent
    for part in name.split("/"):
        if not isinstance(found, h5py.Group) or not isinstance(found.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is missing, or a link to somewhere else")
        found = found[part]
    if not isinstance(found, h5py.Dataset) or found.is_virtual or found.external or found.shape is None:
        raise ValueError(f"{name} is no dataset of this file")
    return found


def read_whole(
    parent: h5py.Group, name: str, dtype: Any, shape: tuple[int | None, ...], *, summed: bool = False
) -> NDArray[Any]:
    """All of a dataset, which stands in its file without compression; arguments and errors as of `find_whole`."""
    values: NDArray[Any] = find_whole(parent, name, dtype, shape, summed=summed)[()]
    return values


def find_whole(
    parent: h5py.Group, name: str, dtype: Any, shape: tuple[int | None, ...], *, summed: bool = False
) -> h5py.Dataset:
    """A dataset that stands in its file without compression, to be read in parts.

    Args:
        parent: group of the dataset.
        name: of the dataset, with its path.
        dtype: of its numbers; `bytes` for text of fixed length.
        shape: None where any number will do.
        summed: whether it is in chunks with a Fletcher-32 checksum each; else it is in one piece.

    Raises:
        ValueError: it is missing, elsewhere, or of another form.
    """
    found = dataset(parent, name)
    right_type = found.dtype.kind == "S" if dtype is bytes else found.dtype == dtype
    fits = len(found.shape) == len(shape) and all(
        want in (None, has) for want, has in zip(shape, found.shape, strict=True)
    )
    if not right_type or not fits:
        wanted = tuple("any" if number is None else number for number in shape)
        raise ValueError(f"{name} has the type {found.dtype} and the shape {found.shape}, not {wanted}")
    if not (_in_summed_chunks(found) if summed else _in_one_piece(found)):
        raise ValueError(f"{name} is not stored whole")
    return found


def filters(found: h5py.Dataset) -> list[int]:
    """Numbers of the filters that a dataset's chunks go through, as HDF5 has registered them."""
    made = found.id.get_create_plist()
    return [made.get_filter(place)[0] for place in range(made.get_nfilters())]


def _in_one_piece(found: h5py.Dataset) -> bool:
    size = math.prod(found.shape) * found.dtype.itemsize
    return found.chunks is None and found.id.get_storage_size() == size <= _bytes_of(found.file)


def _in_summed_chunks(found: h5py.Dataset) -> bool:
    """Whether every chunk is there, at full length: those that are not would be made up as large as they say."""
    if found.chunks is None or filters(found) != [h5py.h5z.FILTER_FLETCHER32]:
        return False
    size = math.prod(found.chunks) * found.dtype.itemsize + _SUM_BYTES
    count = math.prod(-(-side // of_chunk) for side, of_chunk in zip(found.shape, found.chunks, strict=True))
    if found.id.get_num_chunks() != count or count * size > _bytes_of(found.file):
        return False
    sizes: set[tuple[int, int]] = set()
    found.id.chunk_iter(lambda chunk: sizes.add((chunk.filter_mask, chunk.size)))
    return sizes <= {(0, size)}


def _bytes_of(file: h5py.File) -> int:
    return os.fstat(file.id.get_vfd_handle()).st_size
