"""How training computes what it computes: precision, memory layout, compilation. Speed, and rounding at most.

In bf16 and fp16 the backbone runs under autocast. Weights, optimiser, consensus, loss and gradients of the weights stay
in float32. fp16 has a small range, so its loss is scaled up before the backward pass; an update whose scaled gradients
overflow is left out and the scale is halved.
"""

import contextlib
import os
import shutil
from typing import Any

import torch
from torch import nn

from atw.files import InputError

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_COMPILERS = ("c++", "g++", "clang++")


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Give the context of a forward pass.

    Raises:
        InputError: fp16 without a GPU.
    """
    if precision == "fp32":
        return contextlib.nullcontext()
    if precision == "fp16" and device.type != "cuda":
        raise InputError("compute.precision is fp16, which needs a GPU: take fp32 or bf16 in config.yaml")
    return torch.autocast(device.type, _DTYPES[precision])


def scaler_of(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """Give the scaling of the loss: of fp16 only, otherwise it hands everything through."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def memory_format(*, channels_last: bool) -> torch.memory_format:
    """Give the layout of images and convolutions in memory."""
    return torch.channels_last if channels_last else torch.contiguous_format


def compile_network(network: nn.Module) -> None:
    """Compile the forward pass in place, which leaves the names of the parameters as they are.

    Raises:
        InputError: no C++ compiler is there.
    """
    if not any(shutil.which(name) for name in (os.environ.get("CXX", ""), *_COMPILERS) if name):
        raise InputError(
            "compute.compile needs a C++ compiler, and there is no g++ or clang++ here: install one, or set it to "
            "false in config.yaml"
        )
    network.compile()
