"""Trainings of one worker and of several, which a real Ray runs, and a death in the middle."""

import contextlib
import copy
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import torch

from atw.config import Model, Sampling
from atw.model.network import VideoNetwork
from atw.train.ray.cluster import still_there
from tests.rules.conftest import CONFIG, Workplace
from tests.slow.processes import kill, tree

STOPPED = "stopped by SIGINT; start again: training goes on from iteration"
MODEL = "results/tiny/split1/flow/model.pt"


def train(workplace: Workplace, **compute: object) -> dict[str, torch.Tensor]:
    config = copy.deepcopy(CONFIG)
    config["datasets"]["tiny"]["model"] |= {"partial_bn": "all"}
    config["datasets"]["tiny"]["compute"] |= compute
    workplace.write_config(config)
    workplace.snakemake(MODEL, "--force")
    return torch.load(workplace.folder / MODEL, weights_only=True)["parameters"]


def curves_of(workplace: Workplace) -> set[Path]:
    """The files for TensorBoard, of other tests too."""
    return set((workplace.folder / "logs/tensorboard").rglob("events.out.tfevents.*"))


@pytest.mark.timeout(400)
def test_two_workers_give_the_model_that_one_gives(workplace: Workplace) -> None:
    before = curves_of(workplace)
    one = train(workplace)
    curves = curves_of(workplace)
    assert len(curves - before) == 1
    # The second also reads in processes of its own, sums gradients over micro-batches and keeps a state of every other
    # iteration, for the clock of its first worker says so.
    compute = {"microbatch": 2, "loaders": 1, "tensorboard": False, "checkpoint_every": 100, "checkpoint_minutes": 1e-6}
    two = train(workplace, workers=2, train_threads=2, **compute)
    assert curves_of(workplace) == curves
    start = initial_parameters()
    moved = max(float((one[name] - start[name]).abs().max()) for name in start)
    apart = max(float((one[name] - two[name]).abs().max()) for name in start)
    assert moved > 0.02
    assert apart < moved / 100


def initial_parameters() -> dict[str, torch.Tensor]:
    """Of the same network before training; batch norm's statistics are frozen and left out."""
    tiny = CONFIG["datasets"]["tiny"]
    torch.manual_seed(CONFIG["seed"])
    model = Model.model_validate(tiny["model"] | {"partial_bn": "all"})
    sampling = Sampling(segments=2, stack=tiny["sampling"]["stack"])
    network = VideoNetwork(model, sampling, stream="flow", classes=2)
    return {name: value.detach() for name, value in network.named_parameters()}


def wait_for(condition: object, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.2)
    return False


@pytest.mark.timeout(500)
@pytest.mark.parametrize(
    ("seed", "victim", "workers"),
    [
        (11, "everything", 1),
        (15, "everything", 2),
        (12, "snakemake alone", 1),
        (14, "Ctrl-C", 1),
        (16, "Ctrl-C", 2),
    ],
)
def test_a_killed_training_resumes_and_finishes(workplace: Workplace, seed: int, victim: str, workers: int) -> None:
    config = copy.deepcopy(CONFIG)
    iterations = 1500  # enough to be in the midst of, however fast they are made
    config["seed"] = seed
    config["datasets"]["tiny"]["train"] |= {"iterations": iterations, "steps": [1000]}
    # With one that reads ahead, who must not hear Ctrl-C either.
    config["datasets"]["tiny"]["compute"] |= {"checkpoint_every": 40, "workers": workers, "loaders": 1}
    workplace.write_config(config)
    workplace.snakemake("shards/tiny/flow/00000.h5", "shards/tiny/flow/00001.h5")
    run = workplace.start(MODEL, "--force", cores=1)
    folder = workplace.folder / "checkpoints/tiny/split1/flow"
    before = {path.name for path in folder.glob("*")} if folder.exists() else set()

    def histories() -> list[Path]:
        return [path for path in folder.glob("*/history.jsonl") if path.parent.name not in before]

    assert wait_for(lambda: any(len(path.read_text().splitlines()) > 100 for path in histories()), 120)
    processes = tree(run.pid)
    if victim == "Ctrl-C":
        os.killpg(run.pid, signal.SIGINT)
    else:
        kill(processes if victim == "everything" else processes[:1])
    run.wait()
    log = workplace.folder / "logs/train/tiny/split1/flow.log"
    if victim == "Ctrl-C":
        said = [line for line in log.read_text().splitlines() if "stopped by SIGINT; " in line]
        assert [line.rpartition(" ")[0].partition(" ")[2] for line in said] == [STOPPED]
        assert "Traceback" not in log.read_text()
        stopped_at = said[0].rpartition(" ")[2]
    else:
        workplace.snakemake("--unlock")
    if victim == "snakemake alone":
        # The rule's own process outlives Snakemake: its successor is refused until it has ended, for which it gets no
        # time here.
        for process in processes[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        refused = workplace.snakemake(MODEL, "--rerun-incomplete", check=False)
        assert refused.returncode != 0
        assert "is still running this training" in refused.stdout + refused.stderr
        workplace.snakemake("--unlock")
        kill(processes[1:])
    assert still_there(processes, 30) == []
    assert not (workplace.folder / MODEL).exists()
    workplace.snakemake(MODEL, *([] if victim == "Ctrl-C" else ["--rerun-incomplete"]), timeout=400)
    resumed = f"resumed at iteration {stopped_at} of" if victim == "Ctrl-C" else "resumed at iteration"
    assert resumed in log.read_text()
    history = (workplace.folder / MODEL).with_name("history.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in history] == list(range(1, iterations + 1))


@pytest.mark.timeout(300)
def test_a_full_disk_under_the_checkpoints_is_explained(workplace: Workplace) -> None:
    config = copy.deepcopy(CONFIG)
    config["seed"] = 13
    config["datasets"]["tiny"]["compute"] |= {"retries": 0}
    workplace.write_config(config)
    model = workplace.folder / MODEL
    folder = workplace.folder / "checkpoints/tiny/split1/flow"
    folder.mkdir(parents=True, exist_ok=True)
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", str(folder)], capture_output=True)
    if mount.returncode:
        pytest.skip(f"no file system can be mounted here: {mount.stderr.decode()}")
    try:
        run = workplace.snakemake(MODEL, "--force", check=False)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    assert run.returncode != 0
    assert not model.exists()
    line = next(
        line for line in run.stdout.splitlines() + run.stderr.splitlines() if line.lstrip().startswith("error: ")
    )
    assert "cannot write a checkpoint into" in line
    assert "No space left on device" in line
    assert "free some space" in line


@pytest.mark.timeout(300)
def test_a_training_that_no_other_try_can_save_is_tried_once(workplace: Workplace) -> None:
    config = copy.deepcopy(CONFIG)
    config["seed"] = 17
    config["datasets"]["tiny"]["train"] |= {"learning_rate": 1e38, "clip": 1e30}
    config["datasets"]["tiny"]["compute"] |= {"workers": 2}
    workplace.write_config(config)
    run = workplace.snakemake(MODEL, "--force", check=False)
    assert run.returncode != 0
    log = (workplace.folder / "logs/train/tiny/split1/flow.log").read_text()
    assert log.splitlines()[-1].startswith("error: the loss is not finite any more"), log
    assert "RETRY" not in log
    assert "RAISE" in log
