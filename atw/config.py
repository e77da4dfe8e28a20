"""Every setting there is: its type, unit, limits and default (the paper's), and what each stage depends on.

Settings are merged in this order, later ones winning: the defaults below, the sections of config.yaml, its `streams:`,
the sections of the dataset and its `streams:`, the sections of the experiment and its `streams:`.
The workflow imports this module, `atw.plan` and `atw.datasets` again in every remote job, so they import little.
"""

import json
import re
import string
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from atw import imagenet, paper
from atw.files import InputError

Stream = Literal["rgb", "flow", "warped"]
STREAMS: tuple[Stream, ...] = get_args(Stream)
# The flow backends that need one.
ON_GPU = ("cuda", "opencv-cuda")

# Raised by hand in the commit that changes a stage's bytes: Snakemake does not see changes inside the package.
RECIPES = {
    "render": 1,
    "rgb": 2,
    "flow": 3,
    "warped": 3,
    "audit": 1,
    "train": 2,
    "score": 1,
    "fuse": 2,
    "summary": 2,
    "table": 1,
    "attention": 1,
}


class Section(BaseModel):
    """A group of settings; unknown keys are errors."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Preprocess(Section):
    """How videos become frames in shards. A change decodes everything again."""

    width: int = Field(340, ge=16, le=4096, description="working width in pixels; frames are resized to it")
    height: int = Field(256, ge=16, le=4096, description="working height in pixels; the aspect ratio is not kept")
    jpeg_quality: int = Field(95, ge=1, le=100, description="JPEG quality of stored frames; 95 takes 31 kB a frame")
    zstd_level: int = Field(3, ge=1, le=19, description="Zstandard level of stored flow; 3 takes 11 kB a field")
    shards: int = Field(16, ge=1, le=100_000, description="shard files per stream; about 256 videos each is good")
    max_pixels: int = Field(4096 * 2304, ge=256, description="quarantine a video with more pixels a frame than this")
    max_frames: int = Field(100_000, ge=2, description="quarantine a video with more frames than this")
    quarantine_limit: float = Field(
        0.05,
        ge=0,
        le=1,
        description="nothing is trained when more than this share of a split's videos is quarantined; one always may "
        "be, unless it is 0; videos that allow_missing lets be absent do not count; a change decodes nothing again",
    )


class Flow(Section):
    """TV-L1 optical flow. A change recomputes flow and warped flow, and no frames."""

    preset: Literal["opencv4", "opencv24", "fast"] = Field("opencv4", description="base of the parameters below")
    backend: Literal["auto", "cuda", "numba", "opencv-cuda", "opencv"] = Field(
        "auto", description="auto takes the fastest usable one"
    )
    bound: float = Field(20.0, gt=0, le=1000, description="pixels; displacements beyond it are clipped when stored")
    tau: float | None = Field(None, ge=0.001, le=0.5, description="time step of the dual update; empty: the preset's")
    lambda_: float | None = Field(None, ge=1e-4, le=100, description="weight of the data term; empty: the preset's")
    theta: float | None = Field(None, ge=0.001, le=100, description="tightness of the coupling; empty: the preset's")
    levels: int | None = Field(None, ge=1, le=20, description="pyramid levels at most; empty: the preset's")
    scale_step: float | None = Field(None, ge=0.2, le=0.95, description="pyramid step; empty: the preset's")
    warps: int | None = Field(None, ge=1, le=100, description="warps a level; empty: the preset's")
    iterations: int | None = Field(None, ge=1, le=10_000, description="iterations a warp at most; empty: the preset's")
    epsilon: float | None = Field(
        None, ge=0, le=10, description="stop when the update's rms is below, pixels; 0 never stops"
    )

    def overrides(self) -> dict[str, float | int]:
        """The parameters set explicitly, by the names that `atw.flow.estimate` takes."""
        return self.model_dump(exclude={"preset", "backend", "bound"}, exclude_none=True)


class Warp(Section):
    """Camera compensation by a homography per pair of frames. A change recomputes warped flow only."""

    matches: Literal["tracks", "flow", "sift"] = Field(
        "tracks",
        description="what the homography is fitted to: tracked corners; corners displaced by the flow; those and SIFT",
    )
    max_displacement: float = Field(50.0, ge=1, le=1000, description="pixels; matches further apart are dropped")
    corners: int = Field(1000, ge=4, le=100_000, description="corners at most")
    quality: float = Field(0.001, ge=1e-6, le=1, description="least corner quality relative to the best corner")
    distance: float = Field(12.0, ge=1, le=1000, description="least distance between corners, pixels")
    min_matches: int = Field(
        50, ge=4, le=100_000, description="no homography is estimated from fewer matches or as many"
    )
    min_inliers: int = Field(25, ge=4, le=100_000, description="a homography with as many inliers or fewer is not used")
    method: Literal["usac_fast", "usac_default", "usac_accurate", "usac_prosac", "usac_magsac", "ransac", "lmeds"] = (
        Field("usac_fast", description="robust fit, one of OpenCV's")
    )
    threshold: float = Field(1.0, ge=0.01, le=100, description="up to so many pixels off a match is an inlier")
    still: float = Field(
        0.25, ge=0, le=100, description="the camera stands still where no corner of the image moves more, pixels"
    )
    border: int = Field(
        5, ge=0, le=1000, description="pixels whose source is this near the border keep the first frame"
    )
    masks: str | None = Field(
        None,
        min_length=1,
        description="folder of masks that keep people out of the matches, docs/datasets.md; empty: none",
    )


class Sampling(Section):
    """How many snippets of what length a video gives in training."""

    segments: int = Field(4, ge=1, le=64, description="N: equal parts of a video, one snippet from each")
    stack: int = Field(5, ge=1, le=64, description="consecutive flow fields in a snippet of flow or warped")


class Augment(Section):
    """Crops and flips of training snippets; all snippets of one video share them."""

    input_size: int = Field(224, ge=16, le=1024, description="side of the network's input, pixels")
    scales: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (1.0, 0.875, 0.75, 0.66),
        strict=False,
        min_length=1,
        description="crop sides relative to the shorter working side",
    )
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")


class Model(Section):
    """The network of a stream."""

    backbone: str = Field(
        "resnet50",
        description="bninception, a classification network of torchvision by its name there (docs/networks.md), or "
        "tiny, the demo's",
    )
    weights: str | None = Field(
        imagenet.DEFAULT_WEIGHTS,
        description="file of ImageNet weights; {backbone} is filled in; the default also stands for the published file "
        "in torchvision's cache, if that is there; empty: from scratch",
    )
    dropout: float = Field(0.8, ge=0, lt=1, description="dropout before the classifier")
    partial_bn: Literal["none", "first", "all"] = Field(
        "first", description="batch norms that stay frozen: none, all but the first, or all"
    )
    consensus: Literal["attention", "average", "max", "weighted"] = Field(
        "attention", description="how the snippets of a video become one score"
    )
    attention_on: Literal["scores", "features"] = Field("scores", description="what the attention weight looks at")
    attention_activation: Literal["relu", "tanh", "sigmoid", "none"] = Field("relu", description="of the energies")
    attention_init: Literal["gaussian", "ones", "mean"] = Field("gaussian", description="initial weights; mean is 1/N")
    attention_std: float = Field(0.001, gt=0, description="standard deviation of the gaussian initialisation")
    attention_bias: float = Field(6.0, description="initial bias; 0 is the paper's and can die, 6 keeps ReLU open")

    @field_validator("backbone")
    @classmethod
    def _backbone_is_known(cls, backbone: str) -> str:
        imagenet.network(backbone)
        return backbone


class Train(Section):
    """The optimisation of one stream. A change trains again and touches no shard."""

    iterations: int = Field(3500, ge=1, description="updates in total")
    batch: int = Field(128, ge=1, description="videos an update, over all workers")
    learning_rate: float = Field(0.001, gt=0, description="initial learning rate")
    schedule: Literal["step", "cosine"] = Field(
        "step", description="of the learning rate: multiplied by 0.1 at `steps`, or half a cosine down to 0 at the end"
    )
    steps: int | Annotated[tuple[int, ...], Field(strict=False)] = Field(
        2000,
        description="iterations at which the learning rate is multiplied by 0.1: a list, or one number for every so "
        "many; of the step schedule",
    )
    warmup: int = Field(0, ge=0, description="iterations of linear warm-up of the learning rate, of either schedule")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(5e-4, ge=0, description="of SGD")
    clip: float = Field(40.0, gt=0, description="global norm at which gradients are clipped")
    lr_multipliers: Literal["tsn", "uniform"] = Field("tsn", description="learning rates per group of parameters")
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of each label that is spread evenly over all classes"
    )
    mixup: float | None = Field(
        None,
        gt=0,
        description="alpha of the beta distribution of the share with which two videos of a micro-batch, and their "
        "labels, are mixed; one share an update; empty: no mixing",
    )
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="decay an update of the moving average of weights and batch norm's statistics, which is then what "
        "is saved and scored; .999 averages over about the last 1000 updates; empty: the last weights",
    )
    held_out: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="share of each class's training videos, at most, that is not trained on: whole groups where the "
        "lists have groups, drawn by the seed, the same for all streams; for fusion.choose",
    )

    @field_validator("steps")
    @classmethod
    def _steps_rise(cls, steps: int | tuple[int, ...]) -> int | tuple[int, ...]:
        numbers = [steps] if isinstance(steps, int) else list(steps)
        if numbers != sorted(set(numbers)) or any(number < 1 for number in numbers):
            raise ValueError("must be iteration numbers of at least 1 in rising order, or one number")
        return steps


class Evaluate(Section):
    """Scoring of the test videos. A change scores again and trains nothing."""

    snippets: int = Field(80, ge=1, le=1000, description="snippets a video, uniformly spread; attention sees all")
    crops: Literal[1, 5, 10] = Field(1, description="1 centre, 5 with the corners, 10 with their mirror images")
    crop: int = Field(224, ge=16, le=4096, description="side of a test crop in pixels, resized to the input size")


class Fusion(Section):
    """How the streams' scores become one."""

    weights: dict[Stream, Annotated[float, Field(ge=0)]] = Field(
        {"rgb": 1.0, "flow": 1.0, "warped": 0.5},
        description="weight of each stream; one that is 0 or not named is left out, and not trained",
    )
    add: Literal["logits", "probabilities"] = Field(
        "logits", description="what is added: class scores, or their softmax"
    )
    choose: Literal["none", "held_out"] = Field(
        "none",
        description="none takes `weights` as they are; held_out takes those of a grid that are best on the videos of "
        "train.held_out, from the streams that have a weight above 0",
    )

    @field_validator("weights")
    @classmethod
    def _some_weight(cls, weights: dict[Stream, float]) -> dict[Stream, float]:
        if not any(weights.values()):
            raise ValueError("at least one stream needs a weight above 0")
        return weights


