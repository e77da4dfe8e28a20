"""New HDF5 files: the same bytes for the same content, and an exception, never a crash, when the disk is full."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h5py


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
