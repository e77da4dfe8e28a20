"""How many videos go through a network at once: `compute.microbatch`, and what `auto` means by it.

`auto` is 32, and on a GPU less where memory is short: the largest power of two whose activations fit. It follows from
the network and from what is free, by arithmetic alone, so that an empty card gives the same number again. What a video
holds is counted, not estimated: all that autograd keeps of a forward pass for the backward pass.
"""

import copy
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from atw.files import InputError
from atw.model.network import VideoNetwork
from atw.train.arithmetic import autocast

log = logging.getLogger("atw")

MOST = 32
SHARED = Path("/dev/shm")
_AHEAD = 2  # batches that torch lets each reading process have ready
# For what comes and goes in an update: gradients of activations, workspaces of cuDNN, gaps between blocks.
_SHARE_FOR_ACTIVATIONS = 0.75
# Gradients, momentum, the buckets of DistributedDataParallel and what autocast has converted, each as large as the
# parameters at most.
_COPIES_OF_PARAMETERS = 4


def micro_batch(
    asked: int | str, network: VideoNetwork, *, video: tuple[int, ...], precision: str, device: torch.device, least: int
) -> int:
    """Videos at once: as many as are asked for, or what `auto` chooses for the network on `device`.

    Args:
        asked: `compute.microbatch`.
        network: on the device; it is left as it is.
        video: shape of a video, N, C, S and S.
        precision: of its forward pass.
        device: whose free memory counts.
        least: videos that have to be there at once.
    """
    if asked != "auto":
        return int(asked)
    if device.type != "cuda":
        return MOST
    each = activation_bytes(network, video, precision, device)
    free = free_bytes(device)
    chosen = fitting(
        free - _COPIES_OF_PARAMETERS * sum(p.numel() * p.element_size() for p in network.parameters()), each, least
    )
    log.info("compute.microbatch: %d videos at once, of %d MB each with %d MB free", chosen, each >> 20, free >> 20)
    return chosen


def fitting(room: int, each: int, least: int) -> int:
    """The largest power of two of at most `MOST`, and at least `least` videos, whose `each` bytes fit into `room`."""
    count = MOST
    while count > least and count * each > room * _SHARE_FOR_ACTIVATIONS:
        count //= 2
    return count


def free_bytes(device: torch.device) -> int:
    """Memory of a GPU that this process can still get."""
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info(device)[0]


def activation_bytes(network: VideoNetwork, video: tuple[int, ...], precision: str, device: torch.device) -> int:
    """Bytes that autograd keeps of each further video [N, C, S, S] in training, every piece of memory counted once."""
    network = copy.deepcopy(network).train()  # batch norms count what they see
    one, two = (_kept_bytes(network, (videos, *video), precision, device) for videos in (1, 2))
    return two - one


def _kept_bytes(network: VideoNetwork, shape: tuple[int, ...], precision: str, device: torch.device) -> int:
    own = {each.untyped_storage().data_ptr() for each in (*network.parameters(), *network.buffers())}
    kept: dict[int, int] = {}
    held: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        memory = tensor.untyped_storage()
        if memory.data_ptr() not in own:
            kept[memory.data_ptr()] = memory.nbytes()
            held.append(tensor)  # or its address could be given to another one
        return tensor

    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), saved_tensors_hooks(keep, lambda tensor: tensor), autocast(precision, device):
        network(torch.zeros(shape, dtype=torch.uint8, device=device))
    return sum(kept.values())


@contextmanager
def explained(what: str, videos: int) -> Iterator[None]:
    """Say in one message that a GPU's memory has no room for so many videos at once.

    Raises:
        InputError: in place of torch's error.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        lower = f"set compute.microbatch to a number below {videos} in config.yaml, or " if videos > 1 else ""
        raise InputError(
            f"{what} with {videos} videos at once does not fit into the memory of the GPU: {lower}end what else "
            "computes there (nvidia-smi lists it), or set compute.gpus to 0 to compute on the CPU"
        ) from None


def check_shared(loaders: int, batch_bytes: int, *, processes: int) -> None:
    """Look whether what reading processes hand over has room in shared memory; the system kills them where it has not.

    Args:
        loaders: reading processes of each process.
        batch_bytes: of what they hand over at a time.
        processes: that have such loaders on this machine.

    Raises:
        InputError: there is no room.
    """
    if not loaders or not SHARED.is_dir():
        return
    needed = processes * (_AHEAD * loaders + 1) * batch_bytes
    free = shutil.disk_usage(SHARED).free
    if needed > free:
        raise InputError(
            f"{SHARED} has {free >> 20} MiB free, but {loaders} loaders need {-(-needed >> 20)} MiB of it to hand over "
            "what they read: in a container give it more (docker run --shm-size=8g, or --ipc=host), or set "
            "compute.loaders to 0 or a lower compute.microbatch in config.yaml"
        )
