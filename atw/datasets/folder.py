"""Any folder of videos: a CSV file per split with columns path, label, subset and optionally group."""

import csv
import io
from pathlib import Path
from typing import Literal

from atw.datasets.listed import Listed, Location, checked_video, read_lines
from atw.files import InputError


def count_splits(location: Location) -> int:
    """How many splits there are: one, or as many numbered files as exist without a gap."""
    if "{split}" not in location["lists"]:
        return 1
    count = 0
    while _path(location, count + 1).is_file():
        count += 1
    if not count:
        raise InputError(
            f"dataset {location['name']}: list file {_path(location, 1)} does not exist; create it with the columns "
            f"path,label,subset, or correct datasets.{location['name']}.lists in config.yaml"
        )
    return count


def listed(location: Location, split: int) -> list[Listed]:
    """The videos of a split; further columns are allowed and ignored."""
    path = _path(location, split)
    reader = csv.DictReader(io.StringIO("\n".join(read_lines(path))), strict=True)
    rows = []
    try:
        missing = {"path", "label", "subset"} - set(reader.fieldnames or ())
        if missing:
            raise InputError(f"{path}, line 1: no column {', '.join(sorted(missing))}; needed are path,label,subset")
        for number, row in enumerate(reader, start=2):
            place = f"{path}, line {number}"
            if row["subset"] not in ("train", "test") or not row["label"] or row["path"] is None:
                raise InputError(f"{place}: needs a path, a label and a subset of train or test, found {dict(row)}")
            subset: Literal["train", "test"] = "train" if row["subset"] == "train" else "test"
            rows.append(Listed(checked_video(row["path"], place), row["label"], subset, group=row.get("group") or ""))
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV file: {error}") from None
    return rows


def _path(location: Location, split: int) -> Path:
    return Path(location["lists"].replace("{split}", str(split)))
