"""HMDB-51: 153 files `<class>_test_split<N>.txt` of lines `<file>.avi <0|1|2>`; classes in alphabetical order."""

import re
from pathlib import Path
from typing import Literal

from atw.datasets.archive import list_names
from atw.datasets.listed import Listed, Location, checked_video, read_lines
from atw.files import InputError

_SUBSETS: dict[str, Literal["train", "test"] | None] = {"0": None, "1": "train", "2": "test"}


def listed(location: Location, split: int) -> list[Listed]:
    """The videos of a split; those marked 0 belong to neither subset and are left out."""
    folder = Path(location["lists"])
    ending = f"_test_split{split}.txt"
    names = [name for name in list_names(folder) if name.endswith(ending)]
    if not names:
        raise InputError(
            f"no list files `<class>_test_split{split}.txt` in {folder}: put the official HMDB-51 lists there, "
            f"or set datasets.{location['name']}.lists in config.yaml to their folder"
        )
    rows = []
    for name in names:
        label = name.removesuffix(ending)
        for number, line in enumerate(read_lines(folder, name), start=1):
            place = f"{folder / name}, line {number}"
            match = re.fullmatch(r"(.+\.avi)\s+([012])", line)
            if not match:
                raise InputError(f"{place}: expected `file.avi 0|1|2`, found {line!r}")
            subset = _SUBSETS[match[2]]
            if subset:
                rows.append(Listed(checked_video(f"{label}/{match[1]}", place), label, subset))
    return rows
