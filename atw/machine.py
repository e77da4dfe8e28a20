"""What the machine offers this process: cores, memory, and the name of its processor."""

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import psutil

ROOT = Path("/")
SHARED_MEMORY = Path("/dev/shm")
"""Reading processes hand their batches on through it."""
_CGROUP_FILES = {  # of control groups version 2 (no controller named) and 1
    "cpu": {"": "cpu.max", "cpu": "cpu.cfs_quota_us"},
    "memory": {"": "memory.max", "memory": "memory.limit_in_bytes"},
}


def usable_cores() -> int:
    """Return how many cores this process may use: its affinity, and the quota of its control groups rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for file in _cgroup_files("cpu"):
        quota, *period = file.read_text(encoding="ascii").split()
        if not period:  # version 1
            period = [file.with_name("cpu.cfs_period_us").read_text(encoding="ascii")]
        if quota not in ("max", "-1"):
            cores = min(cores, -(-int(quota) // int(period[0])))
    return max(1, cores)


def memory_bytes() -> tuple[int, int]:
    """Return how much memory this process may use, and how much of it is free."""
    memory = psutil.virtual_memory()
    limits = [file.read_text(encoding="ascii").strip() for file in _cgroup_files("memory")]
    total = min([memory.total, *(int(limit) for limit in limits if limit.isdigit())])
    return total, min(total, memory.available)


def _cgroup_files(kind: str) -> Iterator[Path]:
    """Yield the files with the limits of this process's control group and of all groups above it."""
    names = _CGROUP_FILES[kind]
    membership = ROOT / "proc/self/cgroup"
    for line in membership.read_text(encoding="utf-8").splitlines() if membership.exists() else ():
        _, controllers, path = line.split(":", 2)
        for controller in names.keys() & set(controllers.split(",")):
            top = ROOT / "sys/fs/cgroup" / controller
            group = top / path.strip("/")
            folders = [group, *group.parents]
            for folder in folders[: folders.index(top) + 1]:
                if (folder / names[controller]).is_file():
                    yield folder / names[controller]


def processor() -> str:
    """Return the processor's name."""
    cpuinfo = ROOT / "proc/cpuinfo"
    for line in cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
