"""Which device a stage computes on: what was asked for, or a clear error, never a silent fallback."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from atw.config import Compute
from atw.files import InputError

log = logging.getLogger("atw")


def use_gpu(compute: Compute, *, reserved: int, available: int) -> bool:
    """Whether to compute on GPUs.

    Args:
        compute: the `compute` section; `gpus` as a number is a demand, `auto` a wish.
        reserved: GPUs that Snakemake reserved for the job.
        available: GPUs of this machine, or of the Ray cluster that the job joins.

    Raises:
        InputError: fewer GPUs are reserved, or there, than are demanded.
    """
    if compute.gpus == "auto":
        found = min(reserved, available) >= compute.workers
        log.info("computing on %s", "the GPU" if found else "the CPU")
        return found
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


@contextmanager
def own_gpus(count: int) -> Iterator[tuple[int, ...]]:
    """Hold so many GPUs that no job of flow, scoring or one worker's training of this user does; gives their numbers.

    Raises:
        InputError: fewer are free.
    """
    if not count:
        yield ()
        return
    from atw.flow.cuda import device_names, hold_one  # brings OpenCV and numba, which the CPU does without

    names = device_names([str(torch.cuda.get_device_properties(n).uuid) for n in range(torch.cuda.device_count())])
    with ExitStack() as stack:
        numbers = tuple(stack.enter_context(hold_one(names)) for _ in range(count))
        log.info("on %s", ", ".join(names[number] for number in numbers))
        yield numbers
