"""The resources of a preprocessing job: threads, a flow backend with its GPU, and room for encoded items."""

import logging
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from atw.config import ON_GPU
from atw.files import InputError
from atw.flow import cuda, resolve_backend

log = logging.getLogger("atw")
IN_MEMORY_BYTES = 1 << 24
"""Encoded items of a video beyond this go to the disk. A clip of ten seconds takes less."""


class Spool:
    """Encoded items of a video that wait to be written: in memory, and in a file without a name if they are many.

    Args:
        folder: where that file is, with room for the items.

    Raises:
        OSError: the disk is full; in `extend` and when items are taken out.
    """

    def __init__(self, folder: Path) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES, dir=str(folder))  # noqa: SIM115
        self._lengths: list[int] = []

    def __del__(self) -> None:
        # The file goes with the items, also those of a video that turned out bad.
        self._file.close()

    def extend(self, items: Iterable[bytes]) -> None:
        """Add items at the end."""
        for item in items:
            self._file.write(item)
            self._lengths.append(len(item))

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        for length in self._lengths:
            yield self._file.read(length)


@dataclass(frozen=True)
class Resources:
    """Threads, progress and storage, which the videos of a shard share.

    Args:
        threads: returns how many threads a video may use at the moment.
        count: is called with the number of items that were finished since the last call.
        storage: returns an empty place for the encoded items of a video.
    """

    threads: Callable[[], int] = lambda: 1
    count: Callable[[int], None] = lambda _: None
    storage: Callable[[], Spool | list[bytes]] = list


class Cores:
    """The threads of a job, divided among the videos that are being processed."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._videos = 0
        self._lock = threading.Lock()

    @contextmanager
    def one_video(self) -> Iterator[None]:
        """Count one more video as being processed during the block."""
        with self._lock:
            self._videos += 1
        try:
            yield
        finally:
            with self._lock:
                self._videos -= 1

    def share(self) -> int:
        """Return how many threads a video may use at the moment, at least 1."""
        with self._lock:
            return max(1, self.threads // max(self._videos, 1))


def backend_with(name: str, gpus: int) -> str:
    """Return the backend that the setting `flow.backend` stands for if so many GPUs may be used.

    "auto" stays on the CPU without a GPU, whatever the machine has: jobs that use one reserve it, and the backend of a
    shard depends on no race.

    Raises:
        InputError: a GPU is asked for and not given.
    """
    if name in ON_GPU and gpus < 1:
        raise InputError(
            f"flow.backend {name} needs a GPU, and this job was given none; run snakemake with --resources gpu=1, or "
            "the number of GPUs here, or choose another flow.backend in config.yaml"
        )
    return "numba" if name == "auto" and gpus < 1 else resolve_backend(name)


@contextmanager
def job_backend(name: str, gpus: int) -> Iterator[str]:
    """Yield the backend that `backend_with` returns; for "cuda", hold a GPU during the block that no other job holds.

    Raises:
        InputError: a GPU is asked for and not given, or none is free.
    """
    backend = backend_with(name, gpus)
    if backend != "cuda":
        yield backend
        return
    with cuda.claim() as device:
        log.info("flow on %s", device)
        yield backend
