"""How pictures get the working size."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atw.config import Fit
from atw.videos.fit import fit_to, resize
from tests.unit.encoded import decode
from tests.unit.test_videos import MovingFrames, WriteMjpeg

SIDES = st.integers(1, 90)


def whole_and_part(shape: tuple[int, int], size: tuple[int, int], fit: Fit) -> np.ndarray:
    """A white picture of `shape` (H, W) at `size`."""
    return fit_to(np.full((*shape, 3), 255, np.uint8), size[1], size[0], fit, resize)


@given(rows=SIDES, columns=SIDES, height=SIDES, width=SIDES)
def test_sizes_are_kept_and_only_letterbox_adds_black(rows: int, columns: int, height: int, width: int) -> None:
    for fit in ("stretch", "crop"):
        fitted = whole_and_part((rows, columns), (height, width), fit)
        assert fitted.shape == (height, width, 3)
        assert fitted.min() == 255
    fitted = whole_and_part((rows, columns), (height, width), "letterbox")
    assert fitted.shape == (height, width, 3)
    white = np.argwhere(fitted[..., 0])
    high, wide = np.ptp(white, axis=0) + 1
    assert len(white) == high * wide  # one rectangle
    assert set(np.unique(fitted)) <= {0, 255}
    assert high == height or wide == width
    # The shape of things stays, to a rounded side.
    assert abs(wide * rows - high * columns) <= max(rows, columns) or min(high, wide) == 1
    top, left = white.min(axis=0)
    assert abs(2 * top + high - height) <= 1
    assert abs(2 * left + wide - width) <= 1


@given(rows=st.integers(20, 90), columns=st.integers(20, 90), height=st.integers(16, 60), width=st.integers(16, 60))
def test_crop_shows_the_middle_at_one_scale(rows: int, columns: int, height: int, width: int) -> None:
    slope = np.zeros((rows, columns, 2), np.float32)
    slope[..., 0], slope[..., 1] = np.mgrid[:rows, :columns]
    bilinear = lambda image, width, height: cv2.resize(image, (width, height))  # noqa: E731
    fitted = fit_to(slope, width, height, "crop", bilinear)
    middle = fitted.mean(axis=(0, 1))
    assert np.abs(middle - ((rows - 1) / 2, (columns - 1) / 2)).max() <= 1
    shown_rows = min(rows, height * columns / width)
    shown_columns = min(columns, width * rows / height)
    found = [np.ptp(fitted[..., axis]) / (side - 1) * side for axis, side in ((0, height), (1, width))]
    assert np.allclose(found, (shown_rows, shown_columns), atol=2.5)


@pytest.mark.parametrize("fit", ["letterbox", "crop"])
def test_a_video_is_fitted_as_its_shards_say(
    tmp_path: Path, moving_frames: MovingFrames, write_mjpeg: WriteMjpeg, fit: Fit
) -> None:
    path = write_mjpeg(tmp_path / "v.avi", moving_frames(3))
    plain, _ = decode(path, width=64, height=48)
    fitted, audit = decode(path, width=48, height=48, fit=fit)
    expected = np.zeros((3, 48, 48, 3), np.uint8)
    if fit == "crop":
        expected[:] = np.asarray(plain)[:, :, 8:56]
    else:
        expected[:, 6:42] = [cv2.resize(image, (48, 36)) for image in plain]
    assert np.array_equal(fitted, expected)
    assert (audit.width, audit.height) == (64, 48)  # the original's
