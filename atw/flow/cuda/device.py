"""Which GPU a process works on, and keeping two processes of a user off the same one.

A claim is a lock on a file named after the device, which the kernel releases when the process ends, however it ends.
The files lie in the temporary directory, so processes that are to see each other's claims need the same TMPDIR.
"""

import contextlib
import itertools
import os
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from atw.errors import BusyError, InputError
from atw.locks import locked

RETRY_SECONDS = 0.2

_claimed: list[int] = []


def lock_directory() -> Path:
    """The directory of the lock files, of this user alone."""
    directory = Path(tempfile.gettempdir()) / f"atw-gpu-{os.getuid()}"
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise InputError(f"{directory} is not a directory of this user; remove it or set TMPDIR to another directory")
    return directory


@contextlib.contextmanager
def hold_one(devices: Sequence[str], *, wait_seconds: float = 60.0) -> Iterator[int]:
    """Hold one of the `devices`, named by their UUIDs, that no other process holds; gives its position among them.

    Raises InputError when there is none, and when all are held for `wait_seconds`.
    """
    if not devices:
        raise InputError("there is no GPU to work on; choose another flow backend, or check CUDA_VISIBLE_DEVICES")
    directory = lock_directory()
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
        time.sleep(RETRY_SECONDS)


def device_names(uuids: Sequence[str]) -> list[str]:
    """What to call the devices that CUDA offers this process under these UUIDs, by their numbers: GPU-... or MIG-...

    CUDA may give each slice of a MIG GPU the UUID of the whole. Slices are told apart by CUDA_VISIBLE_DEVICES, which
    lists them in the order of their numbers.
    """
    asked = [entry.strip() for entry in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return [
        entry.replace("/", "-") if entry.startswith("MIG-") else f"GPU-{uuid.removeprefix('GPU-')}"
        for uuid, entry in itertools.zip_longest(uuids, asked[: len(uuids)], fillvalue="")
    ]


def visible_devices() -> list[str]:
    """Names of the devices that CUDA offers this process, by their numbers."""
    from numba import cuda

    return device_names([str(device.uuid) for device in cuda.gpus])


@contextlib.contextmanager
def claim(*, wait_seconds: float = 60.0) -> Iterator[str]:
    """Hold a GPU that no other process does, for all threads of this process; gives its UUID.

    Only devices that CUDA_VISIBLE_DEVICES lets through are considered. Raises InputError as `hold_one` does.
    """
    names = visible_devices()
    with hold_one(names, wait_seconds=wait_seconds) as index:
        _claimed.append(index)
        try:
            yield names[index]
        finally:
            _claimed.pop()


def current_device() -> int:
    """Number of the device to work on: the claimed one, or else CUDA's current one."""
    if _claimed:
        return _claimed[-1]
    from numba import cuda

    active = cuda.gpus.current
    return 0 if active is None else int(active.id)
