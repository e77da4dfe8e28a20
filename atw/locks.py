"""Locks of files that end with their process, also on file systems without locks and in folders of other users."""

import contextlib
import errno
import functools
import logging
import os
import platform
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import filelock
import psutil

from atw.errors import BusyError, InputError, printable

log = logging.getLogger("atw")
_POLL_SECONDS = 0.2
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
_NO_LOCK_FILE = "is no lock file; look who made it, delete it, and start again"
_RECORD = re.compile(rb"(\d+( on .*|\n.*\n(\d+\n)?))?")  # content of a lock file: process and machine
_RECORD_BYTES = 1024  # of the longest lock file
_PID_DIGITS = 9  # what a hostile lock file may name beyond is no process
_lockable: dict[int, bool] = {}  # file system, by its device number: whether it has locks


@contextlib.contextmanager
def locked(path: Path, doing: str, *, wait: bool = False) -> Iterator[bool]:
    """Hold the lock of `path`: the file `.<name>.lock` beside it, which exists as long as the lock is held.

    The kernel releases the lock when its process ends. On a file system without locks, the existence of the file is the
    lock; the lock file of a killed process of this machine is removed. Links are not followed.

    Args:
        path: its folder must exist.
        doing: what the holder does, for messages: "writing shards/demo/rgb/00000.h5".
        wait: wait for another holder, with a message.

    Yields:
        Whether a lock file was there before: its holder may have been killed.

    Raises:
        BusyError: this thread holds the lock already, or another holder has it and `wait` is false.
        InputError: something else has the name of the lock file.
        OSError: the lock file cannot be created.
    """
    lock, found = _acquire(path, doing, wait=wait)
    try:
        yield found
    finally:
        # Unlink while the lock is held: waiters check that the file they locked still has this name. A forked child
        # does not hold the lock and must not unlink; a soft lock unlinks its own file.
        if lock.is_locked and isinstance(lock, filelock.UnixFileLock):
            with contextlib.suppress(OSError):
                Path(lock.lock_file).unlink()
        lock.release()


def _acquire(path: Path, doing: str, *, wait: bool) -> tuple[filelock.BaseFileLock, bool]:
    """Return the lock once it is held, and whether a lock file was there before."""
    file = path.with_name(f".{path.name}.lock")
    found = told = False
    while True:
        found = _exists(file, path) or found
        lock = _new_lock(file, path)
        try:
            # Try once, so that a thread never waits for itself.
            lock.acquire(cancel_check=lambda: True)
            return lock, found
        except RuntimeError:
            raise BusyError(f"this process is {doing} already") from None
        except filelock.Timeout:
            soft = isinstance(lock, filelock.SoftFileLock)
        except OSError as error:
            # The holder has just removed the file.
            if error.errno != errno.ESTALE:
                raise
            continue
        if soft and _remove_dead(file):
            continue
        pid, host = _read_record(file)
        holder = f"process {pid} on {host.partition('?')[0]}" if host else "another process"
        remedy = f"; if it has ended, delete {file}" if soft else ""
        if not wait:
            raise BusyError(f"{holder} is {doing}: wait until it has ended or end it (kill), then start again{remedy}")
        if not told:
            log.warning("waiting for %s, which is %s%s", holder, doing, remedy)
            told = True
        time.sleep(_POLL_SECONDS)


def _exists(file: Path, path: Path) -> bool:
    """Whether a lock file is there; raise InputError if it cannot be one."""
    try:
        found = file.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(found.st_mode) or found.st_size > _RECORD_BYTES:
        raise InputError(f"cannot write {path}: {file} {_NO_LOCK_FILE}")
    return True


def _new_lock(file: Path, path: Path) -> filelock.BaseFileLock:
    """Return a lock of the kernel or, if the file system has none, a soft lock: one that is the file's existence."""

    def sign(descriptor: int) -> None:
        found = os.fstat(descriptor)
        if not os.path.samestat(found, _named(file)):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        # Somebody may have given this name to a valuable file, which must not be overwritten.
        if found.st_nlink != 1 or not _RECORD.fullmatch(os.pread(descriptor, _RECORD_BYTES, 0)):
            raise InputError(f"cannot write {path}: {file} {_NO_LOCK_FILE}")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n{platform.node()}\n".encode(), 0)

    if _has_locks(file.parent):
        # All users who may write to the folder must be able to wait, whatever the umask.
        return filelock.UnixFileLock(file, mode=0o666, fallback_to_soft=False, on_acquired=sign)
    return filelock.SoftFileLock(file, mode=0o644)


def _named(file: Path) -> os.stat_result:
    try:
        return file.lstat()
    except FileNotFoundError:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE)) from None


def _has_locks(folder: Path) -> bool:
    """Whether the file system of a folder has locks; warn about the first one that has none."""
    device = folder.stat().st_dev
    if device not in _lockable:
        with tempfile.TemporaryFile(dir=folder) as probe:
            try:
                has = filelock.lock_descriptor(probe.fileno(), blocking=False)
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                has = False
                if all(_lockable.values()):
                    log.warning(
                        "the file system of %s has no locks (%s): files named .*.lock are the locks there, and may "
                        "have to be deleted by hand when a process was killed on another machine",
                        *(folder.absolute(), error.strerror),
                    )
        _lockable[device] = has
    return _lockable[device]


def _read_record(file: Path) -> tuple[str, str]:
    """Return the process number and machine that a lock file names, empty if it cannot be read."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return "", ""
    try:
        text = printable(os.read(descriptor, _RECORD_BYTES).decode(errors="replace"))
    finally:
        os.close(descriptor)
    pid, host, *_ = [*text.splitlines(), "", ""]
    return pid, host


def _remove_dead(file: Path) -> bool:
    """Remove a soft lock file if its process ran on this machine and has ended; return whether it is gone.

    filelock exchanges two names for that in one step, which network file systems cannot do.
    """
    pid, host = record = _read_record(file)
    if not pid.isdecimal() or len(pid) > _PID_DIGITS or host != _own_host() or psutil.pid_exists(int(pid)):
        return False
    aside = file.with_name(f".{file.name}.{secrets.token_hex(4)}.tmp")
    try:
        file.rename(aside)
    except FileNotFoundError:
        return True
    except PermissionError:
        return False
    if _read_record(aside) != record:
        # Another process was faster, and this is its lock file.
        with contextlib.suppress(FileExistsError):
            os.link(aside, file, follow_symlinks=False)
    aside.unlink()
    return True


@functools.cache
def _own_host() -> str:
    """Return the name that soft lock files give to this machine, and to the container on it."""
    with tempfile.TemporaryDirectory() as folder, filelock.SoftFileLock(Path(folder, "lock")) as lock:
        return _read_record(Path(lock.lock_file))[1]
