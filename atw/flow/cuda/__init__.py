"""The backend `cuda`: TV-L1 on an NVIDIA GPU, kernels compiled by numba-cuda, all pairs of a batch at a time."""

import importlib.util
import logging
import os

from atw.flow.cuda.device import claim, current_device
from atw.flow.pairs import FloatArray, Images
from atw.flow.parameters import Parameters

__all__ = ["claim", "solve", "unusable"]

# numba logs every driver call that fails, wherever a handler is, and each piece of memory that it frees. Here a failure
# is an answer, or an exception that says it all.
if not os.environ.get("NUMBA_CUDA_LOG_LEVEL"):
    logging.getLogger("numba.cuda.cudadrv.driver").setLevel(logging.CRITICAL)


def unusable() -> str | None:
    """Why this backend cannot run here, None where it can. Starts CUDA's driver, but no context on a device."""
    if importlib.util.find_spec("numba_cuda") is None:
        return "numba-cuda is not installed; install atw with its extra cuda: pip install 'atw[cuda]'"
    try:
        return _reason()
    except Exception as error:  # a broken installation fails in ways of its own
        return f"CUDA does not start: {' '.join(str(error).split())}"


def _reason() -> str | None:
    from numba import cuda
    from numba.cuda.core import config

    usable, error = cuda.is_available(), cuda.cuda_error()
    if config.ENABLE_CUDASIM or not usable:
        return None if usable else explain(str(error or ""))
    from numba.cuda.cudadrv import driver, nvrtc, runtime

    device = cuda.gpus[current_device()]
    return outdated(
        driver=driver.get_version(),
        packages=runtime.get_version(),
        capability=device.compute_capability,
        lowest=nvrtc.get_lowest_supported_cc(),
    )


def explain(error: str) -> str:
    """What to tell of `error`, the driver's message; an empty one means that only the compiler is missing."""
    said = " ".join(error.split())
    if not said:
        return "the compiler library NVVM is missing; install atw with its extra cuda: pip install 'atw[cuda]'"
    if "cannot be found" in said:
        return "no NVIDIA driver is installed: its library libcuda is not found"
    if "NO_DEVICE" in said or "(100)" in said:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        return "the NVIDIA driver finds no GPU" + (f" among CUDA_VISIBLE_DEVICES={visible}" if visible else "")
    return f"the NVIDIA driver does not start: {said}"


def outdated(
    *, driver: tuple[int, int], packages: tuple[int, int], capability: tuple[int, int], lowest: tuple[int, int]
) -> str | None:
    """Why a driver for CUDA `driver` or a GPU of that compute capability is too old for the installed packages."""
    if driver[0] < packages[0]:
        return (
            f"the NVIDIA driver is for CUDA {driver[0]}.{driver[1]} but the installed packages are for CUDA "
            f"{packages[0]}; update the driver, or install numba-cuda[cu{driver[0]}]"
        )
    if tuple(capability) < tuple(lowest):
        return (
            f"the GPU's compute capability {capability[0]}.{capability[1]} is below {lowest[0]}.{lowest[1]}, the least "
            f"that CUDA {packages[0]} supports"
        )
    return None


def solve(prev: Images, next_: Images, settings: Parameters, threads: int) -> FloatArray:
    """Flow [B, 2, H, W] in px between checked batches [B, H, W], on the GPU that is claimed or else CUDA's current one.

    May be called from several threads, which then share the GPU: while one copies, another's kernels run.
    """
    del threads
    from atw.flow.cuda.solver import solve as solve_on_device

    return solve_on_device(prev, next_, settings)
