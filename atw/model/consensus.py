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

A new consensus is one class below, which registers itself by its name, and that name in `Model` of the configuration.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from atw.config import Model


class Consensus(NamedTuple):
    """The scores of B videos, and the weight of each of their N snippets."""

    logits: Tensor
    """[B, K] class scores before the softmax over classes."""
    weights: Tensor
    """[B, N], not negative, each row sums to 1."""
    energies: Tensor
    """[B, N] input of the softmax over snippets: e of equation 2, after the activation."""


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "none": lambda energies: energies,
}
CONSENSUSES: dict[str, type["SnippetConsensus"]] = {}
"""The classes below by the name that `model.consensus` gives them."""


class SnippetConsensus(nn.Module):
    """Base class. `forward` turns snippet scores [B, N, K] and features [B, N, D] into a `Consensus`.

    Args:
        model: the options of the attention.
        classes: number K.
        features: number D.
        segments: snippets of a video in training.
    """

    def __init__(self, model: Model, *, classes: int, features: int, segments: int) -> None:
        super().__init__()

    def __init_subclass__(cls, *, name: str) -> None:
        """Register the class under a name of `model.consensus`."""
        super().__init_subclass__()
        CONSENSUSES[name] = cls


class AttentionConsensus(SnippetConsensus, name="attention"):
    """Equations 2 to 4."""

    def __init__(self, model: Model, *, classes: int, features: int, segments: int) -> None:
        super().__init__(model, classes=classes, features=features, segments=segments)
        self._on, self._activation = model.attention_on, model.attention_activation
        self.weight = nn.Parameter(torch.empty(classes if self._on == "scores" else features))
        self.bias = nn.Parameter(torch.full((1,), float(model.attention_bias)))
        match model.attention_init:
            case "gaussian":
                nn.init.normal_(self.weight, std=model.attention_std)
            case "ones":
                nn.init.ones_(self.weight)
            case "mean":
                nn.init.constant_(self.weight, 1 / segments)

    def forward(self, snippet_logits: Tensor, features: Tensor) -> Consensus:
        """Weigh the snippets by their scores or features."""
        scores = snippet_logits.float()
        inputs = scores if self._on == "scores" else features.float()
        energies = (inputs * self.weight).sum(2) + self.bias  # [B, N]
        energies = _ACTIVATIONS[self._activation](energies)
        weights = energies.softmax(1)
        return Consensus((weights.unsqueeze(2) * scores).sum(1), weights, energies)


class AverageConsensus(SnippetConsensus, name="average"):
    """The mean of the class scores over the snippets, before the softmax over classes."""

    def forward(self, snippet_logits: Tensor, features: Tensor) -> Consensus:
        """Average the scores."""
        scores = snippet_logits.float()
        return Consensus(scores.mean(1), *_uniform(scores))


class MaxConsensus(SnippetConsensus, name="max"):
    """The largest score of each class over the snippets.

    Each class has its own snippet, so there is no one weight per snippet: weights are reported as 1/N, energies as 0.
    """

    def forward(self, snippet_logits: Tensor, features: Tensor) -> Consensus:
        """Take the maximum of the scores."""
        scores = snippet_logits.float()
        return Consensus(scores.amax(1), *_uniform(scores))


class WeightedConsensus(SnippetConsensus, name="weighted"):
    """The weighted average of the paper's list of four: one learned weight per segment, the same for every video.

    The learned numbers pass through a softmax over the snippets, so that weights are positive and sum to 1 as in
    equation 3; all 0 at the start, which is the average. Snippet m of M takes the number of segment floor(m N / M), so
    a network trained with N snippets scores any M.
    """

    def __init__(self, model: Model, *, classes: int, features: int, segments: int) -> None:
        super().__init__(model, classes=classes, features=features, segments=segments)
        self.weight = nn.Parameter(torch.zeros(segments))

    def forward(self, snippet_logits: Tensor, features: Tensor) -> Consensus:
        """Weigh the snippets by their position among the M."""
        scores = snippet_logits.float()
        B, M = scores.shape[:2]
        segment = torch.arange(M, device=scores.device) * len(self.weight) // M  # [M]
        energies = self.weight[segment].expand(B, M)
        weights = energies.softmax(1)
        return Consensus((weights.unsqueeze(2) * scores).sum(1), weights, energies)


def _uniform(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Weights 1/N and energies 0, both [B, N], for scores [B, N, K]."""
    energies = scores.new_zeros(scores.shape[:2])
    return energies + 1 / scores.shape[1], energies
