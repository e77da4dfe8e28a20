"""The sections of config.yaml: every setting with its type, unit, limits and default, which is the paper's."""

from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from atw.config import imagenet

Stream = Literal["rgb", "flow", "warped"]
STREAMS: tuple[Stream, ...] = get_args(Stream)
# The flow backends that need one.
ON_GPU = ("cuda", "opencv-cuda")


_Part = TypeVar("_Part", bound="Section")


class Section(BaseModel):
    """A group of settings; unknown keys are errors."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)
    later: ClassVar[tuple[str, ...]] = ()
    """Settings that are newer than files of their stage: at its default, files and jobs' JSON do not name such one."""

    def unused(self) -> dict[str, Any]:
        """Return the `later` settings that have their defaults, here and in parts, as pydantic's `exclude` has them."""
        parts = {name: part.unused() for name, part in self if isinstance(part, Section)}
        own = [name for name in self.later if getattr(self, name) == type(self).model_fields[name].default]
        return {name: part for name, part in parts.items() if part} | dict.fromkeys(own, True)

    def part(self, section: type[_Part]) -> _Part:
        """Return the settings that `section` has."""
        return section(**{name: getattr(self, name) for name in section.model_fields})


class Rendering(Section):
    """The videos of a demo dataset; the defaults are those of the trimmed demo."""

    later: ClassVar = ("frames", "action_share", "movements", "trimmed_per_class")

    frames: tuple[Annotated[int, Field(ge=24, le=10_000)], Annotated[int, Field(ge=24, le=10_000)]] = Field(
        (48, 72), strict=False, description="fewest and most frames per video, at 25 per second"
    )
    action_share: tuple[Annotated[float, Field(gt=0, le=0.9)], Annotated[float, Field(gt=0, le=0.9)]] = Field(
        (0.3, 0.5), strict=False, description="smallest and largest share of a video's frames that its action fills"
    )
    movements: float = Field(
        0.0,
        ge=0,
        le=10,
        description="short movements and held poses that belong to no class, per 100 frames without the action; 0: "
        "half of the videos have one held pose before the action and one after it",
    )
    trimmed_per_class: int = Field(
        0,
        ge=0,
        le=1000,
        description="further training videos of each class, as short as the demo's: untrimmed video is often learnt "
        "together with trimmed, as THUMOS14 with UCF-101",
    )

    @model_validator(mode="after")
    def _actions_fit(self) -> Self:
        for name in ("frames", "action_share"):
            least, most = getattr(self, name)
            if least > most:
                raise ValueError(f"{name} is {least:g} to {most:g}: give the smaller number first")
        if self.frames[0] * self.action_share[0] < 5:
            raise ValueError(
                f"an action of {self.action_share[0]:g} of {self.frames[0]} frames is shorter than 5 frames: raise "
                "action_share or frames"
            )
        return self


Fit = Literal["stretch", "letterbox", "crop"]


class _Size(Section):
    later: ClassVar = ("fit",)

    width: int = Field(340, ge=16, le=4096, description="working width in pixels; frames are resized to it")
    height: int = Field(256, ge=16, le=4096, description="working height in pixels")
    fit: Fit = Field(
        "stretch",
        description="how videos of another shape get the working size: stretch, the paper's; letterbox, with black "
        "beside the picture; crop, without the ends of its longer side",
    )


class _Jpeg(Section):
    jpeg_quality: int = Field(95, ge=1, le=100, description="JPEG quality of stored frames; 95 takes 31 kB per frame")


class _Zstandard(Section):
    zstd_level: int = Field(3, ge=1, le=19, description="Zstandard level of stored flow; 3 takes 11 kB per field")


