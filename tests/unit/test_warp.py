"""Warped flow: known camera motions, objects that move by themselves, still cameras, masks, and bad input."""

import itertools
import math
from typing import Any

import cv2
import numpy as np
import pytest

from atw.config import Warp
from atw.errors import InputError
from atw.flow import Compensated, estimate
from atw.flow.camera import transform
from atw.flow.warp import Mask, compensate, each_image
from tests.unit.textures import FAST, OPENCV4, VIDEOS, estimate_warped, texture

HEIGHT, WIDTH, MARGIN_PX = 256, 340, 40
OBJECT = np.s_[70:198, 90:260]  # a quarter of the image
OWN_MOTION_PX = (4.0, -3.0)
CAMERAS = {
    "pan": (1.0, 0.0, (6.0, -4.0)),
    "large pan": (1.0, 0.5, (19.0, -12.0)),
    "zoom": (1.04, 0.0, (0.0, 0.0)),
    "roll": (1.0, 1.5, (1.0, 2.0)),
    "all": (0.97, -1.0, (-3.0, 2.5)),
}


def camera(zoom: float, roll_degrees: float, pan_px: tuple[float, float]) -> np.ndarray:
    """Homography [3, 3] about the centre of the image, with a little perspective."""
    cosine, sine = zoom * math.cos(math.radians(roll_degrees)), zoom * math.sin(math.radians(roll_degrees))
    centred = np.array([[cosine, -sine, pan_px[0]], [sine, cosine, pan_px[1]], [1e-5, -5e-6, 1]])
    centre = np.array([[1, 0, WIDTH / 2], [0, 1, HEIGHT / 2], [0, 0, 1]])
    homography: np.ndarray = centre @ centred @ np.linalg.inv(centre)
    return homography


def scenes() -> list[np.ndarray]:
    """Two views larger than the image: frames of real videos where they lie beside the repository, else rendered."""
    views = []
    for path in sorted(itertools.chain(VIDEOS.glob("ucf101/*/*.avi"), VIDEOS.glob("hmdb51/*/*.avi")))[1:3]:
        read, frame = cv2.VideoCapture(str(path)).read()
        if read:
            size = (WIDTH + 2 * MARGIN_PX, HEIGHT + 2 * MARGIN_PX)
            views.append(cv2.resize(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), size))
    return (
        views
        if len(views) == 2
        else [texture(seed, HEIGHT + 2 * MARGIN_PX, WIDTH + 2 * MARGIN_PX).astype(np.uint8) for seed in (0, 7)]
    )


SCENE, OTHER = scenes()


def with_matches(matches: str, **changed: float) -> Warp:
    return Warp.model_validate({"matches": matches, **changed})


def compensated(
    first: np.ndarray, second: np.ndarray, flow: np.ndarray | None, warp: Warp, mask: Mask | None = None
) -> Compensated:
    """`compensate` for one pair of images [H, W]; masks are [H, W], too."""
    given = mask and (mask[0][None], mask[1][None])
    return compensate(first[None], second[None], None if flow is None else flow[None], warp, mask=given)[0]


def shoot(homography: np.ndarray, scene: np.ndarray = SCENE, flags: int = cv2.INTER_CUBIC) -> np.ndarray:
    """What a camera displaced by `homography` sees of the scene, [H, W]."""
    shift = np.array([[1, 0, -MARGIN_PX], [0, 1, -MARGIN_PX], [0, 0, 1]], np.float64)
    return np.asarray(cv2.warpPerspective(scene, homography @ shift, (WIDTH, HEIGHT), flags=flags))


