"""The demo from nothing to fused.json, with generous floors under what it measured over several seeds."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from atw.evaluate.metrics import interval_auc
from atw.evaluate.scores import read_scores
from tests.rules.conftest import Workplace
from tests.slow.conftest import DEMO


@pytest.mark.timeout(1600)
def test_accuracies(demo: Workplace) -> None:
    fused = json.loads((demo.folder / DEMO).read_text())
    assert fused["videos"] == {"train": 320, "test": 160, "quarantined": []}
    assert fused["accuracy"]["top1"] > 0.80
    assert fused["streams"]["warped"]["top1"] > 0.80
    assert fused["streams"]["flow"]["top1"] > 0.50
    assert fused["streams"]["rgb"]["top1"] > 0.50


def test_attention_finds_the_action(demo: Workplace) -> None:
    scores = read_scores(demo.folder / "results/demo/split1/warped/scores.h5")
    with (demo.folder / "data/demo/split1.csv").open(newline="", encoding="utf-8") as stream:
        intervals = {row["path"]: (int(row["action_first"]), int(row["action_last"])) for row in csv.DictReader(stream)}
    bounds = np.array([intervals[video] for video in scores.videos])
    middle = scores.positions + 2  # of a stack of 5 fields
    inside = (middle >= bounds[:, :1]) & (middle <= bounds[:, 1:])
    auc = interval_auc(scores.attention[:, 0], inside)
    assert auc is not None
    assert auc > 0.80


def test_run_again_does_nothing(demo: Workplace) -> None:
    again = demo.snakemake(DEMO)
    assert "Nothing to be done" in again.stdout + again.stderr


def test_no_file_is_left_beside_the_results(demo: Workplace) -> None:
    leftovers = [path for path in Path(demo.folder).rglob("*.tmp") if ".snakemake" not in path.parts]
    assert leftovers == []