class _Decoding(Section):
    shards: int = Field(
        16,
        ge=1,
        le=100_000,
        description="shard files per stream; best are about 256 videos per file and at most 512 files",
    )
    max_pixels: int = Field(4096 * 2304, ge=256, description="quarantine videos with more pixels per frame")
    max_frames: int = Field(100_000, ge=2, description="quarantine videos with more frames")
    picture_stream: int = Field(
        0,
        ge=0,
        le=1000,
        description="video stream to use if a file has several, counted from 0 without cover pictures; a video "
        "without this stream is quarantined",
    )


class _Judging(Section):
    quarantine_limit: float = Field(
        0.05,
        ge=0,
        le=1,
        description="if more than this share of a split's videos is quarantined, nothing is trained; one video is "
        "always allowed, unless this is 0; videos missing under allow_missing do not count; a change decodes nothing",
    )
    identical: Literal["refuse", "allow"] = Field(
        "refuse",
        description="whether the same file, byte by byte, may be in training and test of a split, or in two classes; "
        "a change decodes nothing",
    )


class FrameSettings(_Decoding, _Jpeg, _Size):
    """The settings that shards of frames depend on."""


class FieldSettings(_Decoding, _Zstandard, _Size):
    """The settings, apart from flow, that shards of flow and warped flow depend on."""


class StoredFramesSettings(FieldSettings, _Jpeg):
    """The same if flow is computed from stored frames."""

    flow_from: Literal["frames"]


class Preprocess(_Judging, _Decoding, _Zstandard, _Jpeg, _Size):
    """How videos become frames in shards. A change decodes everything again."""

    flow_from: Literal["video", "frames"] = Field(
        "video",
        description="what flow and warped flow are computed from: the video, decoded again for each; or the stored "
        "frames, with the loss of JPEG, so that each video is decoded once (docs/flow.md)",
    )


class Flow(Section):
    """TV-L1 optical flow. A change recomputes flow and warped flow, but no frames."""

    later: ClassVar = ("finest_warps",)

    preset: Literal["opencv4", "opencv24", "fast", "faster"] = Field(
        "opencv4", description="source of the parameters that are empty below (docs/flow.md)"
    )
    backend: Literal["auto", "cuda", "numba", "opencv-cuda", "opencv"] = Field(
        "auto", description="auto uses the fastest backend that works"
    )
    bound: float = Field(20.0, gt=0, le=1000, description="pixels; displacements beyond it are clipped when stored")
    tau: float | None = Field(None, ge=0.001, le=0.5, description="time step of the dual update; empty: the preset's")
    lambda_: float | None = Field(None, ge=1e-4, le=100, description="weight of the data term; empty: the preset's")
    theta: float | None = Field(None, ge=0.001, le=100, description="tightness of the coupling; empty: the preset's")
    levels: int | None = Field(None, ge=1, le=20, description="largest number of pyramid levels; empty: the preset's")
    scale_step: float | None = Field(None, ge=0.2, le=0.95, description="pyramid step; empty: the preset's")
    warps: int | None = Field(None, ge=1, le=100, description="warps per level; empty: the preset's")
    finest_warps: int | None = Field(
        None, ge=1, le=100, description="warps of the finest level; empty: the preset's, else as many as of the others"
    )
    iterations: int | None = Field(
        None, ge=1, le=10_000, description="largest number of iterations per warp; empty: the preset's"
    )
    epsilon: float | None = Field(
        None,
        ge=0,
        le=10,
        description="stop when the rms of the update, in pixels, is below this; 0: never; empty: the preset's",
    )


