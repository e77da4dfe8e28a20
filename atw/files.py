"""Write files atomically, read and write JSON, compute digests, and see whether others can exchange a file."""

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from atw.errors import InputError as InputError
from atw.errors import printable
from atw.locks import locked

_REMEDIES = {
    errno.ENOSPC: "free some space, and start again",
    errno.EDQUOT: "free some space, and start again",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), and start again",
    errno.EROFS: "choose a folder that can be written to",
}


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success flush it to disk and rename it, on failure remove it.

    Readers of `path` see the old file, the whole new file or none, even if the writer is killed. A second writer waits
    for the first and removes the temporary files of killed writers.

    Raises:
        InputError: `path` is a folder, a device or a pipe, the disk is full, or the folder cannot be written to or has
            vanished.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is {'a folder' if path.is_dir() else 'no regular file'}; choose another name")
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
    """Yield a temporary folder beside `path`; on success rename it, on failure remove it.

    With `replace`, an old folder of that name is removed once the new one is there.

    Raises:
        InputError: as `atomic_path`; also if the folder exists and `replace` is false.
    """
    if not path.name:  # "." has none for a lock, and is there
        raise InputError(f"{path} exists already; choose another folder")
    with _explained(path), _only_writer(path):
        if path.exists() and not replace:
            raise InputError(f"{path} exists already; delete it, or choose another folder")
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
    # Not made by `tempfile`: files and folders get the permissions of the umask.
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def _exchange(path: Path, new: Path) -> None:
    """Give the folder `new` the name `path`; remove the old folder after that, never before."""
    old = path.with_name(f".{path.name}.old")
    if path.exists():
        _remove(old)  # somebody may have planted it
        path.replace(old)
    try:
        new.replace(path)
    except OSError:
        _settle_old(path)
        raise
    _flush(path.parent)
    _settle_old(path)


def _settle_old(path: Path) -> None:
    """Remove the renamed old folder, or put it back if no new one has taken its place."""
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
    """Turn errors of the disk into an InputError with target and remedy; with `own`, turn every OSError into one."""
    try:
        yield
    except OSError as error:
        if error.errno is None or (not own and error.errno not in _REMEDIES):
            raise
        remedy = _REMEDIES.get(error.errno, "look whether its folder is there and can be written to")
        raise InputError(f"cannot write {path}: {os.strerror(error.errno)}; {remedy}") from None


@contextlib.contextmanager
def _only_writer(path: Path) -> Iterator[None]:
    """Hold the lock of a target and remove the temporary files that killed writers left beside it."""
    with contextlib.ExitStack() as stack:
        with _explained(path, own=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            if stack.enter_context(locked(path, f"writing {path}", wait=True)):
                # Only then, as a search of the folder for each of its files would be quadratic.
                _remove_leftovers(path)
        yield


def _remove_leftovers(path: Path) -> None:
    name = re.compile(rf"\.{re.escape(path.name)}\.[a-z0-9_]{{8}}\.tmp")
    for other in path.parent.iterdir():
        if name.fullmatch(other.name):
            _remove(other)
    _settle_old(path)


def open_plain(path: Path, mode: str) -> IO[Any]:
    """Open a file for writing without following a link that somebody has planted under its name; text is UTF-8.

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


def write_text(path: Path, text: str) -> None:
    """Write a text, atomically; errors as `atomic_path`."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically.

    Raises:
        InputError: a number is not finite, which JSON cannot express; or as `atomic_path`.
    """
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise InputError(f"{path} is not written: {error}; look at what it is made from") from None
    write_text(path, text + "\n")


def json_text(content: Any) -> str:
    """Return indented JSON for stdout, without characters that control a terminal.

    Raises:
        ValueError: a number is not finite.
    """
    return printable(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))


def read_json(text: str | bytes) -> Any:
    """Parse JSON from elsewhere.

    Raises:
        ValueError: it is no JSON, is nested too deeply, or holds a number that is not finite.
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
    """Return the hexadecimal SHA-256 of the canonical JSON of `content`: equal contents have equal digests."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the hexadecimal SHA-256 of the bytes of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def exchangeable(folder: Path, *trusted: int, writers: int = stat.S_IWOTH) -> Path | None:
    """Return the first of a folder and its parents in which somebody else could exchange our files, None if safe.

    Args:
        folder: with its links resolved.
        trusted: numbers of trusted users, beside this one and root.
        writers: mode bits that let somebody else write.

    Raises:
        OSError: one of the folders does not exist.
    """
    known = {0, os.geteuid(), Path("/").stat().st_uid, *trusted}  # if root is not mapped, / belongs to nobody
    for place in (folder, *folder.parents):
        found = place.stat()
        if found.st_uid not in known or (found.st_mode & writers and not found.st_mode & stat.S_ISVTX):
            return place
    return None