class Compute(Section):
    """What a stage may use. It is there for speed, so a change reruns nothing.

    Shards do not depend on it, networks and scores by rounding only; but where dropout, unfrozen batch norm or mixing
    see a part of the batch at a time, a network depends on `workers` and `microbatch`. It is recorded with each model.
    """

    preprocess_threads: int = Field(4, ge=1, description="threads of one job that decodes videos or computes flow")
    train_threads: int = Field(4, ge=1, description="CPU threads of one training or scoring job")
    workers: int = Field(1, ge=1, description="training processes of one stream; each takes its share of the batch")
    gpus: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        "auto",
        description="GPUs a stream, one for each worker; auto takes them where there are some, 0 stays on the CPU",
    )
    loaders: int = Field(2, ge=0, description="processes that read shards for each worker; 0 reads in the worker")
    microbatch: int = Field(32, ge=1, description="videos at once on a device; gradients are summed up to the batch")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32",
        description="of the backbone in training, the weights being fp32 in any case; fp16 needs a GPU; scores are "
        "computed in fp32",
    )
    channels_last: bool = Field(
        True, description="keep a pixel's channels together in memory, in training and scoring; faster convolutions"
    )
    compile: bool = Field(
        False, description="compile the network for training, which takes a minute and a C++ compiler, and pays later"
    )
    checkpoint_every: int = Field(250, ge=1, description="iterations between resumable states")
    retries: int = Field(2, ge=0, description="restarts of a training whose worker died")


