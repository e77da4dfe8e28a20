"""Optical flow from outside: agreement with OpenCV, known motion, independence of batch and threads, bad input."""

import dataclasses
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from atw.files import InputError
from atw.flow import cpu, engine, estimate, parameters
from atw.flow.opencv import one_opencv_thread

VIDEOS = Path(__file__).parents[3] / "shared" / "data" / "ucf101"


def texture(seed: int, height: int, width: int, grain_px: float = 2.0) -> np.ndarray:
    """Smooth noise, float32 in 0..255."""
    noise = np.random.default_rng(seed).standard_normal((height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), grain_px) + 2 * cv2.GaussianBlur(noise, (0, 0), 4 * grain_px)
    scene: np.ndarray = np.clip(128 + 55 * smooth / smooth.std(), 0, 255).astype(np.float32)
    return scene


def moved(image: np.ndarray, x_px: float, y_px: float) -> np.ndarray:
    """`image` with its contents displaced, uint8."""
    matrix = np.array([[1, 0, x_px], [0, 1, y_px]], np.float64)
    size = image.shape[::-1]
    warped = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    rounded: np.ndarray = np.clip(np.rint(warped), 0, 255).astype(np.uint8)
    return rounded


def footage() -> list[np.ndarray]:
    """Grey frame pairs [2, 96, 128]: of real videos where they lie beside the repository, else rendered."""
    pairs = []
    for path in sorted(VIDEOS.glob("*/*.avi"))[:2]:
        video = cv2.VideoCapture(str(path))
        frames = [video.read() for _ in range(6)]
        grey = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for read, frame in frames if read]
        pairs.append(np.stack([cv2.resize(grey[index], (128, 96)) for index in (0, 5)]))
    if not pairs:
        for seed in (0, 1):
            scene = texture(seed, 96, 128)
            after = moved(scene, 2.5, -1.25)
            after[30:60, 40:80] = moved(scene, -3.0, 2.0)[30:60, 40:80]
            pairs.append(np.stack([moved(scene, 0, 0), after]))
    return pairs


def levels(flow: np.ndarray) -> np.ndarray:
    """Flow as stored, in levels of 40/255 px, but not rounded."""
    return np.asarray(255 * (np.clip(flow, -20, 20) + 20) / 40)


@pytest.mark.parametrize("preset", ["opencv4", "opencv24", "fast"])
def test_agrees_with_opencv_at_the_same_schedule(preset: str) -> None:
    pairs = np.stack(footage())
    first, second = np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])
    ours = estimate(first, second, preset=preset, backend="numba")
    theirs = estimate(first, second, preset=preset, backend="opencv")
    assert np.abs(theirs).max() > 1.0
    difference = np.abs(levels(ours) - levels(theirs)).mean(axis=(1, 2, 3))
    assert (difference < 0.25).all(), difference


@pytest.mark.parametrize("backend", ["numba", "opencv"])
@pytest.mark.parametrize("shift_px", [(3.0, 0.0), (-1.5, 2.25), (0.25, -6.0)])
def test_finds_a_known_translation(backend: str, shift_px: tuple[float, float]) -> None:
    scene = texture(3, 96, 112)
    flow = estimate(moved(scene, 0, 0)[None], moved(scene, *shift_px)[None], preset="fast", backend=backend)
    inside = flow[0, :, 12:-12, 12:-12].reshape(2, -1)
    assert np.median(inside, axis=1) == pytest.approx(shift_px, abs=0.05)
    assert np.abs(inside - np.array(shift_px)[:, None]).mean() < 0.15


def test_result_depends_on_neither_threads_nor_batch() -> None:
    first = np.stack([moved(texture(seed, 48, 70), 0, 0) for seed in range(5)])
    second = np.stack([moved(texture(seed, 48, 70), seed - 2, 1) for seed in range(5)])
    together = estimate(first, second, threads=3)
    alone = [estimate(first[i : i + 1], second[i : i + 1])[0] for i in range(5)]
    assert together.dtype == np.float32
    np.testing.assert_array_equal(together, np.stack(alone))


def test_result_does_not_depend_on_what_the_thread_did_before() -> None:
    scene = texture(2, 64, 90)
    pair = moved(scene, 0, 0)[None], moved(scene, 2.5, -1)[None]
    expected = estimate(*pair, backend="numba")
    other = moved(texture(3, 64, 90), 0, 0)[None]
    for preset in ("opencv4", "fast"):
        for first, second in ((other, pair[0]), (other[:, :40, :50].copy(), pair[1][:, :40, :50].copy())):
            estimate(first, second, preset=preset, backend="numba")
            np.testing.assert_array_equal(estimate(*pair, backend="numba"), expected)


