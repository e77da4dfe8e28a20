"""The camera benchmark: its scenes are what it says, its judgement is that of the truth, and it runs as a whole."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from atw.config import Warp
from atw.flow.camera import transform
from benchmarks.camera import __main__ as benchmark
from benchmarks.camera import scenes
from benchmarks.camera.matches import descriptors, mutual
from benchmarks.camera.scenes import HEIGHT_PX, MARGIN_PX, WIDTH_PX, shoot


def view(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((HEIGHT_PX + 2 * MARGIN_PX, WIDTH_PX + 2 * MARGIN_PX))
    smooth = cv2.GaussianBlur(noise, (0, 0), 3.0)
    return np.asarray(np.clip(128 + 45 * smooth / smooth.std(), 0, 255), np.uint8)


@pytest.mark.parametrize("motion", ["pan", "all three"])
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


def test_outcomes() -> None:
    scene = shoot(view(0), view(1), "pan", np.random.default_rng(2))
    sources = scene.background[::3]
    right = np.stack([sources, transform(sources, scene.homography)]).astype(np.float32)
    good = benchmark.judge(scene, right, 1.5, Warp())
    assert (good.find_ms, good.matches, good.right) == (1.5, len(sources), 1.0)
    assert good.miss < 0.01
    wrong = right + np.array([[0, 0], [9, 0]], np.float32)[:, None]
    assert benchmark.judge(scene, wrong, 0.0, Warp()).miss == pytest.approx(9.0, abs=0.1)
    assert benchmark.judge(scene, right[:, :20], 0.0, Warp()).miss == math.inf


def test_every_descriptor_matches_an_image_with_itself() -> None:
    image = view(3)
    for name, way in descriptors().items():
        matches = mutual(way.norm, way.describe(image), way.describe(image))
        assert matches.dtype == np.float32, name
        assert matches.shape[1] > 5, name
        assert np.mean(matches[0] == matches[1]) > 0.9, name
        plain = np.full_like(image, 7)
        assert mutual(way.norm, way.describe(image), way.describe(plain)).shape == (2, 0, 2), name


def test_the_whole_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.avi").write_bytes(b"no video")
    assert benchmark.main([str(tmp_path)]) == 2
    assert f"0 of the videos in {tmp_path} can be used; at least two are needed" in capsys.readouterr().err
    for number in range(2):
        writer = cv2.VideoWriter(str(tmp_path / f"{number}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (340, 256))
        writer.write(cv2.cvtColor(cv2.resize(view(number), (340, 256)), cv2.COLOR_GRAY2BGR))
        writer.release()
    page = tmp_path / "camera.md"
    monkeypatch.setattr(scenes, "MOTIONS", {name: scenes.MOTIONS[name] for name in ("pan", "roll")})
    monkeypatch.setattr(benchmark, "MOTIONS", scenes.MOTIONS)
    monkeypatch.setattr(benchmark, "OPENCV4", benchmark.OPENCV4.model_copy(update={"warps": 1, "iterations": 20}))
    monkeypatch.setattr(benchmark, "PAGE", page)
    assert benchmark.main([str(tmp_path), "--write"]) == 0
    text = page.read_text(encoding="utf-8")
    assert "What a pair costs" in text
    assert all(f"| {name} |" in text for name in ("tracks", "SIFT + flow corners", "usac_fast, flow"))
