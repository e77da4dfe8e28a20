"""The live view of a run on a terminal: its stages, the running jobs with their speed, and the time left."""

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

_MOST_JOBS = 12
_MOST_NAMES = 4
_SETTLED_S, _SETTLED_TIMES = 60.0, 10
"""A running job is believed after so many seconds, or if it says that at most so many times its time so far is left."""
_ORDER = (
    *("download", "render", "frames", "flow", "warped", "audit", "train", "score", "score_held_out", "fuse", "detect"),
    *("attention", "films", "report_page", "summary"),
)


@dataclass
class _Stage:
    """The jobs of one rule; `seconds` is the sum over the jobs that are done."""

    jobs: int
    done: int = 0
    failed: int = 0
    seconds: float = 0.0
    side_by_side: int = 1


@dataclass(frozen=True)
class _RunningJob:
    """A job at work; an earlier attempt wrote its log at `stale_ns`."""

    rule: str
    label: str
    log: Path | None
    began: float
    stale_ns: int

    @property
    def progress(self) -> LoggedProgress | None:
        return read_progress(self.log) if self.log and _written_ns(self.log) != self.stale_ns else None


@dataclass
class View:
    """A run as its events and the logs of its jobs describe it. Several threads may share a view."""

    clock: Callable[[], float] = time.monotonic
    _stages: dict[str, _Stage] = field(default_factory=dict)
    _running: dict[int, _RunningJob] = field(default_factory=dict)
    _failed: set[int] = field(default_factory=set)
    _began: float = 0.0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def begin(self, jobs: dict[str, int]) -> None:
        """Start the run; `jobs` has the number of jobs by rule."""
        with self._lock:
            self._began = self.clock()
            self._stages = {rule: _Stage(jobs[rule]) for rule in sorted(jobs, key=place)}

    def job_began(self, number: int, rule: str, wildcards: Iterable[str], log: Path | None) -> None:
        """Start a job, or start it again after it failed."""
        with self._lock:
            stage = self._stages.setdefault(rule, _Stage(1))
            if number in self._failed:
                self._failed.discard(number)
                stage.failed -= 1
            self._running[number] = _RunningJob(rule, " ".join(wildcards), log, self.clock(), _written_ns(log))
            running = sum(job.rule == rule for job in self._running.values())
            stage.side_by_side = max(stage.side_by_side, running)

    def job_ended(self, number: int, *, well: bool) -> str:
        """End a job, and return in words how; a job that never began is ignored."""
        with self._lock:
            job = self._running.pop(number, None)
            if job is None:
                return ""
            stage = self._stages[job.rule]
            if well:
                stage.done += 1
                stage.seconds += self.clock() - job.began
            else:
                self._failed.add(number)
                stage.failed += 1
            return (
                f"{job.rule} {job.label} {'done' if well else 'failed'} after {_duration(self.clock() - job.began)}; "
                f"{job.rule} {stage.done} of {stage.jobs}"
            )

    @property
    def summary(self) -> str:
        """Return one line with what is done, what failed and the time so far."""
        with self._lock:
            stages = self._stages.values()
            done, jobs, failed = (sum(getattr(stage, name) for stage in stages) for name in ("done", "jobs", "failed"))
            text = f"{done} of {jobs} jobs done in {_duration(self.clock() - self._began)}"
            return text + (f", {failed} failed" if failed else "")

    @property
    def outlook(self) -> str:
        """Return the summary with the time left, which the logs of the running jobs tell."""
        with self._lock:
            return self.summary + self._left()

    def lines(self) -> list[str]:
        """Return what is said from time to time where there is no terminal: each running job, and the whole run."""
        with self._lock:
            jobs = [f"{job.rule} {job.label}: {self._state(job)}" for job in list(self._running.values())[:_MOST_JOBS]]
            return [*jobs, self.outlook]

    def __rich__(self) -> RenderableType:
        """Show the stages, the running jobs below them, and the summary with the time left."""
        with self._lock:
            stages, jobs = (Table.grid(padding=(0, 2, 0, 0)) for _ in range(2))
            for rule, stage in self._stages.items():
                bar = ProgressBar(total=stage.jobs, completed=stage.done, width=24)
                note = Text(f"{stage.failed} failed" if stage.failed else "", "bold red")
                stages.add_row(rule, bar, f"{stage.done} of {stage.jobs}", note)
            for job in list(self._running.values())[:_MOST_JOBS]:
                jobs.add_row(Text(f"  {job.rule}"), Text(job.label), Text(self._state(job)))
            parts: list[RenderableType] = [stages, jobs] if self._running else [stages]
            if len(self._running) > _MOST_JOBS:
                parts.append(Text(f"  and {len(self._running) - _MOST_JOBS} more jobs"))
            return Group(*parts, Text(self.outlook, "bold"))

    def _state(self, job: _RunningJob) -> str:
        progress = job.progress
        return progress.text if progress else f"for {_duration(self.clock() - job.began)}"

    def _left(self) -> str:
        """Estimate the time left as remaining jobs times time per job, and name the stages that it is of, or not."""
        seconds = 0.0
        known, unknown = list[str](), list[str]()
        for rule, stage in self._stages.items():
            remaining = stage.jobs - stage.done - stage.failed
            per_job = self._seconds_per_job(rule, stage)
            if remaining:
                (unknown if per_job is None else known).append(rule)
            if per_job is not None:
                worked = sum(self.clock() - job.began for job in self._running.values() if job.rule == rule)
                seconds += max(remaining * per_job - worked, 0.0) / stage.side_by_side
        if unknown and not seconds:
            return f"; no time known yet of {_named(unknown)}"
        left = f"; about {_duration(seconds)} left" if seconds else ""
        return f"{left} of {_named(known)}; then {_named(unknown)}" if unknown else left

    def _seconds_per_job(self, rule: str, stage: _Stage) -> float | None:
        """Return the mean over the jobs that are done; before the first, what the running jobs expect."""
        if stage.done:
            return stage.seconds / stage.done
        expected = []
        for job in self._running.values():
            progress = job.progress if job.rule == rule else None
            if progress and progress.left_seconds is not None:
                worked = self.clock() - job.began
                # The first steps are slow, and a rate from them alone says hours where minutes are left.
                if worked >= _SETTLED_S or progress.left_seconds <= _SETTLED_TIMES * worked:
                    # The time so far includes the start of the job, which its own rate does not.
                    expected.append(worked + progress.left_seconds)
        return sum(expected) / len(expected) if expected else None


def _named(rules: list[str]) -> str:
    return ", ".join(rules[:_MOST_NAMES]) + (", ..." if len(rules) > _MOST_NAMES else "")


def place(rule: str) -> tuple[int, str]:
    """Return where the stage of a rule stands: in the order of the pipeline, others behind by name."""
    return (_ORDER.index(rule) if rule in _ORDER else len(_ORDER)), rule


def _written_ns(path: Path | None) -> int:
    """Return when a file was last written, 0 if there is none."""
    try:
        return path.stat().st_mtime_ns if path else 0
    except OSError:
        return 0


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
