"""The CPU's kernels against float64 and OpenCV; that they are vector code on every machine; and their cache."""

import concurrent.futures
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llvmlite import binding

from atw import jit
from atw.config import Flow
from atw.flow import PRESETS, cpu, estimate, parameters
from atw.flow.cpu import fill_pyramid, pixels, repeat_edges, resize
from atw.flow.cpu.linearise import empty_packed, linearise, pack
from atw.flow.cpu.rows import (
    FLOW_X,
    FLOW_Y,
    LEFT,
    LIMIT,
    NORMAL_X,
    NORMAL_Y,
    PLANES,
    RESIDUAL,
    aligned_zeros,
    empty_image,
    empty_state,
    iterate,
    plane,
    relax,
    row_stride,
)
from atw.flow.pairs import pyramid_sizes
from atw.jit import compiled
from tests.conftest import OtherUser
from tests.unit.textures import TAU, THETA, footage, iterate_by_textbook, levels_apart


def random_state(height: int, width: int, seed: int) -> np.ndarray:
    """A state as `linearise` leaves it, with arbitrary flow and zero duals."""
    random = np.random.default_rng(seed)
    state = empty_state(height, width)
    for index in (RESIDUAL, FLOW_X, FLOW_Y):
        plane(state, index, height, width)[:] = random.normal(size=(height, width))
    angle = random.uniform(0, 2 * np.pi, (height, width))
    plane(state, NORMAL_X, height, width)[:] = np.cos(angle)
    plane(state, NORMAL_Y, height, width)[:] = np.sin(angle)
    plane(state, LIMIT, height, width)[:] = random.uniform(0, 0.5, (height, width))
    return state


