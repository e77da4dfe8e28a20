"""Kinetics: CSV files `label,youtube_id,time_start,time_end,split[,is_cc]`; one split; alphabetical classes."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from atw.datasets.archive import list_names
from atw.datasets.listed import Listed, Location, checked_video, read_text
from atw.files import InputError

_NEEDED = ("label", "youtube_id", "time_start", "time_end", "split")
_SPLITS = {"train": "train", "val": "validate", "validate": "validate", "validation": "validate", "test": "test"}


def listed(location: Location, split: int) -> list[Listed]:
    """The training videos, and for testing those of the list that the setting `test_on` names.

    Clips of one YouTube video are a group.
    """
    path, tested = Path(location["lists"]), location["test_on"]
    rows: list[Listed] = []
    for folder, name in _files(path, tested):
        rows += _read(folder, name, tested, location["path"])
    if not rows:
        raise InputError(f"{path} lists no video of train or {tested}; correct datasets.{location['name']}.lists")
    return rows


def _files(path: Path, tested: str) -> Iterator[tuple[Path, str]]:
    """Folder and name of each file to read: one CSV file with all, or one a subset in a folder or archive."""
    if path.suffix == ".csv":
        yield path.parent, path.name
        return
    names = list_names(path)
    for subset in ("train", tested):
        words = "|".join(word for word, meaning in _SPLITS.items() if meaning == subset)
        found = [name for name in names if re.fullmatch(rf"(.*[_-])?({words})\.csv", name)]
        if len(found) != 1:
            problem = f"{' and '.join(found)} both list" if found else "no CSV file lists"
            raise InputError(
                f"{path}: {problem} the videos of {subset}; needed is one file, such as {subset}.csv, in the official "
                "form label,youtube_id,time_start,time_end,split"
            )
        yield path, found[0]


def _read(folder: Path, name: str, tested: str, template: str) -> Iterator[Listed]:
    reader = csv.reader(io.StringIO(read_text(folder, name), newline=""), strict=True)
    try:
        header = next(reader, [])
        missing = [column for column in _NEEDED if column not in header]
        if missing:
            raise InputError(f"{folder / name}, line 1: no column {', '.join(missing)}; needed are {','.join(_NEEDED)}")
        columns = [header.index(column) for column in _NEEDED]
        for row in reader:
            if not row:
                continue
            place = f"{folder / name}, line {reader.line_num}"
            if len(row) <= max(columns):
                raise InputError(f"{place}: needs {','.join(_NEEDED)}, found {','.join(row)!r}")
            label, youtube, start, end, given = (row[column] for column in columns)
            meaning = _SPLITS.get(given)
            if meaning is None or not label or not youtube or not (start.isdecimal() and end.isdecimal()):
                raise InputError(
                    f"{place}: needs a label, a youtube_id, whole seconds and a split of train, validate or test, "
                    f"found {','.join(row)!r}"
                )
            if meaning in ("train", tested):
                subset: Literal["train", "test"] = "train" if meaning == "train" else "test"
                video = template.format(
                    label=label,
                    label_underscored=label.replace(" ", "_"),
                    subset=given,
                    id=youtube,
                    start=start.zfill(6),
                    end=end.zfill(6),
                )
                yield Listed(checked_video(video, place), label, subset, youtube)
    except csv.Error as error:
        raise InputError(f"{folder / name}: not a CSV file: {error}") from None