class Settings(Section):
    """Every section, complete, as one dataset, stream and experiment see them."""

    preprocess: Preprocess = Preprocess()
    flow: Flow = Flow()
    warp: Warp = Warp()
    sampling: Sampling = Sampling()
    augment: Augment = Augment()
    model: Model = Model()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    fusion: Fusion = Fusion()
    compute: Compute = Compute()

    @model_validator(mode="after")
    def _every_worker_has_its_share(self) -> "Settings":
        if self.compute.workers > self.train.batch:
            raise ValueError(
                f"compute.workers is {self.compute.workers}, but train.batch is {self.train.batch} videos: "
                "take as many workers at most"
            )
        if self.compute.gpus not in ("auto", 0, self.compute.workers):
            raise ValueError(
                f"compute.gpus is {self.compute.gpus}, but compute.workers is {self.compute.workers}: "
                "each worker takes one GPU, so give the same number, or auto, or 0 for the CPU"
            )
        return self

    @model_validator(mode="after")
    def _mixup_has_partners(self) -> "Settings":
        if self.train.mixup and min(self.compute.microbatch, self.train.batch // self.compute.workers) < 2:
            raise ValueError(
                f"train.mixup is {self.train.mixup:g}, but videos come one at a time (compute.microbatch "
                f"{self.compute.microbatch}, train.batch {self.train.batch} over {self.compute.workers} workers): "
                "mixup needs two at once; raise these or leave train.mixup out"
            )
        return self

    @model_validator(mode="after")
    def _network_takes_the_input(self) -> "Settings":
        try:
            imagenet.check_side(self.model.backbone, self.augment.input_size)
        except ValueError as error:
            raise ValueError(f"{error}: change augment.input_size, or model.backbone") from None
        return self

    @model_validator(mode="after")
    def _weights_have_videos_to_be_chosen_on(self) -> "Settings":
        if self.fusion.choose == "held_out" and not self.train.held_out:
            raise ValueError(
                "fusion.choose is held_out, but train.held_out is 0: give the share of the training videos to hold "
                "out, say 0.1, or set fusion.choose to none"
            )
        return self

    @model_validator(mode="after")
    def _crop_fits(self) -> "Settings":
        if self.evaluate.crop > min(self.preprocess.width, self.preprocess.height):
            raise ValueError(
                f"evaluate.crop is {self.evaluate.crop}, larger than the working size "
                f"{self.preprocess.width} x {self.preprocess.height}: lower it or raise the working size"
            )
        return self


SECTIONS = tuple(Settings.model_fields)
# The paper's recipe per stream; what it leaves open is TSN's (docs/decisions.md lists each such choice).
_FLOW_RECIPE = {
    "augment": {"scales": (1.0, 0.875, 0.75)},
    "model": {"dropout": 0.7},
    "train": {"learning_rate": 0.005, "iterations": 18_000, "steps": (12_000, 18_000), "clip": 20.0},
}
STREAM_DEFAULTS: dict[str, dict[str, Any]] = {"rgb": {}, "flow": _FLOW_RECIPE, "warped": _FLOW_RECIPE}


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


_DRAWN = ("splits", "test_share", "split_seed", "group", "extensions")


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
        needless = sorted(self.model_fields_set & set(_DRAWN))
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


class Experiment(StreamOverrides):
    """A named set of overrides whose results stand beside the plain ones and reuse their shards."""

    @model_validator(mode="after")
    def _shards_are_shared(self) -> "Experiment":
        for section in ("preprocess", "flow", "warp"):
            if getattr(self, section):
                raise ValueError(
                    f"an experiment cannot change {section}: all experiments read the same shards; "
                    "make it a dataset of its own instead"
                )
        return self


# The experiments of the paper's tables, which no config.yaml has to list.
TABLE_EXPERIMENTS = {name: Experiment.model_validate(given) for name, given in paper.EXPERIMENTS.items()}


class Config(StreamOverrides):
    """The whole of config.yaml."""

    seed: int = Field(0, ge=0, description="of sampling, initialisation, splits and intervals")
    shards: str = Field("shards", min_length=1, description="folder of the shards; may be shared by several people")
    datasets: dict[str, Dataset]
    experiments: dict[str, Experiment] = {}

    @field_validator("datasets", "experiments")
    @classmethod
    def _names_fit_paths(cls, named: dict[str, Any]) -> dict[str, Any]:
        for name in named:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) or name in ("experiments", "tables"):
                raise ValueError(
                    f"{name!r} cannot name a folder: use letters, digits, - and _ (not experiments, tables)"
                )
        return named

    @field_validator("experiments")
    @classmethod
    def _names_of_tables_are_taken(cls, named: dict[str, Experiment]) -> dict[str, Experiment]:
        for name in named.keys() & TABLE_EXPERIMENTS.keys():
            raise ValueError(
                f"{name} is an experiment of the paper's tables, see docs/evaluation.md; choose another name"
            )
        return named

    @model_validator(mode="after")
    def _every_combination_is_valid(self) -> "Config":
        for dataset in self.datasets:
            for experiment in ("", *self.experiments):
                for stream in STREAMS:
                    effective(self, dataset, stream, experiment)
        return self

    def dataset(self, name: str) -> AnyDataset:
        """The dataset of that name, or an error that lists those there are."""
        if name not in self.datasets:
            known = ", ".join(sorted(self.datasets))
            raise InputError(f"dataset {name!r} is not in config.yaml under `datasets:`; known datasets: {known}")
        return self.datasets[name]

    def experiment(self, name: str) -> Experiment:
        """The experiment of that name, the tables' included, or an error that lists those there are."""
        found = self.experiments.get(name) or TABLE_EXPERIMENTS.get(name)
        if found is None:
            known = ", ".join(sorted(self.experiments)) or "none"
            raise InputError(
                f"experiment {name!r} is not in config.yaml under `experiments:`; known experiments: {known}; "
                "those of the paper's tables are in docs/evaluation.md"
            )
        return found


