"""Three-stream action recognition with temporal attention: raw videos in, a fused and traceable accuracy out.

The tree is the pipeline: `datasets` lists videos and labels, `preprocess` (with `flow`) turns them into shards,
`data` samples snippets from shards, `model` and `train` learn one network per stream, `evaluate` scores and fuses,
`predict` classifies new videos: `atw.load("results/demo/split1").predict("video.mp4")`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atw.extras.predict.prediction import Prediction
    from atw.extras.predict.predictor import Predictor, load
    from atw.extras.training_data import training_task

__version__ = "0.2.0"
__all__ = ["Prediction", "Predictor", "load", "training_task"]
_MODULES = {
    "Prediction": "predict.prediction",
    "Predictor": "predict.predictor",
    "load": "predict.predictor",
    "training_task": "training_data",
}


def __getattr__(name: str) -> Any:
    """Import what is for people when it is first used: the workflow needs this package to be light."""
    if name in _MODULES:
        return getattr(importlib.import_module(f"atw.extras.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
