"""What each stage depends on, and no more: a change of a setting reruns the stages whose settings it is in."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, TypeAdapter, ValidationError, model_serializer

from atw.config.datasets import DRAWN, Archives, DemoDataset, FolderDataset
from atw.config.sections import (
    STREAMS,
    Augment,
    Evaluate,
    FieldSettings,
    Flow,
    FrameSettings,
    Model,
    Sampling,
    Section,
    Stream,
    Train,
    Warp,
)
from atw.config.whole import Config, effective
from atw.files import InputError

# Raised by hand in the commit that changes a stage's bytes: Snakemake does not see changes inside the package.
RECIPES = {
    "render": 1,
    "rgb": 3,
    "flow": 4,
    "warped": 4,
    "audit": 1,
    "train": 2,
    "score": 2,
    "fuse": 2,
    "summary": 2,
    "table": 1,
    "attention": 3,
    "report": 2,
}


class StageSettings(Section):
    """What a stage depends on, as the workflow gives it to a job: validated once, where the job begins."""

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The settings in a stage's `--settings`.

        Raises:
            InputError: they are none of this stage.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise _none_of_a_stage(error) from None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as a model file keeps them."""
        return self.model_dump(mode="json")


def _none_of_a_stage(error: ValidationError) -> InputError:
    found = error.errors()[0]
    place = ".".join(str(part) for part in found["loc"]) or "JSON"
    return InputError(f"--settings: {place}: {found['msg']}; let the workflow give them")


