"""Ridge regression on frozen features: against the closed form, and against frames read by hand."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from atw.data import sampling
from atw.model.backbones import build
from atw.plan import Plan
from atw.shards import Shard
from benchmarks.frozen_baseline import RIDGE, features, ridge
from tests.unit.trained import FRAMES, Trained


def test_ridge_is_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    x, of = rng.normal(size=(40, 6)), rng.normal(size=(15, 6))
    labels = (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 1)
    z, z_of = ((part - x.mean(axis=0)) / (x.std(axis=0) + 1e-6) for part in (x, of))
    truth = np.eye(3)[labels]
    weights = np.linalg.inv(z.T @ z + RIDGE * np.eye(6)) @ z.T @ (truth - truth.mean(axis=0))
    assert np.array_equal(ridge(x, labels, of), (z_of @ weights + truth.mean(axis=0)).argmax(axis=1))


def test_features_are_means_over_the_frames_of_a_shard(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained.root.parent)
    torch.manual_seed(0)
    network = build("tiny", in_channels=3, classes=2, dropout=0, weights=None, stream="rgb").eval()
    torch.save(network.body.state_dict(), tmp_path / "tiny.pth")
    raw = trained.config.model_dump(mode="json", exclude_unset=True) | {"shards": "shards"}
    raw["datasets"]["mine"].setdefault("model", {}).update(backbone="tiny", weights=str(tmp_path / "tiny.pth"))
    found = features(Plan(raw), "mine", 24)
    assert set(found) == set(FRAMES)
    with Shard(trained.shards["rgb"]) as shard:
        entry = next(entry for entry in shard.entries if entry.count >= 8)
        frames = shard.frames(entry, sampling.test_starts(entry.count, snippets=8, stack=1))
    side, (height, width) = 40, frames.shape[1:3]  # evaluate.crop
    top, left = (height - side) // 2, (width - side) // 2
    crops = [
        cv2.resize(frame[top : top + side, left : left + side], (24, 24), interpolation=cv2.INTER_AREA)
        for frame in frames
    ]
    images = torch.from_numpy(np.stack(crops).transpose(0, 3, 1, 2).copy())
    with torch.inference_mode():
        direct = network(network.normalise(images))[0].mean(dim=0).numpy()
    assert found[entry.video] == pytest.approx(direct, abs=0.05 * float(np.abs(direct).max()))
