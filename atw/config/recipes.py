"""The recipes: named settings, which a dataset takes by `recipe: NAME`. docs/own-videos.md says what each is for."""

from collections.abc import Mapping
from types import MappingProxyType

from atw.config.datasets import RecipeName, StreamOverrides
from atw.config.sections import Augment, Evaluate, Flow, Model, Train

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
        )
    }
)
