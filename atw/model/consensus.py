"""How the class scores of a video's snippets become the class scores of the video.

Attention is section 3.2 of the paper:

    e_i = f(w . a_i + b)                 (2)    f: rectifier
    w_i = exp e_i / sum_j exp e_j        (3)
    A   = sum_i w_i a_i                  (4)

The softmax runs over all snippets that are passed together, so at test every snippet of one crop has to be in one call:
scoring snippets one by one makes each weight 1. No parameter of the attention depends on the number of snippets.

Other ways to weigh snippets are below it: see `docs/attention.md` for what each is good at.

Choices that the paper leaves open:
- what e_i is computed from: the class scores (as equation 2 reads, the default) or the pooled features. A sums the
  class scores in either case;
- the bias b. The paper's formula has none (0). Once w . a_i + b is negative for every snippet of every video, each e_i
  is 0, the weights are 1/N and no gradient reaches w again: with b = 0 that happened in two of three trainings from
  scratch, with b = 6 in none of two. The softmax cancels what all e_i share, so b moves only the rectifier's hinge;
- the standard deviation of the Gaussian initialisation, 0.001 here.

Shapes: B videos, N snippets, K classes, D features.

A new consensus is one class below, which registers itself by its name, and that name in `Model` of the configuration.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from atw.config import Model
from atw.model.backbones import no_autocast


class Consensus(NamedTuple):
    """The scores of B videos, and the weight of each of their N snippets.

    A consensus that weighs the snippets of each class on their own gives the weights of the predicted class, the one
    with the highest score.
    """

    logits: Tensor
    """[B, K] class scores before the softmax over classes."""
    weights: Tensor
    """[B, N], not negative, each row sums to 1."""
    energies: Tensor
    """[B, N] what the weights are the softmax of; max and topk give the predicted class's scores instead."""


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "none": lambda energies: energies,
}
CONSENSUSES: dict[str, type["SnippetConsensus"]] = {}
"""The classes below by the name that `model.consensus` gives them."""


class SnippetConsensus(nn.Module):
    """Base class. `combine` turns float32 snippet scores [B, N, K] and features [B, N, D] into a `Consensus`.

    Args:
        model: the options of the attention.
        classes: number K.
        features: number D.
        segments: snippets of a video in training.
    """

    uses_features = False
    """Whether `combine` looks at the features; if not, they may be of any shape."""

    def __init__(self, model: Model, *, classes: int, features: int, segments: int) -> None:
        super().__init__()

    def __init_subclass__(cls, *, name: str) -> None:
        """Register the class under a name of `model.consensus`."""
        super().__init_subclass__()
        CONSENSUSES[name] = cls

    @abstractmethod
    def combine(self, scores: Tensor, features: Tensor) -> Consensus:
        """Combine the snippets of each video; both inputs are float32."""

    def forward(self, scores: Tensor, features: Tensor) -> Consensus:
        """Combine the snippets of each video, in float32 also where autocast is on."""
        with no_autocast(scores.device):
            return self.combine(scores.float(), features.float())


class AttentionConsensus(SnippetConsensus, name="attention"):
    """Equations 2 to 4."""

    def __init__(self, model: Model, *, classes: int, features: int, segments: int) -> None:
        super().__init__(model, classes=classes, features=features, segments=segments)
        self.uses_features = model.attention_on == "features"
        self._activation = model.attention_activation
        self.weight = nn.Parameter(torch.empty(features if self.uses_features else classes))
        self.bias = nn.Parameter(torch.full((1,), float(model.attention_bias)))
        match model.attention_init:
            case "gaussian":
                nn.init.normal_(self.weight, std=model.attention_std)
            case "ones":
                nn.init.ones_(self.weight)
            case "mean":
                nn.init.constant_(self.weight, 1 / segments)

    def combine(self, scores: Tensor, features: Tensor) -> Consensus:
        """Weigh the snippets by their scores or features."""
        inputs = features if self.uses_features else scores
        energies = (inputs * self.weight).sum(2) + self.bias  # [B, N]
        return _weigh(scores, _ACTIVATIONS[self._activation](energies))


class GatedConsensus(SnippetConsensus, name="gated"):
    """Gated attention on the pooled features h_i (Ilse, Tomczak and Welling 2018, equation 9).

        e_i = w . (tanh(V h_i + c) * sigmoid(U h_i + d))        then equations 3 and 4

    V and U are [H, D], w is [H], with H = `attention_hidden`; all start as torch's linear layers do. Without
    `attention_gate` the sigmoid is left out (their equation 8). Unlike the energies of equation 2, these are bounded,
    by the sum of |w|: the weights start almost uniform and stay soft.
    """

    uses_features = True

    def __init__(self, model: Model, *, classes: int, features: int, segments: int) -> None:
        super().__init__(model, classes=classes, features=features, segments=segments)
        self.hidden = nn.Linear(features, model.attention_hidden)
        self.gate = nn.Linear(features, model.attention_hidden) if model.attention_gate else None
        self.energy = nn.Linear(model.attention_hidden, 1, bias=False)

    def combine(self, scores: Tensor, features: Tensor) -> Consensus:
        """Weigh the snippets by their features."""
        hidden = self.hidden(features).tanh()  # [B, N, H]
        if self.gate is not None:
            hidden = hidden * self.gate(features).sigmoid()
        return _weigh(scores, self.energy(hidden).squeeze(2))