def load(raw: dict[str, Any]) -> Config:
    """Validate the content of config.yaml; errors name the key, its value and what is allowed."""
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise InputError(_explain(error)) from None


def load_json(text: str) -> dict[str, Any]:
    """The settings object of a stage's `--settings`."""
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"--settings is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"--settings must be a JSON object, not {text[:40]!r}")
    return content


def _explain(error: ValidationError) -> str:
    lines = ["config.yaml is not valid:"]
    for problem in error.errors():
        # Of a value that may have several types, pydantic names each beside the key.
        location = [part for part in problem["loc"] if part not in ("[key]", "int") and "tuple[" not in str(part)]
        if location[:1] == ["datasets"] and len(location) > 3:
            del location[2]  # the tag by which pydantic chose the kind of dataset: no key of the file
        where = ".".join(str(part) for part in location)
        if problem["type"] == "extra_forbidden":
            lines.append(f"  {where}: unknown key (value {problem['input']!r}); {_allowed(problem['loc'])}")
        elif problem["type"] == "union_tag_not_found":
            lines.append(f"  {where}: needs a `kind`, one of {', '.join(KINDS)}")
        else:
            shown = "" if isinstance(problem["input"], dict) else f" (value {problem['input']!r})"
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"  {where}: {message}{shown}" if where else f"  {message}{shown}")
    return "\n".join(lines)


