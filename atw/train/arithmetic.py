"""How a network computes what it computes: precision, memory layout, compilation. Speed, and rounding at most.

In bf16 and fp16 the backbone's body runs under autocast. Classifier, consensus, loss, weights, their gradients and the
optimiser stay in float32. fp16 has a small range, so its loss is scaled up before the backward pass; an update whose
scaled gradients overflow is left out and the scale is halved.

float32 on a GPU of NVIDIA's is, in convolutions and by torch's default, TF32: inputs are rounded to 10 bits of mantissa
before they are multiplied. `compute.tf32` says whether a training does that. Scores never do.
"""

import contextlib
import os
import shlex
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from atw.files import InputError, exchangeable

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# By device: the variable that names a compiler, which programs are looked for, and the language.
_COMPILERS = {"cpu": ("CXX", ("c++", "g++", "clang++"), "C++"), "cuda": ("CC", ("gcc", "clang"), "C")}
_PLACES = {"cpu": "the CPU", "cuda": "a GPU"}


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Give the context of a forward pass, in which the backbone's body computes in `precision`.

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


def allow_tf32(allowed: bool) -> None:
    """Say for this process whether convolutions on a GPU may compute float32 in TF32; matrix products never do."""
    convolutions, products = _operations()
    convolutions.fp32_precision = "tf32" if allowed else "ieee"
    products.fp32_precision = "ieee"


@contextlib.contextmanager
def full_fp32() -> Iterator[None]:
    """Compute float32 in full meanwhile, whatever this process does otherwise."""
    before = [operation.fp32_precision for operation in _operations()]
    allow_tf32(False)
    try:
        yield
    finally:
        for operation, precision in zip(_operations(), before, strict=True):
            operation.fp32_precision = precision


def _operations() -> tuple[Any, Any]:
    backends: Any = torch.backends  # its parts appear as they are asked for
    return backends.cudnn.conv, backends.cuda.matmul


def compile_network(network: nn.Module, device: torch.device) -> None:
    """Compile the forward pass in place, which leaves the names of the parameters as they are.

    Raises:
        InputError: a compiler or Python's headers are not there, or others can write to the cache of what is compiled.
    """
    variable, programs, language = _COMPILERS[device.type]
    named = shlex.split(os.environ.get(variable, ""))[:1]
    if not any(shutil.which(name) for name in named or programs):
        raise InputError(
            f"compute.compile needs a {language} compiler on {_PLACES[device.type]}, and there is no "
            f"{' or '.join(named or programs)} here: install one, or set it to false in config.yaml"
        )
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.is_file():
        raise InputError(
            f"compute.compile needs Python's headers, and {header} is not there: install them (python3-dev or "
            "python3-devel of the system's packages), or set it to false in config.yaml"
        )
    from torch._inductor.runtime.cache_dir_utils import cache_dir  # takes a second

    cache = Path(cache_dir()).resolve()
    if place := exchangeable(cache):
        raise InputError(
            f"compute.compile runs what lies in its cache, {cache}, and others can write to {place}: let "
            "TORCHINDUCTOR_CACHE_DIR name a folder of yours alone"
        )
    network.compile()
