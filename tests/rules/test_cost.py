"""`atw plan` in a working folder: what Snakemake would make, and what it takes."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.rules.conftest import REPOSITORY, Workplace

TARGET = "results/tiny/split1/fused.json"
SHARD = "shards/tiny/rgb/00000.h5"


@pytest.fixture
def checkout(workplace: Workplace) -> Iterator[Workplace]:
    """The working folder as a checkout: with the workflow in it."""
    links = [workplace.folder / name for name in ("Snakefile", "workflow")]
    for link in links:
        link.symlink_to(REPOSITORY / link.name)
    yield workplace
    for link in links:
        link.unlink()


def atw_plan(place: Workplace, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "atw", "plan", "--cores", "2", *arguments]
    return subprocess.run(command, cwd=place.folder, capture_output=True, text=True, env=environment, timeout=200)


def test_what_is_made_is_no_longer_counted(checkout: Workplace) -> None:
    checkout.snakemake(SHARD)
    assert f"{SHARD} is there, and up to date" in atw_plan(checkout, SHARD).stdout
    run = atw_plan(checkout, "--json", TARGET)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    jobs = {(row["stage"], row["of"]): row["jobs"] for row in found["rows"]}
    assert jobs[("frames", "tiny")] == 1  # of two
    assert jobs[("train", "tiny flow")] == jobs[("score", "tiny flow")] == 1
    assert found["elapsed_hours"] > 0
    assert not (checkout.folder / TARGET).exists()
    # Nothing was made, and no lock is left behind.
    assert checkout.jobs(TARGET)["frames"] == 1


def test_a_target_that_nobody_can_make(checkout: Workplace) -> None:
    run = atw_plan(checkout, "results/nobody/split1/fused.json")
    assert run.returncode == 2
    assert "Snakemake cannot plan results/nobody/split1/fused.json" in run.stderr
    assert "nobody" in run.stderr.partition(":\n")[2]
    assert "Traceback" not in run.stderr
