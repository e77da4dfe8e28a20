"""Optical flow from outside: agreement with OpenCV, known motion, independence of batch and threads, bad input."""

import dataclasses
import logging
import math

import cv2
import numpy as np
import pytest

from atw.config import Flow
from atw.errors import InputError
from atw.flow import PRESETS, StoredFlow, cpu, engine, estimate, estimate_stored, parameters
from atw.flow.engine import BACKENDS, one_opencv_thread
from atw.shards import quantise
from tests.unit.textures import FAST, OPENCV4, footage, levels_apart, moved, pair, texture

FEW = {"levels": 2, "warps": 1, "iterations": 2, "epsilon": 0.0}
RUNNING = [name for name, backend in BACKENDS.items() if backend.unusable() is None]


def flow_between(images: np.ndarray, flow: Flow) -> np.ndarray:
    """Flow [2, H, W] of one pair [2, H, W]."""
    return np.asarray(estimate(images[:1], images[1:], flow)[0])


def test_the_reference_backends_run_everywhere() -> None:
    assert {"numba", "opencv"} <= set(RUNNING)


@pytest.mark.parametrize("preset", PRESETS)
def test_agrees_with_opencv_at_the_same_schedule(preset: str) -> None:
    flow = Flow.model_validate({"preset": preset, "backend": "numba"})
    ours = estimate(*footage(), flow)
    theirs = estimate(*footage(), flow.model_copy(update={"backend": "opencv"}))
    assert np.abs(theirs).max() > 1.0
    assert (levels_apart(ours, theirs) < 0.25).all()


@pytest.mark.parametrize("backend", RUNNING)
@pytest.mark.parametrize("shift_px", [(3.0, 0.0), (-1.5, 2.25), (0.25, -6.0)])
def test_finds_a_known_translation(backend: str, shift_px: tuple[float, float]) -> None:
    flow = flow_between(pair(3, 96, 112, *shift_px), FAST.model_copy(update={"backend": backend}))
    inside = flow[:, 12:-12, 12:-12].reshape(2, -1)
    assert np.median(inside, axis=1) == pytest.approx(shift_px, abs=0.05)
    assert np.abs(inside - np.array(shift_px)[:, None]).mean() < 0.15


def test_stored_flow_is_quantised_here_or_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = Flow(preset="fast", backend="numba", bound=1.5)
    fields = estimate(*footage(), flow)
    levels, clipped = estimate_stored(*footage(), flow, threads=2)
    np.testing.assert_array_equal(levels, quantise(fields, 1.5))
    assert clipped == np.count_nonzero(np.abs(fields) > 1.5) > 0

    def store(first: np.ndarray, second: np.ndarray, settings: object, bound: float) -> StoredFlow:
        return StoredFlow(np.full((len(first), 2, *first.shape[1:]), 7, np.uint8), int(bound * 2))

    monkeypatch.setitem(BACKENDS, "numba", BACKENDS["numba"]._replace(store=store))
    levels, clipped = estimate_stored(*footage(), flow)
    assert (levels == 7).all()
    assert clipped == 3


def test_result_depends_on_neither_threads_nor_batch() -> None:
    pairs = np.stack([pair(seed, 48, 70, seed - 2, 1) for seed in range(5)])
    first, second = np.ascontiguousarray(pairs.swapaxes(0, 1))
    together = estimate(first, second, OPENCV4, threads=3)
    assert together.dtype == np.float32
    np.testing.assert_array_equal(together, np.stack([flow_between(images, OPENCV4) for images in pairs]))


def test_result_does_not_depend_on_what_the_thread_did_before() -> None:
    images = pair(2, 64, 90, 2.5, -1)
    expected = flow_between(images, OPENCV4)
    for other in (OPENCV4, FAST):
        for before in (pair(3, 64, 90, 1, 0), images[:, :40, :50].copy()):
            flow_between(before, other)
            np.testing.assert_array_equal(flow_between(images, OPENCV4), expected)


