"""The picture of attention as a result of the workflow, and new videos through what it trained."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from atw.evaluate.scores import read_scores
from atw.shards import Shard
from tests.rules.conftest import BAD, REPOSITORY, VARIABLE, Workplace

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
        assert "actions" not in stream  # the lists of this dataset know none
        assert stream["videos"] == 6


def test_seconds_of_a_variable_rate_are_those_of_the_file(workplace: Workplace, split: Path) -> None:
    """14 frames in 0.72 s, which are 0.56 s at the rate of the header: in the shard, the picture and a prediction."""
    edges = np.array([*VARIABLE, VARIABLE[-1] + 1]) / 25
    shown = json.loads((split / "attention.json").read_text())["videos"]
    variable = [video for video in shown if "test (0)" not in video["video"]]
    assert variable
    for video in variable:
        assert (video["times"], video["seconds"]) == ("file", pytest.approx(0.72))
        for one in (*video["highest"], *video["lowest"]):
            assert one["seconds"] == pytest.approx(edges[one["frame"] : one["frame"] + 2].mean())
    video = variable[0]["video"]
    for stream in STREAMS:
        with Shard(workplace.folder / f"shards/tiny/{stream}/{shard_of(workplace, video)}.h5") as shard:
            (entry,) = (entry for entry in shard.entries if entry.video == video)
            assert (entry.repaired, entry.fps) == ("", pytest.approx(14 / 0.72))
            assert shard.times(entry).edges == pytest.approx(edges)
    found = predict(workplace, f"videos/{video}", "--window", "0.32", "--stride", "0.2")
    assert (found["seconds"], found["times"]) == (pytest.approx(0.72), "file")
    for window, start in zip(found["windows"], (0, 0.2, 0.4), strict=True):
        for key, expected in (("start_seconds", start), ("end_seconds", start + 0.32)):
            assert window[key] == pytest.approx(expected, abs=0.041)
            assert np.abs(edges - window[key]).min() < 1e-6
    for stream in STREAMS:
        attention = variable[0]["attention"][stream]["seconds"]
        assert found["streams"][stream]["attention"]["seconds"] == pytest.approx(attention, abs=1e-5)


def test_attention_is_made_once(workplace: Workplace, split: Path) -> None:
    assert workplace.jobs(f"{SPLIT}/attention.png") == {}
    (split / "attention.png").unlink()
    assert workplace.jobs(f"{SPLIT}/attention.png") == {"attention": 1}
    workplace.snakemake(f"{SPLIT}/attention.png")


def test_detections_are_made_on_demand(workplace: Workplace, split: Path) -> None:
    assert workplace.jobs(f"{SPLIT}/detections.json") == {"detect": 1}
    workplace.snakemake(f"{SPLIT}/detections.json")
    content = json.loads((split / "detections.json").read_text())
    assert set(content["streams"]) == set(STREAMS)
    assert set(content["results"]) == set(read_scores(split / "rgb/scores.h5").videos)
    assert any(content["results"].values())
    assert "detections" not in json.loads((split / "fused.json").read_text())  # nobody says when the actions are


def shard_of(workplace: Workplace, video: str) -> str:
    for path in sorted((workplace.folder / "shards/tiny/rgb").glob("*.h5")):
        with Shard(path) as shard:
            if any(entry.video == video for entry in shard.entries):
                return path.stem
    raise LookupError(video)


def predict(workplace: Workplace, *arguments: str) -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, "-m", "atw", "predict", *arguments, "--model", SPLIT, "--device", "cpu"],
        cwd=workplace.folder,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    found: dict[str, Any] = json.loads(run.stdout)
    return found


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
