"""What hardware this process may use: cores, vector instructions, memory, disk and NVIDIA GPUs."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_CGROUP_FILES = {  # of control groups version 2 (no controller named) and 1
    "cpu": {"": "cpu.max", "cpu": "cpu.cfs_quota_us"},
    "memory": {"": "memory.max", "memory": "memory.limit_in_bytes"},
}
_SIMD = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "neon", "sve", "sve2")
_SMI = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader,nounits")
_SMI_SECONDS = 30
_GIB = 1 << 30
_ROOT = Path("/")


def describe() -> dict[str, Any]:
    """Processor, cores, vector instructions, memory and disk; sizes in GiB."""
    memory, available = memory_bytes()
    folder = Path.cwd()
    return {
        "processor": processor(),
        "cores": usable_cores(),
        "cores_of_machine": os.cpu_count() or 1,
        "busy_cores": round(os.getloadavg()[0], 1),
        "simd": simd(),
        "memory_gib": round(memory / _GIB, 1),
        "memory_available_gib": round(available / _GIB, 1),
        "folder": str(folder),
        "disk_free_gib": round(shutil.disk_usage(folder).free / _GIB, 1),
    }


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its control group rounded up."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for file in _cgroup_files("cpu"):
        quota, period = _quota(file)
        if quota > 0:
            cores = min(cores, -(-quota // period))
    return max(1, cores)


def memory_bytes() -> tuple[int, int]:
    """Memory that this process may use, and how much of it is free."""
    import psutil

    memory = psutil.virtual_memory()
    total = memory.total
    for file in _cgroup_files("memory"):
        limit = file.read_text(encoding="ascii").strip()
        total = min(total, int(limit)) if limit.isdigit() else total
    return total, min(total, memory.available)


def _cgroup_files(kind: str) -> Iterator[Path]:
    """The files with the limits of this process's control groups, its own and all above."""
    names = _CGROUP_FILES[kind]
    membership = _ROOT / "proc/self/cgroup"
    for line in membership.read_text(encoding="utf-8").splitlines() if membership.exists() else ():
        _, controllers, path = line.split(":", 2)
        for controller in names.keys() & set(controllers.split(",")):
            top = _ROOT / "sys/fs/cgroup" / controller
            group = top / path.strip("/")
            folders = [group, *group.parents]
            for folder in folders[: folders.index(top) + 1]:
                if (folder / names[controller]).is_file():
                    yield folder / names[controller]


def _quota(file: Path) -> tuple[int, int]:
    """Microseconds of computing in a period of so many microseconds; 0 where there is no limit."""
    if file.name == "cpu.max":
        quota, period = file.read_text(encoding="ascii").split()
    else:
        quota, period = (
            path.read_text(encoding="ascii").strip() for path in (file, file.with_name("cpu.cfs_period_us"))
        )
    return (max(0, int(quota)) if quota != "max" else 0), int(period)


def processor() -> str:
    """The processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def simd() -> list[str]:
    """Vector instructions that LLVM sees here, and so what compiled flow kernels use."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return [name for name in _SIMD if features.get(name)]


def gpus() -> dict[str, Any]:
    """NVIDIA GPUs as `nvidia-smi` lists them, memory in GiB, or why none is listed."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    found: dict[str, Any] = {"devices": [], "why_none": None, "cuda_visible_devices": hidden}
    try:
        run = subprocess.run(_SMI, capture_output=True, text=True, timeout=_SMI_SECONDS)
    except FileNotFoundError:
        return found | {"why_none": "no NVIDIA driver: nvidia-smi is not installed"}
    except subprocess.TimeoutExpired:
        return found | {"why_none": f"nvidia-smi does not answer within {_SMI_SECONDS} s"}
    if run.returncode:
        return found | {"why_none": f"nvidia-smi fails: {' '.join((run.stdout + run.stderr).split())}"}
    for line in run.stdout.splitlines():
        name, driver, memory, capability = (part.strip() for part in line.rsplit(",", 3))
        gib = round(int(memory) / 1024, 1) if memory.isdigit() else None  # [N/A] where CPU and GPU share it
        found["devices"].append({"name": name, "driver": driver, "memory_gib": gib, "compute_capability": capability})
    return found if found["devices"] else found | {"why_none": "nvidia-smi lists none"}
