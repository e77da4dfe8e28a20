"""Homographies: what is fitted, what is believed, when the camera stands still, and warping by one."""

import math

import cv2
import numpy as np
import pytest

from atw.files import InputError
from atw.flow import WarpParameters
from atw.flow.camera import (
    METHODS,
    corner_motion,
    distances,
    fit_and_warp,
    fit_homography,
    plausible,
    transform,
    warp_back,
)

HEIGHT, WIDTH = 120, 160
PAN = np.array([[1.0, 0.0, 6.0], [0.0, 1.0, -4.0], [0.0, 0.0, 1.0]])
TILT = np.array([[1.02, -0.03, 5.0], [0.02, 0.99, -3.0], [1e-4, -5e-5, 1.0]])


def matches_of(homography: np.ndarray, count: int = 200, noise_px: float = 0.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    sources = rng.uniform((0, 0), (WIDTH, HEIGHT), (count, 2))
    targets = transform(sources, homography) + rng.normal(0, noise_px, (count, 2))
    return np.stack([sources, targets]).astype(np.float32)


def images() -> tuple[np.ndarray, np.ndarray]:
    first, second = np.random.default_rng(1).integers(0, 256, (2, HEIGHT, WIDTH), dtype=np.uint8)
    return first, second


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_the_motion_of_most_matches(method: str) -> None:
    matches = matches_of(TILT, noise_px=0.05)
    matches[1, 140:] += np.array([9, 5], np.float32)  # last, as usac_prosac trusts the first ones most
    settings = WarpParameters(method=method)
    fitted = fit_homography(matches, settings)
    assert fitted is not None
    assert fitted.dtype == np.float64
    grid = np.array([[x, y] for x in (0, 80, 159) for y in (0, 60, 119)], np.float64)
    assert np.abs(transform(grid, fitted) - transform(grid, TILT)).max() < 0.1
    np.testing.assert_array_equal(fit_homography(matches, settings), fitted)


def test_the_last_step_forgets_what_moves_almost_with_the_camera() -> None:
    matches = matches_of(PAN, noise_px=0.02)
    matches[1, :70] += np.array([0.8, 0.0], np.float32)  # inliers at 1 px, but not the camera's
    fitted = fit_homography(matches, WarpParameters())
    assert fitted is not None
    at_once, _ = cv2.findHomography(*matches, cv2.USAC_FAST, 1.0)
    miss = np.median(distances(matches_of(PAN), fitted))
    assert miss < 0.1
    assert miss < 0.6 * np.median(distances(matches_of(PAN), at_once))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("what", ["one point", "one line"])
def test_matches_that_determine_nothing(method: str, what: str) -> None:
    along = np.arange(80, dtype=np.float32)[:, None] * np.array([1, 1], np.float32)
    points = np.zeros_like(along) if what == "one point" else along
    first, second = images()
    pair = fit_and_warp(first, second, np.stack([points, points + 2]), WarpParameters(method=method))
    assert (pair.matches, pair.inliers, pair.accepted, pair.still) == (80, 0, False, False)
    assert math.isnan(pair.residual_px)
    np.testing.assert_array_equal(pair.homography, np.eye(3))
    np.testing.assert_array_equal(pair.warped, second)


def test_distances_and_motion_by_hand() -> None:
    matches = np.array([[[0, 0], [10, 20]], [[6, -4], [19, 20]]], np.float32)
    np.testing.assert_allclose(distances(matches, PAN), [0.0, 5.0], atol=1e-6)
    assert corner_motion(PAN, HEIGHT, WIDTH) == pytest.approx(math.hypot(6, 4))
    zoom = np.diag([1.01, 1.0, 1.0])
    assert corner_motion(zoom, HEIGHT, WIDTH) == pytest.approx(0.01 * (WIDTH - 1))


@pytest.mark.parametrize(
    ("homography", "believed"),
    [
        (np.eye(3), True),
        (-3 * PAN, True),  # a homography is the same at any scale
        (TILT, True),
        (np.diag([1.9, 1.9, 1.0]), True),
        (np.diag([2.1, 2.1, 1.0]), False),
        (np.diag([0.45, 0.45, 1.0]), False),
        (np.diag([-1.0, 1.0, 1.0]), False),
        (np.array([[1, 0, 0], [0, 1, 0], [-1 / 100, 0, 1.0]]), False),  # infinity runs through the image
        (np.array([[1, 0, 0], [0, 1, 0], [-1 / 200, 0, 1.0]]), False),  # one side 100 times as large
        (np.array([[1, 0, 0], [0, 1, 0], [-0.4 / 159, 0, 1.0]]), False),  # 1 / .6^3, 4.6 times as large
        (np.array([[1, 0, 0], [0, 1, 0], [-0.3 / 159, 0, 1.0]]), True),  # 1 / .7^3, 2.9 times
        (np.array([[1, 0, 0], [1, 0, 0], [0, 0, 1.0]]), False),
        (np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0.0]]), False),
    ],
)
def test_what_no_camera_does_is_not_believed(homography: np.ndarray, believed: bool) -> None:
    assert plausible(homography, HEIGHT, WIDTH) is believed


