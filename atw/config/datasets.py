"""The kinds of datasets in config.yaml, and what a dataset or an experiment may override."""

import re
import string
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from atw.config.sections import SECTIONS, Section, Settings, Stream


class Overrides(Section):
    """Sections in which any subset of the keys may stand."""

    preprocess: dict[str, Any] = {}
    flow: dict[str, Any] = {}
    warp: dict[str, Any] = {}
    sampling: dict[str, Any] = {}
    augment: dict[str, Any] = {}
    model: dict[str, Any] = {}
    train: dict[str, Any] = {}
    evaluate: dict[str, Any] = {}
    fusion: dict[str, Any] = {}
    compute: dict[str, Any] = {}

    @field_validator(*SECTIONS)
    @classmethod
    def _section_is_valid(cls, given: dict[str, Any], info: Any) -> dict[str, Any]:
        # Every key has a default, so a part of a section validates like the whole; errors keep their place.
        Settings.model_fields[info.field_name].annotation.model_validate(given)  # type: ignore[union-attr]
        return given

    def sections(self) -> dict[str, dict[str, Any]]:
        """The overriding keys by section."""
        return {name: getattr(self, name) for name in SECTIONS}


class StreamOverrides(Overrides):
    """Overrides for all streams, and under `streams:` for single ones."""

    streams: dict[Stream, Overrides] = {}

    @model_validator(mode="after")
    def _frames_are_common(self) -> Self:
        for stream, overrides in self.streams.items():
            for section in ("preprocess", "flow", "warp", "fusion"):
                if getattr(overrides, section):
                    raise ValueError(
                        f"streams.{stream} cannot change {section}: frame i must be frame i in every stream; "
                        "set it for all streams"
                    )
            if "held_out" in overrides.train:
                raise ValueError(
                    f"streams.{stream} cannot change train.held_out: all streams hold out the same videos; "
                    "set it for all streams"
                )
        return self


_ALLOW_MISSING = (
    "quarantine listed videos that are not there, instead of refusing the list; they do not count towards "
    "preprocess.quarantine_limit"
)


class Archives(StreamOverrides):
    """What `atw download` takes instead of the official addresses, which die often."""

    videos_from: str | None = Field(
        None, min_length=1, description="address or path of the archive of the videos; empty: the official address"
    )
    videos_sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="SHA-256 that archive must have; empty: not checked"
    )
    lists_from: str | None = Field(
        None, min_length=1, description="address or path of the archive of the lists; empty: the official address"
    )
    lists_sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="SHA-256 that archive must have; empty: not checked"
    )

    def archives(self) -> dict[str, str | None]:
        """These settings alone, which no result depends on."""
        return self.model_dump(mode="json", include=set(Archives.model_fields) - set(StreamOverrides.model_fields))


class OfficialDataset(Archives):
    """UCF-101 or HMDB-51 with its official lists of three splits."""

    kind: Literal["ucf101", "hmdb51"]
    root: str = Field(description="folder of the videos, one folder a class in it; never written to")
    lists: str = Field(description="folder of the official list files, or their archive as it was downloaded")
    allow_missing: bool = Field(False, description=_ALLOW_MISSING)


class KineticsDataset(StreamOverrides):
    """Kinetics with its official lists; one split, trained on `train`."""

    kind: Literal["kinetics"]
    root: str = Field(description="folder of the clips; never written to")
    lists: str = Field(
        description="folder or archive with train.csv and validate.csv (or val.csv, test.csv), or one CSV file with all"
    )
    path: str = Field(
        "{label}/{id}_{start}_{end}.mp4",
        description="where a clip is in `root`: {label} or {label_underscored}, {subset} as in the list, {id} and "
        "{start}, {end} in seconds of six digits",
    )
    test_on: Literal["validate", "test"] = Field("validate", description="the list that is tested on")
    allow_missing: bool = Field(True, description=_ALLOW_MISSING + "; clips vanish from the site they come from")

    @field_validator("path")
    @classmethod
    def _placeholders_are_known(cls, path: str) -> str:
        known = {"label", "label_underscored", "subset", "id", "start", "end"}
        try:
            parts = [(name, form, how) for _, name, form, how in string.Formatter().parse(path) if name is not None]
        except ValueError as error:
            raise ValueError(f"is no pattern: {error}") from None
        if any(name not in known or form or how for name, form, how in parts) or "{id}" not in path:
            raise ValueError(f"must hold {{id}}, and in braces nothing but {', '.join(sorted(known))}")
        return path


