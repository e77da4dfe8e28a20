"""The optimiser of a stream: SGD with momentum over TSN's parameter groups, and the learning rate over time.

group          learning rate x     weight decay
conv1_weight   1 (flow, warped 5)  yes            the first convolution, whose inputs differ most from ImageNet's
conv1_bias     2 (flow, warped 10) no
weight         1                   yes            every other convolution, linear layer and consensus
bias           2                   no             of the same
batch_norm     1                   no             scale and shift of the batch norms that are not frozen
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from atw.files import InputError

LR_MULTIPLIERS = ("tsn", "uniform")


def parameter_groups(
    network: nn.Module, *, stream: str, learning_rate: float, weight_decay: float, lr_multipliers: str
) -> list[dict[str, Any]]:
    """Sort the trainable parameters into the groups above, each parameter into one; empty groups are left out.

    A group has `name`, `params`, `lr` and `weight_decay`. `lr_multipliers` is `tsn` for the table above or `uniform`
    for the same groups with every multiplier 1. Frozen parameters (`requires_grad` False) are in no group.
    """
    if lr_multipliers not in LR_MULTIPLIERS:
        raise InputError(f"lr_multipliers {lr_multipliers!r} is unknown; take one of {', '.join(LR_MULTIPLIERS)}")
    conv1 = 1 if stream == "rgb" else 5
    multipliers = {"conv1_weight": conv1, "conv1_bias": 2 * conv1, "weight": 1, "bias": 2, "batch_norm": 1}
    members: dict[str, list[nn.Parameter]] = {name: [] for name in multipliers}
    for name, parameter in _named_groups(network):
        members[name].append(parameter)
    return [
        {
            "name": name,
            "params": parameters,
            "lr": learning_rate * (multipliers[name] if lr_multipliers == "tsn" else 1),
            "weight_decay": weight_decay if name in ("conv1_weight", "weight") else 0.0,
        }
        for name, parameters in members.items()
        if parameters
    ]


def build_optimizer(
    network: nn.Module, *, stream: str, learning_rate: float, momentum: float, weight_decay: float, lr_multipliers: str
) -> torch.optim.SGD:
    """Give SGD over the network's parameter groups, at the learning rates of factor 1."""
    groups = parameter_groups(
        network,
        stream=stream,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        lr_multipliers=lr_multipliers,
    )
    return torch.optim.SGD(groups, lr=learning_rate, momentum=momentum)


def learning_rate_factor(
    iteration: int, *, schedule: str, steps: int | Sequence[int], iterations: int, warmup: int
) -> float:
    """Give what the base learning rates are multiplied by at `iteration` (from 0) of `iterations`.

    `step`: 0.1 to the power of the number of `steps` reached; one number stands for all its multiples. The paper's are
    every 2000 for rgb, 12000 and 18000 for flow and warped. `cosine`: (1 + cos(pi iteration / iterations)) / 2, which
    would be 0 at `iterations`. In either, the first `warmup` iterations rise in equal steps to the full rate.
    """
    if schedule == "cosine":
        factor = (1 + math.cos(math.pi * iteration / iterations)) / 2
    else:
        reached = iteration // steps if isinstance(steps, int) else sum(iteration >= step for step in steps)
        factor = 0.1**reached
    return factor * min(1.0, (iteration + 1) / warmup) if warmup else factor


def _named_groups(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Each trainable parameter with the name of its group."""
    conv1 = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            kind = "bias" if name.endswith("bias") else "weight"  # in_proj_bias of an attention layer
            if isinstance(module, nn.BatchNorm2d):
                yield "batch_norm", parameter
            elif module is conv1:
                yield f"conv1_{kind}", parameter
            else:
                yield kind, parameter
