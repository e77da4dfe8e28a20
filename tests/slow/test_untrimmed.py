"""The untrimmed demo, made small: from nothing to the table of consensus functions, detections and the page.

What the table says of attention needs hours (docs/experiments.md); this is the same way with few videos and updates.
"""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.rules.conftest import REPOSITORY, Workplace

SMALL = {
    "datasets": {
        "demo-untrimmed": {
            "train_per_class": 2,
            "trimmed_per_class": 2,
            "test_per_class": 2,
            "frames": [90, 100],
            "preprocess": {"shards": 1},
            "train": {"iterations": 10, "warmup": 2},
            "fusion": {"weights": {"flow": 1, "warped": 0.5}},  # two streams, eight trainings
        }
    },
    "consensus_table": {"rows": ["average", "gated"], "against": ["average"], "seeds": 2, "splits": 1},
}
RESULT = "results/demo-untrimmed/experiments/consensus-gated/split1"
WANTED = ("detections.json", "films", "report.html")


@pytest.mark.timeout(900)
def test_from_nothing_to_table_and_page(tmp_path: Path) -> None:
    workplace, folder = Workplace(tmp_path), tmp_path
    shutil.copy(REPOSITORY / "config.yaml", folder)
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    targets = ["results/demo-untrimmed/tables/consensus.json", *(f"{RESULT}/{name}" for name in WANTED)]
    workplace.snakemake("--configfile", "small.yaml", "--", *targets, timeout=800)

    table = json.loads((folder / targets[0]).read_text())
    assert [row["consensus"] for row in table["rows"]] == ["average", "gated"]
    assert all(len(row["experiments"]) == 2 for row in table["rows"])
    average, gated = (row["cells"] for row in table["rows"])
    assert list(gated) == ["flow", "warped", "fused"]
    assert all("average" in gated[column]["differences"] for column in gated)
    assert all(average[stream]["entropy"] == pytest.approx(1) for stream in ("flow", "warped"))
    assert all(average[stream]["auc"] == 0.5 != gated[stream]["auc"] for stream in ("flow", "warped"))

    fused = json.loads((folder / RESULT / "fused.json").read_text())
    assert fused["videos"] == {"train": 32, "test": 16, "quarantined": []}
    assert fused["detections"]["videos"] == 16
    detected = json.loads((folder / RESULT / "detections.json").read_text())
    assert len(detected["results"]) == 16
    assert len(list((folder / RESULT / "films").glob("*.mp4"))) == 4
