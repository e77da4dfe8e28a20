"""The profiles name rules and options that there are."""

import re
from pathlib import Path

import pytest
import yaml

from tests.rules.conftest import REPOSITORY, Workplace

DEFAULT = REPOSITORY / "profiles/default/config.yaml"
SLURM = REPOSITORY / "profiles/slurm/config.yaml"
RULES = {
    name
    for path in (REPOSITORY / "workflow/rules").glob("*.smk")
    for name in re.findall(r"^rule (\w+):", path.read_text(encoding="utf-8"), re.MULTILINE)
}


def read(path: Path) -> dict[str, object]:
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def test_rules_that_the_profile_names_exist() -> None:
    profile = read(SLURM)
    named = {*profile["groups"], *profile["set-resources"]}  # type: ignore[misc]
    assert {"frames", "flow", "warped", "train", "score", "score_held_out"} <= named <= RULES
    assert set(profile["groups"].values()) == set(profile["group-components"])  # type: ignore[attr-defined]
    # Without a turn of its own, a rule of a group would ask for the cores of all its jobs together.
    assert all(profile["set-resources"][rule]["turn"] == 1 for rule in profile["groups"])  # type: ignore[index,attr-defined]


def test_what_the_default_profile_shows_and_reruns_holds_on_slurm_too() -> None:
    default, slurm = read(DEFAULT), read(SLURM)
    for key in ("show-failed-logs", "printshellcmds", "keep-going", "rerun-triggers"):
        assert slurm[key] == default[key]


@pytest.mark.parametrize(
    ("rule", "target", "partition", "memory_mb"),
    [
        ("flow", "shards/tiny/flow/00000.h5", "cpu", 4000),
        ("train", "results/tiny/split1/rgb/model.pt", "gpu", 32000),
        ("score", "results/tiny/split1/rgb/scores.h5", "gpu", 16000),
        ("fuse", "results/tiny/split1/fused.json", "cpu", 4000),
    ],
)
def test_snakemake_plans_with_the_profile(
    workplace: Workplace, rule: str, target: str, partition: str, memory_mb: int
) -> None:
    plan = workplace.snakemake("--workflow-profile", str(SLURM.parent), "--dry-run", "--", target).stdout
    resources = re.findall(rf"rule {rule}:.*?resources: ([^\n]*)", plan, re.DOTALL)
    assert resources
    assert all(f"slurm_partition={partition}" in each and f"mem_mb={memory_mb}" in each for each in resources)