def with_object(homography: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two images [H, W] of a camera and of an object that moves by itself, and the object's place in the first."""
    own = np.array([[1, 0, OWN_MOTION_PX[0]], [0, 1, OWN_MOTION_PX[1]], [0, 0, 1]])
    cover = np.zeros(SCENE.shape, np.uint8)
    cover[MARGIN_PX:, MARGIN_PX:][OBJECT] = 1
    before, after = (shoot(view, cover, cv2.INTER_NEAREST) > 0 for view in (np.eye(3), homography @ own))
    first = np.where(before, shoot(np.eye(3), OTHER), shoot(np.eye(3)))
    second = np.where(after, shoot(homography @ own, OTHER), shoot(homography))
    noise = np.random.default_rng(5).normal(0, 1, (2, HEIGHT, WIDTH))
    first, second = np.clip(np.rint(np.stack([first, second]) + noise), 0, 255).astype(np.uint8)
    return first, second, before


def grown(place: np.ndarray, by_px: int) -> np.ndarray:
    square = np.ones((2 * abs(by_px) + 1,) * 2, np.uint8)
    change = cv2.dilate if by_px > 0 else cv2.erode
    return np.asarray(change(place.astype(np.uint8), square)) > 0


@pytest.mark.parametrize("name", CAMERAS)
def test_camera_motion_goes_and_object_motion_stays(name: str) -> None:
    homography = camera(*CAMERAS[name])
    first, second, place = with_object(homography)
    warped_flow, [pair] = estimate_warped(first[None], second[None], None, OPENCV4, Warp())
    assert pair.accepted
    assert not pair.still
    assert 25 < pair.inliers < pair.matches
    assert 0 < pair.residual_px < 0.5

    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    points = np.stack([columns, rows], axis=-1).reshape(-1, 2).astype(np.float64)
    moved = transform(points, homography)
    missed = np.hypot(*(transform(points, pair.homography) - moved).T).reshape(HEIGHT, WIDTH)
    # Where a camera has seen nothing of the scene before there is nothing to compare.
    seen = ((moved > 6) & (moved < (WIDTH - 7, HEIGHT - 7))).all(axis=1).reshape(HEIGHT, WIDTH)
    background = seen & ~grown(place, 15)
    assert np.median(np.hypot(*(moved - points).T)) > 1.0
    assert np.median(missed[background]) < 0.15
    assert np.median(np.hypot(*warped_flow[0])[background]) < 0.15
    inside = grown(place, -12) & seen
    assert np.median(warped_flow[0][:, inside], axis=1) == pytest.approx(OWN_MOTION_PX, abs=0.4)


@pytest.mark.parametrize("matches", ["flow", "sift"])
def test_the_other_kinds_of_matches_find_the_camera_too(matches: str) -> None:
    homography = camera(*CAMERAS["pan"])
    first, second, _ = with_object(homography)
    flow = estimate(first[None], second[None], FAST)
    settings = with_matches(matches, distance=3.0)
    pair = compensated(first, second, flow[0], settings)
    corners = np.array([[0, 0], [WIDTH, 0], [0, HEIGHT], [WIDTH, HEIGHT]], np.float64)
    assert pair.accepted
    assert np.abs(transform(corners, pair.homography) - transform(corners, homography)).max() < 0.5
    fewer = compensated(first, second, flow[0], Warp(matches="flow", distance=3.0))
    assert (pair.matches > fewer.matches) == (matches == "sift")


def test_flow_of_a_still_camera_is_the_plain_flow() -> None:
    first, second, place = with_object(np.eye(3))
    flow = estimate(first[None], second[None], FAST)
    warped_flow, [pair] = estimate_warped(first[None], second[None], None, FAST, Warp())
    assert (pair.accepted, pair.still) == (True, True)
    assert pair.inliers > 50
    np.testing.assert_array_equal(pair.homography, np.eye(3))
    np.testing.assert_array_equal(pair.warped, second)
    np.testing.assert_array_equal(warped_flow, flow)
    assert np.hypot(*flow[0])[grown(place, -12)].mean() > 3.0
    _, [restless] = estimate_warped(first[None], second[None], None, FAST, Warp(still=0.0))
    assert (restless.accepted, restless.still) == (True, False)
    assert restless.homography != pytest.approx(np.eye(3), abs=1e-9)


@pytest.mark.skipif(not VIDEOS.is_dir(), reason="the videos of surveillance cameras are not beside the repository")
@pytest.mark.parametrize("name", ["fight/fi017.mp4", "noFight/nofi052.mp4"])
def test_real_still_cameras_are_still(name: str) -> None:
    video = cv2.VideoCapture(str(VIDEOS / "fightsurv" / name))
    frames = [cv2.resize(cv2.cvtColor(video.read()[1], cv2.COLOR_BGR2GRAY), (WIDTH, HEIGHT)) for _ in range(5)]
    first, second = np.stack(frames[:-1]), np.stack(frames[1:])
    warped_flow, pairs = estimate_warped(first, second, None, FAST, Warp())
    assert all(pair.accepted and pair.still for pair in pairs)
    np.testing.assert_array_equal(warped_flow, estimate(first, second, FAST))


@pytest.mark.parametrize("matches", ["tracks", "flow", "sift"])
@pytest.mark.parametrize("level", [0, 128])
def test_nothing_to_go_by_leaves_the_image_as_it_is(matches: str, level: int) -> None:
    plain = np.full((2, 48, 64), level, np.uint8)
    flow = np.zeros((2, 2, 48, 64), np.float32)
    warped_flow, pairs = estimate_warped(plain, plain, flow, OPENCV4, with_matches(matches))
    assert not warped_flow.any()
    for pair in pairs:
        assert (pair.accepted, pair.still, pair.matches, pair.inliers) == (False, False, 0, 0)
        assert math.isnan(pair.residual_px)
        np.testing.assert_array_equal(pair.homography, np.eye(3))
        np.testing.assert_array_equal(pair.warped, plain[0])


@pytest.mark.parametrize("changed", [{"min_matches": 100_000}, {"min_inliers": 100_000}])
def test_too_few_matches_or_inliers_give_the_plain_flow(changed: dict[str, Any]) -> None:
    first, second, _ = with_object(camera(*CAMERAS["pan"]))
    flow = estimate(first[None], second[None], FAST)
    settings = Warp(**changed)
    warped_flow, [pair] = estimate_warped(first[None], second[None], flow, FAST, settings)
    assert not pair.accepted
    assert (pair.inliers > 0) == ("min_inliers" in changed)
    np.testing.assert_array_equal(pair.homography, np.eye(3))
    np.testing.assert_array_equal(pair.warped, second)
    np.testing.assert_array_equal(warped_flow, flow)


def summary(pair: Compensated) -> tuple[object, ...]:
    return pair.matches, pair.inliers, pair.accepted, pair.still, pair.residual_px, pair.homography.tolist()


@pytest.mark.parametrize("matches", ["tracks", "sift"])
def test_result_depends_on_neither_threads_nor_batch(matches: str) -> None:
    frames = np.stack([shoot(camera(1.0, 0.5 * step, (2.0 * step, -step))) for step in range(4)])
    first, second = frames[:-1], np.ascontiguousarray(frames[1:])
    flow = estimate(first, second, FAST)
    settings = with_matches(matches)
    together, pairs = estimate_warped(first, second, flow, FAST, settings, threads=3)
    for index in range(3):
        one = np.s_[index : index + 1]
        alone, [pair] = estimate_warped(first[one], second[one], flow[one], FAST, settings)
        np.testing.assert_array_equal(together[one], alone)
        np.testing.assert_array_equal(pairs[index].warped, pair.warped)
        assert summary(pairs[index]) == summary(pair)


def crowd() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two images of a still camera in which most of the image moves alike, and where that is in both."""
    people = np.zeros((HEIGHT, WIDTH), bool)
    people[20:236, 45:295] = True
    moved = np.array([[1, 0, 5], [0, 1, 2], [0, 0, 1.0]])
    return shoot(np.eye(3)), np.where(people, shoot(moved), shoot(np.eye(3))), people


@pytest.mark.parametrize("matches", ["tracks", "flow", "sift"])
def test_masks_keep_people_out_of_the_fit(matches: str) -> None:
    first, second, people = crowd()
    flow = np.where(people, np.array([5, 2], np.float32)[:, None, None], np.float32(0))
    settings = with_matches(matches, distance=5.0)
    misled = compensated(first, second, flow, settings)
    assert misled.accepted
    assert not misled.still
    masked = compensated(first, second, flow, settings, mask=(people, people))
    assert masked.still
    assert masked.matches < misled.matches


@pytest.mark.parametrize("masked", ["first", "second"])
def test_a_mask_of_one_image_alone_counts(masked: str) -> None:
    first, second, people = crowd()
    nothing = np.zeros_like(people)
    masks = (people, nothing) if masked == "first" else (nothing, people)
    pair = compensated(first, second, None, Warp(distance=5.0), mask=masks)
    assert pair.still


def test_matches_too_far_apart_do_not_count() -> None:
    first, second = shoot(np.eye(3)), shoot(camera(*CAMERAS["pan"]))
    near, far = (compensated(first, second, None, Warp(max_displacement=limit_px)) for limit_px in (5.0, 8.0))
    assert far.accepted
    assert not near.accepted
    assert near.matches < 0.3 * far.matches


@pytest.mark.parametrize("shapes", [((1, 40, 41), (1, 40, 40)), ((1, 40, 40), (2, 40, 40))])
def test_masks_of_another_shape_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    image = np.zeros((1, 40, 40), np.uint8)
    first, second = (np.zeros(shape, bool) for shape in shapes)
    with pytest.raises(InputError, match="they must be alike"):
        compensate(image, image, None, Warp(), mask=(first, second))


def test_shared_images_are_looked_at_once() -> None:
    looked_at: list[int] = []

    def look(image: np.ndarray, usable: np.ndarray | None) -> int:
        looked_at.append(int(image[0, 0]))
        return 10 * int(image[0, 0]) + (0 if usable is None else int(usable[0, 0]))

    prev = np.stack([np.full((16, 16), value, np.uint8) for value in (1, 2, 3, 4)])
    next_ = np.stack([np.full((16, 16), value, np.uint8) for value in (2, 9, 4, 5)])
    before, after = each_image(prev, next_, ([None] * 4, [None] * 4), look, threads=1)
    assert (before, after) == ([10, 20, 30, 40], [20, 90, 40, 50])
    assert sorted(looked_at) == [1, 2, 3, 4, 5, 9]
    looked_at.clear()
    masks = [np.full((16, 16), value, np.uint8) for value in (0, 1, 2, 3)]
    before, after = each_image(prev, next_, ([*masks], [masks[1], *masks[:3]]), look, threads=1)
    assert (before, after) == ([10, 21, 32, 43], [21, 90, 41, 52])
    assert sorted(looked_at) == [1, 2, 3, 4, 4, 5, 9]


@pytest.mark.parametrize("matches", ["flow", "sift"])
def test_missing_flow_is_refused_where_it_is_needed(matches: str) -> None:
    image = np.zeros((1, 16, 16), np.uint8)
    with pytest.raises(InputError, match=rf"matches of the kind '{matches}' need the flow"):
        estimate_warped(image, image, None, FAST, with_matches(matches))


def test_empty_batch() -> None:
    images, flow = np.empty((0, 20, 24), np.uint8), np.empty((0, 2, 20, 24), np.float32)
    warped_flow, pairs = estimate_warped(images, images, flow, FAST, Warp())
    assert warped_flow.shape == (0, 2, 20, 24)
    assert pairs == []
