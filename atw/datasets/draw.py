"""Splits of a folder with a directory per class: stratified, groups kept together, drawn once and written down.

A group's place in the order of a draw is a hash of seed, split and group, so that a new draw with a few videos more
moves few of the others. Classes are filled up to their share of test videos in that order.
"""

import csv
import hashlib
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from atw.datasets.listed import Location, read_json
from atw.datasets.names import plain
from atw.datasets.tree import Scan, require_classes
from atw.files import InputError, write_json

_SETTINGS = ("splits", "test_share", "split_seed", "group", "extensions")


def drawn_lists(location: Location) -> str:
    """Where the drawn lists of a dataset are; `{split}` stands for the number of the split."""
    return f"lists/{location['name']}/split{{split}}.csv"


def assign(videos: Sequence[str], groups: Sequence[str], *, test_share: float, seed: int, split: int) -> list[bool]:
    """Whether each video is a test video; its class is its first directory.

    Every class has videos in both subsets, a group is whole in one, and the test videos of a class are as near to their
    share as the order of the groups allows.

    Args:
        videos: paths relative to the root.
        groups: the group of each video; equal names are one group, in whatever classes.
        test_share: test videos of each class, between 0 and 1.
        seed: of the draw; each split has an order of its own.
        split: number of the split, from 1.

    Raises:
        InputError: a class cannot be in both subsets.
    """
    members: dict[str, Counter[str]] = {}
    for video, group in zip(videos, groups, strict=True):
        members.setdefault(group, Counter())[_label(video)] += 1
    total = Counter(_label(video) for video in videos)
    test: Counter[str] = Counter()
    chosen = []
    order = sorted(members, key=lambda group: hashlib.sha256(f"{seed}/{split}/{group}".encode()).digest())
    for group in order:
        sizes = members[group]
        # What the distance to the shares, summed over classes, changes by when the group becomes one of the test.
        change = sum(
            abs(test[label] + size - test_share * total[label]) - abs(test[label] - test_share * total[label])
            for label, size in sizes.items()
        )
        if change < 0:
            chosen.append(group)
            test += sizes
    tested = _with_every_class(chosen, order, members, total)
    return [group in tested for group in groups]


def _with_every_class(
    chosen: list[str], order: list[str], members: dict[str, Counter[str]], total: Counter[str]
) -> set[str]:
    """The groups to test on, changed by as little as gives every class a video in both subsets."""
    tested = set(chosen)
    groups_of: dict[str, list[str]] = {label: [] for label in sorted(total)}
    for group in order:
        for label in members[group]:
            groups_of[label].append(group)
    for label, groups in groups_of.items():
        own = sorted(groups, key=lambda group: members[group].total())
        if len(own) < 2:
            raise InputError(
                f"class {label} has videos of one group only ({total[label]} in all), so it cannot be both trained and "
                "tested on: add videos of another group, take the class away, or change `group` in config.yaml"
            )
        if tested.isdisjoint(own):
            tested.add(own[0])
        elif tested.issuperset(own):
            tested.remove(own[0])
    for label, groups in groups_of.items():
        if tested.isdisjoint(groups) or tested.issuperset(groups):
            raise InputError(
                f"no split found that trains and tests on class {label}: its groups hold other classes too; "
                "change `group` in config.yaml, or write the lists by hand and name them as `lists`"
            )
    return tested


def write_lists(location: Location, found: Scan) -> None:
    """Draw the splits of a dataset from what its folder holds, and write them down, unless that was done before.

    Raises:
        InputError: the lists were drawn by other settings than those given, or there is nothing to draw from.
    """
    root, folder = Path(location["root"]), Path(drawn_lists(location)).parent
    settings = {name: location[name] for name in _SETTINGS}
    if not folder.exists():
        require_classes(found, root, location["extensions"])
        if folder.resolve().is_relative_to(root.resolve()):
            raise InputError(
                f"dataset {location['name']}: its lists, {folder}, would be written into its root, {root}, which is "
                "never written to: name a folder that holds only the classes as root"
            )
        _write_new(folder, found.videos, settings)
    _require_same(folder, settings)


def _write_new(folder: Path, videos: list[str], settings: dict[str, Any]) -> None:
    groups = [_group(video, settings["group"]) for video in videos]
    folder.parent.mkdir(parents=True, exist_ok=True)
    # The folder appears whole or not at all.
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent) as scratch:
        whole = Path(scratch, "lists")
        whole.mkdir()
        for split in range(1, settings["splits"] + 1):
            tested = assign(videos, groups, test_share=settings["test_share"], seed=settings["split_seed"], split=split)
            with (whole / f"split{split}.csv").open("w", newline="", encoding="utf-8") as stream:
                table = csv.writer(stream, lineterminator="\n")
                table.writerow(("path", "label", "subset", "group"))
                for video, group, is_test in zip(videos, groups, tested, strict=True):
                    shown = group if settings["group"] else ""
                    table.writerow((video, _label(video), "test" if is_test else "train", shown))
        write_json(whole / "drawn.json", settings)
        try:
            whole.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
            shutil.rmtree(whole)  # another process was first, with the same lists


def _require_same(folder: Path, settings: dict[str, Any]) -> None:
    if not (folder / "drawn.json").is_file():
        raise InputError(
            f"{folder} holds no drawn.json, so its lists were not drawn from the folder: name them as `lists`, "
            f"{folder}/split{{split}}.csv, or move {folder} away"
        )
    known = read_json(folder, "drawn.json")
    if not isinstance(known, dict):
        raise InputError(
            f"{folder / 'drawn.json'} is not as it was written: restore it, or move {folder} away to draw anew"
        )
    endings = known.get("extensions")
    if isinstance(endings, list) and endings and all(ending in settings["extensions"] for ending in endings):
        known["extensions"] = settings["extensions"]  # videos of a new ending are named as those that came later
    changed = [name for name in _SETTINGS if known.get(name) != settings[name]]
    if changed:
        raise InputError(
            f"the lists in {folder} were drawn with {changed[0]}: {known.get(changed[0])!r}, config.yaml says "
            f"{settings[changed[0]]!r}. Lists once drawn stay: restore the setting, or move {folder} away to draw anew"
        )


def _label(video: str) -> str:
    return plain(video.partition("/")[0])


def _group(video: str, pattern: str) -> str:
    if not pattern:
        return video
    match = re.search(pattern, PurePosixPath(video).name)
    if not match or not (match[1] or "").strip():
        raise InputError(
            f"{video}: the pattern {pattern!r} of `group` finds no group in the file's name; correct it in config.yaml"
        )
    return match[1].strip()
