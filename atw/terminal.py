"""What commands and jobs tell people: safe text on a terminal, progress, and the time and energy that a job took.

Progress is a live bar on a terminal and a line every ten seconds in a log file. Time and energy are the last line of
the log of a job that has succeeded. The live view and the report read both from the logs.
"""

import contextlib
import logging
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment

from atw.errors import printable

log = logging.getLogger("atw")
POWERCAP = Path("/sys/class/powercap")
_LOG_SECONDS = 10.0
_TAIL_BYTES = 8192
_PROGRESS_LINE = re.compile(r": \d+ of \d+ \((\d+%\), .*?, (?:(\d+):(\d\d)|unknown time) left)$", re.MULTILINE)
_USAGE_LINE = re.compile(r"finished after (\d+\.\d) s(?: and (\d+) J of the CPUs)?$", re.MULTILINE)


class _Console(Console):
    """Styles come from our code alone, never from text."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=self._shown(segment.text))

    def _shown(self, text: str) -> str:
        """A text without what the terminal obeys or its encoding lacks."""
        return printable(text).encode(self.encoding, "replace").decode(self.encoding)


def console(**options: Any) -> Console:
    """Return a terminal or file to print on that takes text as it is: no markup, no emoji, no control characters."""
    return _Console(markup=False, emoji=False, **options)


class Meter:
    """Counts steps and shows them with their rate and the remaining time; safe to call from several threads.

    Args:
        what: verb phrase, for example "flow of shard 00003".
        unit: what the rate counts, for example "pairs".
        total: number of steps.
        bar: rich's live display; None for lines in the log.
        done: steps made by an earlier run.
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
        """Count steps, and the units of them that `count` has not counted yet."""
        with self._lock:
            self._done += steps
            self._units += units
            self._show(note, due=self._done == self._total)

    def count(self, units: int) -> None:
        """Count units of a step that is not finished."""
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
            percent = 100 * self._done // max(self._total, 1)
            left = self._left(now)
            log.info("%s: %d of %d (%d%%), %s, %s left", self._what, self._done, self._total, percent, text, left)

    def _left(self, now: float) -> str:
        steps = self._done - self._done_before
        if steps == 0:
            return "unknown time"
        minutes, seconds = divmod(round((self._total - self._done) * (now - self._start) / steps), 60)
        return f"{minutes}:{seconds:02d}"


@contextlib.contextmanager
def meter(what: str, unit: str, total: int, *, done: int = 0) -> Iterator[Meter]:
    """Show a `Meter` during the `with` block."""
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


@dataclass(frozen=True)
class LoggedProgress:
    """The last line of progress in a log: percent, rate and remaining time as text, and that time as a number.

    `left_seconds` is None before the first step.
    """

    left_seconds: int | None
    text: str


def read_progress(log_path: Path) -> LoggedProgress | None:
    """Read the last line of progress in a job's log; None if there is none yet."""
    try:
        with log_path.open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(stream.tell() - _TAIL_BYTES, 0))
            lines = _PROGRESS_LINE.findall(stream.read().decode("utf-8", errors="replace"))
    except OSError:
        return None
    if not lines:
        return None
    text, minutes, seconds = lines[-1]
    left_seconds = 60 * int(minutes) + int(seconds) if minutes else None
    return LoggedProgress(left_seconds, text.replace("%)", "%", 1))


@dataclass(frozen=True)
class JobUsage:
    """What a job took.

    Args:
        seconds: wall-clock time.
        joules: energy of this machine's CPU packages meanwhile, other processes included; None if unreadable.
    """

    seconds: float
    joules: float | None


@contextlib.contextmanager
def log_usage() -> Iterator[None]:
    """Log the time and energy that the block takes, unless it fails."""
    start, before = time.monotonic(), read_energy(POWERCAP)
    yield
    spent = _joules_between(before, read_energy(POWERCAP))
    energy = "" if spent is None else f" and {spent:.0f} J of the CPUs"
    log.info("finished after %.1f s%s", time.monotonic() - start, energy)


def read_energy(folder: Path) -> dict[str, tuple[int, int]]:
    """Return counter and highest value (microjoules) of each CPU package (RAPL); empty if the system shows none."""
    found = {}
    with contextlib.suppress(OSError, ValueError):
        for package in sorted(folder.glob("intel-rapl:[0-9]")):
            values = (int((package / name).read_text()) for name in ("energy_uj", "max_energy_range_uj"))
            found[package.name] = (next(values), next(values))
    return found


def _joules_between(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> float | None:
    if not before or before.keys() != after.keys():
        return None
    # After its highest value a counter starts again at 0.
    return sum((after[name][0] - first) % (highest + 1) for name, (first, highest) in before.items()) / 1e6


def read_usage(log_path: Path) -> JobUsage | None:
    """Read what a job took from its log; None if there is no log or the job has not succeeded."""
    try:
        lines = _USAGE_LINE.findall(log_path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    if not lines:
        return None
    seconds, joules = lines[-1]
    return JobUsage(float(seconds), float(joules) if joules else None)
