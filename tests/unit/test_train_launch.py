"""A training in this process: what is tried again, what its state is kept in, and how a signal ends it."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from atw.config import Compute
from atw.files import InputError
from atw.train import launch, loop, stopping
from atw.train.checkpoints import read_state, write_state
from atw.train.devices import Worker
from atw.train.stopping import StoppedError
from atw.train.task import TrainingTask
from tests.unit.trainings import CPU, WriteShard, task_of


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Train in this process, by functions that take the state to go on from and what keeps the next one, in turn.

    The first try gets the network that was built before, later ones build their own.
    """

    def train(*tries: Any, retries: int = 0) -> list[int]:
        left = list(tries)

        def run(*_: Any, network: Any, state: Any, save: Any, **__: Any) -> None:
            assert network is (built if len(left) == len(tries) else None)
            left.pop(0)(state, save)

        built: Any = object()
        monkeypatch.setattr(loop, "run", run)
        task = SimpleNamespace(compute=Compute(retries=retries))
        given = launch.Run(cast(TrainingTask, task), tmp_path, flag=tmp_path / "stop", board=None, threads=1)
        caught = launch.train_here(given, built, on_gpu=False)
        assert left == []
        return caught

    return train


def test_what_fails_goes_on_from_its_last_state(trained: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail(state: Any, save: Any) -> None:
        assert state is None
        save({"iteration": 3, "weights": torch.ones(2)})
        raise RuntimeError("a reader was killed")

    def finish(state: Any, save: Any) -> None:
        assert state["iteration"] == 3
        assert torch.equal(state["weights"], torch.ones(2))
        save({"iteration": 5})

    assert trained(fail, finish, retries=1) == []
    state = read_state(tmp_path)
    assert state is not None
    assert state["iteration"] == 5
    assert state["hardware"]
    assert "a reader was killed" in caplog.text
    with pytest.raises(RuntimeError, match="a reader was killed"):
        trained(lambda *_: fail(None, lambda _: None))


def test_a_wrong_input_is_tried_once(trained: Any) -> None:
    def refuse(*_: Any) -> None:
        raise InputError("no shard")

    with pytest.raises(InputError, match="no shard"):
        trained(refuse, retries=2)


def test_a_signal_lets_it_keep_a_state(trained: Any, tmp_path: Path) -> None:
    def stop(state: Any, save: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        while not (tmp_path / "stop").exists():
            time.sleep(0.01)
        save({"iteration": 4})

    assert trained(stop) == [signal.SIGTERM]
    assert read_state(tmp_path) is not None
    assert not (tmp_path / "stop").exists()


@pytest.mark.parametrize(("grace", "signals"), [(0.0, 1), (1000.0, 2)])
def test_what_does_not_end_is_ended(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grace: float, signals: int
) -> None:
    monkeypatch.setattr(stopping, "GRACE_SECONDS", grace)

    def go_on(*_: Any) -> None:
        for _ in range(signals):
            os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(100)

    with pytest.raises(StoppedError) as stopped:
        trained(go_on)
    assert stopped.value.number == signal.SIGINT
    assert not (tmp_path / "stop").exists()


def test_what_fails_after_a_signal_is_not_tried_again(trained: Any) -> None:
    def fail(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        raise RuntimeError("a reader was killed")

    with pytest.raises(StoppedError):
        trained(fail, retries=2)


def test_processes_that_read_do_not_hear_the_signal() -> None:
    with stopping.ignored_by_children():
        deaf = subprocess.Popen(["sleep", "100"])
    hearing = subprocess.Popen(["sleep", "100"])
    try:
        for process in (deaf, hearing):
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
        assert hearing.wait(30) in (-signal.SIGINT, -signal.SIGTERM)
        assert deaf.poll() is None
    finally:
        for process in (deaf, hearing):
            process.kill()
            process.wait()


def test_a_state_takes_the_place_of_the_last_one(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    for iteration in (1, 2):
        write_state(tmp_path, {"iteration": iteration})
    assert read_state(tmp_path) == {"iteration": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


def test_a_state_that_cannot_be_kept_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_state(tmp_path, {"iteration": 1})

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=f"cannot write a checkpoint into {tmp_path}: .*No space left.*free some"):
        write_state(tmp_path, {"iteration": 2})
    assert read_state(tmp_path) == {"iteration": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    write_state(tmp_path, {"iteration": 1, "weights": torch.ones(1000)})
    content = (tmp_path / "state.pt").read_bytes()
    (tmp_path / "state.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=f"state.pt cannot be read: .*delete {tmp_path} and start again"):
        read_state(tmp_path)


def test_workers_that_read_different_states_do_not_go_on(
    tmp_path: Path, write_shard: WriteShard, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = loop.Training(task_of(tmp_path, write_shard, compute={"microbatch": 8}), Worker(CPU, 0, world=2))

    def reduce(found: torch.Tensor, _: object) -> None:
        found.copy_(torch.minimum(found, torch.tensor([4, 6, -6])))  # of a worker that starts from iteration 6

    monkeypatch.setattr(torch.distributed, "all_reduce", reduce)
    monkeypatch.setattr(loop, "DistributedDataParallel", lambda network: network)
    training.join(6)
    assert training.microbatch == 4
    with pytest.raises(RuntimeError, match="iteration 6 and 9"):
        training.join(9)
