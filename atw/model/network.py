"""The network of one stream: a backbone for the snippets of a video, and the consensus over them.

    snippets uint8 [B, N, C, S, S] -> normalise -> backbone -> features [B, N, D], scores [B, N, K] -> consensus [B, K]

Shapes: B videos (at test: crops of a video), N snippets, C channels, S side of the crop in px, D features, K classes.
"""

from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from atw.config import STREAMS, Model, Sampling, Stream
from atw.model import backbones
from atw.model.consensus import CONSENSUSES, Consensus
from atw.model.folding import fold_norms

# Settings as a model file records them: by their own names, and those of the attention in a group.
_MODEL = ("backbone", "dropout", "consensus", "partial_bn")
_ATTENTION = ("on", "activation", "init", "std", "bias")


class Output(NamedTuple):
    """The network's results for B videos of N snippets."""

    logits: Tensor
    """[B, K] class scores of the videos, before the softmax over classes."""
    weights: Tensor
    """[B, N] weight of each snippet; each row sums to 1."""
    energies: Tensor
    """[B, N] input of the softmax that gives the weights."""
    snippet_logits: Tensor
    """[B, N, K] class scores of the snippets."""


class VideoNetwork(nn.Module):
    """A backbone and a consensus over the snippets of a video.

    Args:
        model: architecture and initialisation. `partial_bn` says which BatchNorm2d layers are frozen: they normalise by
            their stored statistics in training too, and keep their scale and shift.
        sampling: `segments`, the snippets of a video in training (any number can be scored), and `stack`, the flow
            fields of a snippet (C = 2 `stack`, in the order x1 y1 x2 y2 ...); C = 3 for rgb.
        stream: the input.
        classes: number K of classes.
        weights: file of ImageNet weights for the backbone; None starts from random weights.

    Raises:
        InputError: the weights do not fit the backbone, or there are fewer than 2 classes.
    """

    def __init__(
        self, model: Model, sampling: Sampling, *, stream: Stream, classes: int, weights: Path | None = None
    ) -> None:
        super().__init__()
        self._model, self._sampling, self._stream, self._classes = model, sampling, stream, classes
        self.channels = channels(stream, stack=sampling.stack)
        self.backbone = backbones.build(
            model.backbone,
            in_channels=self.channels,
            classes=classes,
            dropout=model.dropout,
            weights=weights,
            stream=stream,
        )
        self.consensus = CONSENSUSES[model.consensus](
            model, classes=classes, features=self.backbone.features, segments=sampling.segments
        )
        for norm in self._frozen_norms():
            norm.requires_grad_(False)
        fold_norms(self.backbone.body)
        # Measured on one core: training runs 1.25 times (tiny) to 1.4 times (mobilenet_v2) as fast in this layout.
        self.to(memory_format=torch.channels_last)

    @classmethod
    def shapes(cls, record: dict[str, Any]) -> dict[str, torch.Size]:
        """Shapes of the state of the network that `to_record` described, computed without taking memory for it."""
        with _WithoutMemory():
            return {name: value.shape for name, value in cls.from_record(record).state_dict().items()}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Self:
        """Build the network that `to_record` described, with random parameters, for `load_state_dict` to fill.

        Raises:
            LookupError: an entry is missing.
            ValueError: an entry is not a valid setting.
        """
        attention = {f"attention_{name}": record["attention"][name] for name in _ATTENTION}
        later = {name: record[name] for name in Model.later if name in record}
        model = Model.model_validate({name: record[name] for name in _MODEL} | attention | later | {"weights": None})
        sampling = Sampling.model_validate({name: record[name] for name in ("segments", "stack")})
        if record["stream"] not in STREAMS:
            raise ValueError(f"stream {record['stream']!r} is unknown")
        network = cls(model, sampling, stream=record["stream"], classes=record["classes"])
        network.backbone.weights_sha256 = record["weights_sha256"]
        return network

    def to_record(self) -> dict[str, object]:
        """Give as plain JSON values what rebuilds this network, and the digest of the weights file it started from."""
        return {
            "backbone": self._model.backbone,
            "stream": self._stream,
            "classes": self._classes,
            "stack": 1 if self._stream == "rgb" else self._sampling.stack,
            "dropout": self._model.dropout,
            "consensus": self._model.consensus,
            "segments": self._sampling.segments,
            "partial_bn": self._model.partial_bn,
            "attention": {name: getattr(self._model, f"attention_{name}") for name in _ATTENTION},
            "weights_sha256": self.backbone.weights_sha256,
            **self._model.model_dump(include=set(Model.later) - self._model.unused().keys()),
        }

    def train(self, mode: bool = True) -> Self:
        """Switch modes as usual, but keep frozen batch norms in evaluation mode."""
        super().train(mode)
        for norm in self._frozen_norms():
            norm.eval()
        return self

    def forward(self, snippets: Tensor) -> Output:
        """Score videos: uint8 [B, N, C, S, S], on the device of the parameters."""
        B, N = snippets.shape[:2]
        features, scores = self._score_snippets(snippets.flatten(0, 1))
        return self._conclude(features.reshape(B, N, -1), scores.reshape(B, N, -1))

    @torch.no_grad()
    def score(self, snippets: Tensor, *, chunk: int) -> Output:
        """Score as `forward` does in evaluation mode, `chunk` snippets at a time through the backbone.

        The snippets (uint8 [B, N, C, S, S]) may stay on the host: each chunk is moved to the network's device. The
        consensus sees all N together, so `chunk` bounds memory and changes nothing but rounding.
        """
        was_training = self.training
        self.eval()
        try:
            B, N = snippets.shape[:2]
            device = self.backbone.classifier.weight.device
            parts = [self._score_snippets(part.to(device)) for part in torch.split(snippets.flatten(0, 1), chunk)]
            features, scores = (torch.cat(part).reshape(B, N, -1) for part in zip(*parts, strict=True))
            return self._conclude(features, scores)
        finally:
            self.train(was_training)

    def _score_snippets(self, snippets: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [B N, C, S, S] to features [B N, D] and scores [B N, K]."""
        features, scores = self.backbone(self.backbone.normalise(snippets))
        return features, scores

    def _conclude(self, features: Tensor, scores: Tensor) -> Output:
        """Features [B, N, D] and scores [B, N, K] to the videos' scores."""
        result: Consensus = self.consensus(scores, features)
        return Output(*result, snippet_logits=scores)

    def _frozen_norms(self) -> list[nn.BatchNorm2d]:
        norms = [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
        return {"none": [], "first": norms[1:], "all": norms}[self._model.partial_bn]


class _WithoutMemory(torch.overrides.TorchFunctionMode):
    """Makes parameters without memory; the meta device would also take the small sums of some networks.

    They are not initialised either: for tensors without memory, torch would first import its compiler for a second.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init" and "tensor" in given:
            return given["tensor"]
        return func(*args, **given | ({"device": "meta"} if func is torch.empty else {}))


def channels(stream: str, *, stack: int) -> int:
    """Channels of one snippet: 3 for rgb, x and y of each of `stack` fields for flow and warped."""
    return 3 if stream == "rgb" else 2 * stack