@pytest.mark.parametrize(("side", "kept"), [(64, True), (1040, False)])
def test_memory_of_large_images_is_given_back(side: int, kept: bool) -> None:
    flow_between(np.zeros((2, side, side), np.uint8), Flow(backend="numba", warps=1, iterations=1))
    assert ("solver" in cpu._of_thread.__dict__) == kept


@pytest.mark.parametrize("backend", RUNNING)
@pytest.mark.parametrize("flow", [OPENCV4, FAST], ids=lambda flow: flow.preset)
def test_no_motion_gives_zero_flow(backend: str, flow: Flow) -> None:
    still = np.stack([np.full((40, 40), level, np.uint8) for level in (0, 200, 255)] + [pair(1, 40, 40, 0, 0)[0]])
    found = estimate(still, still, flow.model_copy(update={"backend": backend}))
    assert found.shape == (4, 2, 40, 40)
    assert not found.any()


@pytest.mark.parametrize("backend", RUNNING)
def test_images_that_share_nothing_stay_finite(backend: str) -> None:
    flow = Flow.model_validate({"backend": backend, "iterations": 30})
    first, second = np.random.default_rng(0).integers(0, 256, (2, 2, 40, 56), np.uint8)
    first[1], second[1] = 0, 255
    second[1, 10:20, 10:20] = 0
    assert np.isfinite(estimate(first, second, flow)).all()
    dark, bright = np.full((1, 32, 32), 10, np.uint8), np.full((1, 32, 32), 250, np.uint8)
    assert np.abs(estimate(dark, bright, flow)).max() < 0.5


@pytest.mark.parametrize("backend", RUNNING)
@pytest.mark.parametrize("shape", [(16, 2000), (2000, 16), (17, 19), (16, 16), (17, 33)])
def test_thin_and_small_frames(backend: str, shape: tuple[int, int]) -> None:
    found = flow_between(pair(1, *shape, 1, 0), Flow.model_validate({"backend": backend, "iterations": 20}))
    assert found.shape == (2, *shape)
    assert 0.3 < np.median(found[0]) < 1.3


@pytest.mark.parametrize("backend", [name for name in RUNNING if not name.startswith("opencv")])
def test_4k_frames(backend: str) -> None:
    scene = np.tile(texture(0, 270, 480), (8, 8))
    images = np.stack([moved(scene, 0, 0), moved(scene, 0.5, 0)])
    found = flow_between(images, Flow.model_validate({"backend": backend, **FEW}))
    assert found.shape == (2, 2160, 3840)
    assert np.isfinite(found).all()
    assert found[0].mean() > 0.02 > abs(found[1].mean())


@pytest.mark.parametrize("backend", RUNNING)
def test_one_frame_has_no_flow(backend: str) -> None:
    video = np.zeros((1, 32, 40), np.uint8)
    flow = Flow.model_validate({"backend": backend})
    assert estimate(video[:-1], video[1:], flow, threads=2).shape == (0, 2, 32, 40)


def test_presets_are_the_published_ones() -> None:
    assert {name: dataclasses.astuple(preset) for name, preset in PRESETS.items()} == {
        "opencv4": (0.25, 0.15, 0.3, 5, 0.8, 5, 300, 0.01, None),
        "opencv24": (0.25, 0.15, 0.3, 5, 0.5, 5, 300, 0.01, None),
        "fast": (0.25, 0.15, 0.2, 5, 0.5, 3, 30, 0.0, None),
        "faster": (0.25, 0.15, 0.5, 5, 0.5, 4, 16, 0.0, 1),
    }


def test_the_finest_level_may_have_warps_of_its_own() -> None:
    assert [PRESETS["faster"].warps_of(level) for level in range(3)] == [1, 4, 4]
    assert parameters(Flow(preset="fast", finest_warps=3)).warps_of(0) == PRESETS["fast"].warps_of(0)
    assert "finest_warps" not in parameters(Flow()).to_dict()
    same = Flow(preset="fast", finest_warps=3, backend="numba")
    np.testing.assert_array_equal(
        estimate(*footage(), same), estimate(*footage(), Flow(preset="fast", backend="numba"))
    )


