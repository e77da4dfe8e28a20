"""The device of a network: which one, how it computes (precision, layout, compilation), and how many videos fit on it.

A GPU is taken as asked for, or there is a clear error, never a silent fallback.

In bf16 and fp16 the backbone's body runs under autocast. Classifier, consensus, loss, weights, their gradients and the
optimiser stay in float32. fp16 has a small range, so its loss is scaled up before the backward pass; an update whose
scaled gradients overflow is left out and the scale is halved.

In tf32 the convolutions of float32 round their inputs to 10 bits of mantissa before they are multiplied, which NVIDIA
GPUs do several times as fast. It is torch's default there, but here it is done only where it is asked for; scores never
do it.

What `compute` leaves to the machine is settled where the device is known: `settle` and `choose_microbatch`.

`compute.microbatch: auto` is 32 videos at once, and on a GPU fewer if memory is short: the largest power of two whose
activations fit. It follows from the network and the free memory by arithmetic alone, so an empty card gives the same
number again. The memory of a video is counted, not estimated: all that autograd keeps of a forward pass for the
backward pass.
"""

import contextlib
import copy
import logging
import os
import shlex
import shutil
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from atw.config import Compute
from atw.files import InputError, exchangeable
from atw.machine import SHARED_MEMORY, usable_cores
from atw.model.network import VideoNetwork

log = logging.getLogger("atw")

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_ON_GPU = ("fp16", "tf32")
# By device: the variable that names a compiler, the programs to look for, the language, and the device in words.
_COMPILERS = {
    "cpu": ("CXX", ("c++", "g++", "clang++"), "C++", "the CPU"),
    "cuda": ("CC", ("gcc", "clang"), "C", "a GPU"),
}
_BF16_CAPABILITY = (8, 0)  # Ampere: the first whose matrix units compute in bf16
_MOST_LOADERS, _MOST_LOADERS_BESIDE_CPU = 8, 2
_MOST_VIDEOS = 32
# The rest is for what comes and goes in an update: gradients of activations, cuDNN's workspaces, gaps between blocks.
_SHARE_FOR_ACTIVATIONS = 0.75
# Gradients, momentum, buckets of DistributedDataParallel and autocast's copies are each at most as large as the
# parameters.
_COPIES_OF_PARAMETERS = 4
_AHEAD = 2  # batches that torch lets each reading process have ready


@dataclass(frozen=True)
class Worker:
    """One process of a training.

    Args:
        device: its device.
        rank: its number among `world`.
        world: number of processes.
    """

    device: torch.device
    rank: int = 0
    world: int = 1


class Settled(NamedTuple):
    """What `auto` of the same settings in `compute` stands for in a process."""

    precision: str
    loaders: int


def use_gpu(compute: Compute, *, reserved: int, available: int) -> bool:
    """Decide whether to compute on GPUs.

    Args:
        compute: the `compute` section; a number in `gpus` is a demand, `auto` a wish.
        reserved: GPUs that Snakemake reserved for the job.
        available: GPUs of this machine, or of the Ray cluster that the job joins.

    Raises:
        InputError: fewer GPUs are reserved or available than are demanded.
    """
    if compute.gpus == "auto":
        enough = min(reserved, available) >= compute.workers
        log.info("computing on %s", "the GPU" if enough else "the CPU")
        return enough
    if reserved < compute.gpus:
        raise InputError(
            f"compute.gpus is {compute.gpus}, but Snakemake was allowed {reserved}: pass --resources "
            f"gpu={compute.gpus} or more, or set compute.gpus to 0 in config.yaml to compute on the CPU"
        )
    if available < compute.gpus:
        raise InputError(
            f"compute.gpus is {compute.gpus}, but {available} CUDA devices are there: "
            "set it to auto or 0 in config.yaml to compute on the CPU"
        )
    return compute.gpus > 0


