"""Datasets: which videos there are, their classes, splits and shards. Standard library only: the workflow imports it.

The contract of a dataset is one function that reads its lists, `listed(location, split) -> list[Listed]`, and an entry
in `_LISTINGS`; docs/datasets.md shows one in 30 lines. Classes, shards, digests and checks follow from the lists.
Datasets have hundreds of thousands of videos, and every job of a plan asks: what is read or computed once is kept.
"""

import functools
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from atw.datasets import demo, draw, folder, hmdb51, kinetics, somethingv2, ucf101
from atw.datasets.contents import ABSENT, KEPT, Contents
from atw.datasets.found import present, unreadable
from atw.datasets.intervals import intervals_path
from atw.datasets.listed import Listed, Location
from atw.datasets.names import plain, require_distinct, spelled
from atw.datasets.tree import Scan, scan, shown
from atw.files import InputError, digest

_LISTINGS: dict[str, Callable[[Location, int], list[Listed]]] = {
    "demo": demo.listed,
    "folder": folder.listed,
    "hmdb51": hmdb51.listed,
    "kinetics": kinetics.listed,
    "somethingv2": somethingv2.listed,
    "ucf101": ucf101.listed,
}
# How many splits, where not three.
_COUNTS: dict[str, Callable[[Location], int]] = {
    "folder": folder.count_splits,
    "kinetics": lambda _: 1,
    "somethingv2": lambda _: 1,
}
# Class names in label order, where not alphabetical.
_CLASSES: dict[str, Callable[[Location], tuple[str, ...]]] = {
    "demo": lambda _: demo.CLASSES,
    "somethingv2": somethingv2.classes,
    "ucf101": ucf101.classes,
}

log = logging.getLogger("atw")


class NoVideosError(InputError):
    """The folder of a dataset's videos is not there at all."""


@dataclass(frozen=True)
class Split:
    """The videos of one split, each list sorted by id; `classes` are those of the whole dataset."""

    name: str
    train: tuple[Listed, ...]
    test: tuple[Listed, ...]
    classes: tuple[str, ...]

    def digest(self) -> str:
        """SHA-256 of what training and scoring depend on: every video's id, label and subset, and the class order."""
        rows = [[listed.video, listed.label, listed.subset] for listed in (*self.train, *self.test)]
        return digest({"classes": self.classes, "videos": rows})

    def held_out(self, share: float, *, seed: int) -> tuple[Listed, ...]:
        """The training videos that are kept out of the training, sorted by id; none if `share` is 0.

        Groups stay whole. They, and videos without a group, come in the order of a hash of seed and name, and each is
        taken that takes no class beyond `share` of its training videos.

        Raises:
            InputError: every class has too few training videos, or too large groups, for that share.
        """
        if not share:
            return ()
        units: dict[tuple[str, str], list[Listed]] = {}
        for row in self.train:
            units.setdefault(("group", row.group) if row.group else ("video", row.video), []).append(row)
        # A little room, for .29 of 100 videos are 28.999999999999996.
        room = {label: share * count + 1e-9 for label, count in Counter(row.label for row in self.train).items()}
        taken: list[Listed] = []
        for name in sorted(units, key=lambda name: digest([seed, *name])):
            counts = Counter(row.label for row in units[name])
            if all(count <= room[label] for label, count in counts.items()):
                taken += units[name]
                for label, count in counts.items():
                    room[label] -= count
        if not taken:
            raise InputError(
                f"{self.name}: train.held_out is {share}, but no class has a video or group small enough to be held "
                "out; raise it, or set it to 0"
            )
        return tuple(sorted(taken, key=lambda row: row.video))


