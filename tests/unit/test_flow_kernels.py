"""The numba kernels against float64 by hand and against OpenCV."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atw.flow.cpu.iteration import iterate, relax
from atw.flow.cpu.layout import (
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
    plane,
    row_stride,
)
from atw.flow.cpu.linearise import empty_packed, linearise, pack
from atw.flow.cpu.pyramid import fill_pyramid, pixels, repeat_edges, resize
from atw.flow.parameters import parameters, pyramid_sizes

TAU, THETA = 0.25, 0.3


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


def iterate_by_hand(state: np.ndarray, height: int, width: int, count: int) -> tuple[np.ndarray, float]:
    """The textbook iteration in float64 on whole images, with p itself: flow [2, H, W] and the last squared update."""
    nx, ny, rho, limit, *flow = (plane(state, index, height, width).astype(np.float64) for index in range(6))
    u = np.stack(flow)
    p = np.zeros((2, 2, height, width))  # component, direction
    squared = np.nan
    for _ in range(count):
        residual = rho + nx * u[0] + ny * u[1]
        v = u - np.clip(residual, -limit, limit) * np.stack([nx, ny])
        divergence = np.diff(p[:, 0], axis=2, prepend=0) + np.diff(p[:, 1], axis=1, prepend=0)
        new = v + THETA * divergence
        squared = float(((new - u) ** 2).sum())
        u = new
        gradient = np.stack([np.diff(u, axis=2, append=u[:, :, -1:]), np.diff(u, axis=1, append=u[:, -1:])], axis=1)
        length = np.sqrt((gradient**2).sum(axis=1, keepdims=True))
        p = (p + TAU / THETA * gradient) / (1 + TAU / THETA * length)
    return u, squared


def flow_of(state: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.stack([plane(state, index, height, width) for index in (FLOW_X, FLOW_Y)])


@pytest.mark.parametrize(("height", "width"), [(16, 16), (20, 31), (17, 48)])
@pytest.mark.parametrize("count", [1, 2, 7, 25])
def test_iterations_equal_the_textbook(height: int, width: int, count: int) -> None:
    state = random_state(height, width, count)
    expected, expected_squared = iterate_by_hand(state, height, width, count)
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
    sizes = pyramid_sizes(height, width, parameters("opencv4", scale_step=step))
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
    assert pyramid_sizes(height, width, parameters(preset)) == sizes


@given(st.integers(1, 5000), st.integers(1, 50))
def test_a_row_holds_its_pixels_and_margins_in_whole_cache_lines(width: int, height: int) -> None:
    stride = row_stride(width)
    assert LEFT + width + 1 <= stride < LEFT + width + 1 + 16
    assert stride % 16 == 0
    # A vector may begin one column late, so that the last one reads one element more.
    assert aligned_zeros(height).ctypes.data % 64 == 0
