"""When the action of each video happens, for lists that know: the columns action_first and action_last."""

from pathlib import Path

from atw.datasets.folder import list_path
from atw.datasets.listed import Location, read_table
from atw.datasets.names import path_key
from atw.files import InputError

COLUMNS = ("action_first", "action_last")


def intervals_path(location: Location, split: int) -> Path | None:
    """The list that knows when the actions of a split happen; the demo's comes with its videos."""
    if location["kind"] == "demo":
        return Path(location["root"]) / f"split{split}.csv"
    if location["kind"] != "folder":
        return None
    path = list_path(location, split)
    columns = next((set(row) for _, row in read_table(path.parent, path.name, ("path",))), set())
    return path if set(COLUMNS) <= columns else None


def read_intervals(path: Path) -> dict[str, tuple[int, int]]:
    """First and last frame of the action, from 0, by `path_key` of the video; a video without numbers is left out.

    Raises:
        InputError: the list cannot be read, lacks the columns, or has something else than two numbers in order.
    """
    found = {}
    for place, row in read_table(path.parent, path.name, ("path", *COLUMNS)):
        first, last = (row[name].strip() for name in COLUMNS)
        if not first and not last:
            continue
        said = f"{place}: the action is from frame {first!r} to {last!r}"
        try:
            bounds = (int(first), int(last))
        except ValueError:
            raise InputError(f"{said}; give two whole numbers, or leave both empty") from None
        if not 0 <= bounds[0] <= bounds[1]:
            raise InputError(f"{said}; give the first and the last one, counted from 0")
        found[path_key(row["path"])] = bounds
    return found
