"""The network of one stream: a backbone for the snippets of a video, and the consensus over them.

    snippets uint8 [B, N, C, S, S] -> normalise -> backbone -> features [B, N, D], scores [B, N, K] -> consensus [B, K]

Shapes: B videos (at test: crops of a video), N snippets, C channels, S side of the crop in px, D features, K classes.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from atw.files import InputError
from atw.model import backbones
from atw.model.consensus import AttentionOptions, Consensus
from atw.model.consensus import build as build_consensus

PARTIAL_BN = ("none", "first", "all")


class Output(NamedTuple):
    """What a network says of B videos of N snippets."""

    logits: Tensor
    """[B, K] class scores of the videos, before the softmax over classes."""
    weights: Tensor
    """[B, N] how much each snippet counted; each row sums to 1."""
    energies: Tensor
    """[B, N] what those weights are the softmax of."""
    snippet_logits: Tensor
    """[B, N, K] class scores of the snippets."""


class VideoNetwork(nn.Module):
    """A backbone and a consensus over the snippets of a video.

    `stack` is the number of flow fields of a snippet (C = 2 `stack`, in the order x1 y1 x2 y2 ...), 1 for rgb (C = 3).
    `segments` is the number of snippets of a video in training; any number can be scored. `weights` is a file of
    ImageNet weights for the backbone. `partial_bn` says which BatchNorm2d layers are frozen, that is normalise by their
    stored statistics in training too and keep their scale and shift: `none`, `first` (all but the first) or `all`.
    """

    def __init__(
        self,
        *,
        backbone: str,
        stream: str,
        classes: int,
        stack: int,
        dropout: float,
        weights: Path | None,
        consensus: str,
        segments: int,
        attention: AttentionOptions,
        partial_bn: str,
    ) -> None:
        super().__init__()
        if partial_bn not in PARTIAL_BN:
            raise InputError(f"partial_bn {partial_bn!r} is unknown; take one of {', '.join(PARTIAL_BN)}")
        self._attention = attention
        self._arguments = {
            "backbone": backbone,
            "stream": stream,
            "classes": classes,
            "stack": stack,
            "dropout": dropout,
            "consensus": consensus,
            "segments": segments,
            "partial_bn": partial_bn,
        }
        self.channels = channels(stream, stack=stack)
        self.backbone = backbones.build(
            backbone, in_channels=self.channels, classes=classes, dropout=dropout, weights=weights, stream=stream
        )
        self.consensus = build_consensus(
            consensus, classes=classes, features=self.backbone.features, segments=segments, attention=attention
        )
        self._partial_bn = partial_bn
        for norm in self._frozen_norms():
            norm.requires_grad_(False)
        # Measured on one core: training runs 1.25 times (tiny) to 1.4 times (mobilenet_v2) as fast in this layout.
        self.to(memory_format=torch.channels_last)

    @classmethod
    def shapes(cls, record: dict[str, Any]) -> dict[str, torch.Size]:
        """Shapes of the state of the network that `to_record` described, for which no memory is taken."""
        with _WithoutMemory():
            return {name: value.shape for name, value in cls.from_record(record).state_dict().items()}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Self:
        """Build the network that `to_record` described, with random parameters, for `load_state_dict` to fill."""
        arguments = dict(record)
        weights_sha256 = arguments.pop("weights_sha256")
        attention = AttentionOptions(**arguments.pop("attention"))
        network = cls(**arguments, attention=attention, weights=None)
        network.backbone.weights_sha256 = weights_sha256
        return network

    def to_record(self) -> dict[str, Any]:
        """Give what rebuilds this network, as plain JSON values, and the digest of the weights file it began with."""
        return {
            **self._arguments,
            "attention": asdict(self._attention),
            "weights_sha256": self.backbone.weights_sha256,
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
        with backbones.no_autocast(scores.device):
            result: Consensus = self.consensus(scores, features)
        return Output(*result, snippet_logits=scores)

    def _frozen_norms(self) -> list[nn.BatchNorm2d]:
        norms = [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
        return {"none": [], "first": norms[1:], "all": norms}[self._partial_bn]


class _WithoutMemory(torch.overrides.TorchFunctionMode):
    """Makes parameters without numbers; the meta device itself would take the small sums of some networks, too."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}) | ({"device": "meta"} if func is torch.empty else {}))


def channels(stream: str, *, stack: int) -> int:
    """Channels of one snippet: 3 for rgb, x and y of each of `stack` fields for flow and warped."""
    if stream == "rgb":
        if stack != 1:
            raise InputError(f"stack {stack}: a snippet of rgb is 1 frame; set the stack of rgb to 1")
        return 3
    if stack < 1:
        raise InputError(f"stack {stack}: a snippet of {stream} has at least 1 field")
    return 2 * stack
