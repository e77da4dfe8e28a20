"""Any folder of videos: a CSV file per split with columns path, label, subset and optionally group.

The lists are the user's own, or drawn once by `atw.datasets.draw`.
"""

import csv
import io
from pathlib import Path
from typing import Literal

from atw.datasets.draw import drawn_lists
from atw.datasets.listed import Listed, Location, checked_video, read_text
from atw.files import InputError


def count_splits(location: Location) -> int:
    """How many splits there are: one, or as many numbered files as exist without a gap."""
    if location["lists"] and "{split}" not in location["lists"]:
        return 1
    count = 0
    while list_path(location, count + 1).is_file():
        count += 1
    if not count:
        raise InputError(
            f"dataset {location['name']}: list file {list_path(location, 1)} does not exist; create it with the "
            f"columns path,label,subset, or correct datasets.{location['name']}.lists in config.yaml"
        )
    return count


def listed(location: Location, split: int) -> list[Listed]:
    """The videos of a split; further columns are allowed and ignored."""
    path = list_path(location, split)
    reader = csv.DictReader(io.StringIO(read_text(path.parent, path.name), newline=""), strict=True)
    rows = []
    try:
        missing = {"path", "label", "subset"} - set(reader.fieldnames or ())
        if missing:
            raise InputError(f"{path}, line 1: no column {', '.join(sorted(missing))}; needed are path,label,subset")
        for row in reader:
            place = f"{path}, line {reader.line_num}"
            given = (row["subset"] or "").rstrip()
            if given not in ("train", "test") or not row["label"] or row["path"] is None:
                raise InputError(f"{place}: needs a path, a label and a subset of train or test, found {dict(row)}")
            subset: Literal["train", "test"] = "train" if given == "train" else "test"
            group = (row.get("group") or "").rstrip()
            rows.append(Listed(checked_video(row["path"], place), row["label"], subset, group))
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV file: {error}") from None
    return rows


def list_path(location: Location, split: int) -> Path:
    """The list of a split, given or drawn."""
    return Path((location["lists"] or drawn_lists(location)).replace("{split}", str(split)))
