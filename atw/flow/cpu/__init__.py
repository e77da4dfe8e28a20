"""The backend `numba`: TV-L1 on the CPU, kernels compiled by numba, one thread a pair."""

import threading

import numpy as np

from atw.flow.cpu.solver import Solver
from atw.flow.pairs import FloatArray, Images, each_pair
from atw.flow.parameters import Parameters


def unusable() -> str | None:
    """Why this backend cannot run here; None where it can, which is everywhere."""
    return None


def solve(prev: Images, next_: Images, settings: Parameters, threads: int) -> FloatArray:
    """Flow [B, 2, H, W] in px between checked batches [B, H, W]."""
    flow = np.empty((len(prev), 2, *prev.shape[1:]), np.float32)
    own = threading.local()

    def fill(index: int) -> None:
        if not hasattr(own, "solver"):
            own.solver = Solver(prev.shape[1], prev.shape[2], settings)
        own.solver.solve(prev[index], next_[index], flow[index])

    each_pair(fill, len(prev), threads)
    return flow
