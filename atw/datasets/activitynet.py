"""ActivityNet 1.2 and 1.3: untrimmed videos with a few labels each, and when they show them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from atw.config import ALLOW_MISSING, LABEL_SEPARATOR, DatasetKind, Interval, ListedVideo
from atw.datasets.lists import PlaceByIdAndSubset, checked_video, list_names, plain, read_json, read_table
from atw.files import InputError

_SUBSETS: dict[str, Literal["train", "test"]] = {"training": "train", "validation": "test"}


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class _Annotation(_Read):
    label: str
    segment: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        if self.segment[0] > self.segment[1]:
            raise ValueError(f"the segment {self.segment} ends before it starts")
        return self


class _Video(_Read):
    annotations: tuple[_Annotation, ...]
    subset: str = ""

    @property
    def label(self) -> str:
        labels = dict.fromkeys(plain(one.label) for one in self.annotations)
        return LABEL_SEPARATOR.join(labels)


class _Official(_Read):
    database: dict[str, _Video]


_BMN = TypeAdapter(dict[str, _Video])


class ActivityNet(DatasetKind):
    """One JSON file with all videos, or the two files that BMN (Lin et al. 2019) and its successors read.

    The labels of the testing videos are secret, so the network is tested on the validation videos. The labels of a
    video are in the order of its annotations. Some official annotations have no length; they are kept.
    """

    about: ClassVar[str] = "ActivityNet 1.2 or 1.3 with its official annotations; one split, tested on `validation`."
    title: ClassVar[str] = "ActivityNet"
    several_labels: ClassVar[bool] = True

    kind: Literal["activitynet"]
    root: str = Field(description="folder of the videos; never written to")
    lists: str = Field(
        description="the official JSON file; or a folder or archive with BMN's two files, anet_anno_action.json and "
        "video_info_new.csv"
    )
    path: PlaceByIdAndSubset = Field(
        "v_{id}.mp4", description="place of a video in `root`: {id} without v_, and {subset}, training or validation"
    )
    allow_missing: bool = Field(True, description=ALLOW_MISSING + "; videos vanish from their site")

    def count_splits(self, name: str) -> int:
        """Return 1."""
        return 1

    def read_list(self, name: str, split: int) -> list[ListedVideo]:
        """Read the videos of training and validation."""
        return [ListedVideo(path, video.label, _SUBSETS[video.subset]) for path, video in self._videos()]

    def read_intervals(self, name: str, split: int) -> dict[str, list[Interval]]:
        """Return the annotations of the same videos."""
        return {
            path: [Interval(plain(one.label), *one.segment, "seconds") for one in video.annotations]
            for path, video in self._videos()
        }

    def _videos(self) -> Iterator[tuple[str, _Video]]:
        """Yield place and annotations of each video of training and validation."""
        place, videos = self._official() if self.lists.endswith(".json") else self._bmn()
        for name, video in videos.items():
            if video.subset in _SUBSETS:
                if any(LABEL_SEPARATOR in one.label for one in video.annotations):
                    raise InputError(
                        f"{place}: a label of {name} holds {LABEL_SEPARATOR}, which joins labels; rename it"
                    )
                path = self.path.format(id=name.removeprefix("v_"), subset=video.subset)
                yield checked_video(path, f"{place}, {name}"), video
            elif video.subset != "testing":
                raise InputError(f"{place}: {name} is in {video.subset!r}, not in training, validation or testing")

    def _official(self) -> tuple[Path, dict[str, _Video]]:
        path = Path(self.lists)
        content = read_json(path.parent, path.name)
        try:
            return path, _Official.model_validate(content).database
        except ValidationError as error:
            raise _not_annotations(path, "database", error) from None

    def _bmn(self) -> tuple[Path, dict[str, _Video]]:
        """Return the annotations of the one file, with the subsets of the other."""
        folder = Path(self.lists)
        annotations, subsets = (self._only(ending) for ending in ("anet_anno_action.json", "video_info_new.csv"))
        try:
            videos = _BMN.validate_python(read_json(folder, annotations))
        except ValidationError as error:
            raise _not_annotations(folder / annotations, "", error) from None
        given = {
            row["video"]: (place, row["subset"]) for place, row in read_table(folder, subsets, ("video", "subset"))
        }
        only_one = sorted(given.keys() ^ videos.keys())
        if only_one:
            raise InputError(f"{folder}: {only_one[0]} is in only one of {annotations} and {subsets}; take both anew")
        return folder / subsets, {
            name: video.model_copy(update={"subset": given[name][1]}) for name, video in videos.items()
        }

    def _only(self, ending: str) -> str:
        files = [name for name in list_names(Path(self.lists)) if name.endswith(ending)]
        if len(files) != 1:
            raise InputError(
                f"{self.lists} holds {' and '.join(files) or 'no file'} for {ending}; needed is one. Or name the "
                "official JSON file as `lists`"
            )
        return files[0]


def _not_annotations(path: Path, key: str, error: ValidationError) -> InputError:
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"])) or key
    return InputError(
        f"{path}: {place}: {first['msg']}; needed is the official form, which maps each video to `subset` and "
        "`annotations` with `label` and `segment`; get the file again"
    )
