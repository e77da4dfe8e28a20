"""The CUDA backend: its kernels in numba's simulator and as compiled, and claims of devices by several processes.

This file is also a program, because the simulator must be chosen before numba is imported: `simulate` and `compile`
write their results for the tests to compare. What needs a GPU is skipped where there is none.
"""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atw.files import InputError
from atw.flow import cpu, cuda, parameters
from atw.flow.cuda import device, layout
from atw.flow.cuda.layout import Tile

LEVEL_PX = 40 / 255
TAU, THETA = 0.25, 0.3
SMALL_TILE = Tile(columns=10, rows=6, patch_columns=2, patch_rows=4, iterations=4)
SHORT_TILE = SMALL_TILE._replace(iterations=2)
STOPPING = {"levels": 2, "warps": 2, "iterations": 10, "epsilon": 0.1}
UNTESTED = {"levels": 2, "warps": 1, "iterations": 5, "epsilon": 0.0}


def pair(seed: int, height: int, width: int, x_px: float, y_px: float) -> np.ndarray:
    """Two images [2, H, W] of a smooth texture that moves."""
    noise = np.random.default_rng(seed).standard_normal((height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    scene = np.clip(128 + 50 * smooth / smooth.std(), 0, 255).astype(np.float32)
    matrix = np.array([[1, 0, x_px], [0, 1, y_px]], np.float64)
    after = cv2.warpAffine(scene, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    images: np.ndarray = np.clip(np.rint([scene, after]), 0, 255).astype(np.uint8)
    return images


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
    """Give the simulator real barriers, where it polls its threads, and events that can be queried."""
    from numba import cuda as driver
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
    driver.event = lambda timing=True: SimpleNamespace(record=lambda stream: None, query=lambda: True)
    sys.setswitchinterval(1e-3)


def simulate(target: Path) -> None:
    """Run everything that the tests want simulated."""
    quicken()
    solver: Any = importlib.import_module("atw.flow.cuda.solver")
    results: dict[str, Any] = {}
    solver.LAUNCHES_A_LOOK = 1
    solver.TILE = SHORT_TILE
    first, second = untested_pairs().transpose(1, 0, 2, 3)
    results["untested"] = cuda.solve(first, second, parameters("opencv4", **UNTESTED), 1)

    solver.TILE = SMALL_TILE
    first, second = stopping_pairs().transpose(1, 0, 2, 3)
    results["together"] = cuda.solve(first, second, parameters("opencv4", **STOPPING), 1)
    solver._of_thread.__dict__.clear()
    solver.MOST_PIXELS = 1
    first, second = first[2:], second[2:]
    results["split"] = cuda.solve(first, second, parameters("opencv4", **STOPPING), 1)
    results |= relaxed(solver)
    np.savez(target, **results)


def relaxed(solver: Any) -> dict[str, Any]:
    """Iterations alone, from `random_planes`: flow, iterations done and launches."""
    height, width = 19, 26
    space = solver.Workspace([(height, width)], 3, SMALL_TILE)
    level = space.levels[0]
    planes = np.zeros((3, layout.PLANES, height, level.pitch), np.float32)
    planes[:, :10, :, :width] = random_planes(0, height, width)
    control = np.array([[0, 18, 0, 0]] * 3, np.int32)
    level.planes.copy_to_device(planes.reshape(-1))
    space.control.copy_to_device(np.append(control, np.int32(3)).astype(np.int32))
    launches = space.relax(level, 3, parameters("opencv4", tau=TAU, theta=THETA, iterations=18, epsilon=0.05))
    control = space.control.copy_to_host()
    planes = level.planes.copy_to_host().reshape(planes.shape)[..., :width]
    halves = control[:-1].reshape(3, 4)[:, layout.HALF]
    flow = [planes[index, 4 + 6 * half : 6 + 6 * half] for index, half in enumerate(halves)]
    return {"relaxed": np.stack(flow), "control": control, "launches": launches}


def compile_kernels() -> dict[str, str]:
    """PTX of every kernel for an sm_90 that need not be there."""
    from numba import cuda as driver
    from numba import types
    from numba.cuda import dispatcher

    from atw.flow.cuda import iteration, kernels

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
        iteration.iteration_kernel(layout.TILE): (floats, integers, types.int64[::1], *size, real, real, real),
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
    command = [sys.executable, "-W", "error", "-m", "tests.unit.test_flow_cuda", mode, str(target)]
    root = Path(__file__).parents[2]
    run = subprocess.run(
        command, cwd=root, env=os.environ | {"PYTHONPATH": str(root)} | environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    pytest.importorskip("numba_cuda")
    target = tmp_path_factory.mktemp("cuda") / "results.npz"
    run_here("simulate", target, NUMBA_ENABLE_CUDASIM="1", CUDA_VISIBLE_DEVICES="")
    with np.load(target) as results:
        return dict(results)


def iterate_by_hand(planes: np.ndarray, most: int, enough: float) -> tuple[np.ndarray, int]:
    """The textbook iteration in float64 on a pair's planes [10, H, W]: flow [2, H, W] and iterations until small."""
    nx, ny, rho, limit = planes[:4].astype(np.float64)
    u = planes[4:6].astype(np.float64)
    p = np.zeros((2, 2, *u.shape[1:]))  # component, direction
    for count in range(1, most + 1):
        v = u - np.clip(rho + nx * u[0] + ny * u[1], -limit, limit) * np.stack([nx, ny])
        divergence = np.diff(p[:, 0], axis=2, prepend=0) + np.diff(p[:, 1], axis=1, prepend=0)
        squared = float(((v + THETA * divergence - u) ** 2).sum())
        u = v + THETA * divergence
        gradient = np.stack([np.diff(u, axis=2, append=u[:, :, -1:]), np.diff(u, axis=1, append=u[:, -1:])], axis=1)
        length = np.sqrt((gradient**2).sum(axis=1, keepdims=True))
        p = (p + TAU / THETA * gradient) / (1 + TAU / THETA * length)
        if count % 2 == 0 and squared <= enough:
            break
    return u, count


def test_pairs_stop_at_the_iteration_of_the_textbook(simulated: dict[str, np.ndarray]) -> None:
    planes = random_planes(0, 19, 26)
    expected = [iterate_by_hand(each, 18, 0.05**2 * 19 * 26) for each in planes]
    counts = [count for _, count in expected]
    # Two stop within a launch, the first and a later one; one does not stop.
    assert counts == [2, 18, 14]
    records = simulated["control"][:-1].reshape(3, layout.FIELDS)
    assert records[:, layout.DONE].tolist() == counts
    assert simulated["control"][-1] == 0
    assert simulated["launches"] == 6
    np.testing.assert_allclose(simulated["relaxed"], np.stack([flow for flow, _ in expected]), atol=2e-5)


def test_agrees_with_the_cpu(simulated: dict[str, np.ndarray]) -> None:
    for name, pairs, settings in (
        ("untested", untested_pairs(), UNTESTED),
        ("together", stopping_pairs(), STOPPING),
    ):
        first, second = (np.ascontiguousarray(images) for images in pairs.transpose(1, 0, 2, 3))
        expected = cpu.solve(first, second, parameters("opencv4", **settings), 1)
        difference = np.abs(simulated[name] - expected).mean(axis=(1, 2, 3))
        assert np.abs(expected[-1]).max() > 0.5
        assert (difference <= 0.05 * LEVEL_PX).all(), f"{name}: {difference}"


def test_the_rest_of_the_batch_changes_nothing(simulated: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(simulated["together"][2:], simulated["split"])


def test_nothing_moves_without_motion_or_texture(simulated: dict[str, np.ndarray]) -> None:
    assert not simulated["together"][:2].any()
    assert simulated["together"][2].any()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    pytest.importorskip("numba_cuda")
    target = tmp_path_factory.mktemp("cuda") / "ptx.json"
    run_here("compile", target)
    found: dict[str, str] | None = json.loads(target.read_text())
    return found if found is not None else pytest.skip("NVVM is not installed")


def test_kernels_compute_in_single_precision(compiled: dict[str, str]) -> None:
    assert len(compiled) == 8
    for name, ptx in compiled.items():
        assert ".entry" in ptx
        assert not re.search(r"\.f64|%fd", ptx), name


def test_iterations_stay_in_registers(compiled: dict[str, str]) -> None:
    ptx = compiled["iterate"]
    shared = sum(int(size) for size in re.findall(r"\.shared [^;]*\[(\d+)\];", ptx))
    assert 0 < shared <= 48 * 1024
    stack = [int(size) for size in re.findall(r"\.local [^;]*__local_depot\d+\[(\d+)\];", ptx)]
    assert sum(stack) <= 16, "the patch must not be in local memory, only the squared updates may"
    assert re.search(r"\.maxntid[ \t]+512", ptx)
    assert "sqrt.approx" in ptx and "div.approx" in ptx and "fma.rn" in ptx
    assert not any(".local" in text for name, text in compiled.items() if name != "iterate")


@given(st.integers(16, 5000), st.integers(16, 5000))
def test_tiles_cover_the_image_and_no_more(height: int, width: int) -> None:
    across, down = layout.TILE.grid(height, width)
    assert (across - 1) * 52 < width <= across * 52
    assert (down - 1) * 52 < height <= down * 52
    assert width <= layout.row_pitch(width) < width + 32


@pytest.mark.parametrize("tile", [layout.TILE, SMALL_TILE, SHORT_TILE])
def test_tiles_are_possible(tile: Tile) -> None:
    assert tile.iterations % 2 == tile.iterations % tile.patch_columns == 0
    assert tile.iterations // 2 <= min(tile.rows, 2 * tile.patch_rows)


def test_launches() -> None:
    assert layout.launches(300, layout.TILE, tested=False) == 50
    assert layout.launches(300, layout.TILE, tested=True) == 51
    assert layout.launches(7, layout.TILE, tested=False) == 2


def test_work_of_a_schedule_by_hand() -> None:
    settings = parameters("opencv4", levels=1, warps=2, iterations=12)
    moved, operations = layout.work(52, 53, settings)
    # Two tiles of 64 x 64 px, two launches a warp; linearising reads and writes 10 floats a pixel.
    assert moved == 2 * (2 * (40 * 2 * 4096 + 24 * 52 * 53) + 40 * 52 * 53)
    assert operations == 2 * (12 * 51 * 2 * 4096 + 150 * 52 * 53)


HOLD = """
import sys
from atw.flow.cuda.device import hold_one
with hold_one(sys.argv[1].split(","), wait_seconds=0) as index:
    print(index, flush=True)
    sys.stdin.read()
"""


def holding(devices: str, temporary: Path) -> subprocess.Popen[str]:
    """A process that holds one of the devices until its input is closed."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, devices], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(temporary)}, text=True,
    )  # fmt: skip


def test_processes_hold_different_devices_until_they_die(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with holding("a,b", tmp_path) as first:
        assert first.stdout is not None and first.stdout.readline() == "0\n"
        with holding("a,b", tmp_path) as second:
            assert second.stdout is not None and second.stdout.readline() == "1\n"
            with (
                pytest.raises(InputError, match=r"all 2 GPUs \(b, a\).*--resources gpu=2"),
                device.hold_one(["b", "a"], wait_seconds=0.3),
            ):
                pass
            first.send_signal(signal.SIGKILL)
            with device.hold_one(["b", "a"], wait_seconds=10) as index:
                assert index == 1
            second.communicate("")
    with device.hold_one(["b", "a"], wait_seconds=10) as index:
        assert index == 0


def test_a_claim_decides_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(device, "visible_devices", lambda: ["GPU-0", "GPU-1"])
    seen = []
    with device.claim() as outer, device.claim() as inner:
        worker = threading.Thread(target=lambda: seen.append(device.current_device()))
        worker.start()
        worker.join()
    assert (outer, inner, seen) == ("GPU-0", "GPU-1", [1])
    assert (tmp_path / f"atw-gpu-{os.getuid()}").stat().st_mode & 0o777 == 0o700


def test_a_foreign_lock_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"atw-gpu-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="TMPDIR"), device.hold_one(["a"]):
        pass


def test_no_device_is_an_error_at_once() -> None:
    with pytest.raises(InputError, match="no GPU"), device.hold_one([]):
        pass


def test_says_why_it_is_unusable(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = cuda.unusable()
    assert reason is None or re.search("driver|GPU|extra", reason)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert re.search(r"numba-cuda.*atw\[cuda\]", str(cuda.unusable()))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("\nCUDA driver library cannot be found.\nEnsure that ...", "no NVIDIA driver"),
        ("Call to cuInit results in CUDA_ERROR_NO_DEVICE (100)", "finds no GPU among CUDA_VISIBLE_DEVICES=7"),
        ("Call to cuInit results in CUDA_ERROR_SYSTEM_NOT_READY (802)", "does not start.*802"),
        ("", "NVVM is missing.*atw"),
    ],
)
def test_drivers_errors_are_told_apart(error: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert re.search(words, cuda.explain(error))


@pytest.mark.parametrize(
    ("driver", "capability", "words"),
    [
        ((12, 8), (9, 0), r"driver is for CUDA 12\.8.*cu12"),
        ((13, 0), (7, 0), r"7\.0 is below 7\.5"),
        ((13, 1), (9, 0), "^None$"),
    ],
)
def test_old_drivers_and_devices_are_named(driver: tuple[int, int], capability: tuple[int, int], words: str) -> None:
    assert re.search(words, str(cuda.outdated(driver=driver, packages=(13, 0), capability=capability, lowest=(7, 5))))


needs_gpu = pytest.mark.skipif(cuda.unusable() is not None, reason="no usable GPU")


@needs_gpu
@pytest.mark.parametrize("preset", ["opencv4", "opencv24", "fast"])
def test_a_gpu_agrees_with_the_cpu(preset: str) -> None:
    pairs = np.stack([pair(seed, 256, 340, 2.0 - seed, 1.0) for seed in range(4)])
    first, second = (np.ascontiguousarray(images) for images in pairs.transpose(1, 0, 2, 3))
    found = cuda.solve(first, second, parameters(preset), 1)
    expected = cpu.solve(first, second, parameters(preset), 1)
    assert np.abs(found - expected).mean() <= 0.05 * LEVEL_PX


@needs_gpu
def test_a_gpu_gives_the_same_for_any_batch_and_thread() -> None:
    one = np.stack([pair(seed, 256, 340, 2.0 - seed, 1.0) for seed in range(4)])
    settings = parameters("opencv4", warps=2)
    pairs = np.tile(one, (16, 1, 1, 1))
    first, second = (np.ascontiguousarray(images) for images in pairs.transpose(1, 0, 2, 3))
    together = cuda.solve(first, second, settings, 1)
    results: dict[int, np.ndarray] = {}

    def work(size: int) -> None:
        results[size] = cuda.solve(first[:size], second[:size], settings, 1)

    threads = [threading.Thread(target=work, args=(size,)) for size in (1, 3, 17, 64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for size, flow in results.items():
        np.testing.assert_array_equal(flow, together[:size])
    np.testing.assert_array_equal(together[4:8], together[:4])


if __name__ == "__main__":
    if sys.argv[1] == "simulate":
        simulate(Path(sys.argv[2]))
    else:
        from numba.cuda.cudadrv import nvvm

        Path(sys.argv[2]).write_text(json.dumps(compile_kernels() if nvvm.is_available() else None))
