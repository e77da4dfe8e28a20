"""What a job took: the last line of its log, written when it has succeeded, and read for the report.

A file of its own would be one more output of every rule. What logs say changes nothing that anything depends on.
"""

import contextlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

log = logging.getLogger("atw")
POWERCAP = Path("/sys/class/powercap")
_LINE = re.compile(r"finished after (\d+\.\d) s(?: and (\d+) J of the CPUs)?$", re.MULTILINE)


@dataclass(frozen=True)
class Taken:
    """What a job took.

    Args:
        seconds: of wall-clock time.
        joules: of this machine's CPU packages meanwhile, other processes' included; None where they cannot be read.
    """

    seconds: float
    joules: float | None


@contextlib.contextmanager
def measured() -> Iterator[None]:
    """Log what the block takes, unless it fails."""
    start, before = monotonic(), read_energy(POWERCAP)
    yield
    spent = _spent(before, read_energy(POWERCAP))
    energy = "" if spent is None else f" and {spent:.0f} J of the CPUs"
    log.info("finished after %.1f s%s", monotonic() - start, energy)


def read_energy(folder: Path) -> dict[str, tuple[int, int]]:
    """Counter and its range, microjoules, of each CPU package (RAPL); empty where the system has or shows none."""
    found = {}
    with contextlib.suppress(OSError, ValueError):
        for package in sorted(folder.glob("intel-rapl:[0-9]")):
            values = (int((package / name).read_text()) for name in ("energy_uj", "max_energy_range_uj"))
            found[package.name] = (next(values), next(values))
    return found


def _spent(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> float | None:
    """Joules between two readings; a counter that has come round once is followed."""
    if not before or before.keys() != after.keys():
        return None
    # The range is the highest value: the next one is 0.
    return sum((after[name][0] - first) % (largest + 1) for name, (first, largest) in before.items()) / 1e6


def read_taken(path: Path) -> Taken | None:
    """What the job of a log took; None without a log, or where the job did not say, as one that failed."""
    try:
        lines = _LINE.findall(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    if not lines:
        return None
    seconds, joules = lines[-1]
    return Taken(float(seconds), float(joules) if joules else None)
