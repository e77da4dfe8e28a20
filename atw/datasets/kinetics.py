"""Kinetics: CSV files `label,youtube_id,time_start,time_end,split[,is_cc]`; one split; alphabetical classes."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from atw.datasets.archive import list_names
from atw.datasets.listed import Listed, Location, checked_video, read_table
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
    for place, row in read_table(folder, name, _NEEDED):
        label, youtube, start, end, given = (row[column].strip() for column in _NEEDED)
        meaning = _SPLITS.get(given)
        if meaning is None or not label or not youtube or not (start.isdecimal() and end.isdecimal()):
            raise InputError(
                f"{place}: needs a label, a youtube_id, whole seconds and a split of train, validate or test, "
                f"found {','.join(row.values())!r}"
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
