"""HMDB-51: 153 files `<class>_test_split<N>.txt` of lines `<file>.avi <0|1|2>`; classes in alphabetical order."""

import re
from pathlib import Path
from typing import Literal

from atw.datasets.listed import Listed, Location, checked_video, read_lines
from atw.files import InputError

_SUBSETS: dict[str, Literal["train", "test"] | None] = {"0": None, "1": "train", "2": "test"}


def listed(location: Location, split: int) -> list[Listed]:
    """The videos of a split; those marked 0 belong to neither subset and are left out."""
    folder = Path(location["lists"])
    paths = sorted(folder.glob(f"*_test_split{split}.txt"))
    if not paths:
        raise InputError(
            f"no list files `<class>_test_split{split}.txt` in {folder}: put the official HMDB-51 lists there, "
            f"or set datasets.{location['name']}.lists in config.yaml to their folder"
        )
    rows = []
    for path in paths:
        label = path.name.removesuffix(f"_test_split{split}.txt")
        for number, line in enumerate(read_lines(path), start=1):
            match = re.fullmatch(r"(.+\.avi) ([012])", line)
            if not match:
                raise InputError(f"{path}, line {number}: expected `file.avi 0|1|2`, found {line!r}")
            subset = _SUBSETS[match[2]]
            if subset:
                rows.append(Listed(checked_video(f"{label}/{match[1]}", f"{path}, line {number}"), label, subset))
    return rows
