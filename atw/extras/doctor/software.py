"""What the installed software can do: OpenCV, decoding, Ray and Slurm."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

CODECS = ("h264", "hevc", "mpeg4", "mjpeg", "vp9", "av1")
_COMMAND_SECONDS = 10


def opencv() -> dict[str, Any]:
    """Version of OpenCV, whether built with CUDA and for which GPUs, CUDA devices it finds, and its two TV-L1."""
    import cv2

    build = cv2.getBuildInformation()
    cuda: Any = getattr(cv2, "cuda", None)
    return {
        "version": cv2.__version__,
        "built_with_cuda": _cuda_version(build),
        "built_for_gpus": _line(build, "NVIDIA GPU arch"),
        "cuda_devices": max(0, cuda.getCudaEnabledDeviceCount()) if cuda else 0,
        "tvl1": hasattr(cv2, "optflow") and hasattr(cv2.optflow, "DualTVL1OpticalFlow_create"),
        "tvl1_cuda": hasattr(cuda, "OpticalFlowDual_TVL1"),
    }


def _line(build: str, name: str) -> str | None:
    """What OpenCV's build information says of `name`; None if nothing or no."""
    found = re.search(rf"^\s*{name}:[ \t]*(.*)$", build, re.MULTILINE)
    value = found[1].strip() if found else ""
    return None if value in ("", "NO") else value


def _cuda_version(build: str) -> str | None:
    value = _line(build, "NVIDIA CUDA") or ""
    found = re.search(r"ver ([\d.]+)", value)
    return found[1] if found else value or None


def decoding() -> dict[str, Any]:
    """Version of PyAV, whether a video can be decoded, and which codecs' decoders are there."""
    import av

    return {
        "pyav": av.__version__,
        "ffmpeg": ".".join(map(str, av.library_versions["libavcodec"])),
        "codecs": {name: name in av.codecs_available and _decodes(name) for name in CODECS},
        "fails": _try_decoding(),
    }


def _decodes(name: str) -> bool:
    import av

    try:
        return av.codec.Codec(name, "r").name is not None
    except ValueError:  # it can only be encoded
        return False


def _try_decoding() -> str | None:
    """Why three small frames cannot be written and read again, None where they can."""
    import av

    from atw.videos.decode import Audit, read

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.avi"
        with av.open(str(path), "w") as film:
            stream: Any = film.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
            for grey in (60, 120, 180):
                picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), grey, np.uint8), format="bgr24")
                film.mux(stream.encode(picture))
            film.mux(stream.encode(None))
        frames = list(read(path, Audit(), width=32, height=32, max_pixels=1024, max_frames=3))
    means = [float(frame.mean()) for frame in frames]
    if len(means) == 3 and np.allclose(means, (60, 120, 180), atol=5):
        return None
    return f"three frames of brightness 60, 120 and 180 were read as {means}"


def ray() -> dict[str, Any]:
    """Version of Ray and the cluster that RAY_ADDRESS names."""
    return {"version": _version("ray"), "address": os.environ.get("RAY_ADDRESS")}


def slurm() -> dict[str, Any]:
    """Version of Slurm's commands, of Snakemake and of its executor plugin for Slurm; None where absent."""
    version = None
    if shutil.which("sbatch"):
        run = subprocess.run(["sbatch", "--version"], capture_output=True, text=True, timeout=_COMMAND_SECONDS)
        version = run.stdout.strip() or f"sbatch fails: {(run.stderr.strip().splitlines() or ['without a word'])[-1]}"
    return {
        "version": version,
        "snakemake": _version("snakemake"),
        "snakemake_plugin": _version("snakemake-executor-plugin-slurm"),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
