"""Progress for people: a live bar on a terminal, a line every ten seconds in a log file."""

import logging
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from atw.output import console

_LOG_SECONDS = 10.0
_TAIL_BYTES = 8192
_LINE = re.compile(r": \d+ of \d+ \((\d+%\), .*?, (?:(\d+):(\d\d)|unknown time) left)$", re.MULTILINE)
log = logging.getLogger("atw")


class Meter:
    """Counts what is done and shows it with its rate and the remaining time. Safe to call from several threads.

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
        self._lock = threading.Lock()

    def advance(self, units: int = 0, note: str = "", *, steps: int = 1) -> None:
        """So many more steps, which were worth `units` units beyond those counted already."""
        with self._lock:
            self._done += steps
            self._units += units
            self._show(note, due=self._done == self._total)

    def count(self, units: int) -> None:
        """So many more units of a step that is not finished."""
        with self._lock:
            self._units += units
            self._show("", due=False)

    def _show(self, note: str, *, due: bool) -> None:
        now = time.monotonic()
        text = f"{self._units / max(now - self._start, 1e-9):.1f} {self._unit}/s {note}".rstrip()
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=self._done, note=text)
        elif now - self._shown >= _LOG_SECONDS or due:
            self._shown = now
            share = 100 * self._done // max(self._total, 1)
            log.info(
                "%s: %d of %d (%d%%), %s, %s left", self._what, self._done, self._total, share, text, self._left(now)
            )

    def _left(self, now: float) -> str:
        steps = self._done - self._done_before
        if steps == 0:
            return "unknown time"
        minutes, seconds = divmod(round((self._total - self._done) * (now - self._start) / steps), 60)
        return f"{minutes}:{seconds:02d}"


@contextmanager
def meter(what: str, unit: str, total: int, *, done: int = 0) -> Iterator[Meter]:
    """A meter that lives for the `with` block; `done` steps were made by an earlier run."""
    if not sys.stderr.isatty():
        yield Meter(what, unit, total, None, done)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, TimeRemainingColumn(), console=console(stderr=True)) as bar:
        yield Meter(what, unit, total, bar, done)


class Reached(NamedTuple):
    """How far a job was when it last wrote a line of progress.

    Args:
        left_seconds: that remained by its own reckoning; None before its first step.
        text: percent, rate and remaining time, as the line has them.
    """

    left_seconds: int | None
    text: str


def reached(log_path: Path) -> Reached | None:
    """The last line of progress in a job's log; None where there is none yet."""
    try:
        with log_path.open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(stream.tell() - _TAIL_BYTES, 0))
            lines = _LINE.findall(stream.read().decode("utf-8", errors="replace"))
    except OSError:
        return None
    if not lines:
        return None
    text, minutes, seconds = lines[-1]
    left_seconds = 60 * int(minutes) + int(seconds) if minutes else None
    return Reached(left_seconds, text.replace("%)", "%", 1))
