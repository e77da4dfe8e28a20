"""How the class scores of a video's snippets become the class scores of the video.

Attention is section 3.2 of the paper:

    e_i = f(w . a_i + b)                 (2)    f: rectifier
    w_i = exp e_i / sum_j exp e_j        (3)
    A   = sum_i w_i a_i                  (4)

The softmax runs over all snippets that are passed together, so at test every snippet of one crop has to be in one call:
scoring snippets one by one makes each weight 1. No parameter of the attention depends on the number of snippets.

Choices that the paper leaves open:
- what e_i is computed from: the class scores (as equation 2 reads, the default) or the pooled features. A sums the
  class scores in either case;
- the bias b. The paper's formula has none (0). Once w . a_i + b is negative for every snippet of every video, each e_i
  is 0, the weights are 1/N and no gradient reaches w again: with b = 0 that happened in two of three trainings from
  scratch, with b = 6 in none of two. The softmax cancels what all e_i share, so b moves only the rectifier's hinge;
- the standard deviation of the Gaussian initialisation, 0.001 here.

All arithmetic is in float32, under autocast too. Shapes: B videos, N snippets, K classes, D features.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from atw.files import InputError

NAMES = ("attention", "average", "max", "weighted")
SOURCES = ("scores", "features")
ACTIVATIONS = ("relu", "tanh", "sigmoid", "none")
INITIALISATIONS = ("gaussian", "ones", "mean")


class Consensus(NamedTuple):
    """The scores of B videos, and how much each of their N snippets counted."""

    logits: Tensor
    """[B, K] class scores before the softmax over classes."""
    weights: Tensor
    """[B, N], not negative, each row sums to 1."""
    energies: Tensor
    """[B, N] what the softmax over snippets was taken of: e of equation 2, after the activation."""


@dataclass(frozen=True, kw_only=True)
class AttentionOptions:
    """What the attention sees and how it starts."""

    on: str = "scores"
    """`scores` | `features`: what e is computed from."""
    activation: str = "relu"
    """`relu` (the paper's) | `tanh` | `sigmoid` | `none`."""
    init: str = "gaussian"
    """Initial w: `gaussian` (mean 0) | `ones` | `mean` (1/N, N the snippets of training)."""
    std: float = 0.001
    """Standard deviation of the `gaussian` initialisation."""
    bias: float = 6.0
    """Initial b; 0 is faithful to the paper and dies easily."""

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        _check("attention input", self.on, SOURCES)
        _check("attention activation", self.activation, ACTIVATIONS)
        _check("attention initialisation", self.init, INITIALISATIONS)
        if not self.std > 0:
            raise InputError(f"attention std {self.std}: must be above 0; for equal initial weights take init 'ones'")


class AttentionConsensus(nn.Module):
    """Equations 2 to 4; `segments` is used by the `mean` initialisation alone."""

    def __init__(self, *, classes: int, features: int, segments: int, options: AttentionOptions) -> None:
        super().__init__()
        self.options = options
        self.weight = nn.Parameter(torch.empty(classes if options.on == "scores" else features))
        self.bias = nn.Parameter(torch.full((1,), float(options.bias)))
        match options.init:
            case "gaussian":
                nn.init.normal_(self.weight, std=options.std)
            case "ones":
                nn.init.ones_(self.weight)
            case "mean":
                nn.init.constant_(self.weight, 1 / segments)

    def forward(self, snippet_logits: Tensor, features: Tensor) -> Consensus:
        """Weigh the snippets: [B, N, K] scores and [B, N, D] features."""
        scores = snippet_logits.float()
        seen = scores if self.options.on == "scores" else features.float()
        energies = self._activate((seen * self.weight).sum(2) + self.bias)  # [B, N]
        weights = energies.softmax(1)
        return Consensus((weights.unsqueeze(2) * scores).sum(1), weights, energies)

    def _activate(self, energies: Tensor) -> Tensor:
        match self.options.activation:
            case "relu":
                return energies.relu()
            case "tanh":
                return energies.tanh()
            case "sigmoid":
                return energies.sigmoid()
        return energies


class AverageConsensus(nn.Module):
    """The mean of the class scores over the snippets, before the softmax over classes."""

    def forward(self, snippet_logits: Tensor, features: Tensor) -> Consensus:
        """Average: [B, N, K] scores; the features are not looked at."""
        scores = snippet_logits.float()
        return Consensus(scores.mean(1), *_uniform(scores))


class MaxConsensus(nn.Module):
    """The largest score of each class over the snippets.

    Each class has its own snippet, so there is no one weight per snippet: weights are reported as 1/N, energies as 0.
    """

    def forward(self, snippet_logits: Tensor, features: Tensor) -> Consensus:
        """Take the maximum: [B, N, K] scores; the features are not looked at."""
        scores = snippet_logits.float()
        return Consensus(scores.amax(1), *_uniform(scores))


class WeightedConsensus(nn.Module):
    """The weighted average of the paper's list of four: one learned weight per segment, the same for every video.

    The learned numbers pass through a softmax over the snippets, so that weights are positive and sum to 1 as in
    equation 3; all 0 at the start, which is the average. Snippet m of M takes the number of segment floor(m N / M), so
    a network trained with N snippets scores any M.
    """

    def __init__(self, *, segments: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(segments))

    def forward(self, snippet_logits: Tensor, features: Tensor) -> Consensus:
        """Weigh the snippets by position: [B, M, K] scores; the features are not looked at."""
        scores = snippet_logits.float()
        B, M = scores.shape[:2]
        segment = torch.arange(M, device=scores.device) * len(self.weight) // M  # [M]
        energies = self.weight[segment].expand(B, M)
        weights = energies.softmax(1)
        return Consensus((weights.unsqueeze(2) * scores).sum(1), weights, energies)


def build(name: str, *, classes: int, features: int, segments: int, attention: AttentionOptions) -> nn.Module:
    """Give the consensus called `name`; `segments` is the number of snippets of a video in training."""
    _check("consensus", name, NAMES)
    if segments < 1:
        raise InputError(f"segments {segments}: a video has at least 1")
    match name:
        case "attention":
            return AttentionConsensus(classes=classes, features=features, segments=segments, options=attention)
        case "weighted":
            return WeightedConsensus(segments=segments)
        case "max":
            return MaxConsensus()
    return AverageConsensus()


def _uniform(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Weights 1/N and energies 0, both [B, N], for scores [B, N, K]."""
    energies = scores.new_zeros(scores.shape[:2])
    return energies + 1 / scores.shape[1], energies


def _check(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(f"{what} {value!r} is unknown; take one of {', '.join(allowed)}")
