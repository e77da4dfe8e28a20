"""Which of very many files are there: one listing of each folder, instead of a question for each file."""

import os
from collections.abc import Iterable

from atw.files import InputError


def present(root: str, names: Iterable[str]) -> set[str]:
    """Those of the paths, relative to `root` with forward slashes, that are files.

    Raises:
        InputError: a folder or a link cannot be looked at.
    """
    wanted: dict[str, set[str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        wanted.setdefault(folder, set()).add(file)
    found: set[str] = set()
    for folder, files in wanted.items():
        prefix = f"{folder}/" if folder else ""
        found.update(prefix + file for file in _files(f"{root}/{folder}", files))
    return found


def _files(folder: str, wanted: set[str]) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.name in wanted and entry.is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise unreadable(str(error.filename or folder), error) from None


def unreadable(path: str, error: OSError) -> InputError:
    """What to say of a file or folder of a dataset's videos that the system cannot look at."""
    text = path.rstrip("/").encode(errors="backslashreplace").decode()
    return InputError(
        f"{text} cannot be read: {error.strerror}; look whether its drive is there and its permissions are "
        "right, or take it away from the videos"
    )
