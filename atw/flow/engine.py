"""TV-L1 of a batch of image pairs by any backend; two of the backends are OpenCV's own code."""

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np

from atw.config import Flow
from atw.errors import InputError
from atw.flow import cpu, cuda
from atw.flow.pairs import (
    FloatArray,
    Images,
    Parameters,
    StoredFlow,
    check_pairs,
    each_pair,
    parameters,
    pyramid_sizes,
)
from atw.shards import quantise

_log = logging.getLogger(__name__)
_lock = threading.Lock()
_inside = 0
_threads_before = 0


class FlowBackend(NamedTuple):
    """A way to compute flow.

    `unusable` returns why it cannot run on this machine, None if it can. `solve` takes checked batches [B, H, W], the
    parameters and a number of CPU threads, and returns the flow [B, 2, H, W] in px. `store`, where the flow can be
    quantised on the device, takes the bound (px) instead of the threads.
    """

    what: str
    unusable: Callable[[], str | None]
    solve: Callable[[Images, Images, Parameters, int], FloatArray]
    store: Callable[[Images, Images, Parameters, float], StoredFlow] | None = None


def estimate(first: Images, second: Images, flow: Flow, *, threads: int = 1) -> FloatArray:
    """Compute TV-L1 optical flow from `first` to `second`, both uint8 [B, H, W]: float32 [B, 2, H, W], px, x before y.

    A pair's result depends neither on the rest of the batch nor on `threads`, the number of pairs that the CPU works on
    at a time, bit for bit. All backends follow the same schedule; their results differ by rounding, and because OpenCV
    applies the stopping rule after other iterations.

    Raises:
        InputError: for images other than two C-contiguous uint8 batches of one shape and of at least 16 x 16 px, and
            for a backend that cannot run here.
    """
    check_pairs(first, second)
    return BACKENDS[resolve_backend(flow.backend)].solve(first, second, parameters(flow), threads)


def estimate_stored(first: Images, second: Images, flow: Flow, *, threads: int = 1) -> StoredFlow:
    """Compute the flow of `estimate` in levels of `flow.bound`, as a shard stores it; a GPU returns nothing else.

    Raises:
        InputError: as `estimate`.
    """
    check_pairs(first, second)
    backend = BACKENDS[resolve_backend(flow.backend)]
    if backend.store is not None:
        return backend.store(first, second, parameters(flow), flow.bound)
    fields = backend.solve(first, second, parameters(flow), threads)
    levels = np.empty(fields.shape, np.uint8)

    def fill(index: int) -> None:
        levels[index] = quantise(fields[index], flow.bound)

    each_pair(fill, len(fields), threads)
    return StoredFlow(levels, int(np.count_nonzero(np.abs(fields) > flow.bound)))


@functools.cache
def fastest() -> str:
    """Find and log the fastest backend that runs on this machine, once in a process."""
    name = next(name for name, backend in BACKENDS.items() if backend.unusable() is None)
    _log.info("flow backend: %s, %s", name, BACKENDS[name].what)
    return name


def resolve_backend(name: str) -> str:
    """Return the backend that a name stands for: for "auto" the `fastest`.

    Raises:
        InputError: for an unknown name, and for a backend that cannot run on this machine, with the reason.
    """
    if name == "auto":
        return fastest()
    if name not in BACKENDS:
        raise InputError(f"unknown flow backend {name!r}; choose one of auto, {', '.join(BACKENDS)}")
    reason = BACKENDS[name].unusable()
    if reason is not None:
        raise InputError(f"flow backend {name} cannot run here: {reason}")
    return name


@contextlib.contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Keep OpenCV to the calling threads during the block.

    OpenCV has one setting per process, so the first thread to enter changes it and the last to leave restores it.
    """
    global _inside, _threads_before
    with _lock:
        if _inside == 0:
            _threads_before = cv2.getNumThreads()
            cv2.setNumThreads(1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                cv2.setNumThreads(_threads_before)


def _opencv_names(settings: Parameters, levels: int, warps: int) -> dict[str, float]:
    """Return the parameters that OpenCV's two solvers call by the same names."""
    return {
        "tau": settings.tau,
        "lambda_": settings.lambda_,
        "theta": settings.theta,
        "nscales": levels,
        "warps": warps,
        "epsilon": settings.epsilon,
        "scaleStep": settings.scale_step,
    }


