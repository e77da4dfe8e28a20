"""model.pt, format 2: weights, architecture, classes and settings of one stream in one file that needs nothing else.

    format       2
    network      `VideoNetwork.to_record`: backbone, stream, classes, consensus and their options
    parameters   the network's state by name
    classes      names, in the order of the logits
    settings     what the training depended on (`atw.config.TrainSettings`); `shards` are the settings of frames, flow
                 and warped flow, by which a new video becomes input of the network
    training     how it ended, see `training_record`
    provenance   digests of the shards, hardware, compute, software, see `Provenance`

It holds tensors and plain values only, so it loads with `weights_only=True` and no code of the file ever runs.
"""

import importlib.metadata
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, field_validator
from torch import Tensor

from atw.config import FieldShards, Section, TrainSettings
from atw.files import InputError, atomic_path
from atw.model import tensorfile
from atw.model.backbones import InstallationError
from atw.model.network import VideoNetwork

FORMAT = 2
_AVERAGED = 50  # the training record averages over so many last iterations: one update alone is noise
_PARTS = {"network", "parameters", "classes", "settings", "training", "provenance"}
_SOFTWARE = ("atw", "numpy", "ray", "torch", "torchvision")


def software() -> dict[str, str]:
    """Versions of Python and of the libraries that a trained network depends on."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in _SOFTWARE}


class Provenance(BaseModel):
    """Where a network comes from. Entries of other versions are kept.

    Args:
        shards: digests of the shards, by name.
        shard_settings: as the shards record them.
        hardware: name of the GPU or CPU.
        compute: the `compute` section, with the `microbatch` that was used.
        software: versions.
    """

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)

    shards: dict[str, str] = {}
    shard_settings: dict[str, Any] = {}
    hardware: str = ""
    compute: dict[str, Any]
    software: dict[str, str] = {}

    @field_validator("compute")
    @classmethod
    def _microbatch_is_a_number_of_videos(cls, compute: dict[str, Any]) -> dict[str, object]:
        microbatch = compute.get("microbatch")
        if not isinstance(microbatch, int) or microbatch < 1:
            raise ValueError(f"a microbatch of {microbatch}")
        return compute


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """The content of a model file.

    Args:
        network: in evaluation mode.
        classes: names, in the order of the logits.
        settings: what the training depended on.
        training: how it ended, see `training_record`.
        provenance: of the training.
    """

    network: VideoNetwork
    classes: tuple[str, ...]
    settings: TrainSettings
    training: dict[str, float]
    provenance: Provenance

    @property
    def microbatch(self) -> int:
        """Videos of a training's batch that fitted on its device at once."""
        return int(self.provenance.compute["microbatch"])

    @property
    def chunk(self) -> int:
        """Snippets that fit on a device at once, as in training."""
        return self.microbatch * self.settings.sampling.segments

    def description(self) -> dict[str, object]:
        """The file's content without its tensors."""
        return {
            "format": FORMAT,
            "network": self.network.to_record(),
            "classes": list(self.classes),
            "settings": self.settings.to_dict(),
            "training": self.training,
            "provenance": self.provenance.model_dump(),
        }


def same_model(one: TrainedModel, other: TrainedModel) -> bool:
    """Whether two models have the same content, on whatever devices."""
    if one.description() != other.description():
        return False
    parameters = other.network.state_dict()
    return all(torch.equal(value.cpu(), parameters[name].cpu()) for name, value in one.network.state_dict().items())


def save_model(path: Path, model: TrainedModel, parameters: dict[str, Tensor]) -> None:
    """Write a model file with these `parameters`, whatever the network of `model` holds."""
    described = model.description()
    content = {name: described.pop(name) for name in ("format", "network")} | {"parameters": parameters} | described
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        tensorfile.write(content, stream)


def training_record(history: Path) -> dict[str, float]:
    """Summarise a history.jsonl: `iterations`, and the mean over the last 50 of what it has of the network.

    That is the `loss`, the `accuracy` on training snippets and the state of the attention. Times and rates are left
    out: a time would make the bytes of two equal trainings differ.
    """
    rows = [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()]
    means = {}
    for name in rows[-_AVERAGED:][0]:
        if name in ("iteration", "learning_rate") or name.endswith("_seconds"):
            continue
        # An update that overflowed in fp16 has no norm.
        known = [row[name] for row in rows[-_AVERAGED:] if row[name] is not None]
        if known:
            means[name] = sum(known) / len(known)
    return {"iterations": rows[-1]["iteration"], **means}


def load_model(path: Path) -> TrainedModel:
    """Read a model file.

    Unknown settings, of a newer version, are ignored. Settings that an older version did not have may be missing,
    except those that scoring and prediction need.

    Raises:
        InputError: no model file, damaged, or of another format version.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the model.pt of a trained stream in it")
    try:
        content = tensorfile.read(path)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; give the model.pt of a trained stream") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no model file ({error}); give a model.pt, or train the stream again") from None
    _require_format(path, content)
    parameters = content.pop("parameters")
    try:
        # Before a network is built: the record may name any number of classes.
        _require_fit(VideoNetwork.shapes(content["network"]), parameters, content["classes"])
        network = VideoNetwork.from_record(content["network"])
        network.load_state_dict(parameters)
    except InstallationError:
        raise
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, InputError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is damaged: weights and network do not fit ({reason}); train again") from None
    if not all(value.isfinite().all() for value in network.state_dict().values()):
        raise InputError(
            f"{path} has weights that are not finite, so its training diverged; lower train.learning_rate and train "
            "the stream again"
        )
    try:
        settings = TrainSettings.model_validate(content["settings"], extra="ignore")
        _require_needed(settings)
        provenance = Provenance.model_validate(content["provenance"])
        if not isinstance(content["training"], dict):
            raise ValueError(f"a training of {type(content['training']).__name__}")
    except (LookupError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is damaged: its settings are none ({reason}); train the stream again") from None
    return TrainedModel(network.eval(), tuple(content["classes"]), settings, content["training"], provenance)


def _require_needed(settings: TrainSettings) -> None:
    """Raise ValueError if a setting is missing whose default would pass for the one that the network was trained by."""
    sections: list[tuple[Section, set[str]]] = [
        (settings.sampling, {"segments", "stack"}),
        (settings.augment, {"input_size"}),
        (settings.model, {"attention_on"}),
        (settings.shards.preprocess, {"width", "height", "max_pixels"}),
    ]
    if isinstance(settings.shards, FieldShards):
        sections.append((settings.shards.flow, {"backend"}))
    for section, needed in sections:
        if missing := sorted(needed - section.model_fields_set):
            raise ValueError(f"{missing[0]} is missing")


def _require_fit(expected: tensorfile.Shapes, parameters: Any, classes: Any) -> None:
    """Raise ValueError if the file's weights are not those of the network that it describes."""
    if not tensorfile.is_state(parameters):
        raise ValueError("its parameters are no tensors by name")
    if differences := tensorfile.differences(parameters, expected):
        raise ValueError(differences[0])
    named = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    if not named or len(classes) != len(parameters["backbone.classifier.bias"]):
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
