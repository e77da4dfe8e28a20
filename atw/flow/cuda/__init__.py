"""The backend `cuda`: TV-L1 on an NVIDIA GPU, kernels compiled by numba-cuda, all pairs of a batch at a time.

A process claims a GPU by a lock on a file named after it, which the kernel releases when the process ends. The files
lie in the temporary directory, so processes that are to see each other's claims need the same TMPDIR.
"""

import contextlib
import importlib.util
import itertools
import logging
import os
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from atw.errors import BusyError, InputError
from atw.flow.pairs import FloatArray, Images, Parameters, StoredFlow
from atw.locks import locked

_RETRY_SECONDS = 0.2
_claimed: list[int] = []

# numba logs every driver call that fails and each piece of memory that it frees, if any handler is installed. Here a
# failure is an answer, or an exception that explains it.
if not os.environ.get("NUMBA_CUDA_LOG_LEVEL"):
    logging.getLogger("numba.cuda.cudadrv.driver").setLevel(logging.CRITICAL)


def unusable() -> str | None:
    """Return why this backend cannot run here, None if it can; starts the CUDA driver, but no context on a device."""
    if importlib.util.find_spec("numba_cuda") is None:
        return "numba-cuda is not installed; install atw with its extra cuda: pip install 'atw[cuda]'"
    try:
        return _fault()
    except Exception as error:  # broken installations fail in many ways
        return f"CUDA does not start: {' '.join(str(error).split())}"


def _fault() -> str | None:
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
    """Explain the driver's message; an empty one means that only the compiler is missing."""
    message = " ".join(error.split())
    if not message:
        return "the compiler library NVVM is missing; install atw with its extra cuda: pip install 'atw[cuda]'"
    if "cannot be found" in message:
        return "no NVIDIA driver is installed: its library libcuda is not found"
    if "NO_DEVICE" in message or "(100)" in message:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        return "the NVIDIA driver finds no GPU" + (f" among CUDA_VISIBLE_DEVICES={visible}" if visible else "")
    return f"the NVIDIA driver does not start: {message}"


def outdated(
    *, driver: tuple[int, int], packages: tuple[int, int], capability: tuple[int, int], lowest: tuple[int, int]
) -> str | None:
    """Return why the driver's CUDA version or the GPU's compute capability is too old for the installed packages."""
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


def solve(first: Images, second: Images, settings: Parameters, threads: int) -> FloatArray:
    """Compute the flow [B, 2, H, W] in px between checked batches [B, H, W] on the current device.

    Several threads may call this and share the GPU: while one copies, another's kernels run.
    """
    del threads
    from atw.flow.cuda.solver import solve as solve_on_device

    return solve_on_device(first, second, settings)


def store(first: Images, second: Images, settings: Parameters, bound: float) -> StoredFlow:
    """Compute the same as levels of a bound (px), with a quarter of the bytes to copy."""
    from atw.flow.cuda.solver import store as store_from_device

    return store_from_device(first, second, settings, bound)


@contextlib.contextmanager
def claim(*, wait_seconds: float = 60.0) -> Iterator[str]:
    """Hold a GPU that no other process holds, for all threads of this process, and yield its UUID.

    CUDA_VISIBLE_DEVICES limits the choice. Raises InputError as `hold_one` does.
    """
    names = visible_devices()
    with hold_one(names, wait_seconds=wait_seconds) as index:
        _claimed.append(index)
        try:
            yield names[index]
        finally:
            _claimed.pop()


def current_device() -> int:
    """Return the number of the device to work on: the claimed one, or else CUDA's current one."""
    if _claimed:
        return _claimed[-1]
    from numba import cuda

    active = cuda.gpus.current
    return 0 if active is None else int(active.id)


@contextlib.contextmanager
def hold_one(devices: Sequence[str], *, wait_seconds: float = 60.0) -> Iterator[int]:
    """Hold one of the `devices`, named by their UUIDs, that no other process holds; yield its position among them.

    Raises:
        InputError: there is no device, or all are held for `wait_seconds`.
    """
    if not devices:
        raise InputError("there is no GPU to work on; choose another flow backend, or check CUDA_VISIBLE_DEVICES")
    directory = _lock_directory()
    deadline = time.monotonic() + wait_seconds
    while True:
        for index, name in enumerate(devices):
            with contextlib.ExitStack() as stack:
                try:
                    stack.enter_context(locked(directory / name, f"using the GPU {name}"))
                except BusyError:
                    continue
                yield index
                return
        if time.monotonic() > deadline:
            raise InputError(
                f"all {len(devices)} GPUs ({', '.join(devices)}) are in use by other processes of this user since "
                f"{wait_seconds:.0f} s; run no more at a time than there are, with --resources gpu={len(devices)}"
            )
        time.sleep(_RETRY_SECONDS)


def _lock_directory() -> Path:
    directory = Path(tempfile.gettempdir()) / f"atw-gpu-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise InputError(f"{directory} is not a directory of this user; remove it or set TMPDIR to another directory")
    return directory


def device_names(uuids: Sequence[str]) -> list[str]:
    """Name the devices that CUDA offers this process under these UUIDs, in their order: GPU-... or MIG-...

    CUDA may give each slice of a MIG GPU the UUID of the whole. CUDA_VISIBLE_DEVICES tells slices apart; it lists them
    in the order of their numbers.
    """
    asked = [entry.strip() for entry in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return [
        entry.replace("/", "-") if entry.startswith("MIG-") else f"GPU-{uuid.removeprefix('GPU-')}"
        for uuid, entry in itertools.zip_longest(uuids, asked[: len(uuids)], fillvalue="")
    ]


def visible_devices() -> list[str]:
    """Return the names of the devices that CUDA offers this process, by their numbers."""
    from numba import cuda

    return device_names([str(device.uuid) for device in cuda.gpus])
