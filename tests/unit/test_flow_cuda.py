"""The CUDA backend's kernels in numba's simulator, as compiled, and on a GPU.

What needs a GPU is skipped where there is none.
"""

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atw import jit
from atw.config import Flow
from atw.errors import InputError
from atw.flow import PRESETS, cpu, cuda, parameters
from atw.shards import quantise
from tests.unit.textures import iterate_by_textbook, levels_apart, pair

pytest.importorskip("numba_cuda")
from atw.flow.cuda import kernels, solver, tiles
from atw.flow.cuda.tiles import Tile
from tests.unit.cuda_program import (
    LEVEL_BOUND,
    SHORT_TILE,
    SMALL_TILE,
    STOPPING,
    UNTESTED,
    random_planes,
    run_here,
    stopping_pairs,
    untested_pairs,
)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    target = tmp_path_factory.mktemp("cuda") / "results.npz"
    run_here("simulate", target, NUMBA_ENABLE_CUDASIM="1", CUDA_VISIBLE_DEVICES="")
    with np.load(target) as results:
        return dict(results)


def test_pairs_stop_at_the_iteration_of_the_textbook(simulated: dict[str, np.ndarray]) -> None:
    planes = random_planes(0, 19, 26)
    expected = [iterate_by_textbook(each[:6], 18, 0.05**2 * 19 * 26) for each in planes]
    counts = [count for *_, count in expected]
    # Two stop within a launch, the first and a later one; one does not stop.
    assert counts == [2, 18, 14]
    records = simulated["control"][:-1].reshape(3, kernels.FIELDS)
    assert records[:, kernels.DONE].tolist() == counts
    assert simulated["control"][-1] == 0
    assert simulated["launches"] == 6
    np.testing.assert_allclose(simulated["relaxed"], np.stack([flow for flow, *_ in expected]), atol=2e-5)


def test_agrees_with_the_cpu(simulated: dict[str, np.ndarray]) -> None:
    for name, pairs, settings in (
        ("untested", untested_pairs(), UNTESTED),
        ("together", stopping_pairs(), STOPPING),
    ):
        first, second = (np.ascontiguousarray(images) for images in pairs.transpose(1, 0, 2, 3))
        expected = cpu.solve(first, second, settings, 1)
        assert np.abs(expected[-1]).max() > 0.5
        assert (levels_apart(simulated[name], expected) <= 0.05).all(), name


def test_levels_are_those_of_a_shard(simulated: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(simulated["levels"], quantise(simulated["untested"], LEVEL_BOUND))
    assert simulated["clipped"] == np.count_nonzero(np.abs(simulated["untested"]) > LEVEL_BOUND) > 0


def test_the_rest_of_the_batch_changes_nothing(simulated: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(simulated["together"][2:], simulated["split"])


def test_nothing_moves_without_motion_or_texture(simulated: dict[str, np.ndarray]) -> None:
    assert not simulated["together"][:2].any()
    assert simulated["together"][2].any()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    target = tmp_path_factory.mktemp("cuda") / "ptx.json"
    run_here("compile", target)
    found: dict[str, str] | None = json.loads(target.read_text())
    return found if found is not None else pytest.skip("NVVM is not installed")


def test_kernels_compute_in_single_precision(compiled: dict[str, str]) -> None:
    assert len(compiled) == 9
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


def test_a_block_has_written_before_it_says_so(compiled: dict[str, str]) -> None:
    """The thread that signals has a fence between the last barrier and the addition by which others know."""
    ptx = compiled["iterate"]
    after = ptx[ptx.rindex("bar.sync") if "bar.sync" in ptx else ptx.rindex("barrier.sync") :]
    steps = re.findall(r"membar\.gl|fence\.\w+\.gpu|atom\.\S*add", after)
    assert steps[0] != (arrival := next(step for step in steps if step.startswith("atom")))
    assert steps.index(arrival) == 1


class FakeSpace:
    """A workspace where the device has room for so many pairs, as it is made (`room`) and as it computes (`runs`)."""

    room, runs, made = 1 << 20, 1 << 20, list[int]()

    def __init__(self, sizes: list[tuple[int, int]], pairs: int, tile: Tile, dtype: type) -> None:
        self.full = solver.CudaAPIError(
            solver.binding.CUresult.CUDA_ERROR_OUT_OF_MEMORY, "Call to cuMemAlloc results in ..."
        )
        self.sizes, self.pairs, self.dtype = sizes, pairs, dtype
        self.made.append(pairs)
        if pairs > self.room:
            raise self.full

    def solve(self, prev: np.ndarray, next_: np.ndarray, settings: object, flow: np.ndarray, bound: float) -> int:
        assert len(prev) <= self.pairs
        if len(prev) > self.runs:
            raise self.full
        flow[:] = next_[:, None]
        return len(prev)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeSpace]]:
    """What a stand-in for a device with a terabyte of memory is asked for."""
    context = SimpleNamespace(get_memory_info=lambda: SimpleNamespace(free=1 << 40))
    device = SimpleNamespace(gpus={0: nullcontext()}, current_context=lambda: context)
    monkeypatch.setattr(solver, "cuda", device)
    monkeypatch.setattr(solver, "current_device", lambda: 0)
    monkeypatch.setattr(solver, "POOLS", {})
    monkeypatch.setattr(solver, "Workspace", FakeSpace)
    monkeypatch.setattr(FakeSpace, "made", [])
    yield FakeSpace


