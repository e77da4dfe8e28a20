"""A dataset read from its lists: its videos, classes, splits and shards.

Classes, shards, digests and checks follow from the lists, which `atw.config.DatasetKind` reads. Datasets have hundreds
of thousands of videos and every job of a plan asks for them, so what is read or computed once is kept.
"""

import contextlib
import functools
import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from atw.config import LABEL_SEPARATOR, DownloadableDataset, Interval, ListedVideo, Location
from atw.datasets.contents import ABSENT, KEPT, Contents
from atw.datasets.lists import path_key, plain_labels, require_distinct
from atw.datasets.scan import existing, spelled, unreadable
from atw.files import InputError, digest

log = logging.getLogger("atw")


class NoVideosError(InputError):
    """The folder of a dataset's videos is not there at all."""


@dataclass(frozen=True)
class Split:
    """The videos of one split, sorted by id; `classes` are those of the whole dataset.

    Test videos may be background videos, without a label; training videos are not.
    """

    name: str
    train: tuple[ListedVideo, ...]
    test: tuple[ListedVideo, ...]
    classes: tuple[str, ...]

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of every video's id, labels and subset, and of the class order: training and scoring depend on it."""
        rows = [[row.video, row.label, row.subset] for row in (*self.train, *self.test)]
        return digest({"classes": self.classes, "videos": rows})

    def held_out(self, share: float, *, seed: int) -> tuple[ListedVideo, ...]:
        """Return the training videos that are kept out of the training, sorted by id; none if `share` is 0.

        Groups stay whole. Groups, and videos without one, are taken in the order of a hash of seed and name, except
        those that would take a class beyond `share` of its training videos.

        Raises:
            InputError: every class has too few training videos, or too large groups, for that share.
        """
        if not share:
            return ()
        units: dict[tuple[str, str], list[ListedVideo]] = {}
        for row in self.train:
            units.setdefault(("group", row.group) if row.group else ("video", row.video), []).append(row)
        # The small number is for rounding: .29 of 100 videos are 28.999999999999996.
        left = {label: share * count + 1e-9 for label, count in _count_labels(self.train).items()}
        taken: list[ListedVideo] = []
        for name in sorted(units, key=lambda name: digest([seed, *name])):
            counts = _count_labels(units[name])
            if all(count <= left[label] for label, count in counts.items()):
                taken += units[name]
                for label, count in counts.items():
                    left[label] -= count
        if not taken:
            raise InputError(
                f"{self.name}: train.held_out is {share}, but no class has a video or group small enough to be held "
                "out; raise it, or set it to 0"
            )
        return tuple(sorted(taken, key=lambda row: row.video))


