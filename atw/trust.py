"""Whom a folder is open to: what is read from it, run from it or kept in it is only as good as who can write there."""

import os
import stat
from pathlib import Path


def exchangeable(folder: Path, *trusted: int, writers: int = stat.S_IWOTH) -> Path | None:
    """The first of a folder and those above it in which someone else could put another file in place of ours, if any.

    Args:
        folder: with its links resolved.
        trusted: numbers of users, beside this one and root.
        writers: the bits of a mode that let someone else write.

    Raises:
        OSError: one of them is not there.
    """
    known = {0, os.geteuid(), Path("/").stat().st_uid, *trusted}  # where root is not mapped, / is nobody's
    for place in (folder, *folder.parents):
        found = place.stat()
        if found.st_uid not in known or (found.st_mode & writers and not found.st_mode & stat.S_ISVTX):
            return place
    return None