def flow_of(state: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.stack([plane(state, index, height, width) for index in (FLOW_X, FLOW_Y)])


@pytest.mark.parametrize(("height", "width"), [(16, 16), (20, 31), (17, 48)])
@pytest.mark.parametrize("count", [1, 2, 7, 25])
def test_iterations_equal_the_textbook(height: int, width: int, count: int) -> None:
    state = random_state(height, width, count)
    planes = np.stack([plane(state, index, height, width) for index in range(6)])
    expected, expected_squared, _ = iterate_by_textbook(planes, count)
    squared = iterate(state, height, width, row_stride(width), count, TAU, THETA)
    # The estimates of reciprocals are good to 12 to 16 bits.
    np.testing.assert_allclose(flow_of(state, height, width), expected, atol=2e-4)
    assert squared == pytest.approx(expected_squared, rel=5e-4)


@given(st.integers(16, 40), st.integers(16, 40), st.lists(st.integers(1, 12), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_iterations_can_be_split_anywhere(height: int, width: int, counts: list[int]) -> None:
    together, split = random_state(height, width, 0), random_state(height, width, 0)
    stride = row_stride(width)
    iterate(together, height, width, stride, sum(counts), TAU, THETA)
    for count in counts:
        iterate(split, height, width, stride, count, TAU, THETA)
    np.testing.assert_allclose(flow_of(split, height, width), flow_of(together, height, width), atol=1e-4)


@given(st.integers(16, 24), st.integers(16, 34), st.integers(1, 20))
@settings(max_examples=30, deadline=None)
def test_margins_stay_what_they_must_be(height: int, width: int, count: int) -> None:
    state = random_state(height, width, 1)
    stride = row_stride(width)
    iterate(state, height, width, stride, count, TAU, THETA)
    rows = state.reshape(height + 1, PLANES, stride)
    assert not rows[0].any()
    assert not rows[:, :, :LEFT].any()
    last = LEFT + width - 1
    np.testing.assert_array_equal(rows[1:, FLOW_X : FLOW_Y + 1, last + 1], rows[1:, FLOW_X : FLOW_Y + 1, last])
    assert np.isfinite(state).all()


def test_relaxing_stops_at_the_first_small_update() -> None:
    height, width, iterations, block = 24, 24, 60, 2
    enough = 0.5
    updates = []
    state = random_state(height, width, 4)
    for _ in range(iterations // block):
        updates.append(iterate(state, height, width, row_stride(width), block, TAU, THETA))
    expected = block * (1 + next(index for index, squared in enumerate(updates) if squared <= enough))
    assert block < expected < iterations
    state = random_state(height, width, 4)
    arguments = (height, width, row_stride(width), TAU, THETA, iterations, block)
    assert relax(state, *arguments, enough) == expected
    assert relax(random_state(height, width, 4), *arguments, -1.0) == iterations
    assert relax(random_state(height, width, 4), *arguments[:-2], 7, 2, -1.0) == 7


def central_gradients(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    padded = np.pad(image, 1, mode="edge")
    return (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2, (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2


def with_margins(image: np.ndarray) -> np.ndarray:
    height, width = image.shape
    padded = empty_image(height, width)
    pixels(padded, width)[:] = image
    repeat_edges(padded, width)
    return padded


def linearised(first: np.ndarray, second: np.ndarray, flow: np.ndarray, weight: float) -> dict[int, np.ndarray]:
    """The coefficient planes for images [H, W] and a flow [2, H, W]."""
    height, width = first.shape
    state, packed = empty_state(height, width), empty_packed(height, width)
    plane(state, FLOW_X, height, width)[:], plane(state, FLOW_Y, height, width)[:] = flow
    pack(with_margins(second), width, packed)
    linearise(with_margins(first), packed, state, width, row_stride(width), weight)
    return {index: plane(state, index, height, width) for index in (NORMAL_X, NORMAL_Y, RESIDUAL, LIMIT)}


@pytest.mark.parametrize("width", [50, 64, 33])
def test_linearising_equals_remapping_with_opencv(width: int) -> None:
    height, weight = 40, 0.045
    random = np.random.default_rng(0)
    first, second = (random.integers(0, 256, (height, width)).astype(np.float32) for _ in range(2))
    second[10:30, 10:30] = 77  # no gradient: no data term
    # OpenCV rounds sample points to 1/32 px; multiples of that make the comparison exact. Many lie outside the image.
    flow = (random.integers(-400, 400, (2, height, width)) / 32).astype(np.float32)
    got = linearised(first, second, flow, weight)

    xs, ys = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    points = xs + flow[0], ys + flow[1]
    warped, gx, gy = (
        cv2.remap(image, *points, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE).astype(np.float64)
        for image in (second, *central_gradients(second))
    )
    length = np.hypot(gx, gy)
    inside = (np.abs(points[0] - (width - 1) / 2) <= width / 2) & (np.abs(points[1] - (height - 1) / 2) <= height / 2)
    textured = inside & (length > 1e-2)
    without = ~inside | (length < 1e-4)
    assert textured.mean() > 0.4
    assert (~inside).mean() > 0.1
    assert (inside & without).mean() > 0.05
    divisor = np.where(without, 1, length)
    rho = warped - first - gx * flow[0] - gy * flow[1]
    np.testing.assert_allclose(got[NORMAL_X][textured], (gx / divisor)[textured], atol=1e-3)
    np.testing.assert_allclose(got[NORMAL_Y][textured], (gy / divisor)[textured], atol=1e-3)
    np.testing.assert_allclose((got[RESIDUAL] * length)[textured], rho[textured], atol=0.02)
    np.testing.assert_allclose(got[LIMIT][textured], weight * length[textured], atol=1e-4)
    for values in got.values():
        assert not values[without].any()


def test_packing_rounds_a_coarse_level_to_128ths() -> None:
    first, second = (np.random.default_rng(seed).uniform(0, 255, (20, 36)).astype(np.float32) for seed in (0, 1))
    got = linearised(first, second, np.zeros((2, 20, 36), np.float32), 1.0)
    gx, gy = central_gradients(second)
    # The limit is |g| here. Each gradient is rounded by 1/256 at most.
    np.testing.assert_allclose(got[LIMIT], np.hypot(gx, gy), atol=1 / 128)
    np.testing.assert_allclose(got[RESIDUAL] * got[LIMIT], second - first, atol=1 / 128)


@pytest.mark.parametrize("shift", [(1e9, 0.0), (-1e9, 1e9), (0.0, -1e30), (np.nan, 0.0), (0.0, np.inf)])
def test_samples_far_outside_give_no_data_term(shift: tuple[float, float]) -> None:
    image = np.random.default_rng(0).uniform(0, 255, (20, 20)).astype(np.float32)
    flow = np.broadcast_to(np.array(shift, np.float32)[:, None, None], (2, 20, 20))
    got = linearised(image, image, flow, 0.045)
    for index in (NORMAL_X, NORMAL_Y, LIMIT):
        assert not got[index].any()


@pytest.mark.parametrize(("height", "width"), [(96, 128), (97, 53), (64, 340)])
@pytest.mark.parametrize("step", [0.5, 0.8, 0.63])
def test_pyramid_equals_resizing_with_opencv(height: int, width: int, step: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)
    sizes = pyramid_sizes(height, width, parameters(Flow(scale_step=step)))
    expected = image.astype(np.float32)
    levels = [empty_image(*size) for size in sizes]
    fill_pyramid(levels, image, [size[1] for size in sizes], step)
    for size, level in zip(sizes, levels, strict=True):
        assert expected.shape == size
        np.testing.assert_allclose(pixels(level, size[1]), expected, atol=0.02)
        np.testing.assert_array_equal(level[:, LEFT - 1], level[:, LEFT])
        np.testing.assert_array_equal(level[:, LEFT + size[1]], level[:, LEFT + size[1] - 1])
        expected = cv2.resize(expected, None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR)
    assert len(sizes) == 5 or min(expected.shape) < 16


def test_enlarging_equals_opencv() -> None:
    coarse = np.random.default_rng(0).normal(size=(21, 33)).astype(np.float32)
    fine = np.empty((43, 65), np.float32)
    resize(coarse, fine, 21 / 43, 33 / 65, 2.0)
    np.testing.assert_allclose(fine, 2 * cv2.resize(coarse, (65, 43), interpolation=cv2.INTER_LINEAR), atol=1e-4)


@pytest.mark.parametrize(
    ("height", "width", "preset", "sizes"),
    [
        (256, 340, "opencv24", [(256, 340), (128, 170), (64, 85), (32, 42), (16, 21)]),
        (255, 340, "opencv24", [(255, 340), (128, 170), (64, 85), (32, 42), (16, 21)]),
        (96, 128, "fast", [(96, 128), (48, 64), (24, 32)]),
        (256, 340, "opencv4", [(256, 340), (205, 272), (164, 218), (131, 174), (105, 139)]),
        (16, 16, "opencv4", [(16, 16)]),
        (20, 400, "opencv4", [(20, 400), (16, 320)]),
    ],
)
def test_pyramid_sizes(height: int, width: int, preset: str, sizes: list[tuple[int, int]]) -> None:
    assert pyramid_sizes(height, width, PRESETS[preset]) == sizes


@given(st.integers(1, 5000), st.integers(1, 50))
def test_a_row_holds_its_pixels_and_margins_in_whole_cache_lines(width: int, height: int) -> None:
    stride = row_stride(width)
    assert LEFT + width + 1 <= stride < LEFT + width + 1 + 16
    assert stride % 16 == 0
    # A vector may begin one column late, so that the last one reads one element more.
    assert aligned_zeros(height).ctypes.data % 64 == 0


INTEL = platform.machine() in ("x86_64", "AMD64")


def kernels() -> dict[str, tuple[object, tuple[object, ...]]]:
    """Each kernel with arguments to compile it for."""
    state, image, packed = empty_state(16, 16), empty_image(16, 16), empty_packed(16, 16)
    return {
        "iterate": (iterate, (state, 16, 16, row_stride(16), 2, 0.25, 0.3)),
        "linearise": (linearise, (image, packed, state, 16, row_stride(16), 0.045)),
        "pack": (pack, (image, 16, packed)),
    }


def assembly(kernel: str, triple: str, processor: str) -> str:
    """What LLVM makes of a kernel on another machine."""
    dispatcher, arguments = kernels()[kernel]
    fresh = numba.njit(fastmath=True, error_model="numpy")(dispatcher.py_func)  # type: ignore[attr-defined]
    fresh(*arguments)
    (text,) = fresh.inspect_llvm().values()
    # numba's own reference counting is in there, in the form of this machine.
    text = re.sub(
        r"^define [^\n]*@NRT_(\w+)\(.*?^}", r"declare void @NRT_\1(ptr)", text, flags=re.MULTILINE | re.DOTALL
    )
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = binding.Target.from_triple(triple).create_target_machine(cpu=processor, opt=3)
    module = binding.parse_assembly(re.sub(r"target (triple|datalayout) = .*", "", text))
    module.triple = triple
    module.data_layout = str(machine.target_data)
    emitted: str = machine.emit_assembly(module)
    return emitted


MACHINES = {
    "AVX2": ("x86_64-unknown-linux-gnu", "haswell", r"vfn?m(add|sub)\d+ps\s.*%ymm", r"vfn?m(add|sub)\d+ss"),
    "AVX-512": ("x86_64-unknown-linux-gnu", "skylake-avx512", r"vfn?m(add|sub)\d+ps\s.*%zmm", r"vfn?m(add|sub)\d+ss"),
    "Arm": ("aarch64-unknown-linux-gnu", "neoverse-n1", r"fml[as]\s+v\d+\.4s", r"fmn?(add|sub)\s+s\d+"),
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("kernel", ["iterate", "linearise"])
def test_kernels_are_vector_code(machine: str, kernel: str) -> None:
    triple, processor, vector, scalar = MACHINES[machine]
    text = assembly(kernel, triple, processor)
    assert len(re.findall(vector, text)) >= 20
    assert not re.findall(scalar, text)
    assert re.findall(r"rsqrt(14)?ps|frsqrte", text)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_dual_update_neither_divides_nor_takes_roots(machine: str) -> None:
    triple, processor, *_ = MACHINES[machine]
    text = assembly("iterate", triple, processor)
    assert not re.findall(r"\sv?(sqrt|div)ps\s|fsqrt\s+v|fdiv\s+v", text)


ELSEWHERE = """
import sys, numpy as np
from atw.config import Flow
from atw.flow import estimate
pairs = np.load(sys.argv[1])
np.save(sys.argv[2], estimate(pairs[0], pairs[1], Flow(preset="opencv24", backend="numba")))
"""


def run(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )


@pytest.mark.skipif(not INTEL, reason="another processor's names")
@pytest.mark.parametrize(("processor", "features"), [("haswell", "+avx2,+fma"), ("x86-64", "")])
def test_older_processors_find_the_same_flow(processor: str, features: str, tmp_path: Path) -> None:
    np.save(tmp_path / "pairs.npy", np.stack(footage()))
    paths = str(tmp_path / "pairs.npy"), str(tmp_path / "flow.npy")
    cache = str(tmp_path / "cache")
    run(ELSEWHERE, *paths, NUMBA_CPU_NAME=processor, NUMBA_CPU_FEATURES=features, NUMBA_CACHE_DIR=cache)
    here = estimate(*footage(), Flow(preset="opencv24", backend="numba"))
    assert np.abs(here).max() > 1
    assert levels_apart(here, np.load(tmp_path / "flow.npy")).mean() < 0.1


COMPILE = """
import numpy as np
from atw.config import Flow
from atw.flow import estimate
from atw.flow.cpu.linearise import linearise
image = np.random.default_rng(0).integers(0, 256, (2, 32, 32), np.uint8)
flow = estimate(image[:1], image[1:], Flow(preset="fast", backend="numba"))
print(float(np.abs(flow).sum()), sum(linearise.stats.cache_hits.values()), sum(linearise.stats.cache_misses.values()))
"""


def test_processes_that_start_at_once_share_one_cache(tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        outputs = [process.stdout for process in pool.map(lambda _: run(COMPILE, NUMBA_CACHE_DIR=cache), range(2))]
    sums = {output.split()[0] for output in outputs}
    assert len(sums) == 1
    total, hits, misses = run(COMPILE, NUMBA_CACHE_DIR=cache).stdout.split()
    assert total in sums
    assert (int(hits) > 0, int(misses)) == (True, 0)


def test_a_kernel_without_a_writable_cache_is_compiled_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **settings: object) -> object:
        if settings.get("cache"):
            raise RuntimeError("no locator available")
        return numba.njit

    def double(value: float) -> float:
        return 2 * value

    monkeypatch.setattr(jit.numba, "njit", refuse)
    compiled(double)
    assert "NUMBA_CACHE_DIR" in caplog.text


def test_a_cache_that_others_can_write_to_is_not_used(
    other_user: OtherUser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def halve(value: float) -> float:
        return value / 2

    other_user.run("mkdir theirs")
    for name in ("", "theirs"):
        monkeypatch.setattr("numba.core.config.CACHE_DIR", str(other_user.folder / name))
        caplog.clear()
        assert compiled(halve)(3.0) == 1.5
        assert f"others can write to {other_user.folder / name}" in caplog.text
        assert not list(other_user.folder.rglob("*.nb*"))


def test_the_cache_depends_on_all_kernel_files(monkeypatch: pytest.MonkeyPatch) -> None:
    assert iterate.py_func.__qualname__ == f"iterate-{jit.sources_digest(Path(cpu.__file__).parent)}"  # type: ignore[attr-defined]
    monkeypatch.setattr(jit, "sources_digest", lambda _: "other")

    def triple(value: float) -> float:
        return 3 * value

    assert compiled(triple).py_func.__qualname__.endswith("triple-other")  # type: ignore[attr-defined]
