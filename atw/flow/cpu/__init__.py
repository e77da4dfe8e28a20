"""The backend `numba`: TV-L1 on the CPU, kernels compiled by numba, one thread a pair."""

import threading

import numpy as np

from atw.flow.cpu.solver import Solver
from atw.flow.pairs import FloatArray, Images, each_pair
from atw.flow.parameters import Parameters


def unusable() -> str | None:
    """Why this backend cannot run here; None where it can, which is everywhere."""
    return None


# Memory of a larger image is given back between calls: 100 MB a thread is what may stay.
KEPT_PIXELS = 1 << 20
_of_thread = threading.local()


def solve(prev: Images, next_: Images, settings: Parameters, threads: int) -> FloatArray:
    """Flow [B, 2, H, W] in px between checked batches [B, H, W]."""
    flow = np.empty((len(prev), 2, *prev.shape[1:]), np.float32)

    def fill(index: int) -> None:
        _solver(prev.shape[1], prev.shape[2], settings).solve(prev[index], next_[index], flow[index])

    try:
        each_pair(fill, len(prev), threads)
    finally:
        if prev[:1].size > KEPT_PIXELS:
            _of_thread.__dict__.clear()
    return flow


def _solver(height: int, width: int, settings: Parameters) -> Solver:
    """The calling thread's solver: the one of its last call where that was for the same."""
    held = _of_thread.__dict__
    key = height, width, settings
    if held.get("key") != key:
        held.clear()
        held.update(key=key, solver=Solver(height, width, settings))
    solver: Solver = held["solver"]
    return solver
