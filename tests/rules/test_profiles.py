"""The profiles name rules and options that there are."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.rules.conftest import CONFIG, REPOSITORY, Workplace

DEFAULT = REPOSITORY / "profiles/default/config.yaml"
SLURM = REPOSITORY / "profiles/slurm/config.yaml"
KUBERNETES = REPOSITORY / "profiles/kubernetes/config.yaml"
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


@pytest.mark.parametrize("path", [SLURM, KUBERNETES], ids=["slurm", "kubernetes"])
def test_what_the_default_profile_shows_and_reruns_holds_on_clusters_too(path: Path) -> None:
    default, profile = read(DEFAULT), read(path)
    for key in ("show-failed-logs", "printshellcmds", "keep-going", "rerun-triggers"):
        assert profile[key] == default[key]
    assert set(profile["set-resources"]) <= RULES  # type: ignore[call-overload]


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
    plan = workplace.snakemake("--workflow-profile", str(SLURM.parent), "--dry-run", "--force", "--", target).stdout
    resources = re.findall(rf"rule {rule}:.*?resources: ([^\n]*)", plan, re.DOTALL)
    assert resources
    assert all(f"slurm_partition={partition}" in each and f"mem_mb={memory_mb}" in each for each in resources)


# In place of kubectl: `create` runs the job at once and remembers how it ended, `get` says so, `delete` forgets it.
KUBECTL = """\
#!{python}
import json, pathlib, subprocess, sys
jobs = pathlib.Path("{jobs}")
if sys.argv[1] == "create":
    job = json.load(sys.stdin)
    name = f"{{job['metadata']['generateName']}}{{len(list(jobs.glob('*.json')))}}"
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    with (jobs / f"{{name}}.log").open("w") as log:
        failed = subprocess.run(command, stdout=log, stderr=log).returncode != 0
    (jobs / f"{{name}}.json").write_text(json.dumps(job | {{"status": {{"failed": int(failed)}}}}))
    print(name, end="")
elif sys.argv[1:3] == ["get", "job"]:
    if not (jobs / f"{{sys.argv[3]}}.json").exists():
        sys.exit("Error from server (NotFound): jobs.batch not found" if "gone" in sys.argv[3] else "no route to host")
    print(",1" if json.loads((jobs / f"{{sys.argv[3]}}.json").read_text())["status"]["failed"] else "1,", end="")
elif sys.argv[1:5] == ["delete", "job", "--ignore-not-found", "--wait=false"]:
    for name in sys.argv[5:]:
        (jobs / f"{{name}}.json").unlink()
else:
    sys.exit("unknown: " + " ".join(sys.argv))
"""


@pytest.fixture
def kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the jobs that a stand-in for kubectl was given."""
    kubectl = tmp_path / "bin/kubectl"
    kubectl.parent.mkdir()
    kubectl.write_text(KUBECTL.format(python=sys.executable, jobs=tmp_path), encoding="utf-8")
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{kubectl.parent}:{os.environ['PATH']}")
    return tmp_path


def test_jobs_run_through_kubectl(workplace: Workplace, kubernetes: Path) -> None:
    place = Workplace(kubernetes / "place")
    place.folder.mkdir()
    for path in (workplace.folder / "videos", workplace.folder / "lists", REPOSITORY / "profiles"):
        (place.folder / path.name).symlink_to(path)
    place.write_config(CONFIG)
    profile = ["--workflow-profile", "profiles/kubernetes", "--jobs", "1", "--latency-wait", "5"]
    profile += ["--seconds-between-status-checks", "1"]
    run = place.snakemake(*profile, "--", "shards/tiny/rgb/00001.h5")
    assert (place.folder / "shards/tiny/rgb/00001.h5").exists(), run.stderr
    job = json.loads((kubernetes / "atw-0.json").read_text())
    assert job["kind"] == "Job"
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"] == {"requests": {"cpu": "1", "memory": "4000M"}, "limits": {"memory": "4000M"}}


def test_gpus_are_asked_for_and_memory_is_bounded(kubernetes: Path) -> None:
    script = kubernetes / "script.sh"
    script.write_text("exit 3\n", encoding="utf-8")
    submit = [sys.executable, str(KUBERNETES.with_name("submit.py")), "--threads", "8", "--mem-mb", "32000"]
    name = subprocess.check_output([*submit, "--gpus", "2", str(script)], text=True).strip()
    job = json.loads((kubernetes / f"{name}.json").read_text())
    limits = job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"memory": "32000M", "nvidia.com/gpu": "2"}
    answers = [
        subprocess.check_output([KUBERNETES.with_name("status"), each], text=True).strip()
        for each in (name, "gone", "unreachable")
    ]
    assert answers == ["failed", "failed", "running"]
    subprocess.run([KUBERNETES.with_name("cancel"), name], check=True)
    assert not (kubernetes / f"{name}.json").exists()
