"""THUMOS14: untrimmed videos of the 101 classes of UCF-101, some with several of them, some with none."""

import logging
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from atw.config import ALLOW_MISSING, LABEL_SEPARATOR, DatasetKind, Interval, ListedVideo
from atw.datasets.lists import PlaceByIdAndSubset, checked_video, plain, read_lines
from atw.datasets.matlab import read_table
from atw.datasets.official import UCF101
from atw.files import InputError

Subset = Literal["validation", "test"]
_TABLES: Mapping[Subset, tuple[str, str, str]] = {
    "validation": ("validation_set.mat", "validation_videos", "val"),
    "test": ("test_set_final.mat", "test_videos", "test"),
}
AMBIGUOUS = "Ambiguous"
"""In place of a class: stretches that evaluations ignore."""
log = logging.getLogger("atw")


class THUMOS14(DatasetKind):
    """The official tables of the validation and test videos, and the lists of when they show 20 of the classes.

    The labels of a video are its primary action, then its secondary ones. The primary action of a background video is
    what it was searched by, and no label.
    """

    about: ClassVar[str] = "THUMOS14 with its official lists; one split, tested on the test set, background included."
    title: ClassVar[str] = "THUMOS14"
    several_labels: ClassVar[bool] = True

    kind: Literal["thumos14"]
    root: str = Field(description="folder of the videos; never written to")
    lists: str = Field(
        description="folder with validation_set.mat, test_set_final.mat, classInd.txt, and the folders "
        "temporal_annotations_validation and temporal_annotations_test"
    )
    path: PlaceByIdAndSubset = Field(
        "{id}.mp4",
        description="place of a video in `root`: {id}, as in video_test_0000001, {subset}, validation or test",
    )
    train_on: Literal["validation", "ucf101", "both"] = Field(
        "validation", description="training videos: the validation set, all clips of UCF-101, or both"
    )
    ucf101_lists: str | None = Field(
        None, min_length=1, description="folder or archive of UCF-101's official lists; for training on UCF-101"
    )
    ucf101_path: str = Field(
        "ucf101", description="folder of UCF-101's videos in `root`, which may be a link; for training on UCF-101"
    )
    exclude: tuple[Annotated[str, Field(pattern="^video_(validation|test)_")], ...] = Field(
        ("video_test_0000270", "video_test_0001292", "video_test_0001496"),
        strict=False,
        description="videos that are left out; these have wrong annotations, and most papers leave them out",
    )
    allow_missing: bool = Field(False, description=ALLOW_MISSING)

    @model_validator(mode="after")
    def _ucf101_has_lists(self) -> Self:
        if self.train_on != "validation" and not self.ucf101_lists:
            raise ValueError(f"train_on: {self.train_on} needs ucf101_lists, the folder of UCF-101's lists")
        return self

    @property
    def has_background(self) -> bool:
        """True: 480 test videos show none of the classes."""
        return True

    def count_splits(self, name: str) -> int:
        """Return 1."""
        return 1

    def class_names(self) -> tuple[str, ...]:
        """Return the classes of classInd.txt, whose lines may begin with their numbers."""
        return tuple(plain(re.sub(r"^\d+\s+", "", line)) for line in read_lines(Path(self.lists), "classInd.txt"))

    def read_list(self, name: str, split: int) -> list[ListedVideo]:
        """Read the training videos that `train_on` names, and the test videos."""
        videos: list[ListedVideo] = []
        if self.train_on != "ucf101":
            videos += self._listed("validation")
        if self.train_on != "validation":
            videos += self._ucf101(name)
        return videos + self._listed("test")

    def read_intervals(self, name: str, split: int) -> dict[str, list[Interval]]:
        """Read the lists of the subsets in use, one for each class; a warning says if there are none."""
        intervals: dict[str, list[Interval]] = {}
        for subset in ("validation", "test") if self.train_on != "ucf101" else ("test",):
            folder = Path(self.lists) / f"temporal_annotations_{subset}"
            if not folder.is_dir():
                log.warning("%s does not exist, so nothing is known of when the %s videos show actions", folder, subset)
                continue
            videos = set(self._labels(subset))
            for file in sorted(folder.glob("*.txt")):
                for place, video, interval in _read_intervals(file, _TABLES[subset][2]):
                    if video not in videos:
                        raise InputError(f"{place}: {video} is not in {_TABLES[subset][0]}; take both from one release")
                    if video not in self.exclude:
                        intervals.setdefault(self._place(video, subset), []).append(interval)
        return intervals

    def _listed(self, subset: Subset) -> list[ListedVideo]:
        labels = self._labels(subset)
        return [
            ListedVideo(self._place(video, subset), label, "train" if subset == "validation" else "test")
            for video, label in labels.items()
            if video not in self.exclude
        ]

    def _place(self, video: str, subset: Subset) -> str:
        return checked_video(self.path.format(id=video, subset=subset), f"{self.lists}, {subset}")

    def _ucf101(self, name: str) -> list[ListedVideo]:
        """Return all clips of UCF-101: those of its first split, training and test."""
        clips = UCF101(kind="ucf101", root=self.root, lists=str(self.ucf101_lists))
        other = sorted(set(clips.class_names()) - set(self.class_names()))
        if other:
            raise InputError(
                f"{self.ucf101_lists} has the class {other[0]}, which is not in classInd.txt of {self.lists}"
            )
        return [
            ListedVideo(
                checked_video(f"{self.ucf101_path}/{row.video}", str(self.ucf101_lists)), row.label, "train", row.group
            )
            for row in clips.read_list(name, 1)
        ]

    def _labels(self, subset: Subset) -> dict[str, str]:
        """Return the joined labels of each video of a subset, by the id of the video."""
        file, variable, _ = _TABLES[subset]
        path, known = Path(self.lists) / file, set(self.class_names())
        labels = {}
        for number, row in enumerate(read_table(path, variable), start=1):
            place = f"{path}, video {number}"
            video, background = row.get("video_name"), row.get("background_video", "NO")
            # Without secondary actions, there is an empty array of numbers.
            actions = [row.get("primary_action"), *(row.get("secondary_actions") or ())]
            named = all(isinstance(action, str) and action in known for action in actions)
            if not isinstance(video, str) or not named or background not in ("YES", "NO"):
                raise InputError(
                    f"{place}: needs a name, a background of YES or NO and classes of classInd.txt, found {video!r}, "
                    f"{background!r} and {actions!r}; take all files from one release"
                )
            if video in labels:
                raise InputError(f"{place}: {video} is listed twice; get the file again")
            labels[video] = "" if background == "YES" else LABEL_SEPARATOR.join(actions)
        for video in self.exclude:
            if video.startswith(f"video_{subset}_") and video not in labels:
                raise InputError(f"{path} does not list {video}, which `exclude` names; take it from `exclude`")
        return labels


def _read_intervals(path: Path, ending: str) -> Iterator[tuple[str, str, Interval]]:
    """Yield place, video and action of each line of a class's list."""
    label = path.name.removesuffix(f"_{ending}.txt")
    for number, line in enumerate(read_lines(path.parent, path.name), start=1):
        place = f"{path}, line {number}"
        try:
            video, start, end = line.split()
            interval = Interval("" if label == AMBIGUOUS else label, float(start), float(end), "seconds")
        except ValueError:
            raise InputError(f"{place}: expected a video, start and end in seconds, found {line!r}") from None
        if not 0 <= interval.first <= interval.last < math.inf:
            raise InputError(f"{place}: the action is from {start} to {end} s; correct the line")
        yield place, video, interval