def test_images_beyond_the_indices_are_refused() -> None:
    huge = np.broadcast_to(np.uint8(0), (1, 12_000, 12_000))
    with pytest.raises(InputError, match="12000 x 12000 px are too large for the backend cuda"):
        solver.store(huge, huge, PRESETS["fast"], 20.0)


def solve_numbers(pairs: int) -> None:
    """The stand-in's flow of each pair is the number of its second image."""
    images = np.broadcast_to(np.arange(pairs, dtype=np.uint8)[:, None, None], (pairs, 16, 16))
    found = solver.solve(images, images, PRESETS["fast"])
    np.testing.assert_array_equal(found, np.broadcast_to(images[:, None], found.shape))


def test_a_batch_without_room_is_halved(memory: type[FakeSpace], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "room", 10)
    solve_numbers(40)
    assert memory.made == [40, 20, 10]
    solve_numbers(40)
    assert memory.made == [40, 20, 10], "what was found out is remembered"
    monkeypatch.setattr(memory, "runs", 3)
    solve_numbers(40)
    assert memory.made == [40, 20, 10, 5, 2]


@pytest.mark.parametrize("where", ["room", "runs"])
def test_without_room_for_a_pair_one_message_says_so(
    where: str, memory: type[FakeSpace], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, where, 0)
    with pytest.raises(InputError, match=r"one pair of 16 x 16 px.*flow\.backend to numba"):
        solve_numbers(5)
    assert memory.made == [5, 2, 1]


