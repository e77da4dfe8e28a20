import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.utils import flow_to_image

from atw.extras.drawing.flow_wheel import disc, flow_to_colours, wheel

# The first hue of each of the six arcs, and the last hue of all.
HUES = {0: (255, 0, 0), 15: (255, 255, 0), 21: (0, 255, 0), 25: (0, 255, 255), 36: (0, 0, 255), 49: (255, 0, 255)}


def test_hues_are_those_of_the_published_code() -> None:
    hues = wheel()
    assert hues.shape == (55, 3)
    assert {place: tuple(hues[place].tolist()) for place in HUES} == HUES
    assert hues[1].tolist() == [255, 17, 0]
    assert hues[16].tolist() == [213, 255, 0]
    assert hues[54].tolist() == [255, 0, 43]


def test_colours_agree_with_another_implementation() -> None:
    flow = np.random.default_rng(0).normal(0, 3, (4, 2, 40, 50)).astype(np.float32)
    expected = flow_to_image(torch.from_numpy(flow))  # scaled by the longest of the whole batch
    longest = float(np.hypot(flow[:, 0], flow[:, 1]).max())
    ours = flow_to_colours(flow, full_px=longest)
    difference = np.abs(ours.astype(int) - np.moveaxis(expected.numpy(), 1, -1))
    assert difference.max() <= 1
    assert difference.mean() < 0.01


@given(angle=st.floats(-np.pi, np.pi), length=st.floats(0.01, 0.99))
def test_longer_motion_is_more_saturated_and_keeps_its_hue(angle: float, length: float) -> None:
    direction = np.array([np.cos(angle), np.sin(angle)], np.float32).reshape(2, 1, 1)
    short, long = (
        flow_to_colours(direction * share, full_px=1.0)[0, 0].astype(float) for share in (length / 2, length)
    )
    # On the line from white to the pure hue, twice as far, but for rounding.
    assert np.abs((255 - long) - 2 * (255 - short)).max() <= 3
    assert long.max() >= 254


def test_no_motion_is_white_beyond_is_darker_and_unknown_is_black() -> None:
    right = np.array([0.0, 2.0, 4.0, np.nan, np.inf], np.float32)
    colours = flow_to_colours(np.stack([right, np.zeros(5, np.float32)])[:, None], full_px=2.0)
    assert colours.tolist() == [[[255, 255, 255], [255, 0, 0], [191, 0, 0], [0, 0, 0], [0, 0, 0]]]


def test_directions_are_clockwise_from_right() -> None:
    flow = np.array([[1, 0, -1, 0], [0, 1, 0, -1]], np.float32)[:, None]
    # As hues of a circle of 360 degrees: right is red, down yellow, left cyan to blue, up blue to magenta.
    hues = cv2.cvtColor(flow_to_colours(flow, full_px=1.0), cv2.COLOR_RGB2HSV)[0, :, 0].astype(int) * 2
    assert hues.tolist() == pytest.approx([0, 54, 190, 260], abs=6)


def test_the_disc_shows_each_direction_where_it_points() -> None:
    picture = disc(101)
    assert picture.shape == (101, 101, 3)
    assert picture[50, 50].min() >= 250
    assert picture[0, 0].tolist() == [0, 0, 0]
    for row, column, x, y in ((50, 98, 0.95, 0), (98, 50, 0, 0.95), (50, 2, -0.95, 0), (2, 50, 0, -0.95)):
        expected = flow_to_colours(np.array([x, y], np.float32).reshape(2, 1, 1), full_px=1.0)[0, 0]
        assert np.abs(picture[row, column].astype(int) - expected).max() <= 8
