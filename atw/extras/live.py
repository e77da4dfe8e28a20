"""The whole run on a terminal while it lasts: its stages, the jobs at work, how fast they are and what time is left."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from atw.terminal import LoggedProgress, read_progress

_MOST_SHOWN = 12
_MOST_NAMED = 4


@dataclass
class _Stage:
    """The jobs of one rule: how many there are, have ended well, have failed, and seconds of those that ended well."""

    jobs: int
    done: int = 0
    failed: int = 0
    seconds: float = 0.0
    side_by_side: int = 1


@dataclass(frozen=True)
class _Job:
    """A job at work; `stale_ns` is when its log was written before it began, by an earlier attempt."""

    rule: str
    label: str
    log: Path | None
    began: float
    stale_ns: int

    def progress(self) -> LoggedProgress | None:
        """How far it says that it is."""
        return read_progress(self.log) if self.log and _written_ns(self.log) != self.stale_ns else None


@dataclass
class View:
    """What is known of a run, told by its events and looked up in the logs of its jobs. Threads may share it."""

    clock: Callable[[], float] = time.monotonic
    _stages: dict[str, _Stage] = field(default_factory=dict)
    _running: dict[int, _Job] = field(default_factory=dict)
    _failed: set[int] = field(default_factory=set)
    _began: float = 0.0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def begin(self, jobs: dict[str, int]) -> None:
        """The run begins, with so many jobs of each rule."""
        with self._lock:
            self._began = self.clock()
            self._stages = {rule: _Stage(count) for rule, count in jobs.items()}

    def job_began(self, number: int, rule: str, wildcards: Iterable[str], log: Path | None) -> None:
        """A job begins, or begins again."""
        with self._lock:
            stage = self._stages.setdefault(rule, _Stage(1))
            if number in self._failed:
                self._failed.discard(number)
                stage.failed -= 1
            self._running[number] = _Job(rule, " ".join(wildcards), log, self.clock(), _written_ns(log))
            at_once = sum(job.rule == rule for job in self._running.values())
            stage.side_by_side = max(stage.side_by_side, at_once)

    def job_ended(self, number: int, *, well: bool) -> None:
        """A job has ended; of those that never began, nothing is shown."""
        with self._lock:
            job = self._running.pop(number, None)
            if job is None:
                return
            stage = self._stages[job.rule]
            if well:
                stage.done += 1
                stage.seconds += self.clock() - job.began
            else:
                self._failed.add(number)
                stage.failed += 1

    @property
    def summary(self) -> str:
        """One line: what is done, what failed, how long it took so far."""
        with self._lock:
            jobs = sum(stage.jobs for stage in self._stages.values())
            done = sum(stage.done for stage in self._stages.values())
            failed = sum(stage.failed for stage in self._stages.values())
            text = f"{done} of {jobs} jobs done in {_duration(self.clock() - self._began)}"
            return text + (f", {failed} failed" if failed else "")

    def __rich__(self) -> RenderableType:
        """Stages with their jobs at work below them, and the sum of it."""
        with self._lock:
            stages = Table.grid(padding=(0, 2, 0, 0))
            jobs = Table.grid(padding=(0, 2, 0, 0))
            shown = list(self._running.values())[:_MOST_SHOWN]
            for rule, stage in self._stages.items():
                bar = ProgressBar(total=stage.jobs, completed=stage.done, width=24)
                note = Text(f"{stage.failed} failed", "bold red") if stage.failed else Text("")
                stages.add_row(rule, bar, f"{stage.done} of {stage.jobs}", note)
            for job in shown:
                jobs.add_row(Text(f"  {job.rule}"), Text(job.label), Text(self._state(job)))
            more = len(self._running) - len(shown)
            work: list[RenderableType] = [jobs] if shown else []
            work += [Text(f"  and {more} more jobs")] if more else []
            return Group(stages, *work, Text(self.summary + self._left(), "bold"))

    def _state(self, job: _Job) -> str:
        seen = job.progress()
        return seen.text if seen else f"for {_duration(self.clock() - job.began)}"

    def _left(self) -> str:
        """Of every stage, the jobs that remain times what one takes; stages of which nothing is known are named."""
        seconds = 0.0
        unknown = []
        for rule, stage in self._stages.items():
            remaining = stage.jobs - stage.done - stage.failed
            a_job = self._seconds_a_job(rule, stage)
            if remaining and a_job is None:
                unknown.append(rule)
            elif a_job is not None:
                worked = sum(self.clock() - job.began for job in self._running.values() if job.rule == rule)
                seconds += max(remaining * a_job - worked, 0.0) / stage.side_by_side
        names = ", ".join(unknown[:_MOST_NAMED]) + (", ..." if len(unknown) > _MOST_NAMED else "")
        if unknown and not seconds:
            return f"; no time known yet of {names}"
        if unknown:
            return f"; about {_duration(seconds)} left, not counting {names}"
        return f"; about {_duration(seconds)} left" if seconds else ""

    def _seconds_a_job(self, rule: str, stage: _Stage) -> float | None:
        """The mean of jobs that have ended; before that, what the progress of those at work lets expect."""
        if stage.done:
            return stage.seconds / stage.done
        expected = []
        for job in self._running.values():
            seen = job.progress() if job.rule == rule else None
            if seen and seen.left_seconds is not None:
                # What it took to start is in the time so far, and not in its rate.
                expected.append(self.clock() - job.began + seen.left_seconds)
        return sum(expected) / len(expected) if expected else None


def _written_ns(path: Path | None) -> int:
    """When a file was last written; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns if path else 0
    except OSError:
        return 0


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
