"""Input that is not two batches of ordinary frames, for every backend that runs here."""

import numpy as np
import pytest

from atw.files import InputError
from atw.flow import estimate
from atw.flow.engine import BACKENDS
from tests.unit.test_flow import moved, texture

FEW = {"levels": 2, "warps": 1, "iterations": 2, "epsilon": 0.0}


@pytest.fixture(params=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    reason = BACKENDS[name].unusable()
    if reason is not None:
        pytest.skip(f"{name}: {reason}")
    return name


def test_the_reference_backends_run_everywhere() -> None:
    assert BACKENDS["numba"].unusable() is None
    assert BACKENDS["opencv"].unusable() is None


def test_a_backend_that_cannot_run_says_why() -> None:
    image = np.zeros((1, 16, 16), np.uint8)
    for name, backend in BACKENDS.items():
        reason = backend.unusable()
        if reason is not None:
            with pytest.raises(InputError, match=f"{name} cannot run here: .+"):
                estimate(image, image, backend=name)


def test_frames_of_different_sizes_are_refused(backend: str) -> None:
    with pytest.raises(InputError, match=r"\(1, 32, 40\).*\(1, 32, 48\)"):
        estimate(np.zeros((1, 32, 40), np.uint8), np.zeros((1, 32, 48), np.uint8), backend=backend)


def test_frames_with_nan_are_refused(backend: str) -> None:
    image = np.full((1, 32, 32), np.nan, np.float32)
    with pytest.raises(InputError, match="prev is float32"):
        estimate(image, image, backend=backend)


def test_one_frame_has_no_flow(backend: str) -> None:
    video = np.zeros((1, 32, 40), np.uint8)
    assert estimate(video[:-1], video[1:], backend=backend).shape == (0, 2, 32, 40)


def test_tiny_frames_are_refused(backend: str) -> None:
    image = np.zeros((1, 8, 8), np.uint8)
    with pytest.raises(InputError, match="8 x 8 px; give at least 16 x 16"):
        estimate(image, image, backend=backend)


@pytest.mark.parametrize("level", [0, 255])
def test_constant_images_do_not_move(backend: str, level: int) -> None:
    image = np.full((1, 24, 40), level, np.uint8)
    assert not estimate(image, image, backend=backend).any()


def test_images_that_share_nothing_stay_finite(backend: str) -> None:
    random = np.random.default_rng(0)
    first, second = (random.integers(0, 256, (1, 40, 56), np.uint8) for _ in range(2))
    assert np.isfinite(estimate(first, second, backend=backend, iterations=30)).all()


def test_black_to_white_stays_finite(backend: str) -> None:
    first, second = np.zeros((1, 40, 56), np.uint8), np.full((1, 40, 56), 255, np.uint8)
    second[:, 10:20, 10:20] = 0
    assert np.isfinite(estimate(first, second, backend=backend, iterations=30)).all()


def test_4k_frames(backend: str) -> None:
    height, width = 2160, 3840
    scene = np.tile(texture(0, 270, 480), (8, 8))
    flow = estimate(moved(scene, 0, 0)[None], moved(scene, 0.5, 0)[None], backend=backend, **FEW)
    assert flow.shape == (1, 2, height, width)
    assert np.isfinite(flow).all()
    assert flow[0, 0].mean() > 0.02 > abs(flow[0, 1].mean())


@pytest.mark.parametrize("shape", [(16, 2000), (2000, 16), (17, 19)])
def test_thin_frames(backend: str, shape: tuple[int, int]) -> None:
    scene = texture(1, *shape)
    flow = estimate(moved(scene, 0, 0)[None], moved(scene, 1, 0)[None], backend=backend, iterations=20)
    assert flow.shape == (1, 2, *shape)
    assert 0.3 < np.median(flow[0, 0]) < 1.3