class Warp(Section):
    """Camera compensation by one homography per frame pair. A change recomputes warped flow only."""

    matches: Literal["tracks", "flow", "sift"] = Field(
        "tracks",
        description="points for the homography: tracked corners; corners displaced by the flow; these and SIFT",
    )
    max_displacement: float = Field(50.0, ge=1, le=1000, description="pixels; matches further apart are dropped")
    corners: int = Field(1000, ge=4, le=100_000, description="largest number of corners")
    quality: float = Field(
        0.001, ge=1e-6, le=1, description="smallest quality of a corner, relative to the best corner"
    )
    distance: float = Field(12.0, ge=1, le=1000, description="smallest distance between corners, pixels")
    min_matches: int = Field(50, ge=4, le=100_000, description="a homography needs more matches than this")
    min_inliers: int = Field(25, ge=4, le=100_000, description="a homography needs more inliers than this")
    method: Literal["usac_fast", "usac_default", "usac_accurate", "usac_prosac", "usac_magsac", "ransac", "lmeds"] = (
        Field("usac_fast", description="OpenCV's method of the robust fit")
    )
    threshold: float = Field(1.0, ge=0.01, le=100, description="largest error of an inlier, pixels")
    still: float = Field(
        0.25, ge=0, le=100, description="the camera counts as still if no corner of the image moves by more pixels"
    )
    border: int = Field(
        5,
        ge=0,
        le=1000,
        description="a pixel whose source is this near to the border, in pixels, keeps the first frame",
    )
    masks: str | None = Field(
        None,
        min_length=1,
        description="folder of masks that keep people out of the matches (docs/datasets.md); empty: none",
    )


class Sampling(Section):
    """Number and length of the snippets of a training video."""

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


Consensus = Literal["attention", "average", "max", "weighted", "gated", "sigmoid", "lse", "topk"]


class Model(Section):
    """The network of a stream."""

    later: ClassVar = ("attention_hidden", "attention_gate", "topk_divisor")

    backbone: str = Field(
        "resnet50",
        description="bninception, the name of a classification network of torchvision (docs/networks.md), or tiny, "
        "the demo's",
    )
    weights: str | None = Field(
        imagenet.DEFAULT_WEIGHTS,
        description="file of ImageNet weights; {backbone} is filled in; with the default, the published file in "
        "torchvision's cache will do, too; empty: from scratch",
    )
    dropout: float = Field(0.8, ge=0, lt=1, description="dropout before the classifier")
    partial_bn: Literal["none", "first", "all"] = Field(
        "first", description="frozen batch norms: none, all but the first, or all"
    )
    consensus: Consensus = Field(
        "attention", description="how the scores of a video's snippets are combined (docs/attention.md)"
    )
    attention_on: Literal["scores", "features"] = Field("scores", description="input of the attention")
    attention_activation: Literal["relu", "tanh", "sigmoid", "none"] = Field(
        "relu", description="activation of the energies"
    )
    attention_init: Literal["gaussian", "ones", "mean"] = Field("gaussian", description="initial weights; mean is 1/N")
    attention_std: float = Field(0.001, gt=0, description="standard deviation of the gaussian initialisation")
    attention_bias: float = Field(
        6.0, description="initial bias; with 0, the paper's, the ReLUs can close for ever; 6 keeps them open"
    )
    attention_hidden: int = Field(32, ge=1, le=4096, description="hidden units of the consensus gated")
    attention_gate: bool = Field(True, description="whether gated has its gate; without it, tanh alone")
    topk_divisor: int = Field(
        8,
        ge=1,
        le=1000,
        description="of N snippets, the consensus topk averages the N / topk_divisor highest, rounded up",
    )

    @property
    def weights_path(self) -> str | None:
        """The file of weights, with the backbone filled in."""
        return self.weights and self.weights.replace("{backbone}", self.backbone)

    @field_validator("backbone")
    @classmethod
    def _backbone_is_known(cls, backbone: str) -> str:
        imagenet.network(backbone)
        return backbone


