"""The sections of config.yaml: every setting with its type, unit, limits and default, which is the paper's."""

from typing import Annotated, Any, Literal, TypeVar, get_args

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

    def part(self, section: type[_Part]) -> _Part:
        """Those of these settings that `section` has."""
        return section(**{name: getattr(self, name) for name in section.model_fields})


class _Size(Section):
    width: int = Field(340, ge=16, le=4096, description="working width in pixels; frames are resized to it")
    height: int = Field(256, ge=16, le=4096, description="working height in pixels; the aspect ratio is not kept")


class _Jpeg(Section):
    jpeg_quality: int = Field(95, ge=1, le=100, description="JPEG quality of stored frames; 95 takes 31 kB a frame")


class _Zstandard(Section):
    zstd_level: int = Field(3, ge=1, le=19, description="Zstandard level of stored flow; 3 takes 11 kB a field")


class _Decoding(Section):
    shards: int = Field(
        16,
        ge=1,
        le=100_000,
        description="shard files per stream; about 256 videos each is good, more than 512 files are not",
    )
    max_pixels: int = Field(4096 * 2304, ge=256, description="quarantine a video with more pixels a frame than this")
    max_frames: int = Field(100_000, ge=2, description="quarantine a video with more frames than this")
    picture_stream: int = Field(
        0,
        ge=0,
        le=1000,
        description="which stream of pictures to take from files with several, counted from 0 without cover pictures; "
        "quarantine a video that has it not",
    )


class _Judging(Section):
    quarantine_limit: float = Field(
        0.05,
        ge=0,
        le=1,
        description="nothing is trained when more than this share of a split's videos is quarantined; one always may "
        "be, unless it is 0; videos that allow_missing lets be absent do not count; a change decodes nothing again",
    )
    identical: Literal["refuse", "allow"] = Field(
        "refuse",
        description="whether one file, byte by byte, may be both a training and a test video of a split, or a video of "
        "two classes; a change decodes nothing again",
    )


class FrameSettings(_Decoding, _Jpeg, _Size):
    """What shards of frames depend on."""


class FieldSettings(_Decoding, _Zstandard, _Size):
    """What shards of flow and warped flow depend on, beside the flow."""


class Preprocess(_Judging, _Decoding, _Zstandard, _Jpeg, _Size):
    """How videos become frames in shards. A change decodes everything again."""


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
    workers: int = Field(
        1,
        ge=1,
        description="training processes of one stream; each takes its share of the batch; 1 is the job's own process",
    )
    min_workers: int | None = Field(
        None,
        ge=1,
        description="workers to go on with, from the last checkpoint, when a machine of a Ray cluster is lost, until "
        "another joins; with another number of workers dropout falls differently, and so do results; empty: wait for "
        "another machine",
    )
    gpus: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        "auto",
        description="GPUs a stream, one for each worker; auto takes them where there are some, 0 stays on the CPU",
    )
    loaders: int = Field(2, ge=0, description="processes that read shards for each worker; 0 reads in the worker")
    microbatch: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto",
        description="videos at once on a device; gradients are summed up to the batch; auto is 32, and on a GPU whose "
        "memory is short 16, 8, 4, 2 or 1; a training that goes on keeps its number, and scoring takes the training's",
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32",
        description="of the backbone in training, the weights being fp32 in any case; fp16 needs a GPU; scores are "
        "computed in fp32, and so are classifier and attention",
    )
    tf32: bool = Field(
        True,
        description="in training on NVIDIA GPUs, convolutions in fp32 round their inputs to TF32, 10 bits of mantissa, "
        "which is several times as fast; false is fp32 in full, as scores are in any case",
    )
    channels_last: bool = Field(
        True, description="keep a pixel's channels together in memory, in training and scoring; faster convolutions"
    )
    compile: bool = Field(
        False, description="compile the network for training, which takes a minute and a C++ compiler, and pays later"
    )
    checkpoint_every: int = Field(250, ge=1, description="iterations between resumable states")
    checkpoint_minutes: float = Field(
        10, gt=0, description="minutes after which a resumable state is kept even where checkpoint_every takes longer"
    )
    validate_every: int | None = Field(
        None,
        ge=1,
        description="iterations between looks at the videos of train.held_out, which go into history.jsonl and change "
        "nothing; empty: never",
    )
    tensorboard: bool = Field(
        True, description="write the curves of a training below logs/tensorboard too, for TensorBoard"
    )
    retries: int = Field(
        2,
        ge=0,
        description="restarts of a training from its last checkpoint after a worker died or failed; where the only one "
        "dies, which is the job's own process, Snakemake's --retries starts it again",
    )


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
        if self.compute.min_workers is not None and self.compute.min_workers > self.compute.workers:
            raise ValueError(
                f"compute.min_workers is {self.compute.min_workers}, but compute.workers is {self.compute.workers}: "
                "give at most as many, or leave min_workers out to wait for lost machines"
            )
        if self.compute.gpus not in ("auto", 0, self.compute.workers):
            raise ValueError(
                f"compute.gpus is {self.compute.gpus}, but compute.workers is {self.compute.workers}: "
                "each worker takes one GPU, so give the same number, or auto, or 0 for the CPU"
            )
        return self

    @model_validator(mode="after")
    def _mixup_has_partners(self) -> "Settings":
        if self.train.mixup and (self.compute.microbatch == 1 or self.train.batch // self.compute.workers < 2):
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
        if self.compute.validate_every and not self.train.held_out:
            raise ValueError(
                f"compute.validate_every is {self.compute.validate_every}, but train.held_out is 0: give the share of "
                "the training videos to hold out, or leave validate_every out"
            )
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