@contextlib.contextmanager
def own_gpus(count: int) -> Iterator[tuple[int, ...]]:
    """Hold `count` GPUs that no other job of this user holds, and yield their numbers.

    Raises:
        InputError: fewer are free.
    """
    if not count:
        yield ()
        return
    from atw.flow.cuda import device_names, hold_one  # imports OpenCV and numba, which the CPU does without

    names = device_names([str(torch.cuda.get_device_properties(n).uuid) for n in range(torch.cuda.device_count())])
    with contextlib.ExitStack() as stack:
        numbers = tuple(stack.enter_context(hold_one(names)) for _ in range(count))
        log.info("on %s", ", ".join(names[number] for number in numbers))
        yield numbers


def settle(compute: Compute, worker: Worker) -> Settled:
    """Settle the precision and the loaders of this process of a training."""
    return Settled(
        choose_precision(compute.precision, worker.device),
        choose_loaders(compute.loaders, worker.device, processes=worker.world),
    )


def choose_precision(asked: str, device: torch.device) -> str:
    """Return the precision that `compute.precision` stands for on a device."""
    if asked != "auto":
        return asked
    fast = device.type == "cuda" and torch.cuda.get_device_capability(device) >= _BF16_CAPABILITY
    precision = "bf16" if fast else "fp32"
    log.info("compute.precision: %s", precision)
    return precision


