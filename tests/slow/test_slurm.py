"""A small demo dataset through profiles/slurm on a real Slurm: a job cancelled, a node lost, GPUs asked for."""

import copy
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.rules.conftest import REPOSITORY
from tests.slow.processes import kill, tree
from tests.slow.slurm import CPU_NODE, Job, Slurm, require_slurm

TARGET = "results/demo/split1/fused.json"
MODEL = "results/demo/split1/rgb/model.pt"
PROFILE = REPOSITORY / "profiles/slurm"
# A cluster can afford to look at its jobs every half minute; a test looks more often.
IMPATIENCE = ["--seconds-between-status-checks", "2", "--slurm-init-seconds-before-status-checks", "2"]
NOBODY = "127.0.0.1:1"  # a job that joined the Ray of the login node would fail there

pytestmark = pytest.mark.timeout(600)


def small_demo() -> dict[str, object]:
    """One video a class and subset, two shards, a few iterations of two streams; warped flow needs plain flow."""
    demo = copy.deepcopy(yaml.safe_load((REPOSITORY / "config.yaml").read_text(encoding="utf-8"))["datasets"]["demo"])
    demo |= {"train_per_class": 1, "test_per_class": 1, "fusion": {"weights": {"rgb": 1, "warped": 1}}}
    demo["preprocess"]["shards"] = 2
    demo["train"] |= {"iterations": 6, "batch": 4, "steps": [4], "warmup": 1}
    demo["evaluate"]["snippets"] = 5
    return {"datasets": {"demo": demo}}


@dataclass
class LoginNode:
    """A working folder, and Snakemake with the profile in it."""

    slurm: Slurm
    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / "snakemake.log"

    def write_config(self, **compute: object) -> None:
        config = small_demo()
        config["datasets"]["demo"]["compute"] |= compute  # type: ignore[index]
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")]
        command += ["--workflow-profile", str(PROFILE), *IMPATIENCE, *arguments]
        environment = self.slurm.environment
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        environment["RAY_ADDRESS"] = NOBODY
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self, run: subprocess.Popen[bytes], seconds: float) -> int:
        """Its exit status. What takes longer is ended: a job that nothing can start would be waited for without end."""
        try:
            return run.wait(seconds)
        except subprocess.TimeoutExpired:
            kill(tree(run.pid))
            run.wait()
            pytest.fail(f"not finished after {seconds} s:\n{self.log.read_text()[-6000:]}\n{self.slurm.jobs()}")

    def wait_for_job(self, run: subprocess.Popen[bytes], wanted: Callable[[Job], bool], seconds: float = 200) -> Job:
        end = time.monotonic() + seconds
        while time.monotonic() < end and run.poll() is None:
            for job in self.slurm.jobs():
                if wanted(job):
                    return job
            time.sleep(0.5)
        kill(tree(run.pid))
        run.wait()
        pytest.fail(f"no such job:\n{self.log.read_text()[-6000:]}\n{self.slurm.jobs()}")


@pytest.fixture(scope="module")
def login(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoginNode]:
    require_slurm()
    slurm = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        slurm.start()
        yield LoginNode(slurm, tmp_path_factory.mktemp("login"))
    finally:
        slurm.stop()


@dataclass
class Finished:
    """A run in which one job was cancelled and another lost its node."""

    login: LoginNode
    cancelled: Job
    lost: Job
    jobs: list[Job]

    def states(self, name: str) -> list[str]:
        return [job.state for job in self.jobs if job.name == name]


@pytest.fixture(scope="module")
def finished(login: LoginNode) -> Finished:
    login.write_config()
    run = login.start(TARGET)
    lost = login.wait_for_job(run, lambda job: job.name.startswith("frames") and job.state == "RUNNING")
    login.slurm.kill_node(CPU_NODE)
    login.slurm.start_node(CPU_NODE)
    cancelled = login.wait_for_job(run, lambda job: job.name.startswith("train") and job.state == "RUNNING")
    login.slurm.run("scancel", cancelled.number)
    assert login.wait(run, 400) == 0, login.log.read_text()[-6000:]
    return Finished(login, cancelled, lost, login.slurm.jobs())


def test_the_result_is_there(finished: Finished) -> None:
    fused = json.loads((finished.login.folder / TARGET).read_text())
    assert fused["videos"] == {"train": 8, "test": 8, "quarantined": []}
    assert set(fused["streams"]) == {"rgb", "warped"}


def test_a_cancelled_job_is_submitted_again(finished: Finished) -> None:
    assert finished.states(finished.cancelled.name) == ["CANCELLED", "COMPLETED"]


def test_a_job_whose_node_died_is_submitted_again(finished: Finished) -> None:
    assert finished.states(finished.lost.name) == ["NODE_FAIL", "COMPLETED"]


def test_shards_share_a_job_and_take_turns_in_it(finished: Finished) -> None:
    shards = {job.name: job for job in finished.jobs if job.name.startswith(("frames", "flow", "warped"))}
    assert set(shards) == {"frames-demo_frames", "flow-demo_flow", "warped-demo_warped"}
    warped = shards["warped-demo_warped"].fields
    # The cores and memory of one shard, the time of both.
    assert warped["TRES"].startswith("cpu=1,mem=4000M,")
    assert warped["TimeLimit"] == "01:00:00"


def test_a_second_attempt_has_more_time(finished: Finished) -> None:
    limits = [job.fields["TimeLimit"] for job in finished.jobs if job.name == "frames-demo_frames"]
    assert limits == ["00:10:00", "00:20:00"]


def test_networks_are_on_the_gpu_nodes_and_nothing_else_is(finished: Finished) -> None:
    on_gpu_nodes = {job.name.partition("_")[0] for job in finished.jobs if job.fields["Partition"] == "gpu"}
    elsewhere = {job.name.partition("_")[0] for job in finished.jobs if job.fields["Partition"] == "cpu"}
    assert on_gpu_nodes == {"train", "score"}
    assert elsewhere == {"render", "frames-demo", "flow-demo", "warped-demo", "audit", "fuse"}


def test_a_training_asks_slurm_for_its_gpus(finished: Finished) -> None:
    login = finished.login
    login.write_config(gpus=1)
    run = login.start("--force", "--retries", "0", MODEL)
    job = login.wait_for_job(run, lambda job: job.number not in {other.number for other in finished.jobs})
    assert job.name == "train_wildcards_demo_split1_rgb"
    assert job.fields["TresPerJob"] == "gres:gpu:1"
    # Slurm's GPUs are files here: the training looks for a real one, and says so where there is none.
    if login.wait(run, 120):
        assert "compute.gpus is 1, but 0 CUDA devices are there" in login.log.read_text()
