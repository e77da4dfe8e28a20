"""The state that a training resumes from: its file, and the iterations after which every worker keeps it."""

import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import torch

from atw.config import Compute
from atw.files import InputError, open_plain
from atw.model import tensorfile
from atw.train.devices import Worker

# What a training resumes from, as its file holds it.
State = dict[str, Any]
_STATE = "state.pt"


def read_state(folder: Path) -> State | None:
    """Read the last state that `write_state` kept in the folder of a training; None if there is none yet.

    Raises:
        InputError: its file is damaged.
    """
    try:
        state: State = tensorfile.read(folder / _STATE)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InputError(f"{folder / _STATE} cannot be read: {error}; delete {folder} and start again") from None
    return state


def write_state(folder: Path, state: State) -> None:
    """Replace the last state by this one at once. Only worker 0 of the training that holds the folder does so.

    Raises:
        InputError: the disk is full, or the folder cannot be written to.
    """
    # Not by `atomic_path`: if locks are files, it would wait for the lock of a worker whose machine is gone.
    temporary = folder / f".{_STATE}.tmp"
    try:
        with open_plain(temporary, "wb") as stream:
            tensorfile.write(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(folder / _STATE)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(
            f"cannot write a checkpoint into {folder}: {error}; free some space there and start again: training goes "
            "on from its last checkpoint"
        ) from None


class Checkpoints:
    """Says when a state is due: every so many iterations or minutes, at the end, and before an early end.

    The clock is that of worker 0, who is also asked whether to end early. The others are told of both during an
    iteration, so nobody waits.

    Args:
        compute: the `compute` section.
        last: the iteration that ends the training.
        worker: this process.
        stop: whether the training is to end early, after the next state.
    """

    def __init__(self, compute: Compute, *, last: int, worker: Worker, stop: Callable[[], bool]) -> None:
        self._compute, self._last, self._worker, self._stop = compute, last, worker, stop
        self._since: float | None = None
        self._news: torch.distributed.Work | None = None

    def begin_iteration(self) -> None:
        """Look at the clock and tell the others; every worker has to call this before each iteration."""
        now = monotonic()
        if self._since is None:
            self._since = now
        overdue = now - self._since >= 60 * self._compute.checkpoint_minutes
        self._told = torch.tensor([float(overdue), float(self._stop())], device=self._worker.device)
        if self._worker.world > 1:
            self._news = torch.distributed.broadcast(self._told, src=0, async_op=True)

    def are_due(self, done: int) -> bool:
        """Whether to keep a state after `done` iterations; the clock then starts anew."""
        if self._news:
            self._news.wait()
        due = bool(self._told.any()) or done % self._compute.checkpoint_every == 0 or done == self._last
        if due:
            self._since = None  # until the next iteration begins, because keeping a state takes time too
        return due

    @property
    def end(self) -> bool:
        """Whether the training ends early, with the state that is due."""
        return bool(self._told[1])
