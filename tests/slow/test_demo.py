"""The demo from nothing to fused.json, with generous floors under what it measured over several seeds."""

import json
import re
from pathlib import Path

import pytest

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
    attention = json.loads((demo.folder / DEMO).read_text())["attention"]["warped"]
    assert attention["actions"]["weights"]["auc"] > 0.80


def test_the_first_training_begins_before_the_last_shard(demo: Workplace) -> None:
    first_log = min((demo.folder / ".snakemake/log").iterdir())
    begun = re.findall(r"^(?:local)?rule (\w+):$", first_log.read_text(encoding="utf-8"), re.MULTILINE)
    assert "warped" in begun[begun.index("train") :]


def test_run_again_does_nothing(demo: Workplace) -> None:
    again = demo.snakemake(DEMO)
    assert "Nothing to be done" in again.stdout + again.stderr


def test_no_file_is_left_beside_the_results(demo: Workplace) -> None:
    leftovers = [path for path in Path(demo.folder).rglob("*.tmp") if ".snakemake" not in path.parts]
    assert leftovers == []
