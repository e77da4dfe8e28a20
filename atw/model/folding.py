"""Batch norms that use their stored statistics, computed as part of the convolution in front of them.

With stored statistics, a batch norm is s (x - mean) + bias, where s = weight / sqrt(var + eps), for each channel. A
convolution with weights W and bias b, and then the norm, is therefore one convolution with the weights s W and the bias
s (b - mean) + bias: equal to rounding, without reading and writing its output once more, and without keeping that
output for the gradient. The gradient reaches W through s W, so training, weight decay and files know nothing of it.

This holds for the norms that `model.partial_bn` freezes while the network trains, and for all when it scores.
"""

from typing import cast

import torch
from torch import Tensor, nn


class _Convolution(nn.Conv2d):
    """A convolution that also does what `norm` would do to its output, unless that is in training mode."""

    norm: tuple[nn.BatchNorm2d]  # in a tuple, so that the norm does not become a part of this module as well

    def forward(self, x: Tensor) -> Tensor:
        (norm,) = self.norm
        if norm.training:
            return super().forward(x)
        mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        bias = norm.bias + scale * (-mean if self.bias is None else self.bias - mean)
        normed: Tensor = self._conv_forward(x, scale[:, None, None, None] * self.weight, bias)
        return normed


class _BatchNorm(nn.BatchNorm2d):
    """A batch norm whose convolution has done its work, unless it is in training mode."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if self.training else x


def fold_norms(body: nn.Module) -> None:
    """Fold each batch norm of a network into the convolution whose output it alone reads; others stay as they are."""
    modules = dict(body.named_modules())
    for node in torch.fx.Tracer().trace(body).nodes:
        norm = modules[node.target] if node.op == "call_module" else None
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        before = node.args[0]
        convolution = modules[before.target] if before.op == "call_module" else None
        if isinstance(convolution, nn.Conv2d) and len(before.users) == 1:
            convolution.__class__, norm.__class__ = _Convolution, _BatchNorm
            cast(_Convolution, convolution).norm = (norm,)
