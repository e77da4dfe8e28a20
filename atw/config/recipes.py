"""The recipes: named settings, which a dataset takes by `recipe: NAME`. docs/own-videos.md says what each is for."""

from collections.abc import Mapping
from types import MappingProxyType

from atw.config.datasets import RecipeName, StreamOverrides
from atw.config.sections import Augment, Evaluate, Flow, Model, Preprocess, Train
from atw.config.settings import STREAM_DEFAULTS, Sections

# What the paper's settings leave to machine, data and user; it names two networks.
_OPEN = {"flow": {"backend"}, "warp": {"masks"}, "model": {"backbone", "weights"}}
_OF_THE_PAPER = ("flow", "warp", "sampling", "augment", "model", "train", "evaluate", "fusion")


def _paper() -> StreamOverrides:
    """The defaults, written out: so they hold whatever the top of config.yaml says."""
    defaults = Sections().model_dump(include=set(_OF_THE_PAPER), exclude=_OPEN)
    return StreamOverrides.model_validate(
        defaults
        | {"preprocess": Preprocess(width=340, height=256, fit="stretch", flow_from="video")}
        | {"streams": {stream: given for stream, given in STREAM_DEFAULTS.items() if given.model_fields_set}}
    )


_LARGE_FLOW = Sections(train=Train(learning_rate=0.005))

RECIPES_BY_NAME: Mapping[RecipeName, StreamOverrides] = MappingProxyType(
    {
        "small": StreamOverrides(
            flow=Flow(preset="fast"),
            augment=Augment(input_size=112),
            model=Model(backbone="mobilenet_v2", dropout=0.5),
            train=Train(
                iterations=300,
                batch=8,
                learning_rate=0.0005,
                schedule="cosine",
                warmup=30,
                clip=5.0,
                lr_multipliers="uniform",
            ),
            evaluate=Evaluate(snippets=25),
        ),
        "paper": _paper(),
        # That of MMAction2's temporal segment networks on Kinetics-400 (docs/own-videos.md).
        "large": StreamOverrides(
            preprocess=Preprocess(flow_from="frames"),
            flow=Flow(preset="fast"),
            model=Model(dropout=0.4, partial_bn="none"),
            # 100 passes over the 240,000 training videos of Kinetics-400, with the steps after 40 and 80.
            train=Train(
                iterations=94_000,
                batch=256,
                learning_rate=0.01,
                steps=(37_600, 75_200),
                weight_decay=0.0001,
                clip=40.0,
                lr_multipliers="uniform",
            ),
            evaluate=Evaluate(snippets=25),
            streams={"flow": _LARGE_FLOW, "warped": _LARGE_FLOW},
        ),
    }
)
