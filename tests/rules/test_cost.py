"""`atw plan` in a working folder: what Snakemake would make, and what it takes."""

import json
import os
import subprocess
import sys
from copy import deepcopy

import yaml

from tests.rules.conftest import CONFIG, REPOSITORY, Workplace

TARGET = "results/tiny/split1/fused.json"
SHARD = "shards/tiny/rgb/00000.h5"


def atw_plan(place: Workplace, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "atw", "plan", "--cores", "2", *arguments]
    return subprocess.run(command, cwd=place.folder, capture_output=True, text=True, env=environment, timeout=200)


def test_what_is_made_is_no_longer_counted(workplace: Workplace) -> None:
    workplace.snakemake(SHARD)
    assert f"{SHARD} is there, and up to date" in atw_plan(workplace, SHARD).stdout
    run = atw_plan(workplace, "--json", TARGET)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    jobs = {(row["stage"], row["of"]): row["jobs"] for row in found["rows"]}
    assert jobs[("frames", "tiny")] == 1  # of two
    assert jobs[("train", "tiny flow")] == jobs[("score", "tiny flow")] == 1
    assert found["elapsed_hours"] > 0
    assert not (workplace.folder / TARGET).exists()
    # Nothing was made, and no lock is left behind.
    assert workplace.jobs(TARGET)["frames"] == 1


def test_weights_that_are_missing_are_named_and_no_obstacle(workplace: Workplace) -> None:
    raw = deepcopy(CONFIG)
    raw["datasets"]["tiny"]["model"] |= {"backbone": "mobilenet_v3_small", "weights": "weights/{backbone}.pth"}
    given = workplace.folder / "networks.yaml"
    given.write_text(yaml.safe_dump(raw), encoding="utf-8")
    run = atw_plan(workplace, "--configfile", "networks.yaml", "--json", TARGET)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert "get it by `atw weights mobilenet_v3_small`" in found["notes"][0]
    assert {row["stage"] for row in found["rows"]} >= {"train", "score"}


def test_a_target_that_nobody_can_make(workplace: Workplace) -> None:
    run = atw_plan(workplace, "results/nobody/split1/fused.json")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("error: dataset 'nobody' is not in config.yaml under `datasets:`; known datasets: ")
    assert run.stderr.count("\n") == 1
    misspelt = atw_plan(workplace, TARGET.replace("fused", "fusd"))
    assert (misspelt.returncode, misspelt.stdout) == (2, "")
    assert misspelt.stderr.startswith(
        f"error: nothing makes {TARGET.replace('fused', 'fusd')}; there are, for example, "
    )
    assert misspelt.stderr.count("\n") == 1
