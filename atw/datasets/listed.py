"""What every list of videos comes down to."""

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from atw.datasets.archive import list_file
from atw.files import InputError

Location = dict[str, Any]  # what atw.config.location gives: name, kind, root, and lists or sizes


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of a list.

    Args:
        video: id of the video, its path relative to the dataset's root with forward slashes.
        label: class name.
        subset: whether the split trains or tests on it.
        group: videos of one group never straddle train and test; "" is no group.
        block: splits that share no video keep theirs in shards of their own, numbered by block.
    """

    video: str
    label: str
    subset: Literal["train", "test"]
    group: str = ""
    block: int = 0


def checked_video(name: str, place: str) -> str:
    """`name` if it stays inside the dataset's folder; lists are foreign data."""
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise InputError(f"{place}: the path {name!r} must be relative to the dataset's root and stay inside it")
    return str(path)


def read_text(lists: Path, name: str) -> str:
    """The text of the list file `name` in a folder or archive of lists, without a byte order mark, line ends kept."""
    try:
        return list_file(lists, name).decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(
            f"list file {lists / name} does not exist: put the dataset's lists there, or correct `lists` in config.yaml"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"list file {lists / name} cannot be read: {error}") from None


def read_json(lists: Path, name: str) -> Any:
    """The content of the JSON file `name` in a folder or archive of lists."""
    try:
        return json.loads(read_text(lists, name))
    except ValueError as error:
        raise InputError(f"{lists / name}: not JSON: {error}") from None
    except RecursionError:
        raise InputError(f"{lists / name}: not the JSON of a list: too deeply nested") from None


def read_lines(lists: Path, name: str) -> list[str]:
    """The non-empty lines of a list file without line ends or trailing blanks."""
    return [line.rstrip() for line in read_text(lists, name).splitlines() if line.strip()]
