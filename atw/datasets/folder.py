"""Any folder of videos: with CSV lists of its user, or with lists that are drawn once from a directory per class."""

import csv
import glob
import logging
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from atw.config import ALLOW_MISSING, LABEL_SEPARATOR, DatasetKind, Interval, ListedVideo
from atw.datasets.draw import assign
from atw.datasets.lists import checked_video, plain, plain_labels, read_intervals, read_json, read_table
from atw.datasets.scan import FolderContent, require_classes, scan, shown
from atw.files import InputError, write_json

_DRAWN = ("splits", "test_share", "split_seed", "group", "extensions")
EXTENSIONS = (
    *(".avi", ".mp4", ".mkv", ".webm", ".mov", ".mpg", ".mpeg", ".m4v", ".wmv", ".flv", ".ts", ".3gp", ".3g2", ".mts"),
    *(".m2ts", ".asf", ".ogv", ".vob", ".h264", ".264", ".h265", ".265", ".hevc", ".divx", ".xvid", ".f4v", ".qt"),
    *(".m2v", ".m1v", ".mpe", ".m2t", ".mxf", ".rm", ".rmvb", ".dv", ".ogm", ".mjpeg", ".mjpg", ".y4m"),
)
log = logging.getLogger("atw")


class Folder(DatasetKind):
    """A CSV file per split with the columns path, label, subset and optionally group.

    A video with several labels has them joined by `|`, or a line for each.
    """

    several_labels: ClassVar[bool] = True

    about: ClassVar[str] = (
        "Any folder of videos, with CSV lists (columns path, label, subset, optionally group) or a directory per class."
    )

    later: ClassVar = ("intervals", "background")

    kind: Literal["folder"]
    root: str = Field(
        description="folder that the paths in the lists start from; without lists, the folder of the classes; "
        "never written to"
    )
    lists: str | None = Field(
        None,
        min_length=1,
        description="CSV file; {split} is replaced by the number of the split, 1, 2, ...; empty: the lists are drawn "
        "once from the directories below `root`, by the keys below, into `lists/<name>/`",
    )
    intervals: str | None = Field(
        None,
        min_length=1,
        description="CSV file with the columns path, label, start, end (seconds), one line per action: when the videos "
        "of all splits show their actions, for evaluation alone",
    )
    allow_missing: bool = Field(False, description=ALLOW_MISSING)
    background: str = Field(
        "",
        pattern=r"^[^|]*$",
        description="label that says that a video shows none of the classes; such videos are tested, and no training "
        "uses them; empty: there is no such label",
    )
    splits: int = Field(3, ge=1, le=100, description="number of splits to draw")
    test_share: float = Field(0.3, gt=0, lt=1, description="share of test videos in each class")
    split_seed: int = Field(0, ge=0, description="seed of the draw")
    group: str = Field(
        "",
        description="regular expression with one group in parentheses, searched in the file's name: all videos of a "
        "group are in the same subset; empty: no groups",
    )
    extensions: tuple[str, ...] = Field(
        EXTENSIONS, strict=False, min_length=1, description="endings of video files, in upper or lower case"
    )

    @field_validator("extensions")
    @classmethod
    def _extensions_begin_with_a_dot(cls, extensions: tuple[str, ...]) -> tuple[str, ...]:
        for ending in extensions:
            if not re.fullmatch(r"\.\w+", ending):
                raise ValueError(f"{ending!r} is no ending of a file; write one with its dot, as .mp4")
        return extensions

    @field_validator("group")
    @classmethod
    def _pattern_has_one_group(cls, group: str) -> str:
        try:
            groups = re.compile(group).groups
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        if group and groups != 1:
            raise ValueError(f"needs one group in parentheses, has {groups}: write (?:...) for the others")
        return group

    @model_validator(mode="after")
    def _lists_are_drawn_or_given(self) -> Self:
        needless = sorted(self.model_fields_set & set(_DRAWN))
        if self.lists and needless:
            raise ValueError(f"{needless[0]} is for splits that are drawn; leave out it, or `lists`")
        return self

    @property
    def has_background(self) -> bool:
        """Whether a label stands for none of the classes."""
        return bool(self.background)

    def location_settings(self) -> dict[str, object]:
        """Return the settings that a job needs to read the lists; those of the draw only where they are drawn."""
        settings = super().location_settings()
        return {name: value for name, value in settings.items() if not self.lists or name not in _DRAWN}

    def list_path(self, name: str, split: int) -> Path:
        """Return the list of a split, given or drawn."""
        return Path(self._pattern(name).replace("{split}", str(split)))

    def count_splits(self, name: str) -> int:
        """Return 1, or how many numbered lists there are.

        Raises:
            InputError: there is no list, one is missing between the others, or they are not those that were drawn.
        """
        if self.lists and "{split}" not in self.lists:
            return 1
        numbers = _numbers(self._pattern(name))
        if not self.lists:
            self._require_drawn(name, numbers)
            return self.splits
        if not numbers:
            raise InputError(
                f"dataset {name}: list file {self.list_path(name, 1)} does not exist; create it with the "
                f"columns path,label,subset, or correct datasets.{name}.lists in config.yaml"
            )
        missing = min(set(range(1, max(numbers) + 2)) - numbers)
        if missing < max(numbers):
            raise InputError(
                f"dataset {name}: list file {self.list_path(name, missing)} does not exist, but "
                f"{self.list_path(name, max(numbers))} does; splits are numbered from 1 without a gap: put it back, or "
                "rename the others"
            )
        return len(numbers)

    def read_list(self, name: str, split: int) -> list[ListedVideo]:
        """Read a split; further columns are allowed and ignored, as are blanks around all cells."""
        path = self.list_path(name, split)
        lines: dict[str, list[tuple[str, ListedVideo]]] = {}
        for place, row in read_table(path.parent, path.name, ("path", "label", "subset")):
            listed = self._listed(place, row)
            lines.setdefault(listed.video, []).append((place, listed))
        return [_joined(of_one_video) for of_one_video in lines.values()]

    def _listed(self, place: str, row: dict[str, str]) -> ListedVideo:
        label, subset, group = plain_labels(row["label"]), plain(row["subset"]), plain(row.get("group", ""))
        if subset not in ("train", "test") or not label:
            raise InputError(f"{place}: needs a path, a label and a subset of train or test, found {row}")
        if self.background and self.background in label.split(LABEL_SEPARATOR):
            if label != self.background:
                raise InputError(f"{place}: the label is {label!r}, but {self.background} is for videos without one")
            label = ""
        return ListedVideo(checked_video(row["path"], place), label, "train" if subset == "train" else "test", group)

    def read_intervals(self, name: str, split: int) -> dict[str, list[Interval]]:
        """Read the columns action_first and action_last of the split's list, or the list `intervals`."""
        path = self.list_path(name, split)
        in_frames = read_intervals(path, "frames")
        if not self.intervals:
            return in_frames
        if in_frames:
            raise InputError(
                f"dataset {name}: its actions are both in {self.intervals} and in the columns action_first and "
                f"action_last of {path}; leave out `intervals`, or remove the columns"
            )
        return read_intervals(Path(self.intervals), "seconds")

    def draw_splits(self, name: str) -> list[str]:
        """Draw the splits from what the folder holds and write them, unless that was done before.

        Raises:
            InputError: the lists were drawn by other settings than those given, or there is nothing to draw from.
        """
        if self.lists:
            return []
        content = scan(Path(self.root), self.extensions)
        joined = next((name for name in content.classes if LABEL_SEPARATOR in name), None)
        if joined:
            raise InputError(
                f"{self.root}: the directory {joined!r} would be several classes, which {LABEL_SEPARATOR} joins; "
                "rename it"
            )
        self._warn_of_files_left_out(name, content)
        folder = self.list_path(name, 1).parent
        if not folder.exists():
            require_classes(content, Path(self.root), self.extensions)
            if folder.resolve().is_relative_to(Path(self.root).resolve()):
                raise InputError(
                    f"dataset {name}: its lists, {folder}, would be written into its root, {self.root}, which is "
                    "never written to: name a folder that holds only the classes as root"
                )
            self._write_lists(folder, content.videos)
        self._require_same_draw(folder)
        return content.videos

    def _pattern(self, name: str) -> str:
        return self.lists or f"lists/{name}/split{{split}}.csv"

    def _require_drawn(self, name: str, numbers: set[int]) -> None:
        differing = sorted(numbers ^ set(range(1, self.splits + 1)))
        if differing:
            path = self.list_path(name, differing[0])
            state = "was not drawn" if differing[0] in numbers else "is missing"
            raise InputError(
                f"dataset {name}: {self.splits} splits were drawn, as {path.parent / 'drawn.json'} says, but {path} "
                f"{state}. Lists once drawn stay: restore them as they were, or move {path.parent} away to draw anew"
            )

    def _warn_of_files_left_out(self, name: str, content: FolderContent) -> None:
        if content.left_out:
            files = shown(content.left_out)
            log.warning("dataset %s: %d files below %s are left out: %s", name, len(content.left_out), self.root, files)
        if content.endings:
            endings = shown([f"{ending} ({count})" for ending, count in content.endings.most_common()])
            log.warning(
                "dataset %s: files below %s are left out for their endings, which `extensions` does not name: %s",
                *(name, self.root, endings),
            )
        if content.empty:
            known = ", ".join(self.extensions)
            log.warning(
                "dataset %s: %d directories in %s are no classes, for no file in them ends in one of %s: %s",
                *(name, len(content.empty), self.root, known, shown(content.empty)),
            )

    def _draw_settings(self) -> dict[str, object]:
        return self.model_dump(mode="json", include=set(_DRAWN))

    def _write_lists(self, folder: Path, videos: list[str]) -> None:
        groups = [_group(video, self.group) for video in videos]
        folder.parent.mkdir(parents=True, exist_ok=True)
        # The folder appears whole or not at all.
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent) as scratch:
            whole = Path(scratch, "lists")
            whole.mkdir()
            for split in range(1, self.splits + 1):
                tested = assign(videos, groups, test_share=self.test_share, seed=self.split_seed, split=split)
                shown_groups = groups if self.group else [""] * len(groups)
                _write_list(whole / f"split{split}.csv", videos, shown_groups, tested)
            write_json(whole / "drawn.json", self._draw_settings())
            try:
                whole.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
                shutil.rmtree(whole)  # another process was first, with the same lists

    def _require_same_draw(self, folder: Path) -> None:
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
        settings = self._draw_settings()
        endings = known.get("extensions")
        if isinstance(endings, list) and endings and all(ending in self.extensions for ending in endings):
            known["extensions"] = settings["extensions"]  # videos of a new ending are named as those that came later
        changed = next((name for name in _DRAWN if known.get(name) != settings[name]), None)
        if changed:
            raise InputError(
                f"the lists in {folder} were drawn with {changed}: {known.get(changed)!r}, config.yaml says "
                f"{settings[changed]!r}. Lists once drawn stay: restore the setting, or move {folder} away to draw anew"
            )


