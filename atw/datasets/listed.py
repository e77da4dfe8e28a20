"""What every list of videos comes down to."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from atw.config import jsontext
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
        return jsontext.parse(read_text(lists, name), f"{lists / name}")
    except ValueError as error:
        raise InputError(f"{lists / name}: not JSON: {error}") from None
    except RecursionError:
        raise InputError(f"{lists / name}: not the JSON of a list: too deeply nested") from None


def read_table(lists: Path, name: str, needed: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV file with their places, for messages, by the columns of its first line; no empty ones.

    Columns may be separated by commas, semicolons or tabs. Cells are as they stand there, and empty where a row ends.

    Raises:
        InputError: it is no CSV, a column is missing or named twice, or a row has more cells than there are columns.
    """
    path = lists / name
    text = read_text(lists, name)
    first = text.partition("\n")[0]
    separator = next((mark for mark in ",;\t" if set(needed) <= set(_columns(first, mark))), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        columns = [column.strip() for column in next(reader, [])]
        missing = sorted(set(needed) - set(columns))
        if missing:
            raise InputError(f"{path}, line 1: no column {', '.join(missing)}; needed are {','.join(needed)}")
        twice = next((column for column in columns if column and columns.count(column) > 1), "")
        if twice:
            raise InputError(f"{path}, line 1: the column {twice} is named twice; take one away, or name it otherwise")
        for cells in reader:
            place = f"{path}, line {reader.line_num}"
            if any(cell.strip() for cell in cells[len(columns) :]):
                raise InputError(
                    f"{place}: {len(cells)} cells in {len(columns)} columns; put double quotes around text with "
                    f"{separator!r} in it, found {separator.join(cells)!r}"
                )
            quoted = next((cell for cell in cells if cell.lstrip() != cell and cell.lstrip().startswith('"')), None)
            if quoted is not None:
                raise InputError(f"{place}: take away the blank before the quotes of {quoted!r}, which would be text")
            if any(cells):
                yield place, dict(zip(columns, cells + [""] * (len(columns) - len(cells)), strict=False))
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV file: {error}") from None


def _columns(line: str, separator: str) -> list[str]:
    return [column.strip().strip('"').strip() for column in line.split(separator)]


def read_lines(lists: Path, name: str) -> list[str]:
    """The non-empty lines of a list file without line ends or trailing blanks."""
    return [line.rstrip() for line in read_text(lists, name).splitlines() if line.strip()]
