"""Ctrl-C and SIGTERM in a training: its workers keep a state after the iteration that they are in, and it ends."""

import signal
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_GRACE_SECONDS = 20.0  # Slurm kills 30 s after it has said so
_LOOK_SECONDS = 0.2


class StoppedError(Exception):
    """With the number of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def caught_by(catch: Callable[[int], object], signals: Iterable[signal.Signals]) -> Iterator[None]:
    """Have signals call `catch` with their numbers meanwhile, in the main thread.

    What nohup or a shell's & has this process ignore stays ignored.
    """
    heard = [number for number in signals if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, lambda number, _: catch(number)) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def heeded(flag: Path) -> Iterator[list[int]]:
    """Catch the signals, in the main thread; the first one makes `flag`, a file by which workers are told.

    Yields:
        The numbers of the signals that came.
    """
    flag.unlink(missing_ok=True)
    caught: list[int] = []

    def catch(number: int) -> None:
        caught.append(number)
        flag.touch()

    try:
        with caught_by(catch, _SIGNALS):  # Ray's own handlers give way
            yield caught
    finally:
        flag.unlink(missing_ok=True)


def attended(function: Callable[[], Any], caught: list[int]) -> Any:
    """What a function returns, which is given some time to do so once a signal was caught, until the second one.

    It runs in a thread of its own: in the main one Ray would take Ctrl-C for itself, and end without a state.

    Raises:
        StoppedError: it was not given more time, or failed after a signal.
    """
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    until = float("inf")
    while not wait([future], _LOOK_SECONDS).done:
        if caught:
            until = min(until, time.monotonic() + _GRACE_SECONDS)
        if len(caught) > 1 or time.monotonic() > until:
            raise StoppedError(caught[0])
    if caught and future.exception():
        raise StoppedError(caught[0])
    return future.result()
