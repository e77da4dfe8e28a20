"""model.pt, format 2: weights, architecture, classes and settings of one stream in one file that needs nothing else.

    format       2
    network      what `VideoNetwork.to_record` gives: backbone, stream, classes, consensus and their options
    parameters   the network's state by name
    classes      names, in the order of the logits
    settings     what the training depended on (`atw.config.TrainSettings`); `shards` are the settings of frames,
                 flow and warped flow, with which a new video is made into what the network knows
    training     how it ended, see `training_record`
    provenance   digests of the shards, hardware, compute, software

It holds tensors and plain values only, so it loads with `weights_only=True` and no code of the file ever runs.
"""

import importlib.metadata
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from atw.config import FieldShards, Section, TrainSettings
from atw.files import InputError, atomic_path
from atw.model import tensorfile
from atw.model.network import VideoNetwork
from atw.train.loop import Task

FORMAT = 2
_SUMMARISED = 50  # last iterations whose mean the training record gives: one update alone is noise
_PARTS = {"network", "parameters", "classes", "settings", "training", "provenance"}
_SOFTWARE = ("atw", "numpy", "ray", "torch", "torchvision")


def save_model(
    path: Path,
    task: Task,
    record: dict[str, Any],
    parameters: dict[str, torch.Tensor],
    provenance: dict[str, Any],
    history: Path,
) -> None:
    """Write a trained network.

    Args:
        path: of the file.
        task: what was trained.
        record: what `VideoNetwork.to_record` gives.
        parameters: the network's state.
        provenance: shard digests and settings, hardware.
        history: the training's history.jsonl.
    """
    software = {"python": platform.python_version()}
    software |= {name: importlib.metadata.version(name) for name in _SOFTWARE}
    content = {
        "format": FORMAT,
        "network": record,
        "parameters": parameters,
        "classes": list(task.split.classes),
        "settings": task.settings.to_dict(),
        "training": training_record(history),
        "provenance": provenance | {"software": software},
    }
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        tensorfile.write(content, stream)


def training_record(history: Path) -> dict[str, float]:
    """How a training ended: `iterations`, and the mean over its last 50 of what history.jsonl has of the network.

    That is the `loss`, the `accuracy` on training snippets, the state of the attention; times and rates are left out.
    """
    rows = [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()]
    last = rows[-_SUMMARISED:]
    means = {}
    for name in filter(_is_outcome, last[0]):
        known = [row[name] for row in last if row[name] is not None]  # an update that overflowed in fp16 has no norm
        if known:
            means[name] = sum(known) / len(known)
    return {"iterations": rows[-1]["iteration"], **means}


def _is_outcome(column: str) -> bool:
    # A time would make the bytes of two equal trainings differ.
    return column not in ("iteration", "learning_rate") and not column.endswith("_seconds")


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A model file.

    Args:
        network: in evaluation mode.
        classes: names, in the order of the logits.
        settings: what the training depended on.
        training: how it ended, see `training_record`.
        provenance: digests of the shards, hardware, compute, software.
    """

    network: VideoNetwork
    classes: tuple[str, ...]
    settings: TrainSettings
    training: dict[str, float]
    provenance: dict[str, Any]

    @property
    def microbatch(self) -> int:
        """Videos of a training's batch that fitted on its device at once."""
        microbatch: int = self.provenance["compute"]["microbatch"]
        return microbatch

    @property
    def chunk(self) -> int:
        """Snippets that fit on a device at once, as in training."""
        return self.microbatch * self.settings.sampling.segments

    def description(self) -> dict[str, Any]:
        """The file's content without its tensors."""
        return {
            "format": FORMAT,
            "network": self.network.to_record(),
            "classes": list(self.classes),
            "settings": self.settings.to_dict(),
            "training": self.training,
            "provenance": self.provenance,
        }


def load_model(path: Path) -> TrainedModel:
    """Read a model file.

    Settings that this version does not know are passed over. Those that an older one did not have may be missing, but
    for what is read.

    Raises:
        InputError: no model file, damaged, or of another format version.
    """
    try:
        content = tensorfile.read(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no model file ({error}); train the stream again") from None
    _require_format(path, content)
    parameters = content.pop("parameters")
    try:
        # Before there is a network: the record may name any number of classes.
        _require_fit(VideoNetwork.shapes(content["network"]), parameters, content["classes"])
        network = VideoNetwork.from_record(content["network"])
        network.load_state_dict(parameters)
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, InputError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path} is damaged: weights and network do not fit ({reason}); train again") from None
    if not all(value.isfinite().all() for value in network.state_dict().values()):
        raise InputError(
            f"{path} has weights that are not finite, so its training diverged; lower train.learning_rate and train "
            "the stream again"
        )
    classes = tuple(content["classes"])
    try:
        settings = TrainSettings.model_validate(content["settings"], extra="ignore")
        model = TrainedModel(network.eval(), classes, settings, content["training"], content["provenance"])
        _require_read(settings)
        if not isinstance(model.training, dict) or not isinstance(model.microbatch, int) or model.microbatch < 1:
            raise ValueError(f"a microbatch of {model.microbatch}, and a training of {type(model.training).__name__}")
    except (LookupError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is damaged: its settings are none ({reason}); train the stream again") from None
    return model


def _require_read(settings: TrainSettings) -> None:
    """Raise ValueError where a setting is missing whose default would pass for what the network was trained with."""
    sections: list[tuple[Section, set[str]]] = [
        (settings.sampling, {"segments", "stack"}),
        (settings.augment, {"input_size"}),
        (settings.model, {"attention_on"}),
        (settings.shards.preprocess, {"width", "height", "max_pixels"}),
    ]
    if isinstance(settings.shards, FieldShards):
        sections.append((settings.shards.flow, {"backend"}))
    for section, read in sections:
        if missing := sorted(read - section.model_fields_set):
            raise ValueError(f"{missing[0]} is missing")


def _require_fit(expected: dict[str, torch.Size], found: Any, classes: Any) -> None:
    """Raise ValueError where the file's weights are not those of the network that it describes."""
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise ValueError("its parameters are no tensors by name")
    for name in sorted(expected.keys() | found.keys()):
        if name not in found or name not in expected:
            raise ValueError(f"{name} is {'missing' if name in expected else 'unexpected'}")
        if found[name].shape != expected[name]:
            raise ValueError(f"{name} has shape {list(found[name].shape)}, not {list(expected[name])}")
    named = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    if not named or len(classes) != len(found["backbone.classifier.bias"]):
        raise ValueError("its classes are not one name for each score")


def _require_format(path: Path, content: Any) -> None:
    found = content.get("format") if isinstance(content, dict) else None
    if not isinstance(found, int):
        raise InputError(f"{path} is no model file of atw; give the path of a model.pt")
    if found > FORMAT:
        raise InputError(
            f"{path} has format {found}, from a newer version of atw than this one, which reads {FORMAT}; update atw"
        )
    if found < FORMAT:
        raise InputError(
            f"{path} has format {found}, from an older version of atw; this one reads {FORMAT}: train the stream again"
        )
    missing = sorted(_PARTS - content.keys())
    if missing:
        raise InputError(f"{path} is damaged, it lacks {', '.join(missing)}; train the stream again")
