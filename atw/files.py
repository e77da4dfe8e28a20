"""Files that are either whole or absent, and the digests that name their contents."""

import contextlib
import errno
import functools
import hashlib
import json
import logging
import math
import os
import platform
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import filelock

log = logging.getLogger("atw")
_POLL_SECONDS = 0.2
_REMEDIES = {
    errno.ENOSPC: "free some space, and start again",
    errno.EDQUOT: "free some space, and start again",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), and start again",
    errno.EROFS: "choose a folder that can be written to",
}
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
_NOT_PRINTED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_NO_LOCK_FILE = "is no lock file; look who made it, delete it, and start again"
_RECORD = re.compile(rb"(\d+( on .*|\n.*\n(\d+\n)?))?")  # of a process and its machine
_RECORD_BYTES = 1024  # of a lock file, at most
_lockable: dict[int, bool] = {}  # by the number of the file system's device


class InputError(Exception):
    """Something the user gave cannot be used; the message names the file or setting, the value and the remedy.

    The command line prints the message without a traceback and exits with status 2.
    """


class BusyError(InputError):
    """A lock is held, and nobody waits for it."""


def printable(text: str) -> str:
    """Text of others with what would steer a terminal escaped as in JSON; tabs and ends of lines stay."""
    return _NOT_PRINTED.sub(lambda character: f"\\u{ord(character[0]):04x}", text)


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success flush it to disk and rename it, on failure remove it.

    A reader of `path` therefore sees the old file, the whole new file or none, whenever the writer is killed. A second
    writer waits for the first, and removes what killed ones have left.

    Raises:
        InputError: the disk is full, or the folder cannot be written to or has vanished.
    """
    with _explained(path), _only_writer(path):
        with _explained(path, own=True):
            temporary = _beside(path)
            temporary.touch(exist_ok=False)
        try:
            yield temporary
            with _explained(path, own=True):
                _flush(temporary)
                temporary.replace(path)
                _flush(path.parent)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


@contextlib.contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Give a temporary folder beside `path`, which gets that name on success and is removed on failure.

    Args:
        path: of the folder.
        replace: an old folder of that name goes away once the new one is there.

    Raises:
        InputError: as `atomic_path`, and where the folder exists and is not to be replaced.
    """
    with _explained(path), _only_writer(path):
        if path.exists() and not replace:
            raise InputError(f"{path} exists already; ask for it to be overwritten, or choose another folder")
        with _explained(path, own=True):
            temporary = _beside(path)
            temporary.mkdir()
        try:
            yield temporary
            with _explained(path, own=True):
                for folder, _, files in os.walk(temporary):
                    for place in (*files, "."):
                        _flush(Path(folder, place))
                _exchange(path, temporary)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _beside(path: Path) -> Path:
    """A new name for what shall once be `path`; made with it, files and folders get the permissions of the umask."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _exchange(path: Path, new: Path) -> None:
    """Rename a folder; the old one goes away after that, and never before."""
    old = path.with_name(f".{path.name}.old")
    if path.exists():
        _remove(old)  # whoever put it there
        path.replace(old)
    try:
        new.replace(path)
    except OSError:
        _settle_old(path)
        raise
    _flush(path.parent)
    _settle_old(path)


def _settle_old(path: Path) -> None:
    """Put back the old folder, which has been renamed, unless a new one has taken its place: then it goes away."""
    old = path.with_name(f".{path.name}.old")
    if old.exists() and not path.exists():
        old.replace(path)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _explained(path: Path, *, own: bool = False) -> Iterator[None]:
    """Name the target and a remedy where the disk is at fault; `own` calls can fail for no other reason."""
    try:
        yield
    except OSError as error:
        if error.errno is None or (not own and error.errno not in _REMEDIES):
            raise
        remedy = _REMEDIES.get(error.errno, "look whether its folder is there and can be written to")
        raise InputError(f"cannot write {path}: {os.strerror(error.errno)}; {remedy}") from None


@contextlib.contextmanager
def _only_writer(path: Path) -> Iterator[None]:
    """Hold the lock of a target; what temporary files there are beside it belong to nobody then."""
    with contextlib.ExitStack() as stack:
        with _explained(path, own=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            if stack.enter_context(locked(path, f"writing {path}", wait=True)):
                # A look at each folder for each of its files would be quadratic.
                _remove_rests(path)
        yield


@contextlib.contextmanager
def locked(path: Path, doing: str, *, wait: bool = False) -> Iterator[bool]:
    """Hold the lock of `path`, the file `.<name>.lock` beside it, which is there for as long.

    The kernel's lock ends with its process. On a file system without locks the existence of the file is the lock; one
    that a killed process of this machine has left is taken away. No link is followed.

    Args:
        path: what is locked; its folder is there.
        doing: what the holder does, for messages: "writing shards/demo/rgb/00000.h5".
        wait: for another holder, saying so.

    Returns:
        Whether a lock file was there: a holder may have been killed.

    Raises:
        BusyError: this thread holds the lock, or somebody else does and is not waited for.
        InputError: what has the name of the lock file is none.
        OSError: the lock file cannot be made.
    """
    lock, found = _acquired(path, doing, wait=wait)
    try:
        yield found
    finally:
        # While it is held: whoever waits for this file looks whether it still is the one of that name. A child that was
        # forked meanwhile does not hold it, and a lock that is a file's existence removes its own.
        if lock.is_locked and isinstance(lock, filelock.UnixFileLock):
            with contextlib.suppress(OSError):
                Path(lock.lock_file).unlink()
        lock.release()


def _acquired(path: Path, doing: str, *, wait: bool) -> tuple[filelock.BaseFileLock, bool]:
    """The lock once it is held, and whether a lock file was there before."""
    file = path.with_name(f".{path.name}.lock")
    found = told = False
    while True:
        found = _is_there(file, path) or found
        lock = _new_lock(file, path)
        try:
            # One try, which does not wait for this thread itself.
            lock.acquire(cancel_check=lambda: True)
            return lock, found
        except RuntimeError:
            raise BusyError(f"this process is {doing} already") from None
        except filelock.Timeout:
            soft = isinstance(lock, filelock.SoftFileLock)
        except OSError as error:
            # Its holder has removed it: on a network, or between two looks.
            if error.errno != errno.ESTALE:
                raise
            continue
        if soft and _take_away(file):
            continue
        pid, host = _holder(_record(file))
        holder = f"process {pid} on {host.partition('?')[0]}" if host else "another process"
        remedy = f"; if it has ended, delete {file}" if soft else ""
        if not wait:
            raise BusyError(f"{holder} is {doing}: wait until it has ended or end it (kill), then start again{remedy}")
        if not told:
            log.warning("waiting for %s, which is %s%s", holder, doing, remedy)
            told = True
        time.sleep(_POLL_SECONDS)


def _is_there(file: Path, path: Path) -> bool:
    try:
        found = file.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(found.st_mode) or found.st_size > _RECORD_BYTES:
        raise InputError(f"cannot write {path}: {file} {_NO_LOCK_FILE}")
    return True


def _new_lock(file: Path, path: Path) -> filelock.BaseFileLock:
    """A lock of the kernel, or where the file system of `file` has none, one that is a file's existence."""

    def sign(descriptor: int) -> None:
        found = os.fstat(descriptor)
        if not os.path.samestat(found, _named(file)):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        # Somebody else may have given the name of the lock file to a file that is dear to us.
        if found.st_nlink != 1 or not _RECORD.fullmatch(os.pread(descriptor, _RECORD_BYTES, 0)):
            raise InputError(f"cannot write {path}: {file} {_NO_LOCK_FILE}")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n{platform.node()}\n".encode(), 0)

    if _has_locks(file.parent):
        # Whoever may write in the folder may wait for this lock, whatever the umask.
        return filelock.UnixFileLock(file, mode=0o666, fallback_to_soft=False, on_acquired=sign)
    return filelock.SoftFileLock(file, mode=0o644)


