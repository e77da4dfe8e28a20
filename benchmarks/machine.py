"""Which machine and software a measurement is of."""

import datetime
import importlib.metadata
import platform
from pathlib import Path

import cv2
import numpy as np
from llvmlite import binding

import atw
from atw.files import digest, file_digest
from atw.flow.engine import BACKENDS
from atw.machine import processor, usable_cores

_PACKAGES = ("numba", "llvmlite", "numba-cuda", "cupy-cuda13x", "cucim-cu13")


def describe() -> dict[str, str]:
    """Date, hardware and versions, in words; `flow sources` is a digest over the files of atw/flow."""
    versions = {"atw": atw.__version__, "Python": platform.python_version(), "NumPy": np.__version__}
    versions["OpenCV"] = cv2.__version__
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    folder = Path(atw.__file__).parent / "flow"
    sources = {str(path.relative_to(folder)): file_digest(path) for path in sorted(folder.rglob("*.py"))}
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "CPU": f"{processor()}, {usable_cores()} cores used, LLVM's name {binding.get_host_cpu_name()}",
        "GPU": _gpu(),
        "system": f"{platform.system()} {platform.machine()}",
        "software": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "flow sources": f"SHA-256 {digest(sources)[:16]}",
    }


def _gpu() -> str:
    if "cuda" not in BACKENDS or BACKENDS["cuda"].unusable() is not None:
        return "none that the flow backend cuda can use"
    from numba import cuda

    device = cuda.get_current_device()
    name = device.name.decode() if isinstance(device.name, bytes) else device.name
    return f"{name}, compute capability {'.'.join(map(str, device.compute_capability))}"