def _allowed(place: Sequence[int | str]) -> str:
    model: Any = Config
    parts = iter(place[:-1])
    for part in parts:
        # datasets, experiments and streams are followed by a name, a dataset's name by its kind.
        if part == "datasets":
            next(parts)
            model = KINDS[str(next(parts))]
        elif part in ("experiments", "streams"):
            next(parts)
            model = Experiment if part == "experiments" else Overrides
        else:
            model = Settings.model_fields[str(part)].annotation
    return "allowed here: " + ", ".join(model.model_fields)


def effective(config: Config, dataset: str, stream: str, experiment: str = "") -> Settings:
    """The settings of one stream of a dataset in an experiment ("" is none), merged in the documented order.

    Raises:
        InputError: an unknown dataset or experiment, or settings that are impossible only together.
    """
    given = config.dataset(dataset)
    layers: list[dict[str, dict[str, Any]]] = [STREAM_DEFAULTS[stream]]
    if experiment in paper.BACKBONES:
        layers.append({"model": {"backbone": paper.BACKBONES[experiment]}})
    for overrides in (config, given, *([config.experiment(experiment)] if experiment else [])):
        layers.append(overrides.sections())
        if stream in overrides.streams:
            layers.append(overrides.streams[stream].sections())
    merged: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    for layer in layers:
        for name, keys in layer.items():
            merged[name].update(keys)
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        place = f"dataset {dataset}, stream {stream}" + (f", experiment {experiment}" if experiment else "")
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InputError(f"config.yaml is not valid:\n  {place}: {message}") from None


def location(config: Config, dataset: str) -> dict[str, Any]:
    """Where a dataset's videos and lists are, without its overrides: what `--dataset` tells a stage.

    It is kept apart from the settings, so that moving a collection to another disk computes nothing again.
    """
    given = config.dataset(dataset)
    own = set(type(given).model_fields) - set(Archives.model_fields)
    if isinstance(given, FolderDataset) and given.lists:
        own -= set(_DRAWN)
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
    unused = {"preprocess": {"quarantine_limit", "zstd_level" if stream == "rgb" else "jpeg_quality"}}
    # Warped flow starts from the flow shard, so both of its recipes count.
    recipes = {name: RECIPES[name] for name in ([stream] if stream != "warped" else ["flow", "warped"])}
    sections = settings.model_dump(mode="json", include=set(used), exclude=unused)
    return {"recipes": recipes, "dataset": dataset, "stream": stream, **sections}


def audit_settings(config: Config, dataset: str) -> dict[str, Any]:
    """What the list of quarantined videos depends on, apart from the shards and the split's list."""
    limit = effective(config, dataset, "rgb").preprocess.quarantine_limit
    return {"recipe": RECIPES["audit"], "dataset": dataset, "quarantine_limit": limit}


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