def _named(file: Path) -> os.stat_result:
    try:
        return file.lstat()
    except FileNotFoundError:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE)) from None


def _has_locks(folder: Path) -> bool:
    """Whether the file system of a folder has locks; a warning says once a process that one has none."""
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


def _record(file: Path) -> str:
    """What a lock file says of its holder: its number and its machine, a line each; nothing where it cannot be read."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        return printable(os.read(descriptor, _RECORD_BYTES).decode(errors="replace"))
    finally:
        os.close(descriptor)


def _holder(record: str) -> tuple[str, str]:
    pid, host, *_ = [*record.splitlines(), "", ""]
    return pid, host


def _take_away(file: Path) -> bool:
    """Remove a lock file whose process ran on this machine and has ended.

    The library exchanges it for one of its own in one step. That is what network file systems do not have.
    """
    record = _record(file)
    pid, host = _holder(record)
    if not pid.isdecimal() or host != _own_host() or _runs(int(pid)):
        return False
    aside = _beside(file)
    try:
        file.rename(aside)
    except FileNotFoundError:
        return True
    except PermissionError:
        return False
    if _record(aside) != record:
        # Another process was faster, and this is its own.
        with contextlib.suppress(FileExistsError):
            os.link(aside, file, follow_symlinks=False)
    aside.unlink()
    return True


@functools.cache
def _own_host() -> str:
    """How lock files that are locks by their existence name this machine, and the container on it."""
    with tempfile.TemporaryDirectory() as folder, filelock.SoftFileLock(Path(folder, "lock")) as lock:
        return _record(Path(lock.lock_file)).splitlines()[1]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _remove_rests(path: Path) -> None:
    name = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}\.tmp")
    for rest in path.parent.iterdir():
        if name.fullmatch(rest.name):
            _remove(rest)
    _settle_old(path)


def open_plain(path: Path, mode: str) -> IO[Any]:
    """Open a file to be written to, under a name that others may foresee, without following a link; text is UTF-8.

    Raises:
        InputError: a link has that name.
        OSError: as `open`.
    """

    def no_link(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW, 0o666)

    try:
        return open(path, mode, encoding=None if "b" in mode else "utf-8", opener=no_link)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise InputError(f"cannot write {path}: it is a link; look who made it, delete it, and start again") from None


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically.

    Raises:
        InputError: it holds a number that is not finite, which JSON does not know; or as `atomic_path`.
    """
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise InputError(f"{path} is not written: {error}; look at what it is made from") from None
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def json_text(content: Any) -> str:
    """Indented JSON for stdout: none of it steers a terminal, and every reader of JSON knows its numbers.

    Raises:
        ValueError: it holds a number that is not finite.
    """
    return printable(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))


def read_json(text: str | bytes) -> Any:
    """The content of somebody's JSON.

    Raises:
        ValueError: it is none, goes too deep, or holds a number that is not finite.
    """
    try:
        return json.loads(text, parse_constant=_finite, parse_float=_finite)
    except RecursionError:
        raise ValueError("its lists go too deep") from None


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"it holds the number {text}, which is not finite")
    return number


def digest(content: Any) -> str:
    """SHA-256 (hexadecimal) of the canonical JSON form of `content`: equal contents, equal digests."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hexadecimal) of the bytes of the file at `path`."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
