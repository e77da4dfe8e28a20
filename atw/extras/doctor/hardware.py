"""Hardware that this process may use: cores, vector instructions, memory, disk and NVIDIA GPUs."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from atw.machine import SHARED_MEMORY, memory_bytes, processor, usable_cores

_SIMD = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "neon", "sve", "sve2")
_SMI = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader,nounits")
SMI_SECONDS = 30
_GIB = 1 << 30
_LEAST_SHARED_GIB = 1.0  # 8 processes with two micro-batches of 64 MB each
_MORE_SHARED = "start a container with --shm-size 4g, or set compute.loaders to 0"


class Part(NamedTuple):
    """A part of the report: values for the JSON, and lines for people. `fails` says why the part does not work."""

    content: dict[str, Any]
    rows: list[tuple[str, str]]


def examine_machine() -> Part:
    """Examine processor, cores, vector instructions, memory and disk."""
    memory, available = (round(size / _GIB, 1) for size in memory_bytes())
    folder = Path.cwd()
    free = round(shutil.disk_usage(folder).free / _GIB, 1)
    shared = round(shutil.disk_usage(SHARED_MEMORY).free / _GIB, 1) if SHARED_MEMORY.is_dir() else None
    cores, all_cores, busy = usable_cores(), os.cpu_count() or 1, round(os.getloadavg()[0], 1)
    content = {
        "processor": processor(),
        "cores": cores,
        "cores_of_machine": all_cores,
        "busy_cores": busy,
        "simd": simd(),
        "memory_gib": memory,
        "memory_available_gib": available,
        "folder": str(folder),
        "disk_free_gib": free,
        "shared_memory_free_gib": shared,
    }
    rows = [
        ("processor", processor()),
        ("cores", f"{cores} usable of {all_cores}, {busy} busy lately"),
        ("SIMD", " ".join(simd()) or "none known"),
        ("memory", f"{memory} GiB, {available} GiB of it free"),
        ("disk", f"{free} GiB free in {folder}"),
    ]
    if shared is not None:
        little = f"; little for reading processes: {_MORE_SHARED}" if shared < _LEAST_SHARED_GIB else ""
        rows.append(("shared memory", f"{shared} GiB free in {SHARED_MEMORY}{little}"))
    return Part(content, rows)


def simd() -> list[str]:
    """Return the vector instructions that LLVM finds, which the compiled flow kernels use."""
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return [name for name in _SIMD if features.get(name)]


def examine_gpus() -> Part:
    """Ask `nvidia-smi` for the NVIDIA GPUs; `memory_gib` is None if a GPU shares the memory of the CPU."""
    lines, why_none = _list_gpus()
    devices, rows = [], []
    for number, line in enumerate(lines):
        name, driver, memory, capability = (part.strip() for part in line.rsplit(",", 3))
        gib = round(int(memory) / 1024, 1) if memory.isdigit() else None
        devices.append({"name": name, "driver": driver, "memory_gib": gib, "compute_capability": capability})
        told = f"{gib} GiB, driver {driver}" if gib else f"driver {driver}"
        rows.append((f"GPU {number}", f"{name}, {told}, compute capability {capability}"))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    rows += [] if devices else [("GPU", f"none: {why_none}")]
    rows += [] if visible is None else [("CUDA_VISIBLE_DEVICES", visible)]
    content = {"devices": devices, "why_none": None if devices else why_none, "cuda_visible_devices": visible}
    return Part(content, rows)


def _list_gpus() -> tuple[list[str], str]:
    """Return a line per GPU, and the reason if there is none."""
    try:
        run = subprocess.run(_SMI, capture_output=True, text=True, timeout=SMI_SECONDS)
    except FileNotFoundError:
        return [], "no NVIDIA driver: nvidia-smi is not installed"
    except subprocess.TimeoutExpired:
        return [], f"nvidia-smi does not answer within {SMI_SECONDS} s"
    if run.returncode:
        return [], f"nvidia-smi fails: {' '.join((run.stdout + run.stderr).split())}"
    return run.stdout.splitlines(), "nvidia-smi lists none"
