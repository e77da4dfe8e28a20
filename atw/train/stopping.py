"""Ctrl-C and SIGTERM in a training: its workers keep a state after the iteration that they are in, and it ends."""

import _thread
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from threading import Thread, Timer
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
def heeded(flag: Path, *, here: bool = False) -> Iterator[list[int]]:
    """Catch the signals, in the main thread; the first one makes `flag`, a file by which workers are told.

    Args:
        flag: path of the file.
        here: the training runs in this thread, and is given some time to end, until the second signal.

    Yields:
        The numbers of the signals that came.

    Raises:
        StoppedError: a training that runs here was not given more time, or failed after a signal.
    """
    flag.unlink(missing_ok=True)
    caught: list[int] = []
    insist = Timer(_GRACE_SECONDS, lambda: _thread.interrupt_main(signal.Signals(caught[0])))
    insist.daemon = True

    def catch(number: int) -> None:
        caught.append(number)
        flag.touch()
        if here and len(caught) > 1:
            raise StoppedError(caught[0])
        if here:
            insist.start()

    try:
        with caught_by(catch, _SIGNALS):  # Ray's own handlers give way
            yield caught
    except Exception:
        if here and caught:
            raise StoppedError(caught[0]) from None
        raise
    finally:
        insist.cancel()
        flag.unlink(missing_ok=True)


@contextmanager
def unheard() -> Iterator[None]:
    """Processes that are started meanwhile do not hear the signals: readers work on until the state is kept."""
    resource_tracker.ensure_running()  # its start would end the blocking
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
