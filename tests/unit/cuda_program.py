"""The CUDA backend's kernels, simulated or compiled by a program whose results the tests compare.

It is one because the simulator must be chosen before numba is imported.
"""

import importlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from atw.config import Flow
from atw.flow import cuda, parameters
from atw.flow.cuda.kernels import HALF, PLANES
from atw.flow.cuda.tiles import TILE, Tile
from tests.unit.textures import TAU, THETA, pair

SMALL_TILE = Tile(columns=10, rows=6, patch_columns=2, patch_rows=4, iterations=4)
SHORT_TILE = SMALL_TILE._replace(iterations=2)
STOPPING = parameters(Flow(levels=2, warps=2, iterations=10, epsilon=0.1))
LEVEL_BOUND = 1.0
UNTESTED = parameters(Flow(levels=2, warps=1, finest_warps=2, iterations=5, epsilon=0.0))


def untested_pairs() -> np.ndarray:
    return np.stack([pair(0, 20, 33, 1.5, 0.5), pair(1, 20, 33, -4.0, 2.0)])


def stopping_pairs() -> np.ndarray:
    """Four pairs [4, 2, 20, 25]: still, constant with a change of brightness, slow and fast."""
    still = pair(2, 20, 25, 0, 0)
    constant = np.stack([np.full((20, 25), 20, np.uint8), np.full((20, 25), 230, np.uint8)])
    return np.stack([still, constant, pair(3, 20, 25, 0.3, 0.1), pair(4, 20, 25, 3.0, -1.0)])


def random_planes(seed: int, height: int, width: int) -> np.ndarray:
    """Coefficients, flow and zero duals of three pairs of differing size of motion, [3, 10, H, W]."""
    random = np.random.default_rng(seed)
    planes = np.zeros((3, 10, height, width), np.float32)
    angle = random.uniform(0, 2 * np.pi, (3, height, width))
    planes[:, 0], planes[:, 1] = np.cos(angle), np.sin(angle)
    planes[:, 2] = random.normal(size=(3, height, width))
    planes[:, 3] = random.uniform(0, 0.5, (3, height, width))
    planes[:, 4:6] = random.normal(size=(3, 2, height, width))
    planes[:, 2:] *= np.array([0.03, 1.0, 0.09], np.float32)[:, None, None, None]
    return planes


def quicken() -> None:
    """Give the simulator real barriers, where it polls its threads."""
    from numba.cuda.simulator import kernel

    def run(manager: Any, block: Any, *arguments: Any) -> None:
        places = list(np.ndindex(*manager._block_dim))
        barrier = threading.Barrier(len(places))

        def target() -> None:
            try:
                manager._f(*arguments)
            except BaseException:
                barrier.abort()
                raise

        threads = [kernel.BlockThread(target, manager, block, place, False) for place in places]
        for thread in threads:
            thread.syncthreads = barrier.wait
            thread.start()
        for thread in threads:
            thread.join()
        for thread in threads:
            if thread.exception and not isinstance(thread.exception[0], threading.BrokenBarrierError):
                raise thread.exception[0].with_traceback(thread.exception[1])

    kernel.BlockManager.run = run
    sys.setswitchinterval(1e-3)


def simulate(target: Path) -> None:
    """Run everything that the tests want simulated."""
    quicken()
    solver: Any = importlib.import_module("atw.flow.cuda.solver")
    results: dict[str, Any] = {}
    solver.wait_for = lambda event: None  # all is done when it returns, and its events have no handle
    solver.cuda.event = lambda timing=True: SimpleNamespace(record=lambda stream: None)
    solver.FIRST_LOOK = solver.LAUNCHES_A_LOOK = 1
    solver.TILE = SHORT_TILE
    first, second = untested_pairs().transpose(1, 0, 2, 3)
    results["untested"] = cuda.solve(first, second, UNTESTED, 1)
    results["levels"], results["clipped"] = cuda.store(first, second, UNTESTED, LEVEL_BOUND)

    solver.TILE = SMALL_TILE
    first, second = stopping_pairs().transpose(1, 0, 2, 3)
    results["together"] = cuda.solve(first, second, STOPPING, 1)
    solver.POOLS.clear()
    solver.MOST_PIXELS = 1
    first, second = first[2:], second[2:]
    results["split"] = cuda.solve(first, second, STOPPING, 1)
    results |= relaxed(solver)
    np.savez(target, **results)


def relaxed(solver: Any) -> dict[str, Any]:
    """Iterations alone, from `random_planes`: flow, iterations done and launches."""
    height, width = 19, 26
    space = solver.Workspace([(height, width)], 3, SMALL_TILE, np.float32)
    level = space.levels[0]
    planes = np.zeros((3, PLANES, height, level.pitch), np.float32)
    planes[:, :10, :, :width] = random_planes(0, height, width)
    control = np.array([[0, 18, 0, 0]] * 3, np.int32)
    level.planes.copy_to_device(planes.reshape(-1))
    space.control.copy_to_device(np.append(control, np.int32(3)).astype(np.int32))
    launches = space.relax(level, 3, parameters(Flow(tau=TAU, theta=THETA, iterations=18, epsilon=0.05)))
    control = space.control.copy_to_host()
    planes = level.planes.copy_to_host().reshape(planes.shape)[..., :width]
    halves = control[:-1].reshape(3, 4)[:, HALF]
    flow = [planes[index, 4 + 6 * half : 6 + 6 * half] for index, half in enumerate(halves)]
    return {"relaxed": np.stack(flow), "control": control, "launches": launches}


def compile_kernels() -> dict[str, str]:
    """PTX of every kernel for an sm_90 that need not be there."""
    from numba import cuda as driver
    from numba import types
    from numba.cuda import dispatcher

    from atw.flow.cuda import kernels, tiles

    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=(9, 0))
    floats, integers, integer, real = types.float32[::1], types.int32[::1], types.int32, types.float32
    size = (integer,) * 3
    signatures = {
        kernels.convert: (types.uint8[::1], floats, *size),
        kernels.shrink: (floats, *size, floats, *size, real),
        kernels.differentiate: (floats, floats, *size),
        kernels.begin: (floats, integers, *size),
        kernels.enlarge: (floats, *size, floats, integers, *size, real, real, real),
        kernels.linearise: (floats, floats, floats, integers, *size, real, integer),
        kernels.export: (floats, integers, floats, *size),
        kernels.export_levels: (floats, integers, types.uint8[::1], types.int64[::1], *size, real, real),
        tiles.iteration_kernel(TILE): (floats, integers, types.int64[::1], *size, real, real, real),
    }
    texts = {}
    for kernel, arguments in signatures.items():
        bounds = kernel.targetoptions["launch_bounds"]
        texts[kernel.py_func.__name__], _ = driver.compile(
            kernel.py_func,
            types.void(*arguments),
            device=False,
            cc=(9, 0),
            fastmath=True,
            abi="numba",
            launch_bounds=bounds,
        )
    return texts


def run_here(mode: str, target: Path, **environment: str) -> None:
    """Run this file as a program."""
    command = [sys.executable, "-W", "error", "-m", "tests.unit.cuda_program", mode, str(target)]
    root = Path(__file__).parents[2]
    run = subprocess.run(
        command, cwd=root, env=os.environ | {"PYTHONPATH": str(root)} | environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


if __name__ == "__main__":
    if sys.argv[1] == "simulate":
        simulate(Path(sys.argv[2]))
    else:
        from numba.cuda.cudadrv import nvvm

        Path(sys.argv[2]).write_text(json.dumps(compile_kernels() if nvvm.is_available() else None))