class Dataset:
    """A dataset read from its lists.

    Args:
        location: name of the dataset, and the settings of its kind.
        kept: folder where digests of videos are kept from one look to the next; None keeps none.
    """

    def __init__(self, location: Location, *, kept: Path | None = None) -> None:
        self.location = location
        self.name = location.name
        self.root = Path(location.root)
        self._kind = location.settings
        self._contents = Contents(self.name, self.root, kept)

    @classmethod
    def from_json(cls, text: str) -> "Dataset":
        """Return the dataset that `--dataset` describes; digests of its videos are kept in the working folder."""
        return cls(Location.from_json(text), kept=KEPT)

    @property
    def generated(self) -> bool:
        """Whether the workflow renders the videos."""
        return self._kind.generated

    @property
    def allow_missing(self) -> bool:
        """Whether listed videos may be missing: they are quarantined, and count towards no limit."""
        return self._kind.may_miss_videos

    @functools.cached_property
    def split_names(self) -> tuple[str, ...]:
        """`split1`, `split2`, ... as many as the lists hold."""
        return tuple(f"split{number}" for number in range(1, self._kind.count_splits(self.name) + 1))

    def require_split(self, name: str) -> None:
        """Raise InputError if there is no such split, or no lists."""
        if name not in self.split_names:
            known = ", ".join(self.split_names) or "none: its kind finds no lists"
            raise InputError(f"dataset {self.name} has no {name}; its splits are {known}")

    @functools.cache  # noqa: B019 - a process looks at a handful of datasets
    def rows(self, name: str) -> tuple[ListedVideo, ...]:
        """Return the listed videos of a split, sorted by id; no video stands there twice, no group in both subsets."""
        self.require_split(name)
        root, place = str(self.root), f"dataset {self.name}, {name}"
        with self._reading(place):
            listed = self._kind.read_list(self.name, _number(name))
        rows = sorted((_as_on_disk(row, root) for row in listed), key=lambda row: row.video)
        for row in rows:
            self._check_labels(place, row)
        _check(place, rows)
        return tuple(rows)

    @contextlib.contextmanager
    def _reading(self, place: str) -> Iterator[None]:
        """Turn what goes wrong in a kind, which may be of another distribution, into one message."""
        try:
            yield
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"{place}: its list cannot be read: {type(error).__name__}: {error}; correct the list, or the kind "
                f"{self._kind.kind}, which should name the file and the line"
            ) from error

    def _check_labels(self, place: str, row: ListedVideo) -> None:
        labels, several = row.labels, self._kind.several_labels
        if not labels and not self._kind.has_background:
            raise InputError(f"{place}: {row.video} has no label; give it one, or take it from the list")
        if "" in labels or len(set(labels)) < len(labels) or (len(labels) > 1 and not several):
            remedy = "give each label once" if several else f"its kind, {self._kind.kind}, has one per video: rename it"
            raise InputError(
                f"{place}: the label of {row.video} is {row.label!r}, and {LABEL_SEPARATOR} joins several labels; "
                + remedy
            )

    @functools.cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order: that of the official list where there is one, else alphabetical."""
        names = self._kind.class_names()
        if names is None:
            rows = (row for name in self.split_names for row in self.rows(name))
            names = tuple(sorted({label for row in rows for label in row.labels}))
        require_distinct(names, f"dataset {self.name}", "write one of them in all lists")
        wrong = next((label for label in names if not label or LABEL_SEPARATOR in label), None)
        if wrong is not None:
            raise InputError(
                f"dataset {self.name}: a class is called {wrong!r}; give it a name without {LABEL_SEPARATOR}, which "
                "joins the labels of a video"
            )
        twice = next((label for label in names if names.count(label) > 1), None)
        if twice is not None:
            raise InputError(f"dataset {self.name}: class {twice!r} is listed twice, blanks aside; keep one of them")
        return names

    @functools.cache  # noqa: B019
    def split(self, name: str) -> Split:
        """Return a split with its classes; one in which a class has no training video is refused.

        Training videos without a label are left out.
        """
        rows = self.rows(name)
        train = tuple(row for row in rows if row.subset == "train" and row.labels)
        test = tuple(row for row in rows if row.subset == "test")
        background = sum(not row.labels for row in rows if row.subset == "train")
        if background:
            log.info("dataset %s, %s: %d training videos have no label and are left out", self.name, name, background)
        missing = sorted(_count_labels(test).keys() - _count_labels(train).keys())
        if missing or not train or not test:
            raise InputError(
                f"dataset {self.name}, {name}: "
                + (f"no training video of class {', '.join(missing)}" if missing else "no training or no test videos")
                + "; add some to the list, or remove the class from it"
            )
        return Split(name, train, test, self.classes)

    @functools.cache  # noqa: B019
    def intervals(self, split: str) -> dict[str, tuple[Interval, ...]]:
        """Return when the videos of a split show their actions, by id; videos of which nothing is known are left out.

        Raises:
            InputError: the actions cannot be read, or are of a video or class that the lists of videos do not have.
        """
        rows, place = self.rows(split), f"dataset {self.name}, {split}"
        with self._reading(place):
            read = self._kind.read_intervals(self.name, _number(split))
        actions = {path_key(video): tuple(intervals) for video, intervals in read.items()}
        unknown = actions.keys() - set(map(path_key, self._listed()))
        if unknown:
            raise InputError(f"{place}: actions of {min(unknown)} are listed, which is in no list; correct its path")
        labels = {"", *self.classes}
        for video, intervals in actions.items():
            wrong = next((interval.label for interval in intervals if interval.label not in labels), None)
            if wrong is not None:
                raise InputError(f"{place}: {video} has an action {wrong!r}, which is no class; correct its label")
        return {row.video: actions[path_key(row.video)] for row in rows if path_key(row.video) in actions}

    @functools.cache  # noqa: B019
    def intervals_digest(self, split: str) -> str:
        """Return the SHA-256 of the intervals of a split, "" if there are none.

        Those of generated videos do not count: they follow from the settings of the videos.
        """
        intervals = {} if self.generated else self.intervals(split)
        rows = [[video, [astuple(interval) for interval in intervals[video]]] for video in sorted(intervals)]
        return digest(rows) if rows else ""

    def shard_names(self, split: str, count: int) -> list[str]:
        """Return the names of the shards, of `count`, that hold the videos of a split."""
        return list(self._shard_names(split, count))

    @functools.cache  # noqa: B019
    def _shard_names(self, split: str, count: int) -> tuple[str, ...]:
        if len(self.split_names) == 1:
            return tuple(sorted(self._shards(count)))
        return tuple(sorted({_shard_name(row, count) for row in self.rows(split)}))

    def members(self, shard: str, count: int) -> list[ListedVideo]:
        """Return the videos of one shard over all splits, sorted by id, each once."""
        return list(self._shards(count).get(shard, []))

    @functools.cache  # noqa: B019
    def _shards(self, count: int) -> dict[str, list[ListedVideo]]:
        videos: dict[str, ListedVideo] = {}
        for name in self.split_names:
            for row in self.rows(name):
                known = videos.setdefault(row.video, row)
                if known.label != row.label:
                    raise InputError(
                        f"dataset {self.name}: {row.video} is {known.label} in one split and {row.label} in {name}; "
                        "give it one label in all lists"
                    )
        shards: dict[str, list[ListedVideo]] = {}
        for video in sorted(videos):
            shards.setdefault(_shard_name(videos[video], count), []).append(videos[video])
        return shards

    def members_digest(self, shard: str, count: int) -> str:
        """Return the SHA-256 of the ids, labels and contents of a shard's videos.

        It looks at the files each time, so that a job can tell whether they are still those it was planned for, and
        reads those that have changed.
        """
        members = self.members(shard, count)
        contents = {} if self.generated else self._contents.digests((row.video for row in members), shard)
        return self.made_from((row.video, row.label, contents.get(row.video, ABSENT)) for row in members)

    def made_from(self, files: Iterable[tuple[str, str, str]]) -> str:
        """Return the `members_digest` of a shard made from files with these ids, labels and SHA-256.

        A missing file has `ABSENT`. The content of generated videos does not count: it follows from their settings.
        """
        return digest([[video, label, None if self.generated else content] for video, label, content in files])

    def draw_splits(self) -> None:
        """Have a kind that draws its splits do so, if it was not done before, and name the videos that are in none.

        Raises:
            NoVideosError: the folder of the videos does not exist.
            InputError: no splits can be drawn, or other settings drew those that exist.
        """
        if not self.generated:
            self._require_root()
        videos = self._kind.draw_splits(self.name)
        if not videos:
            return
        listed = self._listed()
        new = [video for video in videos if video not in listed]
        if new:
            log.warning(
                "dataset %s: %d videos came after its splits were drawn and are left out, first %s. Add them to the "
                "lists in lists/%s, or move that folder away to draw anew",
                *(self.name, len(new), new[0], self.name),
            )

    def _listed(self) -> set[str]:
        return {row.video for name in self.split_names for row in self.rows(name)}

    def missing_videos(self) -> tuple[list[str], int]:
        """Return the listed videos that are not in the root, and how many are listed.

        A dataset that allows videos to be missing misses none, unless it misses all.
        """
        listed = self._listed()
        missing = sorted(listed - existing(str(self.root), listed))
        allowed = self.allow_missing and len(missing) < len(listed)
        return [] if allowed else missing, len(listed)

    def require_videos(self) -> None:
        """Refuse a dataset whose videos are not in its root.

        Raises:
            NoVideosError: the folder of the videos does not exist.
            InputError: some listed videos do not exist, and the dataset does not allow that.
        """
        if self.generated:
            return
        self._require_root()
        _ = self.classes  # refuses labels that look the same
        missing, listed = self.missing_videos()
        if not missing:
            return
        raise InputError(
            f"dataset {self.name}: {len(missing)} of the {listed} listed videos are not in {self.root}, first "
            f"{', '.join(missing[:3])}. Put them there, take them from the lists, or set datasets.{self.name}.root to "
            "the folder that the paths start from"
            + ("" if self.allow_missing else f", or set datasets.{self.name}.allow_missing to true to quarantine them")
        )

    def _require_root(self) -> None:
        try:
            there = self.root.is_dir()
        except OSError as error:
            raise unreadable(str(self.root), error) from None
        if not there:
            fetched = isinstance(self._kind, DownloadableDataset)
            fetch = f" or run `atw run data/downloads/{self.name}.json`," if fetched else ""
            raise NoVideosError(
                f"dataset {self.name}: the folder of its videos, {self.root}, does not exist. Put the videos there,"
                f"{fetch} or set datasets.{self.name}.root in config.yaml to where they are"
            )


def _number(split: str) -> int:
    return int(split.removeprefix("split"))


def _count_labels(rows: Iterable[ListedVideo]) -> Counter[str]:
    return Counter(label for row in rows for label in row.labels)


def _as_on_disk(row: ListedVideo, root: str) -> ListedVideo:
    video, label = spelled(root, row.video), plain_labels(row.label)
    return row if (video, label) == (row.video, row.label) else replace(row, video=video, label=label)


def _check(place: str, rows: Iterable[ListedVideo]) -> None:
    seen: set[str] = set()
    groups: dict[str, ListedVideo] = {}
    for row in rows:
        if row.subset not in ("train", "test"):  # a kind of another distribution may have read anything
            raise InputError(f"{place}: {row.video} is in the subset {row.subset!r}; it must be train or test")
        if row.video in seen:
            raise InputError(f"{place}: {row.video} is listed twice; keep one line of it")
        seen.add(row.video)
        first = groups.setdefault(row.group, row) if row.group else row
        if first.subset != row.subset:
            raise InputError(
                f"{place}: group {row.group} is in both subsets ({first.video} in {first.subset}, {row.video} in "
                f"{row.subset}); a result on such a split is worthless: move the whole group to one subset"
            )


def _shard_name(row: ListedVideo, count: int) -> str:
    # Not Python's own hash, which differs from process to process.
    value = int.from_bytes(hashlib.sha256(row.video.encode()).digest()[:8], "big")
    return f"{row.block * count + value % count:05d}"