def test_one_level_has_the_warps_of_the_finest() -> None:
    images = pair(3, 20, 24, 0.5, 0)
    once = {backend: flow_between(images, Flow(preset="faster", backend=backend)) for backend in ("numba", "opencv")}
    assert (levels_apart(once["numba"][None], once["opencv"][None]) < 0.25).all()
    np.testing.assert_array_equal(once["numba"], flow_between(images, Flow(preset="faster", warps=1, backend="numba")))


def test_opencv_on_a_gpu_refuses_other_warps_on_the_finest_level(monkeypatch: pytest.MonkeyPatch) -> None:
    usable = BACKENDS["opencv-cuda"]._replace(unusable=lambda: None)
    monkeypatch.setitem(BACKENDS, "opencv-cuda", usable)
    monkeypatch.setattr(engine.cv2, "cuda", None, raising=False)
    with pytest.raises(InputError, match="finest_warps to 4 as"):
        flow_between(np.zeros((2, 16, 16), np.uint8), Flow(preset="faster", backend="opencv-cuda"))


def test_explicit_parameters_replace_those_of_the_preset() -> None:
    for name, preset in PRESETS.items():
        assert parameters(Flow.model_validate({"preset": name})) == preset
    changed = dataclasses.replace(PRESETS["opencv4"], levels=4, lambda_=0.2, epsilon=0.0)
    assert parameters(Flow(levels=4, lambda_=0.2, epsilon=0.0, bound=15.0)) == changed


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (np.full((1, 16, 16), math.nan, np.float32), "first is float32"),
        (np.zeros((16, 16), np.uint8), "first is uint8"),
        ([[0]], "first is list"),
        (np.zeros((1, 16, 32), np.uint8)[:, :, ::2], "ascontiguousarray"),
        (np.zeros((2, 16, 16), np.uint8), r"\(2, 16, 16\).*\(1, 16, 16\).*one shape"),
    ],
)
def test_images_of_the_wrong_kind_are_refused(first: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        estimate(first, np.zeros((1, 16, 16), np.uint8), OPENCV4)


def test_too_small_images_are_refused() -> None:
    with pytest.raises(InputError, match="40 x 15 px; give at least 16 x 16"):
        flow_between(np.zeros((2, 15, 40), np.uint8), OPENCV4)


def test_a_backend_that_cannot_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "cuda", BACKENDS["cuda"]._replace(unusable=lambda: "no GPU"))
    with pytest.raises(InputError, match="flow backend cuda cannot run here: no GPU"):
        flow_between(np.zeros((2, 16, 16), np.uint8), Flow(backend="cuda"))
    with pytest.raises(InputError, match=r"unknown flow backend 'gpu'; choose one of auto, .*numba"):
        engine.resolve_backend("gpu")


@pytest.mark.usefixtures("fresh_auto")
def test_auto_says_once_what_it_takes(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "cuda", BACKENDS["cuda"]._replace(unusable=lambda: "no GPU"))
    with caplog.at_level(logging.INFO, logger="atw.flow.engine"):
        for _ in range(2):
            flow_between(np.zeros((2, 16, 16), np.uint8), Flow())
    assert caplog.messages == ["flow backend: numba, on the CPU"]


def test_opencv_is_kept_to_one_thread_only_meanwhile() -> None:
    before = cv2.getNumThreads()
    seen = []
    try:
        cv2.setNumThreads(2)
        for _ in range(2):
            with one_opencv_thread():
                with one_opencv_thread():
                    seen.append(cv2.getNumThreads())
                seen.append(cv2.getNumThreads())
            seen.append(cv2.getNumThreads())
        image = np.zeros((2, 16, 16), np.uint8)
        estimate(image, image, Flow(backend="opencv"), threads=2)
        seen.append(cv2.getNumThreads())
    finally:
        cv2.setNumThreads(before)
    assert seen == [1, 1, 2, 1, 1, 2, 2]


def test_an_error_in_one_pair_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("pair")

    monkeypatch.setattr(cpu.Solver, "solve", fail)
    image = np.zeros((3, 16, 16), np.uint8)
    for threads in (1, 2):
        with pytest.raises(RuntimeError, match="pair"):
            estimate(image, image, OPENCV4, threads=threads)
