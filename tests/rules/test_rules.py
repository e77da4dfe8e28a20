"""Every rule on tiny real videos, in the order of the pipeline; each test asserts what its rule wrote."""

import json
from pathlib import Path

import cv2
import h5py
import hdf5plugin
import numpy as np
import pytest
import torch

from atw.shards import Shard
from tests.rules.conftest import BAD, FRAMES, HEIGHT, MOTION, WIDTH, Workplace
from tests.rules.test_cost import atw_plan

SHARDS = ("00000", "00001")
assert hdf5plugin  # registers the filter that plain h5py needs


def entries(workplace: Workplace, stream: str) -> list[tuple[Shard, object]]:
    shards = [Shard(workplace.folder / f"shards/tiny/{stream}/{name}.h5") for name in SHARDS]
    return [(shard, entry) for shard in shards for entry in shard.entries]


def test_render(workplace: Workplace) -> None:
    workplace.snakemake("data/show/split2.csv")
    lines = (workplace.folder / "data/show/split2.csv").read_text().splitlines()
    assert lines[0].startswith("path,label,subset")
    assert len(lines) == 1 + 8 * 2
    for line in lines[1:]:
        path, label, *_ = line.split(",")
        assert path.startswith(f"split2/{label}/")
        capture = cv2.VideoCapture(str(workplace.folder / "data/show" / path))
        assert 48 <= capture.get(cv2.CAP_PROP_FRAME_COUNT) <= 72


def test_frames(workplace: Workplace) -> None:
    workplace.snakemake(*[f"shards/tiny/rgb/{name}.h5" for name in SHARDS])
    found = entries(workplace, "rgb")
    assert len(found) == 15
    for shard, entry in found:
        if entry.video == BAD:
            assert entry.quarantined.startswith("truncated")
            assert entry.count == 0
            continue
        assert entry.count == FRAMES
        capture = cv2.VideoCapture(str(workplace.folder / "videos" / entry.video))
        for number in range(FRAMES):
            _, expected = capture.read()
            stored = shard.frames(entry, [number])[0]
            # Brightness only: JPEG keeps colour at half the resolution, and this texture is noise in colour.
            grey = cv2.cvtColor(stored, cv2.COLOR_RGB2GRAY).astype(int)
            assert np.abs(grey - cv2.cvtColor(expected, cv2.COLOR_BGR2GRAY)).mean() < 2


def test_flow(workplace: Workplace) -> None:
    workplace.snakemake(*[f"shards/tiny/flow/{name}.h5" for name in SHARDS])
    for name in SHARDS:
        with h5py.File(workplace.folder / f"shards/tiny/flow/{name}.h5") as file:
            assert file["data"].shape[1:] == (2, HEIGHT, WIDTH)
            assert json.loads(file.attrs["flow"])["backend"] == "numba"
            for row, label in enumerate(file["index/label"][:]):
                first, count = file["index/first"][row], file["index/count"][row]
                if not count:
                    continue
                assert count == FRAMES - 1
                fields = (file["data"][first : first + count].astype(float) - 128) * (2 * file.attrs["bound"] / 255)
                inner = np.median(fields[:, :, 8:-8, 8:-8], axis=(0, 2, 3))
                assert np.allclose(inner, MOTION[label.decode()], atol=0.1)


def test_warped(workplace: Workplace) -> None:
    workplace.snakemake(*[f"shards/tiny/warped/{name}.h5" for name in SHARDS])
    for shard, entry in entries(workplace, "warped"):
        if entry.quarantined:
            assert entry.video == BAD
            continue
        # The whole image moves like a panning camera, so nothing is left once the camera's motion is out.
        fields = (shard.fields(entry, range(entry.count)).astype(float) - 128) * (2 * 8 / 255)
        assert np.median(np.abs(fields[:, :, 8:-8, 8:-8])) < 0.1
        assert entry.accepted == 1


@pytest.fixture(scope="session")
def trained(workplace: Workplace) -> Path:
    workplace.snakemake("results/tiny/split1/fused.json")
    return workplace.folder / "results/tiny/split1"


def test_train(trained: Path) -> None:
    for stream, channels in (("rgb", 3), ("flow", 6), ("warped", 6)):
        model = torch.load(trained / stream / "model.pt", weights_only=True)
        assert model["classes"] == ["left", "up"]
        assert model["settings"]["stream"] == stream
        assert set(model["provenance"]["shards"]) == set(SHARDS)
        assert model["provenance"]["compute"]["precision"] == "fp32", "what auto stands for on a CPU"
        first = next(value for value in model["parameters"].values() if value.ndim == 4)
        assert first.shape[1] == channels
        history = [json.loads(line) for line in (trained / stream / "history.jsonl").read_text().splitlines()]
        assert [row["iteration"] for row in history] == list(range(1, 13))
        assert all(np.isfinite(row["loss"]) for row in history)
        assert history[-1]["learning_rate"] == pytest.approx(0.002)


def test_score(trained: Path) -> None:
    for stream in ("rgb", "flow", "warped"):
        with h5py.File(trained / stream / "scores.h5") as file:
            assert file["snippet_logits"].shape == (6, 1, 5, 2)
            weights = file["attention"][:]
            assert np.allclose(weights.sum(axis=2), 1, atol=1e-5)
            # What the attention of equation 4 makes of the snippets is the video's score.
            expected = (weights[..., None] * file["snippet_logits"][:]).sum(axis=2).mean(axis=1)
            assert np.allclose(file["video_logits"][:], expected, atol=1e-4)


def test_fuse(trained: Path) -> None:
    fused = json.loads((trained / "fused.json").read_text())
    assert fused["format"] == 2
    assert (fused["dataset"], fused["split"], fused["experiment"]) == ("tiny", "split1", None)
    assert fused["classes"] == ["left", "up"]
    assert fused["fusion"] == {"weights": {"rgb": 1.0, "flow": 1.0, "warped": 0.5}, "on": "logits"}
    assert fused["videos"]["train"] == 8
    assert fused["videos"]["test"] == 7
    (bad,) = fused["videos"]["quarantined"]
    assert bad["video"] == BAD
    assert bad["reason"].startswith("truncated")
    for accuracy in (fused["accuracy"], *fused["streams"].values()):
        # Seven test videos, of which the bad one counts as wrong.
        assert accuracy["top1"] * 7 == pytest.approx(accuracy["top1_decodable"] * 6)
        low, high = accuracy["top1_ci95"]
        assert 0 <= low <= accuracy["top1"] <= high <= 1
    # Motion tells the two classes apart; their textures are noise.
    assert fused["streams"]["flow"]["top1_decodable"] == 1
    provenance = fused["provenance"]["flow"]
    assert set(provenance["shards"]) == set(SHARDS)
    for name in ("settings", "software", "seed", "hardware"):
        assert provenance[name] is not None


def test_a_plan_names_what_is_left_in_seconds(workplace: Workplace, trained: Path) -> None:
    kept = (trained / "fused.json").rename(trained / "kept.json")
    assert "is made in seconds; left are fuse." in atw_plan(workplace, "results/tiny/split1/fused.json").stdout
    kept.rename(trained / "fused.json")


def test_summary(workplace: Workplace, trained: Path) -> None:
    workplace.snakemake("results/tiny/summary.json")
    summary = json.loads((workplace.folder / "results/tiny/summary.json").read_text())
    fused = json.loads((trained / "fused.json").read_text())
    assert summary["splits"] == ["split1"]
    assert summary["accuracy"]["top1"]["mean"] == fused["accuracy"]["top1"]
