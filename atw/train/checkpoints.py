"""When a training keeps a state to resume from: in the same iteration on every worker."""

from collections.abc import Callable
from time import monotonic

import torch


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
