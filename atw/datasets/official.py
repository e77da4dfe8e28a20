"""Datasets with official lists: UCF-101, HMDB-51, Kinetics and Something-Something V2."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from atw.config import ALLOW_MISSING, Addresses, DatasetKind, DownloadableDataset, ListedVideo
from atw.datasets.lists import checked_pattern, checked_video, list_names, plain, read_json, read_lines, read_table
from atw.files import InputError

Subset = Literal["train", "test"]
_ABOUT = "UCF-101 or HMDB-51 with its official lists of three splits."


class UCF101(DownloadableDataset):
    """Lists `trainlistNN.txt` and `testlistNN.txt`; the label order is that of `classInd.txt`."""

    about: ClassVar[str] = _ABOUT
    title: ClassVar[str] = "UCF-101"
    addresses: ClassVar[Addresses] = Addresses(
        page="https://www.crcv.ucf.edu/research/data-sets/ucf101/",
        videos="https://www.crcv.ucf.edu/data/UCF101/UCF101.rar",
        lists="https://www.crcv.ucf.edu/data/UCF101/UCF101TrainTestSplits-RecognitionTask.zip",
        list_files="classInd.txt",
    )

    kind: Literal["ucf101"]

    def class_names(self) -> tuple[str, ...]:
        """Return the class names of classInd.txt in its order (`1 ApplyEyeMakeup` is label 0)."""
        folder = Path(self.lists)
        names = []
        for number, line in enumerate(read_lines(folder, "classInd.txt"), start=1):
            match = re.fullmatch(r"(\d+)\s+(\S+)", line)
            if not match or int(match[1]) != number:
                place = f"{folder / 'classInd.txt'}, line {number}"
                raise InputError(f"{place}: expected `{number} ClassName`, found {line!r}")
            names.append(plain(match[2]))
        return tuple(names)

    def read_list(self, name: str, split: int) -> list[ListedVideo]:
        """Read a split; a class is the name of a folder: that of HandstandPushups holds files of another spelling."""
        known = set(self.class_names())
        subsets: tuple[Subset, ...] = ("train", "test")
        return [video for subset in subsets for video in self._read(subset, split, known)]

    def _read(self, subset: Subset, split: int, known: set[str]) -> Iterator[ListedVideo]:
        folder, file = Path(self.lists), f"{subset}list{split:02d}.txt"
        for number, line in enumerate(read_lines(folder, file), start=1):
            place = f"{folder / file}, line {number}"
            video = checked_video(re.sub(r"(\.avi)\s+\d+$", r"\1", line), place)
            label = plain(video.partition("/")[0])
            group = re.search(r"_(g\d+)_c\d+\.avi$", video)
            if label not in known or not group:
                raise InputError(
                    f"{place}: expected `Class/v_Class_gGG_cCC.avi` of a class of classInd.txt, found {line!r}"
                )
            yield ListedVideo(video, label, subset, group=f"{label}/{group[1]}")


class HMDB51(DownloadableDataset):
    """153 lists `<class>_test_split<N>.txt` of lines `<file>.avi <0|1|2>`; the classes are in alphabetical order."""

    about: ClassVar[str] = _ABOUT
    title: ClassVar[str] = "HMDB-51"
    addresses: ClassVar[Addresses] = Addresses(
        page="https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database/",
        videos="https://serre-lab.clps.brown.edu/wp-content/uploads/2013/10/hmdb51_org.rar",
        lists="https://serre-lab.clps.brown.edu/wp-content/uploads/2013/10/test_train_splits.rar",
        list_files="*_test_split1.txt",
    )

    kind: Literal["hmdb51"]

    def read_list(self, name: str, split: int) -> list[ListedVideo]:
        """Read a split; videos marked 0 belong to neither subset and are left out."""
        folder, ending = Path(self.lists), f"_test_split{split}.txt"
        files = [file for file in list_names(folder) if file.endswith(ending)]
        if not files:
            raise InputError(
                f"no list files `<class>_test_split{split}.txt` in {folder}: put the official HMDB-51 lists there, "
                f"or set datasets.{name}.lists in config.yaml to their folder"
            )
        subsets: dict[str, Subset] = {"1": "train", "2": "test"}
        videos = []
        for file in files:
            label = file.removesuffix(ending)
            for number, line in enumerate(read_lines(folder, file), start=1):
                place = f"{folder / file}, line {number}"
                match = re.fullmatch(r"(.+\.avi)\s+([012])", line)
                if not match:
                    raise InputError(f"{place}: expected `file.avi 0|1|2`, found {line!r}")
                if match[2] in subsets:
                    videos.append(ListedVideo(checked_video(f"{label}/{match[1]}", place), label, subsets[match[2]]))
        return videos


_KINETICS_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")
_KINETICS_SUBSETS = {
    **{"train": "train", "test": "test"},
    **dict.fromkeys(("val", "validate", "validation"), "validate"),
}


class Kinetics(DatasetKind):
    """CSV files `label,youtube_id,time_start,time_end,split[,is_cc]`; clips of one YouTube video are a group."""

    about: ClassVar[str] = "Kinetics with its official lists; one split, trained on `train`."

    kind: Literal["kinetics"]
    root: str = Field(description="folder of the clips; never written to")
    lists: str = Field(
        description="folder or archive with train.csv and validate.csv (or val.csv, test.csv), or one CSV file with all"
    )
    path: str = Field(
        "{label}/{id}_{start}_{end}.mp4",
        description="place of a clip in `root`: {label} or {label_underscored}, {subset} as in the list, {id}, and "
        "{start} and {end} as seconds in six digits",
    )
    test_on: Literal["validate", "test"] = Field("validate", description="list of the test videos")
    allow_missing: bool = Field(True, description=ALLOW_MISSING + "; clips vanish from their site")

    @field_validator("path")
    @classmethod
    def _placeholders_are_known(cls, path: str) -> str:
        return checked_pattern(path, {"label", "label_underscored", "subset", "id", "start", "end"})

    def count_splits(self, name: str) -> int:
        """Return 1."""
        return 1

    def read_list(self, name: str, split: int) -> list[ListedVideo]:
        """Read the training videos, and for testing those of the list that `test_on` names."""
        videos = [video for folder, file in self._files() for video in self._read(folder, file)]
        if not videos:
            raise InputError(f"{self.lists} lists no video of train or {self.test_on}; correct datasets.{name}.lists")
        return videos

    def _files(self) -> Iterator[tuple[Path, str]]:
        """Yield folder and name of each file: one CSV file with all, or one for each subset in a folder or archive."""
        lists = Path(self.lists)
        if lists.suffix == ".csv":
            yield lists.parent, lists.name
            return
        names = list_names(lists)
        for subset in ("train", self.test_on):
            words = "|".join(word for word, meaning in _KINETICS_SUBSETS.items() if meaning == subset)
            files = [name for name in names if re.fullmatch(rf"(.*[_-])?({words})\.csv", name)]
            if len(files) != 1:
                problem = f"{' and '.join(files)} both list" if files else "no CSV file lists"
                raise InputError(
                    f"{lists}: {problem} the videos of {subset}; needed is one file, such as {subset}.csv, in the "
                    "official form label,youtube_id,time_start,time_end,split"
                )
            yield lists, files[0]

    def _read(self, folder: Path, file: str) -> Iterator[ListedVideo]:
        for place, row in read_table(folder, file, _KINETICS_COLUMNS):
            label, youtube, start, end, given = [row[column].strip() for column in _KINETICS_COLUMNS]
            subset = _KINETICS_SUBSETS.get(given)
            if subset is None or not label or not youtube or not (start.isdecimal() and end.isdecimal()):
                raise InputError(
                    f"{place}: needs a label, a youtube_id, whole seconds and a split of train, validate or test, "
                    f"found {','.join(row.values())!r}"
                )
            if subset not in ("train", self.test_on):
                continue
            video = self.path.format(
                label=label,
                label_underscored=label.replace(" ", "_"),
                subset=given,
                id=youtube,
                start=start.zfill(6),
                end=end.zfill(6),
            )
            # Here, so that all videos of a class share one text of its name.
            label = plain(label)
            yield ListedVideo(checked_video(video, place), label, "train" if subset == "train" else "test", youtube)


class SomethingV2(DatasetKind):
    """JSON lists of the videos `<id>.webm`; the label order is that of the numbers in the labels file."""

    about: ClassVar[str] = "Something-Something V2 with its official lists; one split, tested on the validation list."

    kind: Literal["somethingv2"]
    root: str = Field(description="folder of the videos, `<id>.webm`; never written to")
    lists: str = Field(description="folder or archive with something-something-v2-{train,validation,labels}.json")
    allow_missing: bool = Field(False, description=ALLOW_MISSING)

    def count_splits(self, name: str) -> int:
        """Return 1."""
        return 1

    def class_names(self) -> tuple[str, ...]:
        """Return the class names by their numbers: templates without brackets, `Holding something`."""
        place, content = self._load("labels")
        if not isinstance(content, dict):
            raise InputError(f"{place}: expected an object of class names and their numbers")
        numbers = {_class_number(number, name, place): name for name, number in content.items()}
        if sorted(numbers) != list(range(len(content))):
            raise InputError(f"{place}: the numbers of the classes must be 0 to {len(content) - 1}, each once")
        return tuple(plain(numbers[number]) for number in range(len(content)))

    def read_list(self, name: str, split: int) -> list[ListedVideo]:
        """Read the videos of train and validation."""
        known = set(self.class_names())
        subsets: dict[str, Subset] = {"train": "train", "validation": "test"}
        return [video for list_name, subset in subsets.items() for video in self._read(list_name, subset, known)]

    def _read(self, list_name: str, subset: Subset, known: set[str]) -> Iterator[ListedVideo]:
        file, content = self._load(list_name)
        if not isinstance(content, list):
            raise InputError(f"{file}: expected a list of videos")
        for number, entry in enumerate(content, start=1):
            place = f"{file}, video {number}"
            if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("id", "template")):
                raise InputError(f"{place}: expected an object with `id` and `template`, found {str(entry)[:80]!r}")
            label = plain(entry["template"].replace("[", "").replace("]", ""))
            if label not in known:
                raise InputError(f"{place}: class {label!r} is not in the labels file; take both from one release")
            yield ListedVideo(checked_video(f"{entry['id']}.webm", place), label, subset)

    def _load(self, list_name: str) -> tuple[str, Any]:
        """Return the path and the content of a list; some releases name it without a prefix."""
        folder = Path(self.lists)
        official, short = f"something-something-v2-{list_name}.json", f"{list_name}.json"
        names = list_names(folder)
        if official not in names and short not in names:
            raise InputError(
                f"{folder} holds no {official}: put the dataset's lists there, or correct `lists` in config.yaml"
            )
        file = official if official in names else short
        return f"{folder / file}", read_json(folder, file)


def _class_number(number: Any, name: str, place: str) -> int:
    """Return the number of a class, which the official labels have as text."""
    # A bool is an int to Python.
    if isinstance(number, int) and not isinstance(number, bool):
        return number
    if isinstance(number, str) and re.fullmatch("[0-9]{1,9}", number):
        return int(number)
    raise InputError(f"{place}: the number of class {name!r} must be a whole number, found {str(number)[:40]!r}")
