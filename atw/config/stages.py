"""The settings of each stage: exactly those that its output depends on.

Snakemake reruns a stage if its settings change, so a setting is in those of a stage only if its output depends on it.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, TypeAdapter, ValidationError, model_serializer

from atw.config.datasets import Location
from atw.config.merge import Config, effective
from atw.config.sections import (
    STREAMS,
    Augment,
    Consensus,
    Detect,
    Evaluate,
    FieldSettings,
    Flow,
    FrameSettings,
    Model,
    Rendering,
    Sampling,
    Section,
    StoredFramesSettings,
    Stream,
    Train,
    Warp,
)
from atw.files import InputError

# Raise a number by hand in the commit that changes the bytes of a stage: Snakemake does not see changes of the package.
RECIPES = {
    "render": 1,
    "rgb": 3,
    "flow": 4,
    "warped": 4,
    "audit": 1,
    "train": 2,
    "score": 3,
    "fuse": 7,
    "summary": 2,
    "table": 4,
    "consensus_table": 3,
    "attention": 7,
    "detect": 1,
    "report": 7,
}


UNREAD = "of videos as the job finds them"
"""Stands for the digest of a shard's members while the shard is only planned: nothing is read for that."""
_Stage = TypeVar("_Stage")


class StageSettings(Section):
    """Settings of a stage. The workflow writes them as JSON; the job validates them once, where it begins."""

    model_config = ConfigDict(populate_by_name=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the JSON of `--settings`.

        Raises:
            InputError: it holds no settings of this stage.
        """
        return _read(cls.model_validate_json, text)

    def to_dict(self) -> dict[str, object]:
        """The settings as plain values, for files; without `later` ones that have their defaults."""
        return self.model_dump(mode="json", by_alias=True, exclude=self.unused())

    def to_json(self) -> str:
        """Write the text that `from_json` reads. Keep the order of keys: Snakemake compares texts."""
        return json.dumps(self.to_dict())


def _read(validate_json: Callable[[str], _Stage], text: str) -> _Stage:
    try:
        return validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "JSON"
        raise InputError(f"--settings: {place}: {first['msg']}; let the workflow give them") from None


class _Shards(StageSettings):
    recipes: dict[str, int]
    dataset: str
    stream: Stream
    shard: str | None = None
    members: str | None = None

    @model_serializer(mode="wrap")
    def _one_shard_comes_last(self, dump: SerializerFunctionWrapHandler) -> dict[str, object]:
        values: dict[str, object] = dump(self)
        own = {name: values.pop(name) for name in ("shard", "members")}
        return values | {name: value for name, value in own.items() if value is not None}

    @property
    def frames(self) -> "FrameShards | None":
        """Settings of the shards of frames that these are computed from; None if from the videos."""
        return None

    def of_shard(self, shard: str, members: str) -> Self:
        """Settings of one shard, whose videos have the digest `members`."""
        return self.model_copy(update={"shard": shard, "members": members})


class FrameShards(_Shards):
    """Settings of shards of frames; those of one `shard` have the digest of its `members` too."""

    stream: Literal["rgb"] = "rgb"
    preprocess: FrameSettings


class FieldShards(_Shards):
    """Settings that shards of flow and warped flow share."""

    preprocess: FieldSettings | StoredFramesSettings
    flow: Flow

    @property
    def frames(self) -> FrameShards | None:
        """As of all shards."""
        if not isinstance(self.preprocess, StoredFramesSettings):
            return None
        return FrameShards(
            recipes=shard_recipes("rgb"),
            dataset=self.dataset,
            preprocess=self.preprocess.part(FrameSettings),
            shard=self.shard,
            members=self.members,
        )

    def on(self, backend: str) -> Self:
        """These settings with another flow backend."""
        return self.model_copy(update={"flow": self.flow.model_copy(update={"backend": backend})})


class FlowShards(FieldShards):
    """Settings of shards of flow."""

    stream: Literal["flow"] = "flow"


class WarpedShards(FieldShards):
    """Settings of shards of warped flow, which are computed from shards of flow."""

    stream: Literal["warped"] = "warped"
    warp: Warp

    def require_masks(self) -> None:
        """Raise InputError if there are to be masks, and their folder does not exist."""
        if self.warp.masks is not None and not Path(self.warp.masks).is_dir():
            raise InputError(f"warp.masks is {self.warp.masks}, and there is no such folder; correct it in config.yaml")

    def without_masks(self) -> Self:
        """These settings for a video that has no masks."""
        return self.model_copy(update={"warp": self.warp.model_copy(update={"masks": None})})


ShardSettings = Annotated[FrameShards | FlowShards | WarpedShards, Field(discriminator="stream")]
_SHARDS: TypeAdapter[FrameShards | FlowShards | WarpedShards] = TypeAdapter(ShardSettings)


class TrainSettings(StageSettings):
    """Settings of a trained network.

    Args:
        split: name of the split.
        videos: digest of the lists of the split.
        shards: settings of the shards of the stream.
    """

    recipe: int
    dataset: str
    stream: Stream
    seed: int
    sampling: Sampling
    augment: Augment
    model: Model
    train: Train
    split: str
    videos: str
    shards: ShardSettings

    @property
    def stack(self) -> int:
        """Positions in a snippet: one frame of rgb, `sampling.stack` fields of flow and warped."""
        return 1 if self.stream == "rgb" else self.sampling.stack

    def starting_from(self, weights: str | None) -> Self:
        """These settings with a file of first weights; None starts from random ones."""
        return self.model_copy(update={"model": self.model.model_copy(update={"weights": weights})})


class ScoreSettings(StageSettings):
    """Settings of the scores of a split; `split`, `videos` and `shards` as in `TrainSettings`.

    `actions` is the digest of the list that says when the videos show their actions; "" if there is none, or if it
    follows from the shards as that of a demo does.
    """

    later: ClassVar = ("actions",)

    recipe: int
    dataset: str
    stream: Stream
    experiment: str
    evaluate: Evaluate
    split: str
    videos: str
    shards: ShardSettings
    actions: str = ""


class RenderSettings(StageSettings, Rendering):
    """Settings of the rendered videos of one split of a demo dataset; `split` is its number, from 1."""

    recipe: int
    split: int
    seed: int
    train_per_class: int
    test_per_class: int


class AuditSettings(StageSettings):
    """Settings of the list of quarantined videos; `split` and `videos` as in `TrainSettings`."""

    recipe: int
    dataset: str
    quarantine_limit: float
    identical: Literal["refuse", "allow"]
    split: str
    videos: str


class AttentionSettings(StageSettings):
    """Settings of the picture of attention; a weight of 0 leaves a stream out."""

    recipe: int
    seed: int
    weights: dict[Stream, float]
    add: Literal["logits", "probabilities"] = Field(alias="on")  # the name in files of results


class FuseSettings(AttentionSettings):
    """Settings of fused.json."""

    later: ClassVar = ("choose", "detect")

    choose: Literal["none", "held_out"] = "none"
    detect: Detect = Detect()

    @property
    def streams(self) -> list[Stream]:
        """The streams with a weight above 0: only they take part in the fusion."""
        return [stream for stream, weight in self.weights.items() if weight]

    @property
    def used_weights(self) -> dict[str, float]:
        """The weights of `streams`."""
        return {stream: self.weights[stream] for stream in self.streams}


class DetectSettings(StageSettings):
    """Settings of detections.json."""

    recipe: int
    detect: Detect


class RecipeSettings(StageSettings):
    """Settings of the summary, which depends on its input files alone."""

    recipe: int = 0


class PageSettings(RecipeSettings):
    """Settings of the page; `compare` are the results to compare with, by their experiments."""

    later: ClassVar = ("compare",)

    compare: dict[str, str] = {}


class _Table(StageSettings):
    recipe: int
    table: int
    dataset: str
    kind: str


class RunsTableSettings(_Table):
    """Settings of Tables 1 to 3: the fusion, and the experiment whose scores serve for each row ("" is none)."""

    table: Literal[1, 2, 3]
    seed: int
    weights: dict[Stream, float]
    add: Literal["logits", "probabilities"] = Field(alias="on")
    split: str
    experiments: dict[str, str]


class TableNetwork(Section):
    """A network as Table 4 names it."""

    backbone: str
    weights: str | None


class SplitsTableSettings(_Table):
    """Settings of Table 4: the network of each stream."""

    table: Literal[4]
    networks: dict[Stream, TableNetwork]


TableSettings = Annotated[RunsTableSettings | SplitsTableSettings, Field(discriminator="table")]
_TABLES: TypeAdapter[RunsTableSettings | SplitsTableSettings] = TypeAdapter(TableSettings)


class ConsensusTableSettings(AttentionSettings):
    """Settings of the table `consensus`: the fusion, and for each row its experiments ("" is none), one per seed."""

    dataset: str
    kind: str
    splits: tuple[str, ...]
    against: tuple[Consensus, ...]
    rows: dict[Consensus, tuple[str, ...]]


def location(config: Config, dataset: str) -> Location:
    """Return where a dataset's videos and lists are."""
    return Location(dataset, config.dataset(dataset))


def read_shard_settings(text: str) -> ShardSettings:
    """Read the `--settings` of a job that makes a shard.

    Raises:
        InputError: they are of no shard.
    """
    return _read(_SHARDS.validate_json, text)


def read_table_settings(text: str) -> TableSettings:
    """Read the `--settings` of a job that makes a table.

    Raises:
        InputError: they are of no table.
    """
    return _read(_TABLES.validate_json, text)


def shard_recipes(stream: Stream, *, from_frames: bool = False) -> dict[str, int]:
    """Recipe numbers of the shards of a stream, with those of the shards that they are computed from."""
    names = (*(("rgb",) if from_frames else ()), *(("flow",) if stream == "warped" else ()), stream)
    return {name: RECIPES[name] for name in names}


def shard_settings(config: Config, dataset: str, stream: Stream) -> ShardSettings:
    """Settings of the shards of `stream`."""
    settings = effective(config, dataset, stream)
    preprocess = settings.preprocess
    if stream == "rgb":
        return FrameShards(recipes=shard_recipes(stream), dataset=dataset, preprocess=preprocess.part(FrameSettings))
    from_frames = preprocess.flow_from == "frames"
    recipes = shard_recipes(stream, from_frames=from_frames)
    fields = preprocess.part(StoredFramesSettings if from_frames else FieldSettings)
    if stream == "flow":
        return FlowShards(recipes=recipes, dataset=dataset, preprocess=fields, flow=settings.flow)
    return WarpedShards(recipes=recipes, dataset=dataset, preprocess=fields, flow=settings.flow, warp=settings.warp)


def audit_settings(config: Config, dataset: str, *, split: str, videos: str) -> AuditSettings:
    """Settings of the list of quarantined videos."""
    preprocess = effective(config, dataset, "rgb").preprocess
    return AuditSettings(
        recipe=RECIPES["audit"],
        dataset=dataset,
        quarantine_limit=preprocess.quarantine_limit,
        identical=preprocess.identical,
        split=split,
        videos=videos,
    )


def train_settings(
    config: Config, dataset: str, stream: Stream, experiment: str, *, split: str, videos: str
) -> TrainSettings:
    """Settings of a trained network."""
    settings = effective(config, dataset, stream, experiment)
    made = TrainSettings(
        recipe=RECIPES["train"],
        dataset=dataset,
        stream=stream,
        seed=config.seed_of(experiment),
        sampling=settings.sampling,
        augment=settings.augment,
        model=settings.model,
        train=settings.train,
        split=split,
        videos=videos,
        shards=shard_settings(config, dataset, stream),
    )
    return made.starting_from(settings.model.weights_path)


def score_settings(
    config: Config, dataset: str, stream: Stream, experiment: str, *, split: str, videos: str, actions: str = ""
) -> ScoreSettings:
    """Settings of the scores of the test videos."""
    return ScoreSettings(
        recipe=RECIPES["score"],
        dataset=dataset,
        stream=stream,
        experiment=experiment,
        evaluate=effective(config, dataset, stream, experiment).evaluate,
        split=split,
        videos=videos,
        shards=shard_settings(config, dataset, stream),
        actions=actions,
    )


def same_scores(config: Config, dataset: str, stream: Stream, one: str, other: str) -> bool:
    """Whether two experiments ("" is none) train and score a stream in the same way, so that one serves for both."""
    left, right = (effective(config, dataset, stream, name) for name in (one, other))
    sections = ("sampling", "augment", "model", "train", "evaluate")
    return all(getattr(left, section) == getattr(right, section) for section in sections)


def fuse_settings(config: Config, dataset: str, experiment: str) -> FuseSettings:
    """Settings of fused.json."""
    settings = effective(config, dataset, "rgb", experiment)
    fusion = settings.fusion
    return FuseSettings(
        recipe=RECIPES["fuse"],
        seed=config.seed,
        weights={stream: fusion.weights.get(stream, 0.0) for stream in STREAMS},
        add=fusion.add,
        choose=fusion.choose,
        detect=settings.detect,
    )


def detect_settings(config: Config, dataset: str, experiment: str) -> DetectSettings:
    """Settings of detections.json."""
    return DetectSettings(recipe=RECIPES["detect"], detect=effective(config, dataset, "rgb", experiment).detect)


def attention_settings(config: Config, dataset: str, experiment: str) -> AttentionSettings:
    """Settings of the picture of attention."""
    fused = fuse_settings(config, dataset, experiment)
    return AttentionSettings(recipe=RECIPES["attention"], seed=fused.seed, weights=fused.weights, add=fused.add)