def _opencv_unusable() -> str | None:
    if hasattr(cv2, "optflow"):
        return None
    return f"the installed OpenCV {cv2.__version__} lacks the module optflow; install opencv-contrib-python-headless"


def _solve_with_opencv(first: Images, second: Images, settings: Parameters, threads: int) -> FloatArray:
    """Compute flow without OpenCV's median filter and outer loop, so that the schedule is ours.

    OpenCV looks at the update after every iteration, we after every second one. It has one number of warps: where the
    finest level has another, it computes the coarser levels first, and then the finest from their flow.
    """
    optflow: Any = cv2.optflow
    sizes = pyramid_sizes(first.shape[1], first.shape[2], settings)
    flow = np.empty((len(first), 2, *first.shape[1:]), np.float32)

    def calc(images: list[Any], levels: int, warps: int, start: Any) -> Any:
        solver = optflow.DualTVL1OpticalFlow_create(
            **_opencv_names(settings, levels, warps),
            **{"innnerIterations": settings.iterations, "outerIterations": 1, "medianFiltering": 1},
            useInitialFlow=start is not None,
        )
        return solver.calc(*images, start)

    def fill(index: int) -> None:
        images, levels, start = [first[index], second[index]], len(sizes), None
        if levels > 1 and settings.warps_of(0) != settings.warps:
            (height, width), step = sizes[1], settings.scale_step
            halves = [cv2.resize(image.astype(np.float32) / 255, (width, height), fx=step, fy=step) for image in images]
            coarse = calc(halves, levels - 1, settings.warps, None)
            start, levels = cv2.resize(coarse, sizes[0][::-1]) / np.float32(step), 1
        flow[index] = calc(images, levels, settings.warps_of(0), start).transpose(2, 0, 1)

    with one_opencv_thread():
        each_pair(fill, len(first), threads)
    return flow


def _opencv_cuda_unusable() -> str | None:
    module: Any = getattr(cv2, "cuda", None)
    if not hasattr(module, "OpticalFlowDual_TVL1"):  # as in all packages on PyPI
        return f"the installed OpenCV {cv2.__version__} was built without CUDA"
    return "OpenCV finds no CUDA device" if module.getCudaEnabledDeviceCount() < 1 else None


def _solve_with_opencv_cuda(first: Images, second: Images, settings: Parameters, threads: int) -> FloatArray:
    """Compute flow pair by pair with OpenCV's CUDA code.

    Raises:
        InputError: the finest level has another number of warps, which this code does not know.
    """
    del threads
    module: Any = cv2.cuda
    if settings.warps_of(0) != settings.warps:
        raise InputError(
            f"flow backend opencv-cuda has one number of warps for all levels: set flow.finest_warps to "
            f"{settings.warps} as flow.warps, or choose another backend or preset"
        )
    names = _opencv_names(settings, settings.levels, settings.warps)
    solver = module.OpticalFlowDual_TVL1.create(**names, iterations=settings.iterations)
    # On the default stream each of its many kernels would wait for the device.
    stream = module.Stream()
    before, after, found = module.GpuMat(), module.GpuMat(), module.GpuMat()
    flow = np.empty((len(first), 2, *first.shape[1:]), np.float32)
    for index in range(len(first)):
        before.upload(first[index], stream)
        after.upload(second[index], stream)
        found = solver.calc(before, after, found, stream)
        fields = found.download(stream)
        stream.waitForCompletion()
        flow[index] = fields.transpose(2, 0, 1)
    return flow


# Fastest first; `auto` takes the first that is usable.
BACKENDS = {
    "cuda": FlowBackend("on the GPU", cuda.unusable, cuda.solve, cuda.store),
    "numba": FlowBackend("on the CPU", lambda: None, cpu.solve),
    "opencv-cuda": FlowBackend("OpenCV's code on the GPU", _opencv_cuda_unusable, _solve_with_opencv_cuda),
    "opencv": FlowBackend("OpenCV's code on the CPU", _opencv_unusable, _solve_with_opencv),
}
