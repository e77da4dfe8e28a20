"""What the installed software can do: OpenCV, decoding, Ray and Slurm.

Libraries are imported where they are used, so that a broken one costs its own part of the report only.
"""

import importlib.metadata
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from atw.extras.doctor.hardware import Part

CODECS = ("h264", "hevc", "mpeg4", "mjpeg", "vp9", "av1")
_COMMAND_SECONDS = 10
_GREYS = (60, 120, 180)


def examine_opencv() -> Part:
    """Ask OpenCV how it was built, which CUDA devices it finds, and for its implementations of TV-L1."""
    import cv2

    build = cv2.getBuildInformation()
    cuda: Any = getattr(cv2, "cuda", None)
    with_cuda = _build_line(build, "NVIDIA CUDA")
    version = re.search(r"ver ([\d.]+)", with_cuda or "")
    content = {
        "version": cv2.__version__,
        "built_with_cuda": version[1] if version else with_cuda,
        "built_for_gpus": _build_line(build, "NVIDIA GPU arch"),
        "cuda_devices": max(0, cuda.getCudaEnabledDeviceCount()) if cuda else 0,
        "tvl1": hasattr(cv2, "optflow") and hasattr(cv2.optflow, "DualTVL1OpticalFlow_create"),
        "tvl1_cuda": hasattr(cuda, "OpticalFlowDual_TVL1"),
    }
    text = "built without CUDA"
    if content["built_with_cuda"]:
        gpus, devices = content["built_for_gpus"], content["cuda_devices"] or "no"
        text = f"built with CUDA {content['built_with_cuda']} for compute capability {gpus}, {devices} device found"
    solvers = [name for name, key in (("CPU", "tvl1"), ("CUDA", "tvl1_cuda")) if content[key]]
    return Part(content, [("OpenCV", f"{cv2.__version__}, {text}; TV-L1: {' and '.join(solvers) or 'none'}")])


def _build_line(build: str, name: str) -> str | None:
    found = re.search(rf"^\s*{name}:[ \t]*(.*)$", build, re.MULTILINE)
    value = found[1].strip() if found else ""
    return None if value in ("", "NO") else value


def examine_decoding() -> Part:
    """Decode a small video, and look for the decoders of `CODECS`."""
    import av

    codecs = {name: name in av.codecs_available and _decodes(name) for name in CODECS}
    there = " ".join(name for name, decodes in codecs.items() if decodes)
    missing = " ".join(name for name, decodes in codecs.items() if not decodes)
    ffmpeg = ".".join(map(str, av.library_versions["libavcodec"]))
    content = {"pyav": av.__version__, "ffmpeg": ffmpeg, "codecs": codecs, "fails": _try_decoding()}
    rows = [("decoding", f"PyAV {av.__version__}, {there}")]
    return Part(content, rows + ([("no decoder for", missing)] if missing else []))


def _decodes(name: str) -> bool:
    import av

    try:
        return av.codec.Codec(name, "r").name is not None
    except ValueError:  # FFmpeg can only encode it
        return False


def _try_decoding() -> str | None:
    """Write and read three small frames; return what is wrong."""
    import av
    import numpy as np

    from atw.videos.decode import Audit, read

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.avi"
        with av.open(str(path), "w") as film:
            stream: Any = film.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
            for grey in _GREYS:
                picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), grey, np.uint8), format="bgr24")
                film.mux(stream.encode(picture))
            film.mux(stream.encode(None))
        frames = list(read(path, Audit(), width=32, height=32, max_pixels=1024, max_frames=3))
    means = [float(frame.mean()) for frame in frames]
    if len(means) == 3 and np.allclose(means, _GREYS, atol=5):
        return None
    return f"three frames of brightness 60, 120 and 180 were read as {means}"


def examine_ray() -> Part:
    """Look for Ray, and for the cluster that RAY_ADDRESS names."""
    version, address = _version("ray"), os.environ.get("RAY_ADDRESS")
    where = f", RAY_ADDRESS={address}" if address else ""
    return Part({"version": version, "address": address}, [("Ray", (version or "not installed") + where)])


def examine_slurm() -> Part:
    """Look for Slurm's commands, for Snakemake and for its executor plugin for Slurm."""
    version = None
    if shutil.which("sbatch"):
        run = subprocess.run(["sbatch", "--version"], capture_output=True, text=True, timeout=_COMMAND_SECONDS)
        version = run.stdout.strip() or f"sbatch fails: {(run.stderr.strip().splitlines() or ['without a word'])[-1]}"
    snakemake, plugin = _version("snakemake"), _version("snakemake-executor-plugin-slurm")
    rows = [
        ("Snakemake", snakemake or "not installed"),
        ("Slurm", version or "not here: no sbatch"),
        ("Snakemake's Slurm plugin", plugin or "not installed: snakemake-executor-plugin-slurm"),
    ]
    return Part({"version": version, "snakemake": snakemake, "snakemake_plugin": plugin}, rows)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
