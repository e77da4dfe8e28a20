"""model.pt, format 1: weights, architecture, classes and settings of one stream in one file that needs nothing else.

It holds tensors and plain values only, so it loads with `weights_only=True` and no code of the file ever runs.
"""

import importlib.metadata
import pickle
import platform
from pathlib import Path
from typing import Any

import torch

from atw.files import InputError, atomic_path
from atw.model.network import VideoNetwork
from atw.train.loop import Task

FORMAT = 1
_SOFTWARE = ("atw", "numpy", "ray", "torch", "torchvision")


def save_model(
    path: Path,
    task: Task,
    record: dict[str, Any],
    parameters: dict[str, torch.Tensor],
    provenance: dict[str, Any],
) -> None:
    """Write a trained network.

    Args:
        path: of the file.
        task: what was trained.
        record: what `VideoNetwork.to_record` gives.
        parameters: the network's state.
        provenance: shard digests and settings, hardware.
    """
    software = {"python": platform.python_version()}
    software |= {name: importlib.metadata.version(name) for name in _SOFTWARE}
    content = {
        "format": FORMAT,
        "network": record,
        "parameters": parameters,
        "classes": list(task.split.classes),
        "settings": task.settings,
        "provenance": provenance | {"software": software},
    }
    # An open file: the name of one that torch opens itself would get into its bytes.
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        torch.save(content, stream)


def load_model(path: Path) -> tuple[VideoNetwork, dict[str, Any]]:
    """The network in evaluation mode and the rest of the file's content.

    Raises:
        InputError: no model file, or of another format version.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise InputError(f"{path} is no model file ({error}); train the stream again") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} is not a model file of format {FORMAT}; train the stream again with this version")
    network = VideoNetwork.from_record(content["network"])
    network.load_state_dict(content.pop("parameters"))
    return network.eval(), content
