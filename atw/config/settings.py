"""All sections together: as a layer of config.yaml, and as the complete settings of a stream, checked as a whole."""

from pydantic import model_validator

from atw.config import imagenet
from atw.config.sections import (
    Augment,
    Compute,
    Detect,
    Evaluate,
    Flow,
    Fusion,
    Model,
    Page,
    Preprocess,
    Sampling,
    Section,
    Stream,
    Train,
    Warp,
)


class Sections(Section):
    """All sections. As a layer of config.yaml it has the settings that `model_fields_set` of its sections names."""

    preprocess: Preprocess = Preprocess()
    flow: Flow = Flow()
    warp: Warp = Warp()
    sampling: Sampling = Sampling()
    augment: Augment = Augment()
    model: Model = Model()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    fusion: Fusion = Fusion()
    detect: Detect = Detect()
    page: Page = Page()
    compute: Compute = Compute()


class Settings(Sections):
    """The complete settings of one dataset, stream and experiment."""

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


SECTIONS = tuple(Sections.model_fields)
# The paper's recipe per stream; what it leaves open is TSN's (docs/decisions.md lists each such choice).
_FLOW_RECIPE = Sections(
    augment=Augment(scales=(1.0, 0.875, 0.75)),
    model=Model(dropout=0.7),
    train=Train(learning_rate=0.005, iterations=18_000, steps=(12_000, 18_000), clip=20.0),
)
STREAM_DEFAULTS: dict[Stream, Sections] = {"rgb": Sections(), "flow": _FLOW_RECIPE, "warped": _FLOW_RECIPE}
