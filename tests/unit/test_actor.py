"""The demo's actor: its poses, and what is drawn of them."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from atw.datasets.demo import CLASSES
from atw.extras.demo.actor import ARM, LEAN, LEG, REST, ROLL, SHIFT_X, Colours, action_pose, draw_actor, draw_disc

PLAIN = Colours(((255, 0, 0), (0, 255, 0), (0, 0, 255)), ((99, 0, 0), (0, 99, 0), (0, 0, 99)), (255, 255, 255))


def mirrored(pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """The pose as a mirror shows it."""
    seen = pose.copy()
    seen[[SHIFT_X, ROLL, LEAN]] *= -1
    for limb in (ARM, LEG):
        left, right = limb["left"], limb["right"]
        seen[[left, left + 1, right, right + 1]] = pose[[right, right + 1, left, left + 1]]
    return seen


@pytest.mark.parametrize("label", CLASSES)
def test_every_action_is_the_same_action_in_a_mirror(label: str) -> None:
    for frame in (0.0, 2.5, 7.0, 19.0):
        pose = action_pose(label, frame, period=11, strength=0.9, side="left", phase=0.7)
        # A walk's sway and stride mirror themselves one turn later, half of the sway's own period.
        side, phase = ("left", 0.7 + 2 * math.pi) if label == "walk" else ("right", 0.7)
        other = action_pose(label, frame, period=11, strength=0.9, side=side, phase=phase)
        np.testing.assert_allclose(mirrored(pose), other, atol=1e-12)
        assert np.abs(pose).max() > 0 or frame == 0


@pytest.mark.parametrize("label", [label for label in CLASSES if label != "spin"])
def test_actions_repeat_with_their_period(label: str) -> None:
    # Walking takes two periods for one sway to the left and back.
    turns = 2 if label == "walk" else 1
    pose = action_pose(label, 3, period=10, strength=1, side="left", phase=0)
    later = action_pose(label, 3 + 10 * turns, period=10, strength=1, side="left", phase=0)
    np.testing.assert_allclose(pose, later, atol=1e-12)


ROOT_HALF = math.sqrt(0.5)
QUARTER = {  # at strength .5 a quarter of a period in, acting to the right
    "wave": [0, 0, 0, 0, 0, 0, 2.375, 0.75, 0, 0, 0, 0],
    "jack": [0, -0.015, 0, 0, 0.575, 0, 0.575, 0, 0.1125, 0, 0.1125, 0],
    "kick": [0, 0, 0, 0, 0, 0, 0.15, 0, 0, 0, 0.3125, 0.2],
    "squat": [0, 0.0475, 0, 0, 0.25, 0, 0.25, 0, 0.2375, -0.45, 0.2375, -0.45],
    "jump": [0, -0.13 * ROOT_HALF, 0, 0, 0.3 * ROOT_HALF, 0, 0.3 * ROOT_HALF, 0, 0, 0, 0, 0],
    "walk": ROOT_HALF * np.array([-0.21, 0, 0, 0, -0.5, 0, 0.5, 0, 0.5, 0, -0.5, 0]),
    "spin": [0, 0, -math.pi / 6.8, 0, 1.3, 0, 1.3, 0, 0.25, 0, 0.25, 0],
    "bow": [0, 0, 0, -0.2875, 0, 0, 0.15, 0, 0, 0, 0, 0],
}
HALF = {
    "wave": [0, 0, 0, 0, 0, 0, 2.1, 0.5, 0, 0, 0, 0],
    "jack": [0, -0.03, 0, 0, 1.15, 0, 1.15, 0, 0.225, 0, 0.225, 0],
    "kick": [0, 0, 0, 0, 0, 0, 0.3, 0, 0, 0, 0.625, 0],
    "squat": [0, 0.095, 0, 0, 0.5, 0, 0.5, 0, 0.475, -0.9, 0.475, -0.9],
    "jump": [0, -0.13, 0, 0, 0.3, 0, 0.3, 0, 0, 0, 0, 0],
    "walk": [-0.21, 0, 0, 0, 0.5, 0, -0.5, 0, -0.5, 0, 0.5, 0],
    "spin": [0, 0, -math.pi / 3.4, 0, 1.3, 0, 1.3, 0, 0.25, 0, 0.25, 0],
    "bow": [0, 0, 0, -0.575, 0, 0, 0.3, 0, 0, 0, 0, 0],
}


@pytest.mark.parametrize(("frame", "expected"), [(2.5, QUARTER), (5, HALF)])
def test_poses_by_hand(frame: float, expected: dict[str, list[float]]) -> None:
    assert tuple(expected) == CLASSES
    for label, pose in expected.items():
        found = action_pose(label, frame, period=10, strength=0.5, side="right", phase=0)
        np.testing.assert_allclose(found, pose, atol=1e-12, err_msg=label)


def drawn(pose: NDArray[np.float64], *, camera: NDArray[np.float64] | None = None) -> NDArray[np.bool_]:
    """Which pixels an actor 100 px tall covers, its hips at 120, 120."""
    image = np.zeros((241, 241, 3), np.uint8)
    eye = np.eye(2, 3) if camera is None else camera
    draw_actor(image, pose, root=np.array([120.0, 120.0]), height=100.0, camera=eye, colours=PLAIN)
    covered: NDArray[np.bool_] = image.max(axis=2) > 0
    return covered


def test_the_actor_stands_as_tall_as_it_is_said_to_be() -> None:
    rows, columns = np.nonzero(drawn(REST))
    # Legs of .44 and a foot's radius of .04 below the hips; torso .33, head .13 and hair .11 above.
    assert rows.max() - 120 == pytest.approx(44 * math.cos(0.16) + 4.25, abs=1.5)
    assert 120 - rows.min() == pytest.approx(57, abs=1)
    assert columns.min() + columns.max() == pytest.approx(240, abs=1)


@pytest.mark.parametrize("label", ["wave", "kick", "walk", "spin", "bow"])
def test_a_mirrored_pose_is_drawn_mirrored(label: str) -> None:
    pose = REST + action_pose(label, 4, period=11, strength=1, side="left", phase=0)
    covered, flipped = drawn(pose), drawn(mirrored(pose))[:, ::-1]
    assert (covered ^ flipped).sum() < 0.06 * covered.sum()  # edges only
    assert (covered ^ flipped[:, ::-1]).sum() > 0.15 * covered.sum()


def test_roll_turns_the_actor_about_its_waist_and_the_camera_zooms() -> None:
    upside_down = REST.copy()
    upside_down[ROLL] = math.pi
    upright = drawn(REST)
    # The waist is a tenth of the height above the hips, at row 110, so a half turn maps row r to 220 - r.
    turned = np.zeros_like(upright)
    turned[:221] = upright[:221][::-1, ::-1]
    assert (drawn(upside_down) ^ turned).sum() < 0.06 * upright.sum()
    half = drawn(REST, camera=np.array([[0.5, 0, 60], [0, 0.5, 60]]))
    for axis in (0, 1):
        whole = np.flatnonzero(upright.any(axis=axis))
        assert np.ptp(np.flatnonzero(half.any(axis=axis))) == pytest.approx(np.ptp(whole) / 2, abs=2)


def test_discs_sit_between_pixels() -> None:
    image = np.zeros((21, 21, 3), np.uint8)
    draw_disc(image, np.array([10.25, 9.75]), 6.0, (255, 255, 255))
    weight = image[..., 0] / 255.0
    rows, columns = np.indices(weight.shape)
    # OpenCV's smoothing adds half a pixel all around.
    assert weight.sum() == pytest.approx(math.pi * 6.5**2, rel=0.03)
    assert (weight * columns).sum() / weight.sum() == pytest.approx(10.25, abs=0.1)
    assert (weight * rows).sum() / weight.sum() == pytest.approx(9.75, abs=0.1)


def test_an_unknown_action_is_refused() -> None:
    with pytest.raises(ValueError, match="swim"):
        action_pose("swim", 0, period=10, strength=1, side="left", phase=0)