class Dataset:
    """A dataset read from its lists.

    Args:
        location: what `atw.config.location` gives: name, kind, root and what the kind needs besides.
        kept: folder where digests of videos are kept from one look to the next, None for nowhere.
    """

    def __init__(self, location: Location, *, kept: Path | None = None) -> None:
        self.name: str = location["name"]
        self.kind: str = location["kind"]
        self.root = Path(location["root"])
        self._location = location
        self._contents = Contents(self.name, self.root, kept)

    @property
    def generated(self) -> bool:
        """Whether the videos are rendered by the workflow rather than found on disk."""
        return self.kind == "demo"

    @property
    def allow_missing(self) -> bool:
        """Whether listed videos may be absent: they are quarantined, and count towards no limit."""
        return bool(self._location.get("allow_missing", False))

    @functools.cached_property
    def split_names(self) -> tuple[str, ...]:
        """`split1`, `split2`, ... as many as the lists hold."""
        count = _COUNTS[self.kind](self._location) if self.kind in _COUNTS else 3
        return tuple(f"split{number}" for number in range(1, count + 1))

    @functools.cache  # noqa: B019 - a process looks at a handful of datasets
    def rows(self, name: str) -> tuple[Listed, ...]:
        """The listed videos of a split, sorted by id, checked: no video twice, no group in train and test."""
        if name not in self.split_names:
            raise InputError(f"dataset {self.name} has no {name}; it has {', '.join(self.split_names)}")
        root = str(self.root)
        listed = _LISTINGS[self.kind](self._location, int(name.removeprefix("split")))
        rows = sorted((_as_on_disk(row, root) for row in listed), key=lambda row: row.video)
        _check(f"dataset {self.name}, {name}", rows)
        return tuple(rows)

    @functools.cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order: that of the official list where there is one, else alphabetical."""
        if self.kind in _CLASSES:
            names = _CLASSES[self.kind](self._location)
        else:
            names = tuple(sorted({row.label for name in self.split_names for row in self.rows(name)}))
        require_distinct(names, f"dataset {self.name}", "write one of them in all lists")
        twice = next((label for label in names if names.count(label) > 1), None)
        if twice is not None:
            raise InputError(f"dataset {self.name}: class {twice!r} is listed twice, blanks aside; keep one of them")
        return names

    @functools.cache  # noqa: B019
    def split(self, name: str) -> Split:
        """A split with its classes; refuses one in which a class has no training video."""
        rows = self.rows(name)
        train = tuple(row for row in rows if row.subset == "train")
        test = tuple(row for row in rows if row.subset == "test")
        missing = sorted({row.label for row in test} - {row.label for row in train})
        if missing or not train or not test:
            raise InputError(
                f"dataset {self.name}, {name}: "
                + (f"no training video of class {', '.join(missing)}" if missing else "no training or no test videos")
                + "; add some to the list, or remove the class from it"
            )
        return Split(name, train, test, self.classes)

    def intervals_path(self, split: str) -> Path | None:
        """The list that says when the action of each video of a split happens; None where nobody knows."""
        return intervals_path(self._location, self.split_names.index(split) + 1)

    def shard_names(self, split: str, count: int) -> list[str]:
        """The shards, of `count`, that hold the videos of a split."""
        return list(self._shard_names(split, count))

    @functools.cache  # noqa: B019
    def _shard_names(self, split: str, count: int) -> tuple[str, ...]:
        return tuple(sorted({_shard_name(row, count) for row in self.rows(split)}))

    def members(self, shard: str, count: int) -> list[Listed]:
        """The videos of one shard over all splits, sorted by id, each once."""
        return list(self._shards(count).get(shard, []))

    @functools.cache  # noqa: B019
    def _shards(self, count: int) -> dict[str, list[Listed]]:
        videos: dict[str, Listed] = {}
        for name in self.split_names:
            for row in self.rows(name):
                known = videos.setdefault(row.video, row)
                if known.label != row.label:
                    raise InputError(
                        f"dataset {self.name}: {row.video} is {known.label} in one split and {row.label} in {name}; "
                        "give it one label in all lists"
                    )
        shards: dict[str, list[Listed]] = {}
        for video in sorted(videos):
            shards.setdefault(_shard_name(videos[video], count), []).append(videos[video])
        return shards

    def members_digest(self, shard: str, count: int) -> str:
        """SHA-256 of what a shard's bytes owe to its videos: their ids, labels and contents.

        Looks at the files each time, so that a job can tell whether they are still those it was planned for, and reads
        those that look otherwise than before.
        """
        members = self.members(shard, count)
        contents = {} if self.generated else self._contents.digests((row.video for row in members), shard)
        return self.made_from((row.video, row.label, contents.get(row.video, ABSENT)) for row in members)

    def made_from(self, files: Iterable[tuple[str, str, str]]) -> str:
        """What `members_digest` is of a shard made from these files: id, label and SHA-256 of each, `ABSENT` of none.

        Generated videos have no content before they are rendered, and need none: it follows from their settings.
        """
        return digest([[video, label, None if self.generated else content] for video, label, content in files])

    def draw_splits(self) -> None:
        """Draw the splits of a folder without lists, if that was not done before, and name what is in none.

        Raises:
            NoVideosError: the folder of the videos does not exist.
            InputError: no splits can be drawn, or those there were drawn by other settings.
        """
        if self.kind != "folder" or self._location["lists"]:
            return
        self._require_root()
        found = scan(self.root, self._location["extensions"])
        self._warn_of(found)
        draw.write_lists(self._location, found)
        listed = {row.video for name in self.split_names for row in self.rows(name)}
        new = [video for video in found.videos if video not in listed]
        if new:
            lists = Path(draw.drawn_lists(self._location)).parent
            log.warning(
                "dataset %s: %d videos came after its splits were drawn and are left out, first %s. Add them to the "
                "lists in %s, or move that folder away to draw anew",
                *(self.name, len(new), new[0], lists),
            )

    def _warn_of(self, found: Scan) -> None:
        if found.left_out:
            log.warning(
                "dataset %s: %d files below %s are left out: %s",
                *(self.name, len(found.left_out), self.root, shown(found.left_out)),
            )
        if found.endings:
            log.warning(
                "dataset %s: files below %s are left out for their endings, which `extensions` does not name: %s",
                *(
                    self.name,
                    self.root,
                    shown([f"{ending} ({count})" for ending, count in found.endings.most_common()]),
                ),
            )
        if found.empty:
            log.warning(
                "dataset %s: %d directories in %s are no classes, for no file in them ends in one of %s: %s",
                *(self.name, len(found.empty), self.root, ", ".join(self._location["extensions"]), shown(found.empty)),
            )

    def missing_videos(self) -> tuple[list[str], int]:
        """The listed videos that ought to be in the root and are not, and how many are listed.

        Where the dataset allows videos to be missing, that is none of them unless all are.
        """
        listed = sorted({row.video for name in self.split_names for row in self.rows(name)})
        missing = sorted(set(listed) - present(str(self.root), listed))
        allowed = self.allow_missing and len(missing) < len(listed)
        return [] if allowed else missing, len(listed)

    def require_videos(self) -> None:
        """Refuse to start when videos of the lists are not there.

        Raises:
            NoVideosError: the folder of the videos does not exist.
            InputError: some listed videos do not exist, and the dataset does not allow that.
        """
        if self.generated:
            return
        self._require_root()
        _ = self.classes  # refuses labels that look the same, before anything is made of them
        missing, listed = self.missing_videos()
        if not missing:
            return
        raise InputError(
            f"dataset {self.name}: {len(missing)} of the {listed} listed videos are not in {self.root}, first "
            f"{', '.join(missing[:3])}. Put them there, take them from the lists, set datasets.{self.name}.root to the "
            f"folder that the paths start from, or datasets.{self.name}.allow_missing to true to quarantine them"
        )

    def _require_root(self) -> None:
        try:
            there = self.root.is_dir()
        except OSError as error:
            raise unreadable(str(self.root), error) from None
        if not there:
            official = self.kind in ("hmdb51", "ucf101")
            fetch = f" or run `atw run data/downloads/{self.name}.json`," if official else ""
            raise NoVideosError(
                f"dataset {self.name}: the folder of its videos, {self.root}, does not exist. Put the videos there,"
                f"{fetch} or set datasets.{self.name}.root in config.yaml to where they are"
            )


def _as_on_disk(row: Listed, root: str) -> Listed:
    video, label = spelled(root, row.video), plain(row.label)
    return row if (video, label) == (row.video, row.label) else replace(row, video=video, label=label)


def _check(place: str, rows: Iterable[Listed]) -> None:
    seen: dict[str, Listed] = {}
    groups: dict[str, Listed] = {}
    for row in rows:
        if row.video in seen:
            raise InputError(f"{place}: {row.video} is listed twice; keep one line of it")
        seen[row.video] = row
        first = groups.setdefault(row.group, row) if row.group else row
        if first.subset != row.subset:
            raise InputError(
                f"{place}: group {row.group} is in both subsets ({first.video} in {first.subset}, {row.video} in "
                f"{row.subset}); a result on such a split is worthless: move the whole group to one subset"
            )


def _shard_name(row: Listed, count: int) -> str:
    # Not Python's own hash, which differs from process to process.
    value = int.from_bytes(hashlib.sha256(row.video.encode()).digest()[:8], "big")
    return f"{row.block * count + value % count:05d}"


def from_json(text: str) -> Dataset:
    """The dataset that `--dataset` describes."""
    location: Any = json.loads(text)
    return Dataset(location, kept=KEPT)