def test_a_full_gpu_that_gives_no_context_is_the_same_message(
    memory: type[FakeSpace], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def __enter__(self) -> None:
            raise FakeSpace([], 1, SMALL_TILE, np.float32).full

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setitem(solver.cuda.gpus, 0, Full())
    with pytest.raises(InputError, match="no room"):
        solve_numbers(5)


def test_other_failures_of_the_driver_stay_what_they_are(
    memory: type[FakeSpace], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise solver.CudaAPIError(solver.binding.CUresult.CUDA_ERROR_ILLEGAL_ADDRESS, "illegal address")

    monkeypatch.setattr(memory, "solve", fail)
    with pytest.raises(solver.CudaAPIError, match="illegal"):
        solve_numbers(5)
    assert memory.made == [5]


def test_workspaces_outlive_the_threads_that_used_them(memory: type[FakeSpace]) -> None:
    for pairs in (4, 3, 4):
        with ThreadPoolExecutor(1) as thread:
            thread.submit(solve_numbers, pairs).result()
    assert memory.made == [4]
    solve_numbers(6)
    assert memory.made == [4, 6], "a larger one takes its place"


def test_two_calls_at_a_time_have_a_workspace_each(memory: type[FakeSpace], monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=60)
    plain = memory.solve

    def meet(self: FakeSpace, *arguments: Any) -> int:
        both.wait()
        return plain(self, *arguments)

    monkeypatch.setattr(memory, "solve", meet)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(solve_numbers, (4, 4)))
    assert memory.made == [4, 4]


def test_waiting_asks_the_driver_and_logs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    result = solver.binding.CUresult
    answers = [result.CUDA_ERROR_NOT_READY, result.CUDA_ERROR_NOT_READY, result.CUDA_SUCCESS]
    asked = []
    monkeypatch.setattr(solver.binding, "cuEventQuery", lambda handle: (asked.append(handle), (answers.pop(0),))[1])
    solver.wait_for(SimpleNamespace(handle=7, query=None))
    assert asked == [7, 7, 7]
    answers.append(result.CUDA_ERROR_LAUNCH_FAILED)
    with pytest.raises(solver.CudaAPIError, match="LAUNCH_FAILED"):
        solver.wait_for(SimpleNamespace(handle=7, query=None))


REFUSED = """
import logging, sys
logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
import atw.flow.cuda
from numba.cuda.cudadrv import driver
from cuda.bindings.driver import CUresult
driver._logger = driver.make_logger()
for number in range(3):
    try:
        driver.driver._check_cuda_python_error("cuEventQuery", (CUresult.CUDA_ERROR_NOT_READY,))
    except driver.CudaAPIError:
        pass
driver._logger.info("add pending dealloc")
"""


def test_the_drivers_refusals_are_not_logged() -> None:
    run = subprocess.run([sys.executable, "-c", REFUSED], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


def test_kernels_are_compiled_anew_when_any_of_their_files_changes(tmp_path: Path) -> None:
    folder = Path(tiles.__file__).parent
    for kernel in (kernels.convert, tiles.iteration_kernel(tiles.TILE)):
        assert kernel.py_func.__qualname__.endswith(f"-{jit.sources_digest(folder)}")
    copy = Path(shutil.copytree(folder, tmp_path / "cuda", ignore=shutil.ignore_patterns("__pycache__")))
    assert jit.sources_digest(copy) == jit.sources_digest(folder)
    with (copy / "tiles.py").open("a") as file:
        file.write("STATE = 5\n")
    jit.sources_digest.cache_clear()
    assert jit.sources_digest(copy) != jit.sources_digest(folder)


def test_kernels_without_a_writable_cache_are_compiled_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from numba.cuda.core.caching import CacheImpl

    def fill(values: Any) -> None: ...

    monkeypatch.setattr(CacheImpl, "_locator_classes", [])  # as where no folder can be written
    kernels.kernel(32)(fill)
    assert "NUMBA_CACHE_DIR" in caplog.text


@given(st.integers(16, 5000), st.integers(16, 5000))
def test_tiles_cover_the_image_and_no_more(height: int, width: int) -> None:
    across, down = tiles.TILE.grid(height, width)
    assert (across - 1) * 52 < width <= across * 52
    assert (down - 1) * 52 < height <= down * 52
    assert width <= kernels.row_pitch(width) < width + 32


@pytest.mark.parametrize("tile", [tiles.TILE, SMALL_TILE, SHORT_TILE])
def test_tiles_are_possible(tile: Tile) -> None:
    assert tile.iterations % 2 == tile.iterations % tile.patch_columns == 0
    assert tile.iterations // 2 <= min(tile.rows, 2 * tile.patch_rows)


def test_launches() -> None:
    assert tiles.launches(300, tiles.TILE, tested=False) == 50
    assert tiles.launches(300, tiles.TILE, tested=True) == 51
    assert tiles.launches(7, tiles.TILE, tested=False) == 2


needs_gpu = pytest.mark.skipif(cuda.unusable() is not None, reason="no usable GPU")


@needs_gpu
@pytest.mark.parametrize("preset", PRESETS)
def test_a_gpu_agrees_with_the_cpu(preset: str) -> None:
    pairs = np.stack([pair(seed, 256, 340, 2.0 - seed, 1.0) for seed in range(4)])
    first, second = (np.ascontiguousarray(images) for images in pairs.transpose(1, 0, 2, 3))
    found = cuda.solve(first, second, PRESETS[preset], 1)
    assert levels_apart(found, cpu.solve(first, second, PRESETS[preset], 1)).mean() <= 0.05


@needs_gpu
def test_a_gpu_gives_the_same_for_any_batch_and_thread() -> None:
    one = np.stack([pair(seed, 256, 340, 2.0 - seed, 1.0) for seed in range(4)])
    settings = parameters(Flow(warps=2))
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
