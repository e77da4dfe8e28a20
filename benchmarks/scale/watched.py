"""Commands in processes of their own: how long they take, and how much memory at most."""

import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

from atw.files import InputError

REPOSITORY = Path(__file__).parents[2]
_POLL_SECONDS = 0.02
YOUNG_SECONDS = 0.5  # until it runs its own program, a new process shows the memory of the one that started it
_SHOWN = 2000  # characters of what a failed command printed


class Taken(NamedTuple):
    """What a command took: CPU time, and memory, that of its processes together."""

    cpu_seconds: float
    peak_bytes: int


def run(module: str, *arguments: str | Path, folder: Path) -> Taken:
    """Run `python -m MODULE ARGUMENTS` in a folder, with this repository's packages.

    Raises:
        InputError: it failed; with the end of what it printed.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with tempfile.TemporaryFile() as log:
        begin, peak, seen = _cpu_seconds_of_children(), 0, dict[int, float]()
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            while process.poll() is None:
                peak = max(peak, _peak_bytes(process.pid, seen))
                time.sleep(_POLL_SECONDS)
        finally:
            process.kill()
            process.wait()
        cpu_seconds = _cpu_seconds_of_children() - begin
        if process.returncode:
            log.seek(0)
            said = log.read().decode(errors="replace")[-_SHOWN:]
            raise InputError(f"{module} {arguments[0]} ended with status {process.returncode}:\n{said}")
    return Taken(cpu_seconds, peak)


def _cpu_seconds_of_children() -> float:
    """Of all that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _peak_bytes(pid: int, seen: dict[int, float]) -> int:
    """Sum over a process and its descendants of the most memory that each has had.

    `seen` keeps when each was first seen. When it began is in the clock of the system, which may be set at any time.
    """
    total, now = 0, time.monotonic()
    with suppress(psutil.Error):
        total = resident_peak_bytes(pid)
        for each in psutil.Process(pid).children(recursive=True):
            if now - seen.setdefault(each.pid, now) >= YOUNG_SECONDS:
                total += resident_peak_bytes(each.pid)
    return total


def resident_peak_bytes(pid: int) -> int:
    """The most memory that a living process has had, 0 for one that is gone. The kernel keeps count: no peak is missed.

    What getrusage says of children begins with the memory of the process that started them.
    """
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
