"""Three-stream action recognition with temporal attention: raw videos in, a fused and traceable accuracy out.

The tree is the pipeline: `datasets` lists videos and labels, `preprocess` (with `flow`) turns them into shards,
`data` samples snippets from shards, `model` and `train` learn one network per stream, `evaluate` scores and fuses,
`predict` classifies new videos: `atw.load("results/demo/split1").predict("video.mp4")`.
"""

import importlib
from typing import Any

__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    """Import `atw.extras.predict` when `atw.load` is first used: the workflow needs this package to be light."""
    if name == "load":
        return importlib.import_module("atw.extras.predict").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
