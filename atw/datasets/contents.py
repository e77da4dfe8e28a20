"""What is in the files of a dataset: their SHA-256, taken once and kept beside size and times.

A file is read again when its size, or the time of its last modification or change, is another one than before. Digests
of each shard's videos are in a file of their own, so that a job elsewhere reads no more than it needs. Where nothing
can be kept, files are read each time, and the digests are the same.
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
"""Where digests are kept, seen from the working folder."""
ABSENT = ""
"""The digest of what is no file or cannot be read; shards say the same of it."""
UNREAD = "of videos as the job finds them"
"""Stands for the digest of a shard's members where the shard is only planned: nothing is read for that."""
_READERS = 4
_TELL_SECONDS = 10.0
log = logging.getLogger("atw")


class _Look(NamedTuple):
    """What a file looks like from outside; the time of change follows renaming, too, and nobody can set it."""

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
        """SHA-256 (hexadecimal) of the file of each video of a shard, as it is now; `ABSENT` where there is none."""
        path = self._kept and self._kept / self._name / f"{shard}.json"
        known = _load(path) if path else {}
        looks = {video: _look(f"{self._root}/{video}") for video in videos}
        found = {video: known[video][1] for video, look in looks.items() if video in known and known[video][0] == look}
        new = [video for video, look in looks.items() if look and video not in found]
        if new:
            with ThreadPoolExecutor(_READERS) as pool:
                found |= zip(new, pool.map(self._read, new), strict=True)
            if path:
                # A file that is still being written has no digest yet that could be kept.
                still = {video: look for video, look in looks.items() if look == _look(f"{self._root}/{video}")}
                self._keep(path, {video: (look, found[video]) for video, look in still.items() if found.get(video)})
        return {video: found.get(video, ABSENT) for video in looks}

    def _read(self, video: str) -> str:
        path = f"{self._root}/{video}"
        content, look = file_content(Path(path)), _look(path)
        with self._lock:
            now = time.monotonic()
            self._told = self._told or now
            self._read_bytes += look.size_bytes if look else 0
            if now - self._told > _TELL_SECONDS:
                self._told = now
                log.warning("looking at what is in the videos of %s: %.1f GB", self._name, self._read_bytes / 1e9)
        return content

    def _keep(self, path: Path, rows: dict[str, tuple[_Look | None, str]]) -> None:
        try:
            write_json(path, rows)
        except (InputError, OSError) as error:
            log.warning("the videos of %s will be read again next time: %s", self._name, error)
            self._kept = None


def file_content(path: Path) -> str:
    """SHA-256 (hexadecimal) of a file as it is now; `ABSENT` of what is no file or cannot be read."""
    try:
        return file_digest(path) if _look(str(path)) else ABSENT
    except OSError:
        return ABSENT


def _look(path: str) -> _Look | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - a Path for every video takes longer than the question
    except OSError:
        return None
    # Of a pipe there is no end.
    return _Look(found.st_size, found.st_mtime_ns, found.st_ctime_ns) if stat.S_ISREG(found.st_mode) else None


def _load(path: Path) -> dict[str, tuple[_Look, str]]:
    """What was kept; nothing where the file is damaged, for then all is read again."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {video: (_Look(*look), str(content)) for video, (look, content) in rows.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
