"""Lists of videos: files in a folder or an archive, read as text, tables or JSON, and the names that stand in them."""

import contextlib
import csv
import functools
import io
import math
import string
import unicodedata
from collections.abc import Iterable, Iterator, Sequence, Set
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from atw.config import LABEL_SEPARATOR, Interval, jsontext
from atw.datasets.archive import ArchiveEntry, UnreadableError, read_entries
from atw.files import InputError

MAX_LISTS_BYTES = 512 * 2**20  # of all lists in an archive; those of Kinetics-700 have 40 MB
_BOUNDS = {"frames": ("action_first", "action_last"), "seconds": ("start", "end")}
_SUFFIXES = (".txt", ".csv", ".json")
_UNSEEN = dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"))  # soft hyphen and marks without width


def list_names(lists: Path) -> list[str]:
    """Return the sorted names of the list files in a folder, or anywhere in an archive."""
    try:
        if lists.is_file():
            return sorted(_archived(lists))
        return sorted(path.name for path in lists.iterdir() if _is_list(path.name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(
            f"the lists in {lists} cannot be read: {error.strerror}; correct `lists` in config.yaml, or look "
            "whether its drive is there and its permissions are right"
        ) from None


def read_text(lists: Path, name: str) -> str:
    """Return the text of a list file in a folder or archive, without a byte order mark, line ends kept."""
    with _opened(lists, name) as stream:
        return stream.read()


@contextlib.contextmanager
def _opened(lists: Path, name: str) -> Iterator[io.TextIOWrapper]:
    """Open a list file as `read_text` reads it; what cannot be read in the block becomes the message of an error."""
    try:
        with io.BytesIO(_archived(lists)[name]) if lists.is_file() else (lists / name).open("rb") as stream:
            yield io.TextIOWrapper(stream, "utf-8-sig", newline="")
    except (FileNotFoundError, KeyError):
        raise InputError(
            f"list file {lists / name} does not exist: put it there, or correct the name in config.yaml (`lists`, or "
            "`intervals` for the times of actions)"
        ) from None
    except IsADirectoryError:
        raise InputError(
            f"list file {lists / name} is a folder; name a file in it as `lists` in config.yaml, such as "
            f"{lists / name}/split{{split}}.csv"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"list file {lists / name} cannot be read: {error}") from None
    except csv.Error as error:
        raise InputError(f"{lists / name}: not a CSV file: {error}") from None


def read_lines(lists: Path, name: str) -> list[str]:
    """Return the non-empty lines of a list file without line ends or trailing blanks."""
    return [line.rstrip() for line in read_text(lists, name).splitlines() if line.strip()]


def read_json(lists: Path, name: str) -> Any:
    """Return the content of a list file in JSON."""
    try:
        return jsontext.parse(read_text(lists, name), f"{lists / name}")
    except ValueError as error:
        raise InputError(f"{lists / name}: not JSON: {error}") from None
    except RecursionError:
        raise InputError(f"{lists / name}: not the JSON of a list: too deeply nested") from None


def read_table(lists: Path, name: str, needed: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the place of each row of a CSV file, for messages, and its cells by the columns of the first line.

    Columns may be separated by commas, semicolons or tabs. Cells are not stripped. Empty rows are skipped, and cells
    that a row lacks are empty.

    Raises:
        InputError: it is no CSV, a column is missing or named twice, or a row has more cells than there are columns.
    """
    path = lists / name
    with _opened(lists, name) as stream:
        separator = _separator(stream.readline(), needed)
        stream.seek(0)
        reader = csv.reader(stream, delimiter=separator, strict=True)
        columns = [column.strip() for column in next(reader, [])]
        _require_columns(f"{path}, line 1", columns, needed)
        for cells in reader:
            place = f"{path}, line {reader.line_num}"
            _require_cells(place, cells, len(columns), separator)
            if any(cells):
                yield place, dict(zip(columns, cells + [""] * (len(columns) - len(cells)), strict=False))


def _separator(line: str, needed: Sequence[str]) -> str:
    for mark in ",;\t":
        if set(needed) <= {column.strip().strip('"').strip() for column in line.split(mark)}:
            return mark
    return ","


def _require_columns(place: str, columns: list[str], needed: Sequence[str]) -> None:
    missing = sorted(set(needed) - set(columns))
    if missing:
        raise InputError(f"{place}: no column {', '.join(missing)}; needed are {','.join(needed)}")
    twice = next((column for column in columns if column and columns.count(column) > 1), "")
    if twice:
        raise InputError(f"{place}: the column {twice} is named twice; remove one, or rename it")


def _require_cells(place: str, cells: list[str], count: int, separator: str) -> None:
    if any(cell.strip() for cell in cells[count:]):
        raise InputError(
            f"{place}: {len(cells)} cells in {count} columns; put double quotes around text with "
            f"{separator!r} in it, found {separator.join(cells)!r}"
        )
    for cell in cells:
        if cell.lstrip() != cell and cell.lstrip().startswith('"'):
            raise InputError(f"{place}: remove the blank before the quotes of {cell!r}, which would be text")


def read_intervals(path: Path, unit: Literal["frames", "seconds"]) -> dict[str, list[Interval]]:
    """Return the actions of each video of a CSV list, by `path_key` of the video.

    In frames, they are in columns of a list of videos, which may lack them and may leave their cells empty. In seconds,
    each line of the list is an action. A line with several labels is an action of each.

    Raises:
        InputError: the list cannot be read, lacks a column, names an action twice, or has something else than two
            numbers in order.
    """
    columns, number = _BOUNDS[unit], int if unit == "frames" else float
    found: dict[str, list[Interval]] = {}
    for place, row in read_table(path.parent, path.name, ("path", "label", *(columns if unit == "seconds" else ()))):
        first, last = (row.get(column, "").strip() for column in columns)
        if unit == "frames" and not first and not last:
            continue
        action = f"{place}: the action is from {columns[0]} {first!r} to {columns[1]} {last!r}"
        try:
            start, end = number(first), number(last)
        except ValueError:
            raise InputError(f"{action}; give two numbers of {unit}") from None
        if not 0 <= start <= end < math.inf or (unit == "seconds" and start == end):
            raise InputError(f"{action}; give the {columns[0]} before the {columns[1]}, in {unit} from 0")
        of_video = found.setdefault(path_key(checked_video(row["path"], place)), [])
        for label in plain_labels(row["label"]).split(LABEL_SEPARATOR):
            interval = Interval(label, start, end, unit)
            if interval in of_video:
                raise InputError(f"{action}, as a line before it says; keep one of them")
            of_video.append(interval)
    return found


def checked_video(name: str, place: str) -> str:
    """Return `name` as an id if the path stays inside the dataset's folder; lists are foreign data."""
    parts = name.split("/")  # not by pathlib, which takes 10 seconds for a million names
    if not name or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        raise InputError(f"{place}: the path {name!r} must be relative to the dataset's root and stay inside it")
    return "/".join(part for part in parts if part not in ("", ".")) or "."


def checked_pattern(path: str, known: Set[str]) -> str:
    """Return `path` if it has {id}, and in braces nothing but names of `known`.

    Raises:
        ValueError: it has not.
    """
    try:
        parts = [(name, form, how) for _, name, form, how in string.Formatter().parse(path) if name is not None]
    except ValueError as error:
        raise ValueError(f"is no pattern: {error}") from None
    if any(name not in known or form or how for name, form, how in parts) or "{id}" not in path:
        raise ValueError(f"must hold {{id}}, and in braces nothing but {', '.join(sorted(known))}")
    return path


PlaceByIdAndSubset = Annotated[str, AfterValidator(partial(checked_pattern, known={"id", "subset"}))]
"""A setting that says where each video lies, with {id} and perhaps {subset}."""


@functools.lru_cache(maxsize=10_000)
def plain(text: str) -> str:
    """Return `text` in Unicode's composed form (NFC), single blanks and no invisible marks."""
    return " ".join(unicodedata.normalize("NFC", text.translate(_UNSEEN)).split())


def plain_labels(text: str) -> str:
    """Return `text` with each of the labels that it joins as `plain` gives it."""
    return LABEL_SEPARATOR.join(map(plain, text.split(LABEL_SEPARATOR)))


def path_key(video: str) -> str:
    """Return what the spellings of one path have in common."""
    return unicodedata.normalize("NFC", video.strip())


def require_distinct(labels: Iterable[str], place: str, remedy: str) -> None:
    """Refuse labels that differ to a program and look the same to people, such as `Jump` and `jump`.

    Raises:
        InputError: with both spellings.
    """
    known: dict[str, str] = {}
    for label in sorted(set(labels)):
        visible = "".join(character for character in label if unicodedata.category(character) != "Cf")
        other = known.setdefault(unicodedata.normalize("NFKC", plain(visible)).casefold(), label)
        if other != label:
            raise InputError(f"{place}: {other!a} and {label!a} would be two classes, and look like one; {remedy}")


def _is_list(name: str) -> bool:
    """Whether a path is that of a list; macOS puts a `._train.csv` of its own beside each, or below __MACOSX."""
    path = PurePosixPath(name)
    return path.suffix in _SUFFIXES and not path.name.startswith(".") and "__MACOSX" not in path.parts


def _archived(archive: Path) -> dict[str, bytes]:
    status = archive.stat()
    return _read_archive(archive, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=4)
def _read_archive(archive: Path, _mtime_ns: int, _size: int) -> dict[str, bytes]:
    """Return the lists by their names without folders; a changed archive has another time or size and is read anew."""
    lists: dict[str, bytes] = {}
    sizes: list[int] = []

    def keep(entry: ArchiveEntry) -> None:
        if entry.kind != "file" or not _is_list(entry.name):
            return
        sizes.append(entry.size_bytes)
        if sum(sizes) > MAX_LISTS_BYTES:
            raise UnreadableError(f"its lists have more than {MAX_LISTS_BYTES} bytes")
        with entry.open() or io.BytesIO() as stream:
            content = b"".join(iter(functools.partial(stream.read, 1 << 20), b""))
        name = PurePosixPath(entry.name).name
        if lists.setdefault(name, content) != content:
            raise InputError(f"{archive} holds two different files {name}: unpack it and name the right folder")

    try:
        read_entries(archive, keep)
    except UnreadableError as error:
        raise InputError(f"{archive} cannot be read: {error}; get the archive again, or unpack it by hand") from None
    return lists
