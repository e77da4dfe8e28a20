"""Any folder of videos: a CSV file per split with columns path, label, subset and optionally group.

The lists are the user's own, or drawn once by `atw.datasets.draw`.
"""

import glob
import re
from pathlib import Path
from typing import Literal

from atw.datasets.draw import drawn_lists
from atw.datasets.listed import Listed, Location, checked_video, read_table
from atw.datasets.names import plain
from atw.files import InputError


def count_splits(location: Location) -> int:
    """How many splits there are: one, or as many as there are numbered files.

    Raises:
        InputError: there is no file, one is missing between the others, or they are not those that were drawn.
    """
    if location["lists"] and "{split}" not in location["lists"]:
        return 1
    numbers = _numbers(location["lists"] or drawn_lists(location))
    if not location["lists"]:
        return _drawn_count(location, numbers)
    if not numbers:
        raise InputError(
            f"dataset {location['name']}: list file {list_path(location, 1)} does not exist; create it with the "
            f"columns path,label,subset, or correct datasets.{location['name']}.lists in config.yaml"
        )
    missing = min(set(range(1, max(numbers) + 2)) - numbers)
    if missing < max(numbers):
        raise InputError(
            f"dataset {location['name']}: list file {list_path(location, missing)} does not exist, but "
            f"{list_path(location, max(numbers))} does; splits are numbered from 1 without a gap: put it back, or "
            "rename the others"
        )
    return len(numbers)


def listed(location: Location, split: int) -> list[Listed]:
    """The videos of a split; further columns are allowed and ignored, as are blanks around all cells."""
    path = list_path(location, split)
    rows = []
    for place, row in read_table(path.parent, path.name, ("path", "label", "subset")):
        label, given, group = (plain(row.get(column, "")) for column in ("label", "subset", "group"))
        if given not in ("train", "test") or not label:
            raise InputError(f"{place}: needs a path, a label and a subset of train or test, found {row}")
        subset: Literal["train", "test"] = "train" if given == "train" else "test"
        rows.append(Listed(checked_video(row["path"], place), label, subset, group))
    return rows


def _drawn_count(location: Location, numbers: set[int]) -> int:
    """The number of splits that were drawn, when their lists are all there and no others."""
    count: int = location["splits"]
    differing = sorted(numbers ^ set(range(1, count + 1)))
    if differing:
        path = list_path(location, differing[0])
        state = "was not drawn" if differing[0] in numbers else "is missing"
        raise InputError(
            f"dataset {location['name']}: {count} splits were drawn, as {path.parent / 'drawn.json'} says, but {path} "
            f"{state}. Lists once drawn stay: restore them as they were, or move {path.parent} away to draw anew"
        )
    return count


def _numbers(pattern: str) -> set[int]:
    """The numbers of the files that a pattern with `{split}` stands for."""
    first, *others = pattern.split("{split}")
    wanted = re.compile(re.escape(first) + "([1-9][0-9]*)" + r"\1".join(re.escape(other) for other in others))
    files = glob.glob("*".join(glob.escape(part) for part in (first, *others)))  # noqa: PTH207 - the pattern is text
    return {int(match[1]) for match in map(wanted.fullmatch, files) if match and Path(match[0]).is_file()}


def list_path(location: Location, split: int) -> Path:
    """The list of a split, given or drawn."""
    return Path((location["lists"] or drawn_lists(location)).replace("{split}", str(split)))