class _Shards(StageSettings):
    recipes: dict[str, int]
    dataset: str
    shard: str | None = None
    members: str | None = None

    @model_serializer(mode="wrap")
    def _name_and_members_of_one_only(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        given: dict[str, Any] = dump(self)
        return {name: value for name, value in given.items() if value is not None or name not in ("shard", "members")}


class FrameShards(_Shards):
    """What the bytes of shards of frames depend on; those of one `shard` also on the digest of its `members`."""

    stream: Literal["rgb"]
    preprocess: FrameSettings


class FieldShards(_Shards):
    """What shards of flow and warped flow have in common."""

    preprocess: FieldSettings
    flow: Flow

    def on(self, backend: str) -> Self:
        """The same on another flow backend."""
        return self.model_copy(update={"flow": self.flow.model_copy(update={"backend": backend})})


class FlowShards(FieldShards):
    """What the bytes of shards of flow depend on."""

    stream: Literal["flow"]


class WarpedShards(FieldShards):
    """What the bytes of shards of warped flow depend on; it starts from the flow."""

    stream: Literal["warped"]
    warp: Warp

    def without_masks(self) -> Self:
        """The same for a video that has none."""
        return self.model_copy(update={"warp": self.warp.model_copy(update={"masks": None})})


ShardSettings = Annotated[FrameShards | FlowShards | WarpedShards, Field(discriminator="stream")]
_SHARDS: TypeAdapter[FrameShards | FlowShards | WarpedShards] = TypeAdapter(ShardSettings)


def read_shard_settings(given: dict[str, Any]) -> ShardSettings:
    """The settings of shards from what `shard_settings` gives.

    Raises:
        InputError: they are none.
    """
    try:
        return _SHARDS.validate_python(given)
    except ValidationError as error:
        raise _none_of_a_stage(error) from None


class TrainSettings(StageSettings):
    """What a trained network depends on.

    Args:
        split: name of the split.
        videos: digest of its lists.
        shards: of the shards of its stream.
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

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `train.held_out` only where it holds out anything, as before there was such a setting."""
        unused = {"train": {"held_out"}} if not self.train.held_out else None
        return self.model_dump(mode="json", exclude=unused)


class ScoreSettings(StageSettings):
    """What the scores of a split's videos depend on; `split`, `videos` and `shards` as in `TrainSettings`."""

    recipe: int
    dataset: str
    stream: Stream
    experiment: str
    evaluate: Evaluate
    split: str
    videos: str
    shards: ShardSettings


class RenderSettings(StageSettings):
    """What the videos of one split of a demo dataset depend on; `split` is its number, from 1."""

    recipe: int
    split: int
    seed: int
    train_per_class: int
    test_per_class: int


class AuditSettings(StageSettings):
    """What the list of quarantined videos depends on; `split` and `videos` as in `TrainSettings`."""

    recipe: int
    dataset: str
    quarantine_limit: float
    identical: Literal["refuse", "allow"]
    split: str
    videos: str


class FuseSettings(StageSettings):
    """What fused.json depends on; `on` is what the fusion adds, and a weight of 0 leaves a stream out."""

    recipe: int
    seed: int
    weights: dict[Stream, float]
    on: Literal["logits", "probabilities"]
    choose: Literal["none", "held_out"] = "none"

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `choose` only where there is a choice, as before there was such a setting."""
        return self.model_dump(mode="json", exclude={"choose"} if self.choose == "none" else None)


class _Table(StageSettings):
    recipe: int
    table: int
    dataset: str
    kind: str


class RunsTableSettings(_Table):
    """What Tables 1 to 3 depend on: the fusion, and whose scores serve for each experiment ("" is none)."""

    seed: int
    weights: dict[str, float]
    on: Literal["logits", "probabilities"]
    split: str
    experiments: dict[str, str]


class TableNetwork(Section):
    """A network as Table 4 names it."""

    backbone: str
    weights: str | None


class SplitsTableSettings(_Table):
    """What Table 4 depends on beside the summary: the network of each stream."""

    networks: dict[Stream, TableNetwork]


_AUDITED = {"quarantine_limit", "identical"}  # of the section `preprocess`: what the audit asks for, and no shard


def location(config: Config, dataset: str) -> dict[str, Any]:
    """Where a dataset's videos and lists are, without its overrides: what `--dataset` tells a stage.

    It is kept apart from the settings, so that moving a collection to another disk computes nothing again.
    """
    given = config.dataset(dataset)
    own = set(type(given).model_fields) - set(Archives.model_fields)
    if isinstance(given, FolderDataset) and given.lists:
        own -= set(DRAWN)
    return {"name": dataset, "root": f"data/{dataset}", **given.model_dump(mode="json", include=own)}


def render_settings(config: Config, dataset: str, split: int) -> dict[str, Any]:
    """What the videos of one split of a demo dataset depend on."""
    given = config.dataset(dataset)
    assert isinstance(given, DemoDataset)
    sizes = {"train_per_class": given.train_per_class, "test_per_class": given.test_per_class}
    return {"recipe": RECIPES["render"], "split": split, "seed": config.seed, **sizes}


def shard_settings(config: Config, dataset: str, stream: str) -> dict[str, Any]:
    """What the bytes of a shard of `stream` depend on, apart from the videos."""
    settings = effective(config, dataset, stream)
    used = ["preprocess"] + {"rgb": [], "flow": ["flow"], "warped": ["flow", "warp"]}[stream]
    unused = {"preprocess": {*_AUDITED, "zstd_level" if stream == "rgb" else "jpeg_quality"}}
    # Warped flow starts from the flow shard, so both of its recipes count.
    recipes = {name: RECIPES[name] for name in ([stream] if stream != "warped" else ["flow", "warped"])}
    sections = settings.model_dump(mode="json", include=set(used), exclude=unused)
    return {"recipes": recipes, "dataset": dataset, "stream": stream, **sections}


def audit_settings(config: Config, dataset: str) -> dict[str, Any]:
    """What the list of quarantined videos depends on, apart from the shards and the split's list."""
    settings = effective(config, dataset, "rgb").preprocess.model_dump(mode="json", include=_AUDITED)
    return {"recipe": RECIPES["audit"], "dataset": dataset, **settings}


def train_settings(config: Config, dataset: str, stream: str, experiment: str) -> dict[str, Any]:
    """What a trained network depends on, apart from the shards and the split's list."""
    settings = effective(config, dataset, stream, experiment)
    sections = settings.model_dump(mode="json", include={"sampling", "augment", "model", "train"})
    if not settings.train.held_out:
        del sections["train"]["held_out"]  # networks from before this setting are still what they would be
    if settings.model.weights:
        sections["model"]["weights"] = settings.model.weights.replace("{backbone}", settings.model.backbone)
    return {
        "recipe": RECIPES["train"],
        "dataset": dataset,
        "stream": stream,
        "seed": config.seed,
        **sections,
    }


def score_settings(config: Config, dataset: str, stream: str, experiment: str) -> dict[str, Any]:
    """What the scores of the test videos depend on, apart from the network and the shards."""
    settings = effective(config, dataset, stream, experiment)
    return {
        "recipe": RECIPES["score"],
        "dataset": dataset,
        "stream": stream,
        "experiment": experiment,
        **settings.model_dump(mode="json", include={"evaluate"}),
    }


def fuse_settings(config: Config, dataset: str, experiment: str) -> dict[str, Any]:
    """What fused.json depends on, apart from the score files."""
    fusion = effective(config, dataset, "rgb", experiment).fusion
    weights = {stream: fusion.weights.get(stream, 0.0) for stream in STREAMS}
    settings = {"recipe": RECIPES["fuse"], "seed": config.seed, "weights": weights, "on": fusion.add}
    return settings if fusion.choose == "none" else settings | {"choose": fusion.choose}


def same_scores(config: Config, dataset: str, stream: str, one: str, other: str) -> bool:
    """Whether two experiments ("" is none) train and score a stream alike, so that one serves for both."""
    left, right = (
        (
            train_settings(config, dataset, stream, name),
            score_settings(config, dataset, stream, name) | {"experiment": ""},
        )
        for name in (one, other)
    )
    return left == right


def attention_settings(config: Config, dataset: str, experiment: str) -> dict[str, Any]:
    """What the picture of attention depends on, apart from the score files and the frames."""
    settings = fuse_settings(config, dataset, experiment) | {"recipe": RECIPES["attention"]}
    settings.pop("choose", None)
    return settings


def fused_streams(config: Config, dataset: str, experiment: str) -> list[str]:
    """The streams that take part in the fusion: those with a weight above 0."""
    return [name for name, weight in fuse_settings(config, dataset, experiment)["weights"].items() if weight]
