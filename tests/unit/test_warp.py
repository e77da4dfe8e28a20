"""Warped flow: known camera motions, objects that move by themselves, and images that give nothing to go by."""

import math
from typing import Any

import cv2
import numpy as np
import pytest

from atw.files import InputError
from atw.flow import Compensated, WarpParameters, compensate, estimate, estimate_warped
from atw.flow import warp as warp_module
from atw.flow.warp import Features, corner_matches, descriptor_matches, find_features, warp_back

HEIGHT, WIDTH, MARGIN = 144, 192, 40
OBJECT = np.s_[60:90, 80:115]
OWN_MOTION_PX = (4.0, -3.0)
INSIDE = np.s_[12:-12, 12:-12]

CAMERAS = {
    "pan": (1.0, 0.0, (5.0, -3.0)),
    "zoom": (1.04, 0.0, (0.0, 0.0)),
    "roll": (1.0, 1.5, (1.0, 2.0)),
    "all": (0.97, -1.0, (-3.0, 2.5)),
}


def camera(zoom: float, roll_degrees: float, pan_px: tuple[float, float]) -> np.ndarray:
    """Homography [3, 3] about the centre of the image, with a little perspective."""
    cosine, sine = zoom * math.cos(math.radians(roll_degrees)), zoom * math.sin(math.radians(roll_degrees))
    centred = np.array([[cosine, -sine, pan_px[0]], [sine, cosine, pan_px[1]], [2e-5, -1e-5, 1]])
    centre = np.array([[1, 0, WIDTH / 2], [0, 1, HEIGHT / 2], [0, 0, 1]])
    homography: np.ndarray = centre @ centred @ np.linalg.inv(centre)
    return homography


def scene(seed: int) -> np.ndarray:
    """Rough and smooth texture, larger than the image on all sides, float32."""
    shape = (HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN)
    noise = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    layers = [cv2.GaussianBlur(noise, (0, 0), sigma_px) for sigma_px in (1.5, 3.0, 8.0)]
    total = np.sum([layer / layer.std() for layer in layers], axis=0)
    image: np.ndarray = np.clip(128 + 30 * total, 0, 255).astype(np.float32)
    return image


def shoot(homography: np.ndarray, seed: int = 0) -> np.ndarray:
    """What a camera displaced by `homography` sees of the scene, uint8 [H, W]."""
    shift = np.array([[1, 0, -MARGIN], [0, 1, -MARGIN], [0, 0, 1]], np.float64)
    seen = cv2.warpPerspective(scene(seed), homography @ shift, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC)
    image: np.ndarray = np.clip(np.rint(seen), 0, 255).astype(np.uint8)
    return image


