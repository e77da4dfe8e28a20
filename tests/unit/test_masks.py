"""Mask files: where they are looked for, their sizes, and that they reach the warped shard."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from atw import config
from atw import flow as tvl1
from atw.config import FieldSettings, Fit, WarpedShards
from atw.files import InputError
from atw.preprocess.resources import Resources
from atw.preprocess.streams import read_masks, warped_to_items
from atw.shards import Entry, encode_field, quantise

ENTRY = Entry(video="run/a b.avi", label="run", width=40, height=20)
SHAPE = (16, 32)
SIZE = FieldSettings(width=32, height=16)


def write(folder: Path, name: str, image: np.ndarray) -> Path:
    path = folder / ENTRY.video / name
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return path


def test_frames_are_counted_from_first(tmp_path: Path) -> None:
    for frame in range(4):
        image = np.zeros(SHAPE, np.uint8)
        image[frame, 3] = 1 + 80 * frame
        write(tmp_path, f"{frame:05d}.png", image)
    masks = read_masks(tmp_path, ENTRY, 1, 3, SIZE)
    assert (masks.dtype, masks.shape) == (bool, (3, *SHAPE))
    assert np.argwhere(masks).tolist() == [[0, 1, 3], [1, 2, 3], [2, 3, 3]]


def test_masks_of_the_videos_own_size_are_resized(tmp_path: Path) -> None:
    image = np.zeros((ENTRY.height, ENTRY.width), np.uint8)
    image[10:, :20] = 255
    write(tmp_path, "00000.png", image)
    expected = np.zeros(SHAPE, bool)
    expected[8:, :16] = True
    np.testing.assert_array_equal(read_masks(tmp_path, ENTRY, 0, 1, SIZE)[0], expected)


@pytest.mark.parametrize(
    ("fit", "expected"),
    [("letterbox", np.s_[8:, 8:16]), ("crop", np.s_[8:, 0:16])],  # 40 x 40 px in 32 x 16
)
def test_masks_are_fitted_as_frames_are(tmp_path: Path, fit: Fit, expected: tuple[slice, slice]) -> None:
    image = np.zeros((40, 40), np.uint8)
    image[20:, :20] = 255
    write(tmp_path, "00000.png", image)
    square = Entry(video=ENTRY.video, label="run", width=40, height=40)
    mask = np.zeros(SHAPE, bool)
    mask[expected] = True
    np.testing.assert_array_equal(
        read_masks(tmp_path, square, 0, 1, FieldSettings(width=32, height=16, fit=fit))[0], mask
    )


def test_any_colour_excludes_and_transparency_does_not(tmp_path: Path) -> None:
    image = np.zeros((*SHAPE, 4), np.uint8)
    image[..., 3] = 255
    image[2, 5, 2] = 9
    write(tmp_path, "00000.png", image)
    assert np.argwhere(read_masks(tmp_path, ENTRY, 0, 1, SIZE)[0]).tolist() == [[2, 5]]


def test_unusable_masks_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, "00000.png", np.zeros((16, 33), np.uint8))
    with pytest.raises(InputError, match=r"00000.png is 33 x 16 px; give it .* 40 x 20 px, or the .* 32 x 16 px"):
        read_masks(tmp_path, ENTRY, 0, 1, SIZE)
    path.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"00000.png is no image that can be read; write it as PNG"):
        read_masks(tmp_path, ENTRY, 0, 1, SIZE)
    write(tmp_path, "00000.png", np.zeros(SHAPE, np.uint8))
    with pytest.raises(InputError, match=r"a b.avi/00001.png of run/a b.avi is missing; warp.masks needs one PNG"):
        read_masks(tmp_path, ENTRY, 0, 2, SIZE)


CROWD = Entry(video="crowd/1.avi", label="crowd", width=200, height=160)
PEOPLE = np.s_[24:136, 24:176]
FAST = {"preset": "fast", "levels": 2, "warps": 1, "iterations": 5}


def crowd(count: int) -> list[np.ndarray]:
    """Frames of a still camera, most of whose image moves to the right, BGR."""
    noise = np.random.default_rng(4).standard_normal((160, 200 + 2 * count)).astype(np.float32)
    texture = cv2.GaussianBlur(noise, (0, 0), 1.5)
    image = np.clip(128 + 45 * texture / texture.std(), 0, 255).astype(np.uint8)
    frames = []
    for number in range(count):
        frame = image[:, :200].copy()
        frame[PEOPLE] = image[:, 2 * (count - number) :][PEOPLE]
        frames.append(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    return frames


def settings(masks: Path | None) -> WarpedShards:
    raw = {
        "datasets": {"mine": {"kind": "folder", "root": "videos", "lists": "list.csv"}},
        "preprocess": {"width": 200, "height": 160},
        "flow": FAST,
        "warp": {"distance": 3, "min_matches": 20, "min_inliers": 10, "masks": masks and str(masks)},
        "evaluate": {"crop": 160},
    }
    settings = config.shard_settings(config.load(raw), "mine", "warped")
    assert isinstance(settings, WarpedShards)
    return settings


def write_masks(folder: Path, count: int) -> None:
    image = np.zeros((160, 200), np.uint8)
    image[PEOPLE] = 255
    for number in range(count):
        path = folder / CROWD.video / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)


def test_masked_people_do_not_move_the_camera(tmp_path: Path) -> None:
    frames = crowd(36)  # more than are in memory at once
    write_masks(tmp_path, 36)
    misled = warped_to_items(frames, settings(None), Resources(), CROWD, None)
    masked = warped_to_items(frames, settings(tmp_path), Resources(), CROWD, None)
    assert (misled.accepted, misled.still) == (1.0, 0.0)
    assert (masked.accepted, masked.still) == (1.0, 1.0)
    greys = np.stack([cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in frames])
    plain = quantise(tvl1.estimate(greys[:-1], greys[1:], config.Flow(**FAST)), 20.0)
    assert masked.encoded == [encode_field(field, 3) for field in plain]
    assert misled.encoded != masked.encoded
    (tmp_path / CROWD.video / "00035.png").unlink()
    with pytest.raises(InputError, match=r"crowd/1.avi/00035.png of crowd/1.avi is missing"):
        warped_to_items(frames, settings(tmp_path), Resources(), CROWD, None)