def _joined(lines: Sequence[tuple[str, ListedVideo]]) -> ListedVideo:
    """Return the video that some lines name, each with its place, with the labels of all of them."""
    (first_place, video), *others = lines
    for place, other in others:
        repeats = set(video.labels) & set(other.labels) or not video.labels or not other.labels
        if repeats or replace(other, label=video.label) != video:
            raise InputError(
                f"{place}: {video.video} is listed twice, first in {first_place}; a video may have several lines, each "
                "with another label, all in one subset and group: correct one of them, or remove it"
            )
        video = replace(video, label=f"{video.label}{LABEL_SEPARATOR}{other.label}")
    return video


def _numbers(pattern: str) -> set[int]:
    """Return the numbers of the files that match a pattern with `{split}`."""
    first, *others = pattern.split("{split}")
    wanted = re.compile(re.escape(first) + "([1-9][0-9]*)" + r"\1".join(re.escape(other) for other in others))
    files = glob.glob("*".join(glob.escape(part) for part in (first, *others)))  # noqa: PTH207 - the pattern is text
    return {int(match[1]) for match in map(wanted.fullmatch, files) if match and Path(match[0]).is_file()}


def _write_list(path: Path, videos: Sequence[str], groups: Sequence[str], tested: Sequence[bool]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(("path", "label", "subset", "group"))
        for video, group, is_test in zip(videos, groups, tested, strict=True):
            table.writerow((video, plain(video.partition("/")[0]), "test" if is_test else "train", group))


def _group(video: str, pattern: str) -> str:
    if not pattern:
        return video
    match = re.search(pattern, PurePosixPath(video).name)
    if not match or not (match[1] or "").strip():
        raise InputError(
            f"{video}: the pattern {pattern!r} of `group` finds no group in the file's name; correct it in config.yaml"
        )
    return match[1].strip()
