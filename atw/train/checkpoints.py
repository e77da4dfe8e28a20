"""The state that a training resumes from: where it is kept, and when, which is the same iteration on every worker."""

import os
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import torch

from atw.files import InputError, open_plain
from atw.model import tensorfile

_STATE = "state.pt"


def read_state(folder: Path) -> dict[str, Any] | None:
    """The last state that `write_state` kept in the folder of a training; None if there is none yet.

    Raises:
        InputError: its file is damaged.
    """
    try:
        state: dict[str, Any] = tensorfile.read(folder / _STATE)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InputError(f"{folder / _STATE} cannot be read: {error}; delete {folder} and start again") from None
    return state


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Keep a state in place of the last one, at once; only worker 0 of the training that holds the folder does.

    Raises:
        InputError: the disk is full, or the folder cannot be written to.
    """
    # No `atomic_path`: where locks are files, it would wait for that of a worker whose machine is gone.
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
    """Every so many iterations, whenever so much time has passed since the last one, and at the end, an early one too.

    The time is that of worker 0, who is also asked whether to end. The others are told of both while an iteration is
    made, so nobody waits for the news.

    Args:
        every: iterations.
        minutes: after which the next iteration keeps a state.
        last: the iteration that ends the training.
        world: number of workers.
        device: of this worker.
        stop: whether the training is to end early, after the next state.
    """

    def __init__(
        self, *, every: int, minutes: float, last: int, world: int, device: torch.device, stop: Callable[[], bool]
    ) -> None:
        self._every, self._seconds, self._last = every, 60 * minutes, last
        self._world, self._device, self._stop = world, device, stop
        self._since: float | None = None
        self._news: torch.distributed.Work | None = None

    def begin_iteration(self) -> None:
        """Look at the clock and tell the others; every worker has to, before each iteration."""
        now = monotonic()
        if self._since is None:
            self._since = now
        overdue = now - self._since >= self._seconds
        self._told = torch.tensor([float(overdue), float(self._stop())], device=self._device)
        if self._world > 1:
            self._news = torch.distributed.broadcast(self._told, src=0, async_op=True)

    def are_due(self, done: int) -> bool:
        """Whether to keep a state after this iteration, `done` being how many there were; the time then starts anew."""
        if self._news:
            self._news.wait()
        due = bool(self._told.any()) or done % self._every == 0 or done == self._last
        if due:
            self._since = None  # until the next iteration begins, for keeping a state takes time itself
        return due

    @property
    def end(self) -> bool:
        """Whether the training ends early, with the state that is due."""
        return bool(self._told[1])