class SigmoidConsensus(SnippetConsensus, name="sigmoid"):
    """Each snippet is judged on its own, then the weights are scaled to sum 1.

        w_i = s(v . h_i + b) / sum_j s(v . h_j + b),  s(x) = 1 / (1 + exp(-x)),  A = sum_i w_i a_i

    The sigmoid attention of STPN (Nguyen et al. 2018) with one linear layer. A snippet weighs at most 1 / s times as
    much as another, so weights are soft. v is [D] and starts, with b, as torch's linear layers do. In logarithms, w is
    the softmax of log s: no sum of tiny numbers is divided by.
    """

    uses_features = True

    def __init__(self, model: Model, *, classes: int, features: int, segments: int) -> None:
        super().__init__(model, classes=classes, features=features, segments=segments)
        self.energy = nn.Linear(features, 1)

    def combine(self, scores: Tensor, features: Tensor) -> Consensus:
        """Weigh the snippets by their features."""
        energies = nn.functional.logsigmoid(self.energy(features).squeeze(2))
        return _weigh(scores, energies)


class AverageConsensus(SnippetConsensus, name="average"):
    """The mean of the class scores over the snippets, before the softmax over classes."""

    def combine(self, scores: Tensor, features: Tensor) -> Consensus:
        """Average the scores."""
        energies = scores.new_zeros(scores.shape[:2])
        return Consensus(scores.mean(1), energies + 1 / scores.shape[1], energies)


class MaxConsensus(SnippetConsensus, name="max"):
    """The largest score of each class over the snippets: A_k = max_i a_ik."""

    def combine(self, scores: Tensor, features: Tensor) -> Consensus:
        """Take the maximum of the scores."""
        return _mean_of_highest(scores, 1)


class TopKConsensus(SnippetConsensus, name="topk"):
    """The mean of the k largest scores of each class, k = N / `topk_divisor`, rounded up (W-TALC, Paul et al. 2018)."""

    def __init__(self, model: Model, *, classes: int, features: int, segments: int) -> None:
        super().__init__(model, classes=classes, features=features, segments=segments)
        self._divisor = model.topk_divisor

    def combine(self, scores: Tensor, features: Tensor) -> Consensus:
        """Average the highest scores."""
        return _mean_of_highest(scores, (scores.shape[1] + self._divisor - 1) // self._divisor)


class LogSumExpConsensus(SnippetConsensus, name="lse"):
    """Between average and max (Pinheiro and Collobert 2015, equation 6).

        A_k = 1/r log(1/N sum_i exp(r a_ik))

    r is one learned positive number, exp(rho) with rho = 0 at the start; r to 0 is the average, a large r the max. The
    weights, softmax_i(r a_ik), are the derivatives of A_k.
    """

    def __init__(self, model: Model, *, classes: int, features: int, segments: int) -> None:
        super().__init__(model, classes=classes, features=features, segments=segments)
        self.rho = nn.Parameter(torch.zeros(1))

    def combine(self, scores: Tensor, features: Tensor) -> Consensus:
        """Take the soft maximum of the scores."""
        r = self.rho.exp()
        log_n = torch.zeros_like(scores).logsumexp(1)  # log N in a form that exporters take
        logits = ((r * scores).logsumexp(1) - log_n) / r
        energies = r * _of_predicted(scores, logits)
        return Consensus(logits, energies.softmax(1), energies)


class WeightedConsensus(SnippetConsensus, name="weighted"):
    """The weighted average of the paper's list of four: one learned weight per segment, the same for every video.

    The learned numbers pass through a softmax over the snippets, so that weights are positive and sum to 1 as in
    equation 3; all 0 at the start, which is the average. Snippet m of M takes the number of segment floor(m N / M), so
    a network trained with N snippets scores any M.
    """

    def __init__(self, model: Model, *, classes: int, features: int, segments: int) -> None:
        super().__init__(model, classes=classes, features=features, segments=segments)
        self.weight = nn.Parameter(torch.zeros(segments))

    def combine(self, scores: Tensor, features: Tensor) -> Consensus:
        """Weigh the snippets by their position among the M."""
        B, M = scores.shape[:2]
        segment = torch.arange(M, device=scores.device) * len(self.weight) // M  # [M]
        energies = self.weight[segment].expand(B, M)
        return _weigh(scores, energies)


def _weigh(scores: Tensor, energies: Tensor) -> Consensus:
    """Equations 3 and 4, for scores [B, N, K] and energies [B, N]."""
    weights = energies.softmax(1)
    return Consensus((weights.unsqueeze(2) * scores).sum(1), weights, energies)


def _mean_of_highest(scores: Tensor, k: int) -> Consensus:
    """The mean of the k highest scores [B, N, K] of each class."""
    ranks = scores.argsort(1, descending=True).argsort(1)  # exporters take no topk whose k depends on N
    taken = (ranks < k) / k  # [B, N, K] each snippet's weight for each class
    logits = (taken * scores).sum(1)
    return Consensus(logits, _of_predicted(taken, logits), _of_predicted(scores, logits))


def _of_predicted(values: Tensor, logits: Tensor) -> Tensor:
    """Of values [B, N, K] those of the class with the highest of the logits [B, K]: [B, N]."""
    predicted = logits.argmax(1)[:, None, None].expand(-1, values.shape[1], 1)
    return values.gather(2, predicted).squeeze(2)
