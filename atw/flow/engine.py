"""Optical flow of a batch of image pairs, by whichever backend."""

import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from atw.files import InputError
from atw.flow.layout import FloatArray
from atw.flow.opencv_threads import one_opencv_thread
from atw.flow.parameters import SMALLEST_SIDE_PX, Parameters, parameters
from atw.flow.solver import solve

BACKENDS = ("auto", "numba", "opencv")

_log = logging.getLogger(__name__)
_backends_named: set[str] = set()


def estimate(
    prev: NDArray[np.uint8],
    next: NDArray[np.uint8],  # noqa: A002 - the field's name for it
    *,
    preset: str = "opencv4",
    backend: str = "auto",
    threads: int = 1,
    **overrides: Any,
) -> FloatArray:
    """TV-L1 optical flow from `prev` to `next`, both uint8 [B, H, W]: float32 [B, 2, H, W] in px, x before y.

    Pairs are independent of each other: neither the rest of the batch nor `threads`, the number of pairs in work at a
    time, changes a bit of the result. `overrides` replace single settings of the preset, see `Parameters`. The backends
    are "numba", the one that "auto" takes, and "opencv", OpenCV's CPU code at the same schedule, which is slow.

    Raises InputError for images other than two equal C-contiguous uint8 batches of at least 16 x 16 px, and for
    unknown or impossible settings.
    """
    settings = parameters(preset, **overrides)
    check_pairs(prev, next)
    check_threads(threads)
    chosen = {"numba": solve, "opencv": solve_with_opencv}[resolve_backend(backend)]
    flow = np.empty((len(prev), 2, *prev.shape[1:]), np.float32)

    def fill(index: int) -> None:
        flow[index] = chosen(prev[index], next[index], settings)

    with one_opencv_thread() if chosen is solve_with_opencv else contextlib.nullcontext():
        each_pair(fill, len(prev), threads)
    return flow


def check_pairs(prev: NDArray[np.uint8], next_: NDArray[np.uint8]) -> None:
    """Raise InputError unless both are equal C-contiguous uint8 [B, H, W] of at least 16 x 16 px."""
    for name, images in (("prev", prev), ("next", next_)):
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 3:
            found = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
            raise InputError(f"flow: {name} is {found}; give grey images as a uint8 array [pairs, height, width]")
        if not images.flags.c_contiguous:
            raise InputError(f"flow: {name} is not C-contiguous; pass it through numpy.ascontiguousarray")
    if prev.shape != next_.shape:
        raise InputError(f"flow: prev is {prev.shape} but next is {next_.shape}; give two batches of one shape")
    if min(prev.shape[1:]) < SMALLEST_SIDE_PX:
        height, width = prev.shape[1:]
        raise InputError(
            f"flow: images are {width} x {height} px; give at least {SMALLEST_SIDE_PX} x {SMALLEST_SIDE_PX} px"
        )


def check_threads(threads: int) -> None:
    """Raise InputError unless `threads` is a positive whole number."""
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise InputError(f"flow: threads is {threads!r}; it must be a whole number of at least 1")


def resolve_backend(name: str) -> str:
    """The backend that a name stands for, "numba" or "opencv"; logs once a process what "auto" has chosen."""
    if name not in BACKENDS:
        raise InputError(f"unknown flow backend {name!r}; choose one of {', '.join(BACKENDS)}")
    if name != "auto":
        return name
    if name not in _backends_named:
        _backends_named.add(name)
        _log.info("flow backend: numba, on the CPU")
    return "numba"


def solve_with_opencv(first: NDArray[np.uint8], second: NDArray[np.uint8], settings: Parameters) -> FloatArray:
    """Flow [2, H, W] in px by OpenCV's CPU code, without its median filter so that the schedule is ours."""
    optflow: Any = cv2.optflow
    solver = optflow.DualTVL1OpticalFlow_create(
        tau=settings.tau,
        lambda_=settings.lambda_,
        theta=settings.theta,
        nscales=settings.levels,
        warps=settings.warps,
        epsilon=settings.epsilon,
        innnerIterations=settings.iterations,
        outerIterations=1,
        scaleStep=settings.scale_step,
        medianFiltering=1,
    )
    flow: FloatArray = solver.calc(first, second, None)  # [H, W, 2]
    return flow.transpose(2, 0, 1)


def each_pair(work: Callable[[int], None], pairs: int, threads: int) -> None:
    """Call `work` with 0 .. pairs - 1, `threads` calls at a time, and raise the first error."""
    if threads == 1 or pairs < 2:
        for index in range(pairs):
            work(index)
        return
    with ThreadPoolExecutor(min(threads, pairs)) as pool:
        for _ in pool.map(work, range(pairs)):
            pass
