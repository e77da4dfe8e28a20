"""The camera benchmark: its scenes are what it says they are, and its judgement is that of the truth."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from atw.files import InputError
from atw.flow.camera import WarpParameters, transform
from benchmarks.camera import __main__ as benchmark
from benchmarks.camera.matches import descriptors, mutual
from benchmarks.camera.scenes import HEIGHT_PX, MARGIN_PX, MOTIONS, WIDTH_PX, make_scenes, miss_px, shoot


def view(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((HEIGHT_PX + 2 * MARGIN_PX, WIDTH_PX + 2 * MARGIN_PX))
    smooth = cv2.GaussianBlur(noise, (0, 0), 3.0)
    return np.asarray(np.clip(128 + 45 * smooth / smooth.std(), 0, 255), np.uint8)


@pytest.mark.parametrize("motion", ["pan", "zoom", "roll", "all three"])
def test_the_camera_moves_as_the_scene_says(motion: str) -> None:
    scene = shoot(view(0), view(1), motion, np.random.default_rng(2))
    assert 0.7 < len(scene.background) / math.ceil(WIDTH_PX / 8) / math.ceil(HEIGHT_PX / 8) < 0.8
    places = transform(scene.background, scene.homography).astype(np.float32)
    seen = cv2.remap(scene.second, places[:, None, 0], places[:, None, 1], cv2.INTER_CUBIC)[:, 0].astype(float)
    columns, rows = scene.background.astype(int).T
    inside = ((places > 2) & (places < (WIDTH_PX - 3, HEIGHT_PX - 3))).all(axis=1)
    differences = np.abs(seen - scene.first[rows, columns])[inside]
    assert np.median(differences) < 4  # levels: noise of 1.5 in both, and interpolation
    assert np.median(np.abs(scene.second[rows, columns].astype(float) - scene.first[rows, columns])) > 8


def test_misses() -> None:
    scene = shoot(view(0), view(1), "pan", np.random.default_rng(2))
    assert miss_px(scene, scene.homography) == 0.0
    shifted = np.array([[1, 0, 3], [0, 1, -4], [0, 0, 1.0]]) @ scene.homography
    assert miss_px(scene, shifted) == pytest.approx(5.0)


def test_outcomes() -> None:
    scene = shoot(view(0), view(1), "pan", np.random.default_rng(2))
    sources = scene.background[::3]
    right = np.stack([sources, transform(sources, scene.homography)]).astype(np.float32)
    good = benchmark.judge(scene, right, 1.5, WarpParameters())
    assert (good.find_ms, good.matches, good.right) == (1.5, len(sources), 1.0)
    assert good.miss < 0.01
    wrong = right + np.array([[0, 0], [9, 0]], np.float32)[:, None]
    assert benchmark.judge(scene, wrong, 0.0, WarpParameters()).miss == pytest.approx(9.0, abs=0.1)
    assert benchmark.judge(scene, right[:, :20], 0.0, WarpParameters()).miss == math.inf


@pytest.mark.parametrize("name", descriptors())
def test_every_descriptor_matches_an_image_with_itself(name: str) -> None:
    way = descriptors()[name]
    image = view(3)
    matches = mutual(way.norm, way.describe(image), way.describe(image))
    assert matches.dtype == np.float32
    assert matches.shape[1] > 5
    assert np.mean(matches[0] == matches[1]) > 0.9
    plain = np.full_like(image, 7)
    assert mutual(way.norm, way.describe(image), way.describe(plain)).shape == (2, 0, 2)


def test_tables_have_a_column_for_each_motion() -> None:
    scenes = [shoot(view(0), view(1), motion, np.random.default_rng(2)) for motion in MOTIONS]
    outcomes = [benchmark.Outcome(1.0, 2.0, 100, 0.5, 0.1 if index else math.inf) for index in range(len(scenes))]
    table = benchmark.outcome_table("title", "what", {"it": outcomes}, scenes)
    assert len(table.columns) == len(table.rows[0]) == len(MOTIONS) + 7
    assert list(table.rows[0][:6]) == ["it", "1.0", "2.0", "100", "0.50", "none"]
    assert table.rows[0][-1] == f"{100 / len(MOTIONS):.0f}%"


def test_a_folder_without_two_usable_videos_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.avi").write_bytes(b"no video")
    with pytest.raises(InputError, match=r"0 of the videos in .* can be used; at least two are needed"):
        make_scenes(tmp_path, 2)
    assert benchmark.main([str(tmp_path)]) == 2
    assert "at least two" in capsys.readouterr().err
