"""Which device a stage computes on: what was asked for, or a clear error, never a silent fallback."""

import logging

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