@pytest.mark.parametrize(("side", "kept"), [(64, True), (1040, False)])
def test_memory_of_large_images_is_given_back(side: int, kept: bool) -> None:
    image = np.zeros((1, side, side), np.uint8)
    estimate(image, image, backend="numba", preset="fast", warps=1, iterations=1)
    assert ("solver" in cpu._of_thread.__dict__) == kept


@pytest.mark.parametrize("backend", ["numba", "opencv"])
@pytest.mark.parametrize("preset", ["opencv4", "fast"])
def test_no_motion_gives_zero_flow(backend: str, preset: str) -> None:
    scene = moved(texture(1, 40, 40), 0, 0)
    still = np.stack([np.full((40, 40), 0, np.uint8), np.full((40, 40), 200, np.uint8), scene])
    flow = estimate(still, still, preset=preset, backend=backend)
    assert flow.shape == (3, 2, 40, 40)
    assert not flow.any()


@pytest.mark.parametrize("backend", ["numba", "opencv"])
def test_a_change_of_brightness_alone_stays_finite(backend: str) -> None:
    dark, bright = np.full((1, 32, 32), 10, np.uint8), np.full((1, 32, 32), 250, np.uint8)
    flow = estimate(dark, bright, backend=backend, iterations=20)
    assert np.abs(flow).max() < 0.5


def test_empty_batch() -> None:
    nothing = np.empty((0, 96, 128), np.uint8)
    assert estimate(nothing, nothing, threads=2).shape == (0, 2, 96, 128)


def test_smallest_and_odd_sizes() -> None:
    for height, width in ((16, 16), (17, 33), (16, 49)):
        scene = texture(5, height, width)
        flow = estimate(moved(scene, 0, 0)[None], moved(scene, 1, 0)[None], preset="opencv24")
        assert 0.5 < np.median(flow[0, 0]) < 1.2


@pytest.mark.parametrize(
    ("preset", "values"),
    [
        ("opencv4", (0.25, 0.15, 0.3, 5, 0.8, 5, 300, 0.01)),
        ("opencv24", (0.25, 0.15, 0.3, 5, 0.5, 5, 300, 0.01)),
        ("fast", (0.25, 0.15, 0.2, 5, 0.5, 3, 30, 0.0)),
    ],
)
def test_presets_are_the_published_ones(preset: str, values: tuple[float, ...]) -> None:
    assert dataclasses.astuple(parameters(preset)) == values
    changed = dataclasses.replace(parameters(preset), levels=4, lambda_=0.2)
    assert parameters(preset, levels=4, lambda_=0.2) == changed != parameters(preset)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"preset": "opencv5"}, "opencv5.*opencv24"),
        ({"backend": "gpu"}, "gpu.*numba"),
        ({"threads": 0}, "threads is 0"),
        ({"threads": True}, "threads is True"),
        ({"scale": 0.5}, "'scale'.*scale_step"),
        ({"scale_step": 1.0}, "scale_step is 1.0.*0.95"),
        ({"levels": 2.0}, "levels is 2.0.*whole"),
        ({"iterations": 0}, "iterations is 0"),
        ({"tau": float("nan")}, "tau is nan"),
        ({"theta": "0.3"}, "theta is '0.3'"),
    ],
)
def test_impossible_settings_are_named(settings: dict[str, object], words: str) -> None:
    image = np.zeros((1, 16, 16), np.uint8)
    with pytest.raises(InputError, match=words):
        estimate(image, image, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("prev", "words"),
    [
        (np.zeros((1, 16, 16), np.float32), "prev is float32"),
        (np.zeros((16, 16), np.uint8), "prev is uint8"),
        ([[0]], "prev is list"),
        (np.zeros((1, 16, 32), np.uint8)[:, :, ::2], "ascontiguousarray"),
        (np.zeros((2, 16, 16), np.uint8), "one shape"),
    ],
)
def test_images_of_the_wrong_kind_are_refused(prev: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        estimate(prev, np.zeros((1, 16, 16), np.uint8))


def test_too_small_images_are_refused() -> None:
    image = np.zeros((1, 15, 40), np.uint8)
    with pytest.raises(InputError, match="40 x 15 px"):
        estimate(image, image)


def test_auto_says_once_what_it_takes(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_auto", [])
    monkeypatch.setitem(engine.BACKENDS, "cuda", engine.BACKENDS["cuda"]._replace(unusable=lambda: "no GPU"))
    image = np.zeros((1, 16, 16), np.uint8)
    with caplog.at_level(logging.INFO, logger="atw.flow.engine"):
        estimate(image, image)
        estimate(image, image)
    assert [record.message for record in caplog.records] == ["flow backend: numba, on the CPU"]


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
        estimate(image, image, backend="opencv", threads=2)
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
            estimate(image, image, threads=threads)