class Train(Section):
    """The optimisation of one stream. A change trains again and changes no shard."""

    later: ClassVar = ("held_out", "head_lr", "average_first")

    iterations: int = Field(3500, ge=1, description="updates in total")
    batch: int = Field(128, ge=1, description="videos per update, over all workers")
    learning_rate: float = Field(0.001, gt=0, description="initial learning rate")
    schedule: Literal["step", "cosine"] = Field(
        "step", description="of the learning rate: factor 0.1 at `steps`, or half a cosine down to 0 at the end"
    )
    steps: int | Annotated[tuple[int, ...], Field(strict=False)] = Field(
        2000,
        description="for the step schedule: iterations at which the learning rate is multiplied by 0.1, as a list, or "
        "as one number for a regular interval",
    )
    warmup: int = Field(0, ge=0, description="iterations of linear warm-up of the learning rate, in both schedules")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(5e-4, ge=0, description="of SGD")
    clip: float = Field(40.0, gt=0, description="global norm at which gradients are clipped")
    lr_multipliers: Literal["tsn", "uniform"] = Field("tsn", description="learning rates per group of parameters")
    head_lr: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="learning rate of the head, classifier and consensus, relative to that of the backbone",
    )
    average_first: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the iterations, from the first one on, in which the snippets are averaged and the "
        "consensus gets no gradient",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of each label that is spread evenly over all classes"
    )
    mixup: float | None = Field(
        None,
        gt=0,
        description="two videos of a micro-batch, and their labels, are mixed; this is alpha of the beta distribution "
        "of the share, which is drawn once per update; empty: no mixing",
    )
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="decay per update of a moving average of weights and batch norm's statistics; the average is saved "
        "and scored; .999 averages over about the last 1000 updates; empty: the last weights",
    )
    held_out: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="largest share of each class's training videos that is kept out of the training, for "
        "fusion.choose: whole groups if the lists have groups, drawn by the seed, the same for all streams",
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

    snippets: Literal["auto"] | Annotated[int, Field(ge=1, le=1000)] = Field(
        80,
        description="snippets per video, evenly spread; attention sees all; auto: one for each half second, at least "
        "sampling.segments, at most 400",
    )
    crops: Literal[1, 5, 10] = Field(
        1, description="1: centre; 5: centre and corners; 10: these and their mirror images"
    )
    crop: int = Field(224, ge=16, le=4096, description="side of a test crop in pixels, resized to the input size")


class Fusion(Section):
    """How the streams' scores are fused."""

    weights: dict[Stream, Annotated[float, Field(ge=0)]] = Field(
        {"rgb": 1.0, "flow": 1.0, "warped": 0.5},
        description="weight of each stream; a stream with weight 0 or without a weight is left out and not trained",
    )
    add: Literal["logits", "probabilities"] = Field(
        "logits", description="what is added: class scores, or their softmax"
    )
    choose: Literal["none", "held_out"] = Field(
        "none",
        description="none: use `weights`; held_out: use the weights of a grid that are best on the videos of "
        "train.held_out, for the streams with a weight above 0",
    )

    @field_validator("weights")
    @classmethod
    def _some_weight(cls, weights: dict[Stream, float]) -> dict[Stream, float]:
        if not any(weights.values()):
            raise ValueError("at least one stream needs a weight above 0")
        return weights


class Detect(Section):
    """Detections from attention weights and class scores of snippets (docs/detections.md). A change scores nothing."""

    class_score: float = Field(
        0.1, gt=0, le=1, description="smallest probability of a class in the whole video for it to be detected"
    )
    thresholds: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        strict=False,
        min_length=1,
        description="shares of the way from a video's lowest to its highest signal; what is above one of them is a "
        "candidate",
    )
    merge: float = Field(0.5, ge=0, description="seconds; parts of a candidate with a shorter gap between are one")
    shortest: float = Field(0.2, gt=0, description="seconds; shorter candidates are dropped")
    suppress: float = Field(
        0.5,
        gt=0,
        le=1,
        description="of two candidates of a class whose overlap (time in both over time in either) is above this, the "
        "one with the higher score stays",
    )


PLAIN = "plain"
"""Stands for the result without an experiment."""


class Page(Section):
    """The page of a result, report.html. A change makes the page again."""

    compare: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (),
        strict=False,
        description="experiments to compare the result with, which are trained if they were not; `plain` is the result "
        "without an experiment",
    )


