"""Corners, tracks and SIFT matches on images with known motion."""

import cv2
import numpy as np
import pytest

from atw.flow import WarpParameters
from atw.flow.matches import (
    Features,
    find_corners,
    flow_matches,
    only_into,
    only_near,
    sift_features,
    sift_matches,
    track_matches,
)


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
    corners = find_corners(box(), None, WarpParameters(corners=4, quality=0.1, distance=3.0))
    assert corners.dtype == np.float32
    assert len(corners) == 4
    assert set(corners[:, 0]) <= {29, 30, 44, 45}
    assert set(corners[:, 1]) <= {9, 10, 19, 20}


def test_corners_only_where_the_mask_allows() -> None:
    usable = np.full((40, 60), 255, np.uint8)
    usable[:, 37:] = 0
    corners = find_corners(box(), usable, WarpParameters(corners=4, quality=0.1, distance=3.0))
    assert len(corners) == 2
    assert (corners[:, 0] < 37).all()


@pytest.mark.parametrize(("level", "corners"), [(0, 10), (128, 10), (None, 0)])
def test_no_corners(level: int | None, corners: int) -> None:
    image = texture() if level is None else np.full((40, 60), level, np.uint8)
    found = find_corners(image, None, WarpParameters(corners=corners))
    assert found.shape == (0, 2)
    assert track_matches(image, image, found).shape == (2, 0, 2)
    assert flow_matches(found, np.zeros((2, *image.shape), np.float32)).shape == (2, 0, 2)


@pytest.mark.parametrize("shift", [(0, 0), (5, -3), (-18, 11)])
def test_tracks_follow_small_and_large_motions(shift: tuple[int, int]) -> None:
    corners = find_corners(texture(), None, WarpParameters(distance=6.0))
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


def test_no_sift_points() -> None:
    plain = sift_features(np.full((40, 60), 9, np.uint8), None)
    assert plain.points.shape == (0, 2)
    assert sift_matches(plain, sift_features(cv2.resize(texture(), None, fx=2, fy=2), None)).shape == (2, 0, 2)


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
