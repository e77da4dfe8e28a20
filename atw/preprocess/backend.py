"""Which flow backend a job of the workflow works with, and on which GPU."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from atw.config import ON_GPU
from atw.files import InputError
from atw.flow import cuda, resolve_backend

log = logging.getLogger("atw")


def backend_with(name: str, gpus: int) -> str:
    """The backend that `flow.backend` stands for where so many GPUs may be used.

    "auto" stays on the CPU without a GPU, whatever the machine has: jobs that use one reserve it, and the backend of a
    shard depends on no race.

    Raises InputError where a GPU is asked for and not given.
    """
    if name in ON_GPU and gpus < 1:
        raise InputError(
            f"flow.backend {name} needs a GPU, and this job was given none; run snakemake with --resources gpu=1, or "
            "the number of GPUs here, or choose another flow.backend in config.yaml"
        )
    return "numba" if name == "auto" and gpus < 1 else resolve_backend(name)


@contextmanager
def job_backend(name: str, gpus: int) -> Iterator[str]:
    """The backend that `flow.backend` stands for in a job that was given so many GPUs.

    For "cuda" a GPU that no other job holds is held meanwhile.

    Raises InputError as `backend_with` does, and where no GPU is free.
    """
    resolved = backend_with(name, gpus)
    if resolved != "cuda":
        yield resolved
        return
    with cuda.claim() as device:
        log.info("flow on %s", device)
        yield resolved
