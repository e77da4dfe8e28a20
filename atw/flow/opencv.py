"""The backends `opencv` and `opencv-cuda`: OpenCV's own TV-L1, and OpenCV's threads.

The CPU code is the reference and slow. The CUDA code is in builds of OpenCV with CUDA only, not in those of PyPI.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from atw.flow.pairs import FloatArray, Images, each_pair
from atw.flow.parameters import Parameters

_lock = threading.Lock()
_inside = 0
_threads_before = 0


@contextlib.contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Keep OpenCV to the calling threads meanwhile.

    Its setting is one for the whole process, so the first to enter changes it and the last to leave puts it back.
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


def _schedule(settings: Parameters) -> dict[str, float]:
    """The settings that OpenCV's two solvers call by the same names."""
    return {
        "tau": settings.tau,
        "lambda_": settings.lambda_,
        "theta": settings.theta,
        "nscales": settings.levels,
        "warps": settings.warps,
        "epsilon": settings.epsilon,
        "scaleStep": settings.scale_step,
    }


def unusable() -> str | None:
    """Why OpenCV's CPU code cannot run here, None where it can."""
    if hasattr(cv2, "optflow"):
        return None
    return f"the installed OpenCV {cv2.__version__} lacks the module optflow; install opencv-contrib-python-headless"


def solve(prev: Images, next_: Images, settings: Parameters, threads: int) -> FloatArray:
    """Flow [B, 2, H, W] in px between checked batches [B, H, W], on the CPU.

    Without OpenCV's median filter and outer loop, so that the schedule is ours. It looks at the update after every
    iteration, we after every second one.
    """
    optflow: Any = cv2.optflow
    flow = np.empty((len(prev), 2, *prev.shape[1:]), np.float32)

    def fill(index: int) -> None:
        solver = optflow.DualTVL1OpticalFlow_create(
            **_schedule(settings), innnerIterations=settings.iterations, outerIterations=1, medianFiltering=1
        )
        flow[index] = solver.calc(prev[index], next_[index], None).transpose(2, 0, 1)

    with one_opencv_thread():
        each_pair(fill, len(prev), threads)
    return flow


def cuda_unusable() -> str | None:
    """Why OpenCV's CUDA code cannot run here, None where it can."""
    cuda: Any = getattr(cv2, "cuda", None)
    if not hasattr(cuda, "OpticalFlowDual_TVL1"):
        return f"the installed OpenCV {cv2.__version__} was built without CUDA"
    if cuda.getCudaEnabledDeviceCount() < 1:
        return "OpenCV finds no CUDA device"
    return None


def solve_on_cuda(prev: Images, next_: Images, settings: Parameters, threads: int) -> FloatArray:
    """Flow [B, 2, H, W] in px between checked batches [B, H, W], one pair after the other on the GPU."""
    del threads
    cuda: Any = cv2.cuda
    solver = cuda.OpticalFlowDual_TVL1.create(**_schedule(settings), iterations=settings.iterations)
    # On the default stream each of its many kernels would wait for the device.
    stream = cuda.Stream()
    first, second, found = cuda.GpuMat(), cuda.GpuMat(), cuda.GpuMat()
    flow = np.empty((len(prev), 2, *prev.shape[1:]), np.float32)
    for index in range(len(prev)):
        first.upload(prev[index], stream)
        second.upload(next_[index], stream)
        found = solver.calc(first, second, found, stream)
        fields = found.download(stream)
        stream.waitForCompletion()
        flow[index] = fields.transpose(2, 0, 1)
    return flow
