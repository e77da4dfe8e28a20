"""What a dataset may set in config.yaml, and the registry of the kinds of datasets.

A kind is one class: its settings, and how its lists are read. Other distributions add kinds by an entry point of the
group `atw.datasets`; those of atw itself are entry points too. A kind is imported when a configuration first names it.
"""

import functools
import importlib.metadata
import inspect
import json
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Annotated, Any, ClassVar, Literal, Self, Union

from pydantic import Field, GetJsonSchemaHandler, TypeAdapter, ValidationError, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from atw.config.sections import Section, Stream
from atw.config.settings import Sections
from atw.files import InputError

ALLOW_MISSING = (
    "quarantine listed videos that do not exist, instead of refusing the list; they do not count towards "
    "preprocess.quarantine_limit"
)


_OF_ALL_STREAMS = {
    **dict.fromkeys(("preprocess", "flow", "warp"), "frame i must be frame i in every stream"),
    **dict.fromkeys(("fusion", "detect", "page"), "it is about all streams together"),
}


class StreamOverrides(Sections):
    """Overrides for all streams, and under `streams:` for single ones."""

    streams: dict[Stream, Sections] = {}

    @model_validator(mode="after")
    def _frames_are_common(self) -> Self:
        for stream, overrides in self.streams.items():
            for section, reason in _OF_ALL_STREAMS.items():
                if getattr(overrides, section).model_fields_set:
                    raise ValueError(f"streams.{stream} cannot change {section}: {reason}; set it for all streams")
            if "held_out" in overrides.train.model_fields_set:
                raise ValueError(
                    f"streams.{stream} cannot change train.held_out: all streams hold out the same videos; "
                    "set it for all streams"
                )
        return self


RecipeName = Literal["small", "paper", "large"]
LABEL_SEPARATOR = "|"
"""Joins the class names of a video that shows several; no class name holds it."""


