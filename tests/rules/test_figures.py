"""The picture of attention as a result of the workflow, and new videos through what it trained."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from atw.evaluate.scores import read_scores
from tests.rules.conftest import BAD, REPOSITORY, Workplace

STREAMS = ("rgb", "flow", "warped")
SPLIT = "results/tiny/split1"


@pytest.fixture(scope="module")
def split(workplace: Workplace) -> Path:
    workplace.snakemake(f"{SPLIT}/fused.json", f"{SPLIT}/attention.png")
    return workplace.folder / SPLIT


def test_attention(split: Path) -> None:
    picture = cv2.imread(str(split / "attention.png"))
    assert picture.std() > 20
    content = json.loads((split / "attention.json").read_text())
    assert set(content["streams"]) == set(STREAMS)
    assert len(content["videos"]) == 4
    for stream in content["streams"].values():
        assert stream["interval_auc"] is None  # the lists of this dataset know no intervals
        assert stream["videos"] == 6


def test_attention_is_made_once(workplace: Workplace, split: Path) -> None:
    assert workplace.jobs(f"{SPLIT}/attention.png") == {}
    (split / "attention.png").unlink()
    assert workplace.jobs(f"{SPLIT}/attention.png") == {"attention": 1}
    workplace.snakemake(f"{SPLIT}/attention.png")


def test_the_demo_knows_when_its_actions_happen(tmp_path: Path) -> None:
    place = Workplace(tmp_path)
    shutil.copy(REPOSITORY / "config.yaml", tmp_path)
    run = place.snakemake("--dry-run", "--printshellcmds", "results/demo/split2/attention.png")
    assert "--frames shards/demo/rgb --intervals data/demo/split2.csv --settings" in run.stdout + run.stderr


def test_predict(workplace: Workplace, split: Path) -> None:
    """The scores of a test video by the command line; a bad video costs itself alone."""
    scores = {stream: read_scores(split / stream / "scores.h5") for stream in STREAMS}
    good = list(scores["rgb"].videos[:2])
    videos = [f"videos/{video}" for video in (good[0], BAD, good[1])]
    run = subprocess.run(
        [sys.executable, "-m", "atw", "predict", *videos, "--model", SPLIT, "--top", "2", "--device", "cpu"],
        cwd=workplace.folder,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    assert run.returncode == 1, run.stderr
    first, bad, second = map(json.loads, run.stdout.splitlines())
    assert bad["video"] == videos[1]
    assert bad["error"].startswith("truncated")
    for row, found in enumerate((first, second)):
        added = sum(
            weight * scores[stream].video_logits[row].astype(float)
            for stream, weight in (("rgb", 1), ("flow", 1), ("warped", 0.5))
        )
        powers = np.exp(added / 2.5)
        expected = dict(zip(scores["rgb"].classes, powers / powers.sum(), strict=True))
        assert {one["label"]: one["probability"] for one in found["labels"]} == pytest.approx(expected, abs=1e-5)
        for stream in STREAMS:
            weights = scores[stream].attention[row].mean(axis=0)
            assert found["streams"][stream]["attention"]["weight"] == pytest.approx(weights.tolist(), abs=1e-5)