def choose_loaders(asked: int | str, device: torch.device, *, processes: int) -> int:
    """Return how many reading processes `compute.loaders` stands for.

    On the CPU, reading takes a twentieth of the time; it is worth a process only if no core has to be shared with it.

    Args:
        asked: `compute.loaders`; a number is returned as it is.
        device: of this process, which computes on it with as many threads as torch has been given.
        processes: number of such processes. On the CPU, they share this machine's cores; GPUs share them evenly.
    """
    if asked != "auto":
        return int(asked)
    cores = usable_cores()
    if device.type == "cuda":
        loaders = min(_MOST_LOADERS, max(1, cores // torch.cuda.device_count() - 1))
    else:
        loaders = max(0, min(_MOST_LOADERS_BESIDE_CPU, cores // processes - torch.get_num_threads()))
    log.info("compute.loaders: %d, with %d cores", loaders, cores)
    return loaders


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return the context of a forward pass, in which the backbone's body computes in `precision`.

    Raises:
        InputError: fp16 or tf32 without a GPU.
    """
    if precision in _ON_GPU and device.type != "cuda":
        raise InputError(f"compute.precision is {precision}, which needs a GPU: take fp32 or bf16 in config.yaml")
    return torch.autocast(device.type, _DTYPES[precision]) if precision in _DTYPES else contextlib.nullcontext()


def loss_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """Return the scaling of the loss: of fp16 only, with other precisions it changes nothing."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def memory_format(*, channels_last: bool) -> torch.memory_format:
    """Return the layout of images and convolutions in memory."""
    return torch.channels_last if channels_last else torch.contiguous_format


def allow_tf32(allowed: bool) -> None:
    """Set for this process whether convolutions on a GPU may compute float32 in TF32; matrix products never do."""
    # By the older of torch's two ways: after the newer one, torch.export and torch.compile fail in this process.
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = False


@contextlib.contextmanager
def full_fp32() -> Iterator[None]:
    """Compute float32 without TF32 inside the context, whatever this process does otherwise."""
    backends: Any = torch.backends  # its parts are created on access
    operations = backends.cudnn.conv, backends.cuda.matmul
    before = [operation.fp32_precision for operation in operations]
    try:
        for operation in operations:
            operation.fp32_precision = "ieee"
        yield
    finally:
        for operation, precision in zip(operations, before, strict=True):
            operation.fp32_precision = precision


def compile_network(network: VideoNetwork, device: torch.device) -> None:
    """Compile the forward pass in place; the names of the parameters stay.

    Raises:
        InputError: there is no compiler or no header of Python, or others can write to the cache of compiled code.
    """
    variable, programs, language, place = _COMPILERS[device.type]
    named = shlex.split(os.environ.get(variable, ""))[:1]
    if not any(shutil.which(name) for name in named or programs):
        raise InputError(
            f"compute.compile needs a {language} compiler on {place}, and there is no "
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
    if folder := exchangeable(cache):
        raise InputError(
            f"compute.compile runs the code in its cache, {cache}, and others can write to {folder}: let "
            "TORCHINDUCTOR_CACHE_DIR name a folder of yours alone"
        )
    network.compile()


def choose_microbatch(
    asked: int | str, network: VideoNetwork, *, video: tuple[int, ...], precision: str, device: torch.device, least: int
) -> int:
    """Return how many videos go through the network at once.

    Args:
        asked: `compute.microbatch`; a number is returned as it is.
        network: on the device; it is not changed.
        video: shape of a video, N, C, S and S.
        precision: of its forward pass.
        device: whose free memory counts.
        least: videos that have to be there at once.
    """
    if asked != "auto":
        return int(asked)
    if device.type != "cuda":
        return _MOST_VIDEOS
    each = activation_bytes(network, video, precision, device)
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info(device)[0]
    parameter_bytes = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
    room = (free - _COPIES_OF_PARAMETERS * parameter_bytes) * _SHARE_FOR_ACTIVATIONS
    chosen = _MOST_VIDEOS
    while chosen > least and chosen * each > room:
        chosen //= 2
    log.info("compute.microbatch: %d videos at once, of %d MB each with %d MB free", chosen, each >> 20, free >> 20)
    return chosen


def activation_bytes(network: VideoNetwork, video: tuple[int, ...], precision: str, device: torch.device) -> int:
    """Count the bytes that autograd keeps in training of each further video [N, C, S, S]."""
    network = copy.deepcopy(network).train()  # batch norms update their statistics
    one, two = (_kept_bytes(network, (videos, *video), precision, device) for videos in (1, 2))
    return two - one


def _kept_bytes(network: VideoNetwork, shape: tuple[int, ...], precision: str, device: torch.device) -> int:
    own = {each.untyped_storage().data_ptr() for each in (*network.parameters(), *network.buffers())}
    kept: dict[int, int] = {}
    held: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)  # or its address could be given to another one
        return tensor

    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), saved_tensors_hooks(keep, lambda tensor: tensor), autocast(precision, device):
        network(torch.zeros(shape, dtype=torch.uint8, device=device))
    return sum(kept.values())


@contextlib.contextmanager
def explain_out_of_memory(
    doing: str, videos: int = 0, *, otherwise: str = "set compute.gpus to 0 to compute on the CPU"
) -> Iterator[None]:
    """Turn torch's error about a GPU's full memory into one message.

    Args:
        doing: what does not fit.
        videos: how many of them at once, if `compute.microbatch` limits them.
        otherwise: how to do it on the CPU.

    Raises:
        InputError: the memory is full.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        at_once = f" with {videos} videos at once" if videos else ""
        lower = f"set compute.microbatch to a number below {videos} in config.yaml, or " if videos > 1 else ""
        raise InputError(
            f"{doing}{at_once} does not fit into the memory of the GPU: {lower}end what else computes there "
            f"(nvidia-smi lists it), or {otherwise}"
        ) from None


def check_shared_memory(loaders: int, batch_bytes: int, *, processes: int) -> None:
    """Check that the batches of reading processes fit into shared memory: the system kills processes if they do not.

    Args:
        loaders: reading processes of each process.
        batch_bytes: size of a batch that they hand over.
        processes: number of processes on this machine that have such loaders.

    Raises:
        InputError: there is not enough shared memory.
    """
    if not loaders or not SHARED_MEMORY.is_dir():
        return
    needed = processes * (_AHEAD * loaders + 1) * batch_bytes
    free = shutil.disk_usage(SHARED_MEMORY).free
    if needed > free:
        raise InputError(
            f"{SHARED_MEMORY} has {free >> 20} MiB free, but {loaders} loaders need {-(-needed >> 20)} MiB of it to "
            "hand over what they read: in a container give it more (docker run --shm-size=8g, or --ipc=host), or set "
            "compute.loaders to 0 or a lower compute.microbatch in config.yaml"
        )
