"""The optimiser of a stream: SGD with momentum over TSN's parameter groups, and the learning rate over time.

group          learning rate x     weight decay
conv1_weight   1 (flow, warped 5)  yes            the first convolution, whose inputs differ most from ImageNet's
conv1_bias     2 (flow, warped 10) no
weight         1                   yes            every other convolution and linear layer of the backbone
bias           2                   no             of the same
head_weight    head_lr             yes            the classifier and the consensus
head_bias      2 head_lr           no             of the same
batch_norm     1                   no             scale and shift of the batch norms that are not frozen
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from atw.config import Train, TrainSettings
from atw.model.network import VideoNetwork


def build_optimizer(network: VideoNetwork, settings: TrainSettings) -> torch.optim.SGD:
    """Build SGD over the groups above, at the learning rates of factor 1.

    Each trainable parameter is in one group; empty groups are left out. Each group has its `name`. If
    `train.lr_multipliers` is `uniform`, every multiplier is 1, but the head's is `train.head_lr`.
    """
    train = settings.train
    conv1 = 1 if settings.stream == "rgb" else 5
    multipliers: dict[str, float] = {
        "conv1_weight": conv1,
        "conv1_bias": 2 * conv1,
        "weight": 1,
        "bias": 2,
        "batch_norm": 1,
    }
    if train.lr_multipliers == "uniform":
        multipliers = dict.fromkeys(multipliers, 1)
    multipliers |= {f"head_{kind}": multipliers[kind] * train.head_lr for kind in ("weight", "bias")}
    members: dict[str, list[nn.Parameter]] = {name: [] for name in multipliers}
    for name, parameter in _named_groups(network):
        members[name].append(parameter)
    groups: list[dict[str, Any]] = [
        {
            "name": name,
            "params": parameters,
            "lr": train.learning_rate * multipliers[name],
            "weight_decay": train.weight_decay if name.endswith("weight") else 0.0,
        }
        for name, parameters in members.items()
        if parameters
    ]
    return torch.optim.SGD(groups, lr=train.learning_rate, momentum=train.momentum)


def learning_rate_factor(iteration: int, train: Train) -> float:
    """Return the factor of the base learning rates at `iteration` (from 0).

    `step`: 0.1 to the power of the number of `steps` reached; one number stands for all its multiples. The paper's are
    every 2000 for rgb, 12000 and 18000 for flow and warped. `cosine`: (1 + cos(pi iteration / iterations)) / 2, which
    would be 0 at `iterations`. With either, the first `warmup` iterations rise in equal steps to the full rate.
    """
    steps = train.steps
    if train.schedule == "cosine":
        factor = (1 + math.cos(math.pi * iteration / train.iterations)) / 2
    else:
        reached = iteration // steps if isinstance(steps, int) else sum(iteration >= step for step in steps)
        factor = 0.1**reached
    return factor * min(1.0, (iteration + 1) / train.warmup) if train.warmup else factor


def _named_groups(network: VideoNetwork) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield each trainable parameter with the name of its group."""
    conv1 = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    head = {*network.backbone.classifier.modules(), *network.consensus.modules()}
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            kind = "bias" if name.endswith("bias") else "weight"  # in_proj_bias of an attention layer
            if isinstance(module, nn.BatchNorm2d):
                yield "batch_norm", parameter
            elif module is conv1:
                yield f"conv1_{kind}", parameter
            elif module in head:
                yield f"head_{kind}", parameter
            else:
                yield kind, parameter