def test_a_mirrored_fit_is_rejected() -> None:
    mirror = np.array([[-1, 0, WIDTH], [0, 1, 0], [0, 0, 1.0]])
    first, second = images()
    pair = fit_and_warp(first, second, matches_of(mirror), WarpParameters(method="ransac"))
    assert pair.inliers == 200
    assert not pair.accepted
    np.testing.assert_array_equal(pair.warped, second)


@pytest.mark.parametrize(("matches", "accepted"), [(50, False), (51, True)])
def test_more_than_the_least_number_of_matches(matches: int, accepted: bool) -> None:
    first, second = images()
    pair = fit_and_warp(first, second, matches_of(PAN, matches), WarpParameters())
    assert (pair.accepted, pair.inliers) == (accepted, matches if accepted else 0)


@pytest.mark.parametrize(("inliers", "accepted"), [(25, False), (26, True)])
def test_more_than_the_least_number_of_inliers(inliers: int, accepted: bool) -> None:
    matches = matches_of(PAN, 60)
    matches[1, inliers:] += np.random.default_rng(2).uniform(20, 60, (60 - inliers, 2)).astype(np.float32)
    first, second = images()
    pair = fit_and_warp(first, second, matches, WarpParameters(method="ransac"))
    assert pair.inliers == inliers
    assert pair.accepted is accepted
    assert pair.residual_px < 1e-3


@pytest.mark.parametrize(("x_px", "still"), [(0.24, True), (0.26, False)])
def test_motion_within_the_noise_is_none(x_px: float, still: bool) -> None:
    shift = np.array([[1, 0, x_px], [0, 1, 0], [0, 0, 1.0]])
    first, second = images()
    pair = fit_and_warp(first, second, matches_of(shift), WarpParameters())
    assert pair.accepted
    assert pair.still is still
    assert np.array_equal(pair.homography, np.eye(3)) is still
    assert np.array_equal(pair.warped, second) is still


def test_pixels_from_near_the_edge_stay_those_of_the_first_image() -> None:
    first = np.full((40, 50), 1, np.uint8)
    second = np.tile(np.arange(100, 150, dtype=np.uint8), (40, 1))
    pan = np.array([[1, 0, 10], [0, 1, 0], [0, 0, 1]], np.float64)
    warped = warp_back(first, second, pan, border_px=5)
    expected = np.full((40, 50), 1, np.uint8)
    expected[5:35, :35] = np.arange(110, 145)
    np.testing.assert_array_equal(warped, expected)


def test_warping_is_bilinear() -> None:
    second = cv2.GaussianBlur(images()[1], (0, 0), 2.0)
    shift = np.array([[1, 0, 0.5], [0, 1, 0.0], [0, 0, 1.0]])
    warped = warp_back(second, second, shift, border_px=0)
    between = (second[:, :-1].astype(np.float64) + second[:, 1:]) / 2
    assert np.abs(warped[:, :-1] - between).max() <= 1


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"matches": "surf"}, "matches is 'surf'; choose one of tracks, flow, sift"),
        ({"method": "magic"}, "method is 'magic'; choose one of usac_fast, .*lmeds"),
        ({"corners": -1}, "corners is -1"),
        ({"corners": 10.5}, "corners is 10.5.*whole"),
        ({"threshold": 0.0}, "threshold is 0.0"),
        ({"still": -0.1}, "still is -0.1"),
        ({"min_matches": 2}, "min_matches is 2"),
    ],
)
def test_impossible_settings_are_named(changed: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        WarpParameters(**changed)  # type: ignore[arg-type]
