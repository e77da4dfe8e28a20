"""Ctrl-C and SIGTERM in a training: its workers keep a state after the present iteration, and it ends."""

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
GRACE_SECONDS = 20.0  # Slurm kills 30 s after its signal
_LOOK_SECONDS = 0.2


class StoppedError(Exception):
    """A signal, with this number, ended a training without a state."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def handled_by(handler: Callable[[int], object], signals: Iterable[signal.Signals]) -> Iterator[None]:
    """Call `handler` with the numbers of signals inside the context, in the main thread.

    Signals that this process ignores, because of nohup or a shell's &, stay ignored.
    """
    heard = [number for number in signals if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, lambda number, _: handler(number)) for number in heard}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextmanager
def stop_file(flag: Path, *, here: bool = False) -> Iterator[list[int]]:
    """Catch signals in the main thread; the first one creates the file `flag`, which tells the workers to stop.

    Args:
        flag: path of the file.
        here: the training runs in this thread; it gets some time to end, until the second signal.

    Yields:
        The numbers of the signals that came.

    Raises:
        StoppedError: a training that runs here did not end in time, or failed after a signal.
    """
    flag.unlink(missing_ok=True)
    caught: list[int] = []
    insist = Timer(GRACE_SECONDS, lambda: _thread.interrupt_main(signal.Signals(caught[0])))
    insist.daemon = True

    def catch(number: int) -> None:
        caught.append(number)
        flag.touch()
        if here and len(caught) > 1:
            raise StoppedError(caught[0])
        if here:
            insist.start()

    try:
        with handled_by(catch, _SIGNALS):  # in place of Ray's own handlers
            yield caught
    except Exception:
        if here and caught:
            raise StoppedError(caught[0]) from None
        raise
    finally:
        insist.cancel()
        flag.unlink(missing_ok=True)


@contextmanager
def ignored_by_children() -> Iterator[None]:
    """Block the signals in processes that are started inside the context: readers work on until the state is kept."""
    resource_tracker.ensure_running()  # its start would end the blocking
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def finish_or_stop(function: Callable[[], Any], caught: list[int]) -> Any:
    """Return the result of a function, which gets some time to end after a signal was caught, until the second one.

    It runs in a thread of its own: in the main thread Ray would handle Ctrl-C itself, and end without a state.

    Raises:
        StoppedError: it did not end in time, or failed after a signal.
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
            until = min(until, time.monotonic() + GRACE_SECONDS)
        if len(caught) > 1 or time.monotonic() > until:
            raise StoppedError(caught[0])
    if caught and future.exception():
        raise StoppedError(caught[0])
    return future.result()
