"""UCF-101: `classInd.txt`, `trainlistNN.txt`, `testlistNN.txt`; label order is that of classInd.txt."""

import re
from pathlib import Path

from atw.datasets.listed import Listed, Location, checked_video, read_lines
from atw.datasets.names import plain
from atw.files import InputError


def classes(location: Location) -> tuple[str, ...]:
    """The class names of classInd.txt in its order (`1 ApplyEyeMakeup` is label 0)."""
    folder = Path(location["lists"])
    names = []
    for number, line in enumerate(read_lines(folder, "classInd.txt"), start=1):
        match = re.fullmatch(r"(\d+)\s+(\S+)", line)
        if not match or int(match[1]) != number:
            raise InputError(f"{folder / 'classInd.txt'}, line {number}: expected `{number} ClassName`, found {line!r}")
        names.append(plain(match[2]))
    return tuple(names)


def listed(location: Location, split: int) -> list[Listed]:
    """The videos of a split; the class is the folder's name, for HandstandPushups holds files of another spelling."""
    known = set(classes(location))
    folder = Path(location["lists"])
    rows = []
    for subset in ("train", "test"):
        name = f"{subset}list{split:02d}.txt"
        for number, line in enumerate(read_lines(folder, name), start=1):
            place = f"{folder / name}, line {number}"
            video = checked_video(re.sub(r"(\.avi)\s+\d+$", r"\1", line), place)
            label = plain(video.partition("/")[0])
            group = re.search(r"_(g\d+)_c\d+\.avi$", video)
            if label not in known or not group:
                raise InputError(
                    f"{place}: expected `Class/v_Class_gGG_cCC.avi` of a class of classInd.txt, found {line!r}"
                )
            rows.append(Listed(video, label, "train" if subset == "train" else "test", group=f"{label}/{group[1]}"))
    return rows
