"""The CUDA backend's kernels in numba's simulator, as compiled, and on a GPU.

What needs a GPU is skipped where there is none.
"""

import json
import re
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atw.flow import cpu, cuda, parameters
from atw.flow.cuda import layout
from atw.flow.cuda.layout import Tile
from tests.unit.cuda_program import (
    SHORT_TILE,
    SMALL_TILE,
    STOPPING,
    TAU,
    THETA,
    UNTESTED,
    pair,
    random_planes,
    run_here,
    stopping_pairs,
    untested_pairs,
)

LEVEL_PX = 40 / 255


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
