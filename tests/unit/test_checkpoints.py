"""Resumable states by iterations and by the clock, which is worker 0's."""

import copy
import multiprocessing
import os
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

from atw.config import Compute
from atw.train import checkpoints, loop
from atw.train.checkpoints import Checkpoints
from atw.train.devices import Worker
from atw.train.task import TrainingTask
from tests.unit.trainings import CPU, WriteShard, assert_equal, run_training, task_of

SetClock = Callable[[list[float]], None]


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[SetClock]:
    """Give the seconds at which iterations begin; all of them must be asked for."""
    left: list[float] = []
    monkeypatch.setattr(checkpoints, "monotonic", lambda: left.pop(0))
    yield left.extend
    assert left == []


@pytest.mark.parametrize(
    ("every", "seconds", "expected"),
    [
        (100, [25 * iteration for iteration in range(10)], [4, 8, 10]),
        (5, [25 * iteration for iteration in range(10)], [4, 5, 9, 10]),
        (3, [25 * iteration for iteration in range(10)], [3, 6, 9, 10]),
        (100, [0.001 * iteration for iteration in range(10)], [10]),
        (100, [60 * iteration for iteration in range(10)], [2, 4, 6, 8, 10]),
        # Keeping the state takes longer than the minutes.
        (100, [0, 10, 60, 1000, 1010, 1059, 1060, 5000, 5001, 5002], [3, 7, 10]),
    ],
)
def test_a_state_is_kept_after_iterations_or_a_minute(
    set_clock: SetClock, every: int, seconds: list[float], expected: list[int]
) -> None:
    set_clock(seconds)
    kept = []
    compute = Compute(checkpoint_every=every, checkpoint_minutes=1)
    due = Checkpoints(compute, last=10, worker=Worker(CPU), stop=lambda: False)
    for done in range(1, 11):
        due.begin_iteration()
        if due.are_due(done):
            kept.append(done)
    assert kept == expected


@pytest.mark.parametrize(("late", "ema"), [(2, None), (5, 0.6)])
def test_the_clock_does_not_change_the_network(
    tmp_path: Path, write_shard: WriteShard, set_clock: SetClock, late: int, ema: float | None
) -> None:
    """Interrupted after a state that the clock asked for, and resumed, it is the training that nothing interrupted."""
    train = {"ema": ema, "mixup": 0.4}
    set_clock([0.0] * 7)
    whole, states = run_training(task_of(tmp_path, write_shard, train=train), tmp_path / "whole.jsonl")
    task = task_of(tmp_path, write_shard, train=train, compute={"checkpoint_every": 100, "checkpoint_minutes": 2.5})
    set_clock([0.0] * (late - 1) + [150.0] * (8 - late))
    history = tmp_path / "history.jsonl"
    rows, kept = run_training(task, history)
    assert list(kept) == [late, 7]
    set_clock([0.0] * (7 - late))
    resumed, later = run_training(task, history, state=kept[late])
    assert whole == rows == resumed
    assert_equal(kept[7], states[7])
    assert_equal(later[7], states[7])


def train_with_another(task: TrainingTask, rank: int, folder: Path, results: Connection) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    kept: list[int] = []
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    loop.run(
        task,
        Worker(CPU, rank, world=2),
        state=None,
        history_path=folder / "history.jsonl",
        save=lambda state: kept.append(state["iteration"]),
    )
    torch.distributed.destroy_process_group()
    results.send(kept)


@pytest.mark.parametrize(("minutes", "expected"), [((1e-9, 1e9), [2, 4, 6, 7]), ((1e9, 1e-9), [7])], ids=str)
def test_two_workers_go_by_the_clock_of_the_first(
    tmp_path: Path, write_shard: WriteShard, minutes: tuple[float, float], expected: list[int]
) -> None:
    context = multiprocessing.get_context("forkserver")
    workers: list[Any] = []
    found = []
    try:
        for rank in range(2):
            compute = {"checkpoint_every": 1000, "checkpoint_minutes": minutes[rank]}
            results, sender = context.Pipe(duplex=False)
            arguments = (task_of(tmp_path, write_shard, compute=compute), rank, tmp_path, sender)
            workers.append(context.Process(target=train_with_another, args=arguments))
            workers[rank].start()
            sender.close()
            found.append(results)
        assert [results.recv() for results in found] == [expected, expected]
    finally:
        for worker in workers:
            worker.join(20)
            worker.kill()
            worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]


def test_a_training_that_is_asked_to_stop_keeps_its_state(tmp_path: Path, write_shard: WriteShard) -> None:
    whole, states = run_training(task_of(tmp_path, write_shard), tmp_path / "whole.jsonl")
    task = task_of(tmp_path, write_shard, compute={"checkpoint_every": 100})
    asked: list[int] = []
    kept: dict[int, dict[str, Any]] = {}
    loop.run(
        task,
        Worker(CPU),
        state=None,
        history_path=tmp_path / "history.jsonl",
        save=lambda state: kept.update({state["iteration"]: copy.deepcopy(state)}),
        stop=lambda: bool(asked.append(1)) or len(asked) == 3,
    )
    assert list(kept) == [3]
    rows, later = run_training(task, tmp_path / "history.jsonl", state=kept[3])
    assert rows == whole
    assert_equal(later[7], states[7])
