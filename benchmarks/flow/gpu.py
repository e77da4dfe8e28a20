"""The backend `cuda` by batch size, against the device's floor, and beside OpenCV's and cuCIM's TV-L1 on the GPU."""

import importlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from atw.config import Flow
from atw.flow import estimate, parameters
from atw.flow.engine import BACKENDS
from atw.flow.pairs import FloatArray, Images, Parameters
from atw.machine import usable_cores
from benchmarks.flow import quality, timing
from benchmarks.flow.roofline import Peaks, warped_pixels
from benchmarks.material import Pairs
from benchmarks.report import share_of

# The last one stands in where somebody has neither `opencv4`'s pyramid nor a stopping rule.
SCHEDULES = {
    "opencv4": Flow(preset="opencv4"),
    "fast": Flow(preset="fast"),
    "opencv24, all iterations": Flow(preset="opencv24", epsilon=0.0),
}
BATCHES = (1, 4, 16, 64, 256)
ROUNDS = 5
SLOPE_BATCH, FEW_ITERATIONS, MANY_ITERATIONS = 64, 30, 150
# At a pixel, counting a root and a division as one operation each. A launch reads ten planes (four coefficients, flow
# and dual variables) and writes six; linearising reads and writes ten.
ITERATION_OPERATIONS, LINEARISE_OPERATIONS = 51, 150
LAUNCH_BYTES, LINEARISE_BYTES = 4 * 16, 4 * 10


def measure(video: Pairs, opencv_cuda: Path | None) -> dict[str, Any]:
    """Measure what can be; everything else has a `reason` instead of numbers. The result is JSON."""
    flows = {name: solve(video.first, video.second, schedule, "numba") for name, schedule in SCHEDULES.items()}
    reason = unusable()
    ours: dict[str, Any] = {"reason": reason} if reason else measure_ours(video, flows)
    return {"cuda": ours, "opencv": measure_opencv(video, flows, opencv_cuda), "cucim": measure_cucim(video, flows)}


def unusable() -> str | None:
    """Why the backend `cuda` cannot run here, None where it can."""
    return BACKENDS["cuda"].unusable() if "cuda" in BACKENDS else "there is no flow backend cuda"


def solve(first: Images, second: Images, schedule: Flow, backend: str) -> FloatArray:
    """`estimate` by a backend on all cores."""
    return estimate(first, second, schedule.model_copy(update={"backend": backend}), threads=usable_cores())


def work(height: int, width: int, settings: Parameters) -> tuple[int, int]:
    """Bytes that must move and operations that must be done for a pair if no warp stops early.

    5.6 MB a launch for a pair of 340 x 256 px. What overlapping tiles read and compute twice is a price of the method
    and no part of the floor. Linearising is counted; the pyramid and the transfers, once a level or a pair, are not.
    """
    from atw.flow.cuda.tiles import TILE, launches

    pixels = warped_pixels(height, width, settings)
    moved = launches(settings.iterations, TILE, tested=False) * LAUNCH_BYTES + LINEARISE_BYTES
    done = settings.iterations * ITERATION_OPERATIONS + LINEARISE_OPERATIONS
    return pixels * moved, pixels * done


def measure_ours(video: Pairs, flows: dict[str, FloatArray]) -> dict[str, Any]:
    """Pairs a second for each schedule and batch, host to host, and what the device could do at most."""
    from benchmarks.flow import gpu_peaks

    peaks = gpu_peaks.measure_peaks()
    found: dict[str, Any] = {"reason": None, "peaks": peaks._asdict(), "schedules": {}}
    for name, schedule in SCHEDULES.items():
        rates = {str(batch): pairs_per_second(video, schedule, batch) for batch in BATCHES}
        levels = quality.levels_apart(solve(video.first, video.second, schedule, "cuda"), flows[name])
        settings = parameters(schedule)
        floor_s = floor_seconds(video, settings, peaks) if settings.epsilon == 0 else None
        share = None if floor_s is None else share_of(floor_s * max(rates.values()), f"{name} on the GPU")
        found["schedules"][name] = {"pairs_s": rates, "levels": levels, "floor_s": floor_s, "share": share}
    found["iteration_share"] = iteration_share(video, peaks)
    return found


def batches(video: Pairs, size: int) -> list[tuple[Images, Images]]:
    """All pairs at least once, from the start again where they run out, in batches of `size`."""
    count = math.ceil(max(len(video.names), size) / size)
    order = np.arange(count * size).reshape(count, size) % len(video.names)
    return [(video.first[rows], video.second[rows]) for rows in order]


