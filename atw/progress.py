"""Progress for people: a live bar on a terminal, a line every ten seconds in a log file."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LOG_SECONDS = 10.0
log = logging.getLogger("atw")


class Meter:
    """Counts what is done and shows it with its rate and the remaining time.

    Args:
        what: verb phrase, for example "flow of shard 00003".
        unit: what is counted for the rate, for example "pairs".
        total: of `advance`'s steps.
    """

    def __init__(self, what: str, unit: str, total: int, bar: Progress | None, done: int) -> None:
        self._what = what
        self._unit = unit
        self._total = total
        self._bar = bar
        self._task = bar.add_task(what, total=total, completed=done, note="") if bar else None
        self._done = self._done_before = done
        self._units = 0
        self._start = self._shown = time.monotonic()

    def advance(self, units: int, note: str = "") -> None:
        """One more step, which was worth `units` units."""
        self._done += 1
        self._units += units
        now = time.monotonic()
        text = f"{self._units / max(now - self._start, 1e-9):.1f} {self._unit}/s {note}".rstrip()
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=self._done, note=text)
        elif now - self._shown >= _LOG_SECONDS or self._done == self._total:
            self._shown = now
            steps = max(self._done - self._done_before, 1)
            left = (self._total - self._done) * (now - self._start) / steps
            minutes, seconds = divmod(round(left), 60)
            log.info("%s: %d of %d, %s, %d:%02d left", self._what, self._done, self._total, text, minutes, seconds)


@contextmanager
def meter(what: str, unit: str, total: int, *, done: int = 0) -> Iterator[Meter]:
    """A meter that lives for the `with` block; `done` steps were made by an earlier run."""
    if not sys.stderr.isatty():
        yield Meter(what, unit, total, None, done)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        yield Meter(what, unit, total, bar, done)
