"""Folders for sockets, whose paths have a limited length. That of a Ray is for this user alone, and ends with the Ray.

Ray makes its own folder writable by everyone, on purpose, so the folder around it is closed to others. The workflow
imports this module before it begins, so it imports little.
"""

import fcntl
import multiprocessing
import multiprocessing.util
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path

from atw.files import InputError, exchangeable

INSIDE = "r"  # Ray's own folder, which it makes writable by everyone
HELD = "held"
COMMON_PLACES = ("/tmp", "/var/tmp", "/dev/shm")
PREFIX = f"atw-{zlib.crc32(platform.node().encode()) & 0xFFFF:04x}-"  # locks of other hosts may not be visible here
_RANDOM_BYTES = 8  # that mkdtemp adds
# The system limits the path of a socket; the longest below Ray's folder belongs to its dashboard.
SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
_LONGEST_SOCKET = "session_2026-11-28_04-50-00_993906_4194304/sockets/dash_MetricsHead"
PLACE_BYTES = SOCKET_BYTES - len(f"/{PREFIX}/{INSIDE}/{_LONGEST_SOCKET}") - _RANDOM_BYTES
PYTHONS_SOCKET = "/pymp-12345678/listener-12345678"  # of `multiprocessing`
FREE_BYTES = 50_000_000
# The servers that can end a start come first; Ray's servers in C++ write their errors to `.out`.
_LOGS = [f"{server}.{kind}" for server in ("raylet", "gcs_server") for kind in ("out", "err")]
_LOGS += ["dashboard.err", "dashboard.log", "runtime_env_agent.log", "dashboard_agent.log"]
_ERROR = re.compile(r"^\[[-\d :,]+ [ECF] |\bERROR\b|^[\w.]+(Error|Exception)\b")  # of servers in C++ and in Python
_SHOWN_LINES = 3


def require_place(*, workers: int) -> None:
    """Check before a workflow begins that a training of so many workers has a place for its sockets.

    Raises:
        InputError: there is none.
    """
    brings_ray = workers > 1 and not os.environ.get("RAY_ADDRESS")
    if brings_ray or _is_long(tempfile.gettempdir()):
        places()


def places() -> list[Path]:
    """List the places in which the folder of a Ray can be made, the best first: TMPDIR, then those of every system.

    Raises:
        InputError: there is none.
    """
    # XDG_RUNTIME_DIR comes last because it is removed at logout.
    names = [os.environ.get("TMPDIR"), *COMMON_PLACES, os.environ.get("XDG_RUNTIME_DIR")]
    reasons = {place: _unfit(place) for place in (Path(name).resolve() for name in names if name)}
    fit = [place for place, reason in reasons.items() if not reason]
    if not fit:
        refused = "; ".join(f"{place} {reason}" for place, reason in reasons.items())
        raise InputError(
            f"there is no folder for Ray's sockets and logs ({refused}): let TMPDIR name a folder of yours on a local "
            f"disk whose path has at most {PLACE_BYTES} bytes"
        )
    return fit


def _unfit(place: Path) -> str:
    """Say why a Ray cannot have its folder there; "" if it can."""
    length = len(os.fsencode(place))
    if length > PLACE_BYTES:
        return f"has {length} bytes, of at most {PLACE_BYTES}"
    try:
        if not place.is_dir():
            return "is no folder"
        if not os.access(place, os.W_OK | os.X_OK):
            return "cannot be written to"
        if shutil.disk_usage(place).free < FREE_BYTES:
            return f"has less than {FREE_BYTES // 1_000_000} MB left"
        if folder := exchangeable(place, writers=stat.S_IWGRP | stat.S_IWOTH):
            return f"could be exchanged by others, who may write to {folder}"
    except OSError as error:
        return f"cannot be used: {error.strerror}"
    return ""


def _is_long(folder: str) -> bool:
    """Whether a folder's path is too long for the sockets of Python's own processes."""
    return len(os.fsencode(folder)) > SOCKET_BYTES - len(PYTHONS_SOCKET)


def forkserver() -> ForkServerContext:
    """Return the context for fresh processes, because a fork would copy running threads; a long TMPDIR does not matter.

    Python makes one folder in TMPDIR for the sockets of a process and of those that it starts.

    Raises:
        InputError: TMPDIR is too long, and there is no other place.
    """
    usual = tempfile.gettempdir()
    if _is_long(usual):
        tempfile.tempdir = str(places()[0])
    try:
        multiprocessing.util.get_temp_dir()
    finally:
        tempfile.tempdir = usual
    return multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class SocketFolder:
    """A locked folder.

    Args:
        path: of mode 0700; Ray's own folder is `INSIDE` it.
        lock: a descriptor; as long as a process has it open, the folder is not removed as a leftover.
    """

    path: Path
    lock: int


@contextmanager
def own_folder(place: Path) -> Iterator[SocketFolder]:
    """Make a new folder at a place, after removing those that killed processes left there."""
    _remove_leftovers(place)
    path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # without locks, leftovers stay
            fcntl.flock(lock, fcntl.LOCK_EX)
            (path / HELD).touch()  # after locking: a folder with this mark and no lock is a leftover
        (path / INSIDE).mkdir()
        yield SocketFolder(path, lock)
    finally:
        os.close(lock)
        shutil.rmtree(path, ignore_errors=True)


def _remove_leftovers(place: Path) -> None:
    for path in place.glob(f"{PREFIX}*/{HELD}"):
        with suppress(OSError):
            lock = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                status = os.fstat(lock)
                if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == 0o700:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path.parent, ignore_errors=True)
            finally:
                os.close(lock)


def last_errors(folder: Path) -> str:
    """Return the last errors of a Ray that failed, from the first log that has any; "" if none has."""
    for name in _LOGS:
        for path in folder.glob(f"{INSIDE}/session_2*/logs/{name}"):  # not its link, session_latest
            with suppress(OSError):
                lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
                errors = [line for line in lines if _ERROR.search(line)]
                if errors or (lines and path.suffix == ".err"):
                    return f"its {name} says: {' | '.join((errors or lines)[-_SHOWN_LINES:])}"
    return ""
