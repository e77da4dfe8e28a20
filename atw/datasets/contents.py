"""The contents of a dataset's files: their SHA-256, computed once and kept beside size and times.

A file is read again if its size changes, or the time of its last modification or change. The digests of each shard's
videos are in a file of their own, so that a job elsewhere reads no more than it needs. If nothing can be kept, files
are read each time, and the digests are the same.
"""

import json
import logging
import os
import stat
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from atw.files import InputError, file_digest, write_json

KEPT = Path(".atw/digests")
"""Folder of the kept digests, below the working folder."""
ABSENT = ""
"""Stands for the digest of a file that does not exist or cannot be read, here and in shards."""
_READERS = 4
_TELL_SECONDS = 10.0
log = logging.getLogger("atw")


class _Status(NamedTuple):
    """A file's size and times; renaming, too, changes the time of change, and nobody can set it."""

    size_bytes: int
    modified_ns: int
    changed_ns: int


class Contents:
    """The digests of a dataset's files. Safe to call from several processes.

    Args:
        name: of the dataset.
        root: folder of its videos.
        kept: folder where digests are kept, None for nowhere.
    """

    def __init__(self, name: str, root: Path, kept: Path | None) -> None:
        self._name = name
        self._root = str(root)
        self._kept = kept
        self._lock = threading.Lock()
        self._read_bytes = 0
        self._told: float | None = None

    def digests(self, videos: Iterable[str], shard: str) -> dict[str, str]:
        """Return the SHA-256 (hexadecimal) of each video of a shard, as its file is now; `ABSENT` if there is none."""
        path = self._kept and self._kept / self._name / f"{shard}.json"
        known = _load(path) if path else {}
        statuses = {video: _status(f"{self._root}/{video}") for video in videos}
        same = [video for video, status in statuses.items() if video in known and known[video][0] == status]
        digests = {video: known[video][1] for video in same}
        new = [video for video, status in statuses.items() if status and video not in digests]
        if new:
            with ThreadPoolExecutor(_READERS) as pool:
                digests |= zip(new, pool.map(self._read, new), strict=True)
            if path:
                # The digest of a file that is still being written is not kept.
                still = [video for video, status in statuses.items() if status == _status(f"{self._root}/{video}")]
                self._keep(path, {video: (statuses[video], digests[video]) for video in still if digests.get(video)})
        return {video: digests.get(video, ABSENT) for video in statuses}

    def _read(self, video: str) -> str:
        path = f"{self._root}/{video}"
        content, status = file_content(Path(path)), _status(path)
        with self._lock:
            now = time.monotonic()
            self._told = self._told or now
            self._read_bytes += status.size_bytes if status else 0
            if now - self._told > _TELL_SECONDS:
                self._told = now
                log.warning("reading the videos of %s: %.1f GB", self._name, self._read_bytes / 1e9)
        return content

    def _keep(self, path: Path, rows: dict[str, tuple[_Status | None, str]]) -> None:
        try:
            write_json(path, rows)
        except (InputError, OSError) as error:
            log.warning("the videos of %s will be read again next time: %s", self._name, error)
            self._kept = None


def file_content(path: Path) -> str:
    """Return the SHA-256 (hexadecimal) of a file as it is now; `ABSENT` if it is no file or cannot be read."""
    try:
        return file_digest(path) if _status(str(path)) else ABSENT
    except OSError:
        return ABSENT


def _status(path: str) -> _Status | None:
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path for every video takes longer than the question
    except OSError:
        return None
    # A pipe would be read without end.
    return _Status(status.st_size, status.st_mtime_ns, status.st_ctime_ns) if stat.S_ISREG(status.st_mode) else None


def _load(path: Path) -> dict[str, tuple[_Status, str]]:
    """Return the kept digests; none if the file is damaged, and then all videos are read again."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {video: (_Status(*status), str(content)) for video, (status, content) in rows.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