def pairs_per_second(video: Pairs, schedule: Flow, size: int) -> float:
    """Pairs a second of wall clock, images and flow lying in the host's memory: median of several rounds."""
    prepared = batches(video, size)
    return len(prepared) * size / typical_seconds(lambda: [solve(*batch, schedule, "cuda") for batch in prepared])


def typical_seconds(run: Callable[[], object]) -> float:
    """Wall-clock seconds, median of several rounds after one to compile and to allocate."""
    run()
    return float(np.median([timing.wall_seconds(run) for _ in range(ROUNDS)]))


def floor_seconds(video: Pairs, settings: Parameters, peaks: Peaks) -> float:
    """Seconds that the bytes or the operations of a pair take at the device's peaks if no warp stops early."""
    height, width = video.first.shape[1:]
    moved, operations = work(height, width, settings)
    return max(moved / peaks.bytes_s, operations / peaks.operations_s)


def iteration_share(video: Pairs, peaks: Peaks) -> float:
    """Share of the floor that the iterations alone reach: time and floor are differences of two iteration counts."""
    taken, floors = [], []
    (batch,) = batches(Pairs(video.names[:1], video.first[:1], video.second[:1]), SLOPE_BATCH)
    for iterations in (FEW_ITERATIONS, MANY_ITERATIONS):
        schedule = Flow(preset="fast", iterations=iterations)
        floors.append(floor_seconds(video, parameters(schedule), peaks) * SLOPE_BATCH)
        taken.append(typical_seconds(partial(solve, *batch, schedule, "cuda")))
    return share_of((floors[1] - floors[0]) / (taken[1] - taken[0]), "iterations on the GPU")


def measure_opencv(video: Pairs, flows: dict[str, FloatArray], folder: Path | None) -> dict[str, Any]:
    """OpenCV's CUDA code in a process of its own, one pair after the other, data on the device."""
    if folder is None:
        return {"reason": "give a build of OpenCV that has CUDA with --opencv-cuda FOLDER"}
    with tempfile.TemporaryDirectory() as name:
        pairs, schedules, found = (Path(name) / file for file in ("pairs.npz", "schedules.json", "flows.npz"))
        np.savez(pairs, first=video.first, second=video.second)
        schedules.write_text(json.dumps({key: parameters(value).to_dict() for key, value in SCHEDULES.items()}))
        command = [sys.executable, "-m", "benchmarks.flow.opencv_cuda", str(pairs), str(schedules), str(found)]
        repository = Path(__file__).parents[2]
        paths = os.pathsep.join([str(folder.resolve()), str(repository)])
        run = subprocess.run(
            command, env=os.environ | {"PYTHONPATH": paths}, cwd=repository, capture_output=True, text=True
        )
        if run.returncode:
            return {"reason": (run.stderr.strip().splitlines() or ["it ended without a word"])[-1]}
        theirs = np.load(found)
        return {
            "reason": None,
            "schedules": {
                key: {"pairs_s": len(seconds) / sum(seconds), "levels": quality.levels_apart(theirs[key], flows[key])}
                for key, seconds in json.loads(run.stdout).items()
            },
        }


def measure_cucim(video: Pairs, flows: dict[str, FloatArray]) -> dict[str, Any]:
    """cuCIM's TV-L1 at the schedules that it can follow, one pair after the other, data on the device.

    Its pyramid goes by halves down to 16 px and it does every iteration. Its images are in 0..1, hence the 255.
    """
    try:
        cupy = importlib.import_module("cupy")
        optical_flow_tvl1 = importlib.import_module("cucim.skimage.registration").optical_flow_tvl1
    except ImportError as error:
        return {"reason": str(error)}
    if not cupy.cuda.is_available():
        return {"reason": "CuPy finds no CUDA device"}
    found = {}
    for name, schedule in SCHEDULES.items():
        settings = parameters(schedule)
        if settings.scale_step != 0.5 or settings.epsilon != 0:
            continue
        given = {"attachment": 255 * settings.lambda_, "tightness": settings.theta, "tol": 0.0}
        given |= {"num_warp": settings.warps, "num_iter": settings.iterations}
        fields, taken = [], []
        for images in zip(video.first, video.second, strict=True):
            on_device = [cupy.asarray(image, cupy.float32) / 255 for image in images]
            optical_flow_tvl1(*on_device, **(given | {"num_iter": 1}))
            cupy.cuda.get_current_stream().synchronize()
            start = time.perf_counter()
            rows_first = optical_flow_tvl1(*on_device, **given)
            cupy.cuda.get_current_stream().synchronize()
            taken.append(time.perf_counter() - start)
            fields.append(cupy.asnumpy(rows_first)[::-1])
        levels = quality.levels_apart(np.stack(fields), flows[name])
        found[name] = {"pairs_s": len(taken) / sum(taken), "levels": levels}
    return {"reason": None, "schedules": found}