class SomethingDataset(StreamOverrides):
    """Something-Something V2 with its official lists; one split, tested on the validation list."""

    kind: Literal["somethingv2"]
    root: str = Field(description="folder of the videos, <id>.webm; never written to")
    lists: str = Field(description="folder or archive with something-something-v2-{train,validation,labels}.json")
    allow_missing: bool = Field(False, description=_ALLOW_MISSING)


DRAWN = ("splits", "test_share", "split_seed", "group", "extensions")


class FolderDataset(StreamOverrides):
    """Any folder of videos, with CSV lists (columns path, label, subset, optionally group) or a directory per class."""

    kind: Literal["folder"]
    root: str = Field(
        description="folder that the paths in the lists start from; without lists, that of the classes; "
        "never written to"
    )
    lists: str | None = Field(
        None,
        min_length=1,
        description="CSV file; {split} stands for the number of the split, 1, 2, ...; empty: drawn once from the "
        "directories below `root`, as the keys below say, into lists/<name>/",
    )
    allow_missing: bool = Field(False, description=_ALLOW_MISSING)
    splits: int = Field(3, ge=1, le=100, description="splits to draw, each by itself")
    test_share: float = Field(0.3, gt=0, lt=1, description="share of test videos in each class")
    split_seed: int = Field(0, ge=0, description="of the draw")
    group: str = Field(
        "",
        description="regular expression with one group in parentheses, searched in the file's name: videos of one "
        "group never straddle train and test; empty: each video by itself",
    )
    extensions: tuple[Annotated[str, Field(pattern=r"^\.\w+$")], ...] = Field(
        (
            ".avi",
            ".mp4",
            ".mkv",
            ".webm",
            ".mov",
            ".mpg",
            ".mpeg",
            ".m4v",
            ".wmv",
            ".flv",
            ".ts",
            ".3gp",
            ".3g2",
            ".mts",
            ".m2ts",
            ".asf",
            ".ogv",
            ".vob",
            ".h264",
            ".264",
            ".h265",
            ".265",
            ".hevc",
            ".divx",
            ".xvid",
            ".f4v",
            ".qt",
            ".m2v",
            ".m1v",
            ".mpe",
            ".m2t",
            ".mxf",
            ".rm",
            ".rmvb",
            ".dv",
            ".ogm",
            ".mjpeg",
            ".mjpg",
            ".y4m",
        ),
        strict=False,
        min_length=1,
        description="endings of video files, in upper or lower case",
    )

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
        needless = sorted(self.model_fields_set & set(DRAWN))
        if self.lists and needless:
            raise ValueError(f"{needless[0]} is for splits that are drawn; leave out it, or `lists`")
        return self


class DemoDataset(StreamOverrides):
    """Short videos of eight actions, rendered into data/<name>; three splits that share no video."""

    kind: Literal["demo"]
    train_per_class: int = Field(40, ge=1, le=1000, description="training videos of each class")
    test_per_class: int = Field(20, ge=1, le=1000, description="test videos of each class")


AnyDataset = OfficialDataset | KineticsDataset | SomethingDataset | FolderDataset | DemoDataset
Dataset = Annotated[AnyDataset, Field(discriminator="kind")]
KINDS: dict[str, type[StreamOverrides]] = {
    "ucf101": OfficialDataset,
    "hmdb51": OfficialDataset,
    "kinetics": KineticsDataset,
    "somethingv2": SomethingDataset,
    "folder": FolderDataset,
    "demo": DemoDataset,
}
