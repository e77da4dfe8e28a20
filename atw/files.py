"""Files that are either whole or absent, and the digests that name their contents."""

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import platform
import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

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
_held: set[tuple[int, int, Path]] = set()  # process, thread and target of each writer: who forks takes it along


class InputError(Exception):
    """Something the user gave cannot be used; the message names the file or setting, the value and the remedy.

    The command line prints the message without a traceback and exits with status 2.
    """


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
    lock_path = path.with_name(f".{path.name}.lock")
    with _explained(path, own=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        held = (os.getpid(), threading.get_ident(), path.parent.resolve() / path.name)
        if held in _held:
            raise InputError(f"{path} is being written by this process already")
        lock = _locked(lock_path, path)
        _held.add(held)
    try:
        yield
    finally:
        _held.discard(held)
        with contextlib.suppress(OSError):
            # While it is held: whoever waits for this file looks whether it still is the one of that name.
            lock_path.unlink()
        if lock:
            lock.close()


def _locked(lock_path: Path, path: Path) -> IO[str] | None:
    """The open lock file once it is held, None on a file system without locks."""
    told = False
    while True:
        # Whoever is killed leaves it behind; a look at each folder for each of its files would be quadratic.
        left_behind = lock_path.exists()
        lock = lock_path.open("a+", encoding="utf-8", errors="replace")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_file(lock, lock_path):
                if left_behind or os.fstat(lock.fileno()).st_size:
                    _remove_rests(path)
                lock.truncate(0)
                lock.write(f"{os.getpid()} on {platform.node()}")
                lock.flush()
                return lock
        except BlockingIOError:
            lock.seek(0)
            if not told:
                log.warning("waiting for process %s, which is writing %s", lock.read(), path)
                told = True
            time.sleep(_POLL_SECONDS)
        except OSError as error:
            lock.close()
            if error.errno in _NO_LOCKS:
                return None
            raise
        lock.close()


def _is_file(stream: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESTALE):
            raise
        return False


def _remove_rests(path: Path) -> None:
    name = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}\.tmp")
    for rest in path.parent.iterdir():
        if name.fullmatch(rest.name):
            _remove(rest)
    _settle_old(path)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def digest(content: Any) -> str:
    """SHA-256 (hexadecimal) of the canonical JSON form of `content`: equal contents, equal digests."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hexadecimal) of the bytes of the file at `path`."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