class Compute(Section):
    """The resources of a stage. They change the speed, so a change reruns nothing.

    Shards do not depend on them; networks and scores change by rounding only. But if dropout, unfrozen batch norm or
    mixup see only a part of the batch at a time, the network depends on `workers` and `microbatch`. Each model records
    these settings.
    """

    preprocess_threads: int = Field(4, ge=1, description="CPU threads of a job that decodes videos or computes flow")
    train_threads: int = Field(4, ge=1, description="CPU threads of a training or scoring job")
    workers: int = Field(
        1,
        ge=1,
        description="training processes per stream; each takes its share of the batch; 1 is the job's own process",
    )
    min_workers: int | None = Field(
        None,
        ge=1,
        description="if a machine of a Ray cluster is lost, resume from the last checkpoint with at least so many "
        "workers until another machine joins; another number of workers draws other dropout, so results differ; "
        "empty: wait for another machine",
    )
    gpus: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        "auto",
        description="GPUs per stream, one per worker; auto: use GPUs if there are any; 0: use the CPU",
    )
    loaders: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        "auto",
        description="processes per worker that read shards; 0: the worker reads; auto: on a GPU up to 8, one less than "
        "its share of the cores; on the CPU up to 2, if it has cores to spare",
    )
    microbatch: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto",
        description="videos on a device at a time; gradients are summed over the batch; auto is 32, or 16, 8, 4, 2 or "
        "1 if a GPU's memory is short; a resumed training keeps its number, and scoring uses the training's",
    )
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = Field(
        "auto",
        description="precision of the backbone in training; fp16 and tf32 need a GPU; tf32: fp32 whose convolutions "
        "round their inputs to 10 bits of mantissa; auto: bf16 on an NVIDIA GPU of compute capability 8.0 or more, "
        "else fp32; weights, classifier, attention and scores are always fp32",
    )
    channels_last: bool = Field(
        True, description="store a pixel's channels together in training and scoring, for faster convolutions"
    )
    compile: bool = Field(
        False, description="compile the network for training: faster, but needs a minute and a C++ compiler"
    )
    checkpoint_every: int = Field(250, ge=1, description="iterations between checkpoints")
    checkpoint_minutes: float = Field(
        10, gt=0, description="save a checkpoint after so many minutes even if checkpoint_every takes longer"
    )
    validate_every: int | None = Field(
        None,
        ge=1,
        description="iterations between validations on the videos of train.held_out, recorded in history.jsonl; they "
        "do not change the network; empty: never",
    )
    tensorboard: bool = Field(True, description="also write training curves for TensorBoard, in logs/tensorboard")
    retries: int = Field(
        2,
        ge=0,
        description="how often a training restarts from its last checkpoint after a worker died or failed; if the only "
        "worker dies, which is the job's own process, Snakemake's --retries starts it again",
    )


class ConsensusTable(Section):
    """The table `consensus`, of every dataset: one row per consensus function, each trained with several seeds."""

    rows: tuple[Consensus, ...] = Field(
        get_args(Consensus), strict=False, min_length=1, description="consensus functions to train"
    )
    against: tuple[Consensus, ...] = Field(
        ("average", "max"),
        strict=False,
        description="rows to compare all others with; the default as far as they are in `rows`",
    )
    seeds: int = Field(3, ge=1, le=100, description="trainings per row, stream and split, with seeds from `seed` on")
    splits: int | None = Field(None, ge=1, description="take so many splits, the first ones; empty: all")

    @model_validator(mode="after")
    def _rows_hold_what_they_are_compared_with(self) -> "ConsensusTable":
        if "against" not in self.model_fields_set:
            object.__setattr__(self, "against", tuple(name for name in self.against if name in self.rows))
        for name in self.against:
            if name not in self.rows:
                raise ValueError(f"against names {name}, which is not among the rows: add it there, or leave it out")
        if len(set(self.rows)) < len(self.rows):
            raise ValueError("rows name a consensus twice; keep one of them")
        return self
