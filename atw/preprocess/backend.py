"""Which flow backend a job of the workflow works with, and on which GPU."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from atw.config import ON_GPU
from atw.files import InputError
from atw.flow import cuda, resolve_backend

log = logging.getLogger("atw")


@contextmanager
def job_backend(name: str, gpus: int) -> Iterator[str]:
    """The backend that `flow.backend` stands for in a job that was given so many GPUs.

    "auto" stays on the CPU in a job without a GPU, whatever the machine has: jobs that use one reserve it, and the
    backend of a shard depends on no race. For "cuda" a GPU that no other process holds is held meanwhile.

    Raises InputError where a GPU is asked for and not given, or none is free.
    """
    if name in ON_GPU and gpus < 1:
        raise InputError(
            f"flow.backend {name} needs a GPU, and this job was given none; run snakemake with --resources gpu=1, or "
            "the number of GPUs here, or choose another flow.backend in config.yaml"
        )
    resolved = "numba" if name == "auto" and gpus < 1 else resolve_backend(name)
    if resolved != "cuda":
        yield resolved
        return
    with cuda.claim() as device:
        log.info("flow on %s", device)
        yield resolved