def with_object(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two images [H, W] of a moving camera and a moving square, and the camera's homography."""
    homography = camera(*CAMERAS[name])
    first, second = shoot(np.eye(3)), shoot(homography)
    own = np.array([[1, 0, OWN_MOTION_PX[0]], [0, 1, OWN_MOTION_PX[1]], [0, 0, 1]])
    first[OBJECT] = shoot(np.eye(3), seed=7)[OBJECT]
    cover = np.zeros((HEIGHT, WIDTH), np.uint8)
    cover[OBJECT] = 1
    cover = cv2.warpPerspective(cover, homography @ own, (WIDTH, HEIGHT), flags=cv2.INTER_NEAREST)
    second = np.where(cover > 0, shoot(homography @ own, seed=7), second)
    return first, second, homography


@pytest.mark.parametrize("name", CAMERAS)
@pytest.mark.parametrize("descriptors", ["sift", "none"])
def test_camera_motion_goes_and_object_motion_stays(name: str, descriptors: str) -> None:
    first, second, homography = with_object(name)
    flow = estimate(first[None], second[None], preset="fast")
    warped_flow, [pair] = estimate_warped(
        first[None], second[None], flow, warp=WarpParameters(descriptors=descriptors), preset="fast"
    )
    corners = np.array([[[0, 0], [WIDTH, 0], [0, HEIGHT], [WIDTH, HEIGHT]]], np.float64)
    expected = cv2.perspectiveTransform(corners, homography)
    assert pair.accepted
    assert np.abs(cv2.perspectiveTransform(corners, pair.homography) - expected).max() < 0.5
    assert 25 < pair.inliers < pair.matches
    assert 0 < pair.residual_px < 0.5

    background = np.ones((HEIGHT, WIDTH), bool)
    background[OBJECT[0].start - 12 : OBJECT[0].stop + 12, OBJECT[1].start - 12 : OBJECT[1].stop + 12] = False
    speed = np.hypot(*warped_flow[0])
    assert np.median(np.hypot(*flow[0])[background]) > 1.0
    assert np.median(speed[background]) < 0.15
    middle = (
        slice(None),
        slice(OBJECT[0].start + 8, OBJECT[0].stop - 8),
        slice(OBJECT[1].start + 8, OBJECT[1].stop - 8),
    )
    assert np.median(warped_flow[0][middle].reshape(2, -1), axis=1) == pytest.approx(OWN_MOTION_PX, abs=0.4)


def test_a_still_camera_changes_little() -> None:
    first = shoot(np.eye(3))
    second = first.copy()
    second[OBJECT] = np.roll(shoot(np.eye(3), seed=7), (-3, 4), axis=(0, 1))[OBJECT]
    first[OBJECT] = shoot(np.eye(3), seed=7)[OBJECT]
    flow = estimate(first[None], second[None], preset="fast")
    warped_flow, [pair] = estimate_warped(first[None], second[None], flow, warp=WarpParameters(), preset="fast")
    assert pair.accepted
    np.testing.assert_allclose(pair.homography, np.eye(3), atol=0.02)
    assert np.abs(warped_flow - flow)[0][:, *INSIDE].mean() < 0.05


@pytest.mark.parametrize("descriptors", ["sift", "none"])
@pytest.mark.parametrize("level", [0, 128])
def test_nothing_to_go_by_leaves_the_image_as_it_is(descriptors: str, level: int) -> None:
    plain = np.full((2, 48, 64), level, np.uint8)
    flow = np.zeros((2, 2, 48, 64), np.float32)
    warped_flow, pairs = estimate_warped(plain, plain, flow, warp=WarpParameters(descriptors=descriptors))
    assert not warped_flow.any()
    for pair in pairs:
        assert (pair.accepted, pair.matches, pair.inliers) == (False, 0, 0)
        assert math.isnan(pair.residual_px)
        np.testing.assert_array_equal(pair.homography, np.eye(3))
        np.testing.assert_array_equal(pair.warped, plain[0])


@pytest.mark.parametrize("changed", [{"min_matches": 100_000}, {"min_inliers": 100_000}, {"corners": 0}])
def test_too_few_matches_or_inliers_give_the_plain_flow(changed: dict[str, Any]) -> None:
    first, second, _ = with_object("pan")
    flow = estimate(first[None], second[None], preset="fast")
    settings = WarpParameters(**{"descriptors": "none", **changed})
    warped_flow, [pair] = estimate_warped(first[None], second[None], flow, warp=settings, preset="fast")
    assert not pair.accepted
    assert (pair.inliers > 0) == ("min_inliers" in changed)
    np.testing.assert_array_equal(pair.homography, np.eye(3))
    np.testing.assert_array_equal(pair.warped, second)
    np.testing.assert_array_equal(warped_flow, flow)


def summary(pair: Compensated) -> tuple[object, ...]:
    return pair.matches, pair.inliers, pair.accepted, pair.residual_px, pair.homography.tolist()


def test_result_depends_on_neither_threads_nor_batch() -> None:
    frames = np.stack([shoot(camera(1.0, 0.5 * step, (2.0 * step, -step))) for step in range(4)])
    first, second = frames[:-1], np.ascontiguousarray(frames[1:])
    flow = estimate(first, second, preset="fast")
    settings = WarpParameters()
    together, pairs = estimate_warped(first, second, flow, warp=settings, preset="fast", threads=3)
    for index in range(3):
        one = np.s_[index : index + 1]
        alone, [pair] = estimate_warped(first[one], second[one], flow[one], warp=settings, preset="fast")
        np.testing.assert_array_equal(together[one], alone)
        np.testing.assert_array_equal(pairs[index].warped, pair.warped)
        assert summary(pairs[index]) == summary(pair)
        assert summary(compensate(first[index], second[index], flow[index], settings=settings)) == summary(pair)


def test_shared_images_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []

    def look(image: np.ndarray) -> Features:
        looked_at.append(int(image[0, 0]))
        return Features(np.full((1, 2), image[0, 0], np.float32), np.zeros((1, 128), np.float32))

    monkeypatch.setattr(warp_module, "sift_features", look)
    prev = np.stack([np.full((16, 16), value, np.uint8) for value in (1, 2, 3, 4)])
    next_ = np.stack([np.full((16, 16), value, np.uint8) for value in (2, 9, 4, 5)])
    before, after = find_features(prev, next_, threads=1)
    assert [features.points[0, 0] for features in before] == [1, 2, 3, 4]
    assert [features.points[0, 0] for features in after] == [2, 9, 4, 5]
    assert sorted(looked_at) == [1, 2, 3, 4, 5, 9]


def test_descriptors_match_only_nearby() -> None:
    points = np.array([[10, 10], [60, 10], [10, 60]], np.float32)
    descriptors = np.eye(3, 128, dtype=np.float32)
    moved = Features(points[[1, 0]] + np.array([3, -4], np.float32), descriptors[[0, 1]])
    sources, targets = descriptor_matches(Features(points, descriptors), moved, max_displacement_px=25)
    # Each most similar point is 50 px away, so the less similar one nearby is taken; the third has none nearby.
    np.testing.assert_array_equal(sources, points[[0, 1]])
    np.testing.assert_array_equal(targets, points[[0, 1]] + np.array([3, -4], np.float32))


def test_corners_follow_the_flow_where_they_are() -> None:
    image = np.zeros((40, 60), np.uint8)
    image[10:20, 30:45] = 255
    rows, columns = np.mgrid[:40, :60].astype(np.float32)
    flow = np.stack([columns / 10, -rows / 10])
    sources, targets = corner_matches(image, flow, WarpParameters(corners=4, quality=0.1))
    assert len(sources) == 4
    assert set(sources[:, 0]) <= {29, 30, 44, 45}
    assert set(sources[:, 1]) <= {9, 10, 19, 20}
    np.testing.assert_allclose(targets, sources + sources * np.array([0.1, -0.1], np.float32), rtol=1e-6)


def test_pixels_from_near_the_edge_stay_those_of_the_first_image() -> None:
    first = np.full((40, 50), 1, np.uint8)
    second = np.tile(np.arange(100, 150, dtype=np.uint8), (40, 1))
    pan = np.array([[1, 0, 10], [0, 1, 0], [0, 0, 1]], np.float64)
    warped = warp_back(first, second, pan, border_px=5)
    expected = np.full((40, 50), 1, np.uint8)
    expected[5:35, :35] = np.arange(110, 145)
    np.testing.assert_array_equal(warped, expected)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"descriptors": "surf"}, "surf.*sift, none"),
        ({"corners": -1}, "corners is -1"),
        ({"corners": 10.5}, "corners is 10.5.*whole"),
        ({"threshold": 0.0}, "threshold is 0.0"),
        ({"min_matches": 2}, "min_matches is 2"),
    ],
)
def test_impossible_settings_are_named(changed: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        WarpParameters(**changed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "flow",
    [
        np.zeros((1, 2, 16, 17), np.float32),
        np.zeros((1, 2, 16, 16), np.float64),
        np.zeros((1, 16, 16, 2), np.float32),
    ],
)
def test_flow_of_the_wrong_kind_is_refused(flow: np.ndarray) -> None:
    image = np.zeros((1, 16, 16), np.uint8)
    with pytest.raises(InputError, match="must be float32"):
        estimate_warped(image, image, flow, warp=WarpParameters())


def test_empty_batch() -> None:
    images, flow = np.empty((0, 20, 24), np.uint8), np.empty((0, 2, 20, 24), np.float32)
    warped_flow, pairs = estimate_warped(images, images, flow, warp=WarpParameters())
    assert warped_flow.shape == (0, 2, 20, 24)
    assert pairs == []
