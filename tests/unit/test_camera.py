"""The camera's motion: corners, tracks and SIFT matches; fitting homographies, believing them and warping by them."""

import math

import cv2
import numpy as np
import pytest

from atw.config import Warp
from atw.flow.camera import (
    METHODS,
    Features,
    corner_motion,
    distances,
    find_corners,
    fit_and_warp,
    fit_homography,
    flow_matches,
    only_into,
    only_near,
    plausible,
    sift_features,
    sift_matches,
    track_matches,
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
    settings = Warp.model_validate({"method": method})
    fitted = fit_homography(matches, settings)
    assert fitted is not None
    assert fitted.dtype == np.float64
    grid = np.array([[x, y] for x in (0, 80, 159) for y in (0, 60, 119)], np.float64)
    assert np.abs(transform(grid, fitted) - transform(grid, TILT)).max() < 0.1
    np.testing.assert_array_equal(fit_homography(matches, settings), fitted)


def test_the_last_step_forgets_what_moves_almost_with_the_camera() -> None:
    matches = matches_of(PAN, noise_px=0.02)
    matches[1, :70] += np.array([0.8, 0.0], np.float32)  # inliers at 1 px, but not the camera's
    fitted = fit_homography(matches, Warp())
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
    pair = fit_and_warp(first, second, np.stack([points, points + 2]), Warp.model_validate({"method": method}))
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
    pair = fit_and_warp(first, second, matches_of(mirror), Warp(method="ransac"))
    assert pair.inliers == 200
    assert not pair.accepted
    np.testing.assert_array_equal(pair.warped, second)


@pytest.mark.parametrize(("matches", "accepted"), [(50, False), (51, True)])
def test_more_than_the_least_number_of_matches(matches: int, accepted: bool) -> None:
    first, second = images()
    pair = fit_and_warp(first, second, matches_of(PAN, matches), Warp())
    assert (pair.accepted, pair.inliers) == (accepted, matches if accepted else 0)


@pytest.mark.parametrize(("inliers", "accepted"), [(25, False), (26, True)])
def test_more_than_the_least_number_of_inliers(inliers: int, accepted: bool) -> None:
    matches = matches_of(PAN, 60)
    matches[1, inliers:] += np.random.default_rng(2).uniform(20, 60, (60 - inliers, 2)).astype(np.float32)
    first, second = images()
    pair = fit_and_warp(first, second, matches, Warp(method="ransac"))
    assert pair.inliers == inliers
    assert pair.accepted is accepted
    assert pair.residual_px < 1e-3


@pytest.mark.parametrize(("x_px", "still"), [(0.24, True), (0.26, False)])
def test_motion_within_the_noise_is_none(x_px: float, still: bool) -> None:
    shift = np.array([[1, 0, x_px], [0, 1, 0], [0, 0, 1.0]])
    first, second = images()
    pair = fit_and_warp(first, second, matches_of(shift), Warp())
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


def box() -> np.ndarray:
    image = np.zeros((40, 60), np.uint8)
    image[10:20, 30:45] = 255
    return image


def texture(shift_x: int = 0, shift_y: int = 0) -> np.ndarray:
    noise = np.random.default_rng(3).standard_normal((160, 200)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0) + 5 * cv2.GaussianBlur(noise, (0, 0), 9.0)
    image = np.clip(128 + 45 * smooth / smooth.std(), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(image[40 - shift_y : 120 - shift_y, 40 - shift_x : 150 - shift_x])


def test_corners_are_where_they_are() -> None:
    corners = find_corners(box(), None, Warp(corners=4, quality=0.1, distance=3.0))
    assert corners.dtype == np.float32
    assert len(corners) == 4
    assert set(corners[:, 0]) <= {29, 30, 44, 45}
    assert set(corners[:, 1]) <= {9, 10, 19, 20}


def test_corners_only_where_the_mask_allows() -> None:
    usable = np.full((40, 60), 255, np.uint8)
    usable[:, 37:] = 0
    corners = find_corners(box(), usable, Warp(corners=4, quality=0.1, distance=3.0))
    assert len(corners) == 2
    assert (corners[:, 0] < 37).all()


@pytest.mark.parametrize("level", [0, 128])
def test_plain_images_have_no_points(level: int) -> None:
    image = np.full((40, 60), level, np.uint8)
    found = find_corners(image, None, Warp(corners=10))
    assert found.shape == (0, 2)
    assert track_matches(image, image, found).shape == (2, 0, 2)
    assert flow_matches(found, np.zeros((2, *image.shape), np.float32)).shape == (2, 0, 2)
    plain = sift_features(image, None)
    assert plain.points.shape == (0, 2)
    assert sift_matches(plain, sift_features(cv2.resize(texture(), None, fx=2, fy=2), None)).shape == (2, 0, 2)


@pytest.mark.parametrize("shift", [(0, 0), (5, -3), (-18, 11)])
def test_tracks_follow_small_and_large_motions(shift: tuple[int, int]) -> None:
    corners = find_corners(texture(), None, Warp(distance=6.0))
    sources, targets = track_matches(texture(), texture(*shift), corners)
    moved = targets - sources
    inside = (np.abs(sources + shift - [54.5, 39.5]) < [45, 30]).all(axis=1)
    assert inside.sum() > 20
    assert np.median(np.abs(moved[inside] - shift)) < 0.05
    assert np.mean(np.abs(moved[inside] - shift).max(axis=1) < 0.5) > 0.6


def test_corners_follow_the_flow_where_they_are() -> None:
    rows, columns = np.mgrid[:40, :60].astype(np.float32)
    flow = np.stack([columns / 10, -rows / 10])
    corners = np.array([[30, 10], [44, 19], [0, 39], [59, 0]], np.float32)
    sources, targets = flow_matches(corners, flow)
    np.testing.assert_array_equal(sources, corners)
    np.testing.assert_allclose(targets, corners + corners * np.array([0.1, -0.1], np.float32), rtol=1e-6)


def test_sift_matches_are_each_others_best() -> None:
    points = np.array([[10, 10], [60, 10], [10, 60]], np.float32)
    descriptors = np.eye(3, 128, dtype=np.float32)
    between = (descriptors[0] + 0.1 * descriptors[1])[None]
    moved = Features(points[[1, 0, 2]] + np.float32(3), np.concatenate([descriptors[[1, 0]], between]))
    sources, targets = sift_matches(Features(points, descriptors), moved)
    # The third of the second image resembles the first of the first image, which has found a better one.
    np.testing.assert_array_equal(sources, points[[0, 1]])
    np.testing.assert_array_equal(targets, points[[0, 1]] + np.float32(3))


def test_sift_finds_points_where_the_mask_allows() -> None:
    image = cv2.resize(texture(), None, fx=2, fy=2)
    usable = np.full(image.shape, 255, np.uint8)
    usable[:, 110:] = 0
    everywhere, masked = sift_features(image, None), sift_features(image, usable)
    assert masked.descriptors.shape == (len(masked.points), 128)
    assert 0 < len(masked.points) < len(everywhere.points)
    assert (masked.points[:, 0] < 111).all()
    assert (everywhere.points[:, 0] > 111).any()


def test_only_near() -> None:
    sources = np.zeros((5, 2), np.float32)
    targets = np.array([[0, 0], [25, -25], [25.5, 0], [0, -25.5], [-25, 3]], np.float32)
    np.testing.assert_array_equal(only_near(np.stack([sources, targets]), 25.0)[1], targets[[0, 1, 4]])


def test_only_into_usable_pixels() -> None:
    usable = np.full((4, 6), 255, np.uint8)
    usable[1, 2] = 0
    targets = np.array([[2, 1], [2.4, 1.4], [1.6, 0.6], [2.6, 1], [1, 2], [-3, 1], [2, 9], [5, 3]], np.float32)
    matches = np.stack([np.zeros_like(targets), targets])
    np.testing.assert_array_equal(only_into(matches, usable)[1], targets[3:])
    np.testing.assert_array_equal(only_into(matches, None), matches)