@dataclass(frozen=True, slots=True)
class ListedVideo:
    """One line of a list of videos.

    Args:
        video: id of the video: its path relative to the dataset's root, with forward slashes.
        label: class name; several are joined by `|`, as in `Billiards|HighJump`, the main one first; "" is a background
            video, which shows no class.
        subset: whether the split trains or tests on it.
        group: videos of one group are all in one subset; "" is no group.
        block: number of the block of shards that holds it; splits that share no video have a block each.
    """

    video: str
    label: str
    subset: Literal["train", "test"]
    group: str = ""
    block: int = 0

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names; none of a background video."""
        return tuple(self.label.split(LABEL_SEPARATOR)) if self.label else ()


@dataclass(frozen=True, slots=True)
class Interval:
    """A stretch of a video that shows an action.

    Args:
        label: class name; "" is a stretch that evaluations ignore: it counts neither as action nor as background.
        first: number of its first frame, from 0; or its start in seconds after the first frame is shown.
        last: number of its last frame; or its end in seconds.
        unit: of both.
    """

    label: str
    first: float
    last: float
    unit: Literal["frames", "seconds"]


class DatasetKind(StreamOverrides):
    """A kind of datasets. Its fields are the settings that it has in config.yaml beside the overrides.

    `about` introduces them in docs/configuration.md. `title` is the name in tables; the paper's numbers on a dataset of
    the same title can be compared. `caution` is a sentence below tables, about what a result on this kind cannot show.
    A `generated` kind has videos that the workflow renders. Videos of a kind with `several_labels` may have more than
    one label. A field `root` names the folder of the videos, without it
    they are in `data/<name>`; a field `allow_missing` says whether listed videos may be missing.
    """

    about: ClassVar[str] = ""
    title: ClassVar[str] = ""
    caution: ClassVar[str] = ""
    generated: ClassVar[bool] = False
    several_labels: ClassVar[bool] = False

    kind: str
    in_all: bool = Field(True, description="whether a run without a target takes the dataset")
    recipe: RecipeName | None = Field(
        None,
        description="settings by name, over the sections of config.yaml (docs/own-videos.md): small, for dozens to "
        "hundreds of clips; paper, the paper's; large, for tens of thousands; empty: the sections alone",
    )

    @abstractmethod
    def read_list(self, name: str, split: int) -> list[ListedVideo]:
        """Read the videos of a split.

        Args:
            name: of the dataset, for messages and default places.
            split: number of the split, from 1.

        Raises:
            InputError: the list cannot be read, or a line of it is wrong.
        """

    def count_splits(self, name: str) -> int:
        """Count the splits of the dataset called `name`."""
        return 3

    def class_names(self) -> tuple[str, ...] | None:
        """Return the class names in label order; None stands for the labels of all lists in alphabetical order."""
        return None

    def read_intervals(self, name: str, split: int) -> Mapping[str, Sequence[Interval]]:
        """Read when the videos of a split show their actions, by id; videos may be left out.

        Generated videos may not exist when this is asked for; then an InputError says so.
        """
        return {}

    def draw_splits(self, name: str) -> list[str]:
        """Draw and write the lists if this kind does so and they do not exist; return the videos that are now there."""
        return []

    def root_of(self, name: str) -> str:
        """Return the folder of the videos of the dataset called `name`."""
        return str(getattr(self, "root", f"data/{name}"))

    @property
    def has_background(self) -> bool:
        """Whether videos may have no label. They are tested, and no training uses them."""
        return False

    @property
    def may_miss_videos(self) -> bool:
        """Whether listed videos may be missing: they are quarantined, and count towards no limit."""
        return bool(getattr(self, "allow_missing", False))

    def location_settings(self) -> dict[str, object]:
        """Return the settings that a job needs to read the lists, as plain values."""
        return self.model_dump(mode="json", exclude={"in_all", "recipe", *StreamOverrides.model_fields, *self.unused()})


@dataclass(frozen=True)
class Addresses:
    """The official archives of a dataset.

    Args:
        page: for people; it says where the archives may have moved to.
        videos: address of the archive of the videos.
        lists: address of the archive of the lists.
        list_files: glob pattern of the list files in their folder.
    """

    page: str
    videos: str
    lists: str
    list_files: str


class Archives(Section):
    """Archives to take instead of the official ones, whose hosts die often and move files without a redirection."""

    videos_from: str | None = Field(
        None, min_length=1, description="address or path of the archive of the videos; empty: the official address"
    )
    videos_sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="SHA-256 that this archive must have; empty: not checked"
    )
    lists_from: str | None = Field(
        None, min_length=1, description="address or path of the archive of the lists; empty: the official address"
    )
    lists_sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="SHA-256 that this archive must have; empty: not checked"
    )


class DownloadableDataset(Archives, DatasetKind):
    """A kind whose videos and lists `atw download` fetches. No host of `addresses` publishes a checksum."""

    addresses: ClassVar[Addresses]

    root: str = Field(description="folder of the videos, with one folder per class; never written to")
    lists: str = Field(description="folder of the official list files, or their downloaded archive")
    allow_missing: bool = Field(False, description=ALLOW_MISSING)

    def archives(self) -> Archives:
        """Return the archives alone, which no result depends on."""
        return Archives.model_validate(self.model_dump(include=set(Archives.model_fields)))

    def location_settings(self) -> dict[str, object]:
        """Return the settings that a job needs to read the lists."""
        settings = super().location_settings()
        return {name: value for name, value in settings.items() if name not in Archives.model_fields}


@dataclass(frozen=True)
class Location:
    """Where the videos and lists of a dataset are: what `--dataset` tells a stage.

    It is kept apart from the settings of stages: a dataset that moves to another disk is not computed again.
    """

    name: str
    settings: DatasetKind

    @property
    def root(self) -> str:
        """Folder of the videos."""
        return self.settings.root_of(self.name)

    def replaced(self, **settings: Any) -> Self:
        """Return the location with other values of some of its settings."""
        return type(self)(self.name, self.settings.model_copy(update=settings))

    def to_dict(self) -> dict[str, object]:
        """Return plain values."""
        return {"name": self.name, "root": self.root, **self.settings.location_settings()}

    def to_json(self) -> str:
        """Return the text that `from_json` reads."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the text of `--dataset`.

        Raises:
            InputError: it is no location of a dataset.
        """
        try:
            content = json.loads(text)
            name, given = content.pop("name"), content
            model = find_kind(given["kind"])
            if "root" not in model.model_fields and given.get("root") == f"data/{name}":
                del given["root"]
            return cls(name, model.model_validate(given))
        except ValidationError as error:
            first = error.errors()[0]
            raise _no_location(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            raise _no_location(repr(error)) from None


def _no_location(reason: str) -> InputError:
    return InputError(f"--dataset: {reason}; let the workflow give the JSON")


ENTRY_POINTS = "atw.datasets"
_OWN = tuple(
    EntryPoint(name, value, ENTRY_POINTS)
    for name, value in (
        ("ucf101", "atw.datasets.official:UCF101"),
        ("hmdb51", "atw.datasets.official:HMDB51"),
        ("kinetics", "atw.datasets.official:Kinetics"),
        ("somethingv2", "atw.datasets.official:SomethingV2"),
        ("activitynet", "atw.datasets.activitynet:ActivityNet"),
        ("thumos14", "atw.datasets.thumos14:THUMOS14"),
        ("folder", "atw.datasets.folder:Folder"),
        ("demo", "atw.datasets.demo:Demo"),
    )
)


def kind_names() -> list[str]:
    """Return the names of all kinds, those of atw first."""
    others = {point.name for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}
    own = [point.name for point in _OWN]
    return own + sorted(others - set(own))


def find_kind(name: str) -> type[DatasetKind]:
    """Import the kind called `name`.

    Raises:
        LookupError: no kind has that name.
        InputError: its entry point cannot be loaded, gives something else, or is not the only one of that name.
    """
    points = [point for point in _OWN if point.name == name]
    points += importlib.metadata.entry_points(group=ENTRY_POINTS, name=name) if not points else ()
    if not points:
        raise LookupError(f"no kind of datasets is called {name!r}; the kinds are {', '.join(kind_names())}")
    if len({point.value for point in points}) > 1:
        raise InputError(
            f"several distributions have a kind of datasets called {name}: {', '.join(map(_described, points))}; "
            "uninstall all but one"
        )
    return _loaded(points[0])


@functools.cache
def _loaded(point: EntryPoint) -> type[DatasetKind]:
    try:
        loaded = point.load()
    except Exception as error:
        raise InputError(
            f"the kind of datasets {point.name} cannot be loaded from {_described(point)}: "
            f"{type(error).__name__}: {error}; repair or uninstall it"
        ) from error
    if not (isinstance(loaded, type) and issubclass(loaded, DatasetKind)) or inspect.isabstract(loaded):
        raise InputError(
            f"the kind of datasets {point.name}: {_described(point)} is no subclass of atw.config.DatasetKind with a "
            "method `read_list`; correct the entry point"
        )
    return loaded


def _described(point: EntryPoint) -> str:
    return f"{point.value} of {point.dist.name if point.dist else 'atw'}"


def all_kinds() -> Iterator[tuple[str, type[DatasetKind]]]:
    """Import and yield every kind with its name.

    Raises:
        InputError: one of them cannot be loaded.
    """
    for name in kind_names():
        yield name, find_kind(name)


def _of_its_kind(given: Any) -> DatasetKind:
    if not isinstance(given, dict):
        raise PydanticCustomError("dataset_type", "needs settings, beginning with a `kind`")
    if "kind" not in given:
        raise PydanticCustomError("no_kind", "needs a `kind`, one of {kinds}", {"kinds": ", ".join(kind_names())})
    try:
        model = find_kind(str(given["kind"]))
    except LookupError as error:
        raise PydanticCustomError("unknown_kind", "{reason}", {"reason": str(error)}) from None
    return model.model_validate(given)


class _OneOfTheKinds:
    """Has pydantic validate a dataset by the model that its `kind` names, known only when a configuration is read."""

    def __get_pydantic_core_schema__(self, *_: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(_of_its_kind)

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, object]:
        kinds: Any = Union[tuple(kind for _, kind in all_kinds())]  # noqa: UP007 - the kinds are known only here
        union: TypeAdapter[Any] = TypeAdapter(Annotated[kinds, Field(discriminator="kind")])
        return handler(union.core_schema)


AnyDataset = Annotated[DatasetKind, _OneOfTheKinds()]
