"""When the action of each video happens, for lists that know: the columns action_first and action_last."""

import csv
import io
from pathlib import Path

from atw.datasets.folder import list_path
from atw.datasets.listed import Location, read_text
from atw.files import InputError

COLUMNS = ("action_first", "action_last")


def intervals_path(location: Location, split: int) -> Path | None:
    """The list that knows when the actions of a split happen; the demo's comes with its videos."""
    if location["kind"] == "demo":
        return Path(location["root"]) / f"split{split}.csv"
    if location["kind"] != "folder":
        return None
    path = list_path(location, split)
    return path if set(COLUMNS) <= set(_reader(path).fieldnames or ()) else None


def read_intervals(path: Path) -> dict[str, tuple[int, int]]:
    """First and last frame of the action, from 0, by video; a video without numbers is left out.

    Raises:
        InputError: the list cannot be read, lacks the columns, or has something else than numbers in them.
    """
    reader = _reader(path)
    missing = {"path", *COLUMNS} - set(reader.fieldnames or ())
    if missing:
        raise InputError(f"{path}, line 1: no column {', '.join(sorted(missing))}; add it or leave out --intervals")
    found = {}
    for row in reader:
        first, last = (row[name] for name in COLUMNS)
        if not first and not last:
            continue
        try:
            found[row["path"]] = (int(first), int(last))
        except (TypeError, ValueError):
            raise InputError(
                f"{path}, line {reader.line_num}: the action is from frame {first!r} to {last!r}; "
                "give two whole numbers, or leave both empty"
            ) from None
    return found


def _reader(path: Path) -> "csv.DictReader[str]":
    return csv.DictReader(io.StringIO(read_text(path.parent, path.name), newline=""))
