"""Whole trainings in this process, without Ray: resumption, averages, schedules, and what is reported."""

import dataclasses
import json
import logging
import re
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from tensorboardX.proto import event_pb2

from atw import config
from atw.config import Interval
from atw.data import reader, sampling
from atw.data.augment import Box, Crop
from atw.datasets import Split
from atw.evaluate.score import score_videos
from atw.evaluate.scores import read_scores
from atw.model.modelfile import load_model
from atw.shards import Shard
from atw.train import loop
from atw.train.checkpoints import State
from atw.train.devices import Worker
from tests.unit.lists import dataset as list_dataset
from tests.unit.trainings import CPU, WriteShard, assert_equal, run_training, task_of, with_seed, write_trained

EVERYTHING: dict[str, Any] = {
    "train": {"schedule": "cosine", "warmup": 2, "label_smoothing": 0.1, "mixup": 0.4, "ema": 0.6},
    "compute": {"precision": "bf16", "channels_last": False},
}


@pytest.mark.parametrize("changes", [{}, EVERYTHING], ids=["plain", "everything"])
def test_an_interrupted_training_goes_on_to_the_same_result(
    tmp_path: Path, write_shard: WriteShard, changes: dict[str, Any]
) -> None:
    task = task_of(tmp_path, write_shard, **changes)
    whole, states = run_training(task, tmp_path / "whole.jsonl")
    assert [row["iteration"] for row in whole] == [1, 2, 3, 4, 5, 6, 7]
    assert list(states) == [3, 6, 7]
    assert len({row["loss"] for row in whole}) == 7
    # Killed in iteration 6: the history is ahead of the checkpoint.
    history = tmp_path / "interrupted.jsonl"
    lines = (tmp_path / "whole.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    history.write_text("".join(lines[:5]), encoding="utf-8")
    resumed, later = run_training(task, history, state=states[3])
    assert resumed == whole
    assert list(later) == [6, 7]
    assert_equal(later[7], states[7])


def test_another_seed_gives_another_training(tmp_path: Path, write_shard: WriteShard) -> None:
    task = task_of(tmp_path, write_shard, train={"iterations": 2})
    one, _ = run_training(task, tmp_path / "one.jsonl")
    two, _ = run_training(with_seed(task, 20261122), tmp_path / "two.jsonl")  # a date is a seed, too
    assert one[0]["loss"] != two[0]["loss"]


def test_the_moving_average_by_hand_is_what_is_kept(tmp_path: Path, write_shard: WriteShard) -> None:
    task = task_of(tmp_path, write_shard, train={"ema": 0.6, "iterations": 5}, compute={"checkpoint_every": 1})
    _, states = run_training(task, tmp_path / "h.jsonl")
    expected = {name: value.double() for name, value in states[1]["network"].items()}
    for iteration in range(2, 6):
        for name, value in states[iteration]["network"].items():
            expected[name] = 0.6 * expected[name] + 0.4 * value.double()
    kept = loop.final_parameters(states[5])
    assert kept.keys() == states[5]["network"].keys() == loop.build_network(task).state_dict().keys()
    counters = 0
    for name, value in kept.items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)
        else:
            counters += 1
    assert counters == 12  # batch norm's numbers of batches, which no result depends on
    moved = {name for name, value in kept.items() if not torch.equal(value, states[5]["network"][name])}
    assert {"backbone.body.conv1.weight", "backbone.body.bn1.running_mean", "consensus.weight"} <= moved


def test_the_average_leaves_the_training_itself_as_it_is(tmp_path: Path, write_shard: WriteShard) -> None:
    with_average, one = run_training(task_of(tmp_path, write_shard, train={"ema": 0.6}), tmp_path / "one.jsonl")
    without, two = run_training(task_of(tmp_path, write_shard), tmp_path / "two.jsonl")
    assert with_average == without
    assert_equal(one[7]["network"], two[7]["network"])
    assert_equal(loop.final_parameters(two[7]), two[7]["network"])


def test_the_history_has_the_learning_rates_of_the_schedule(tmp_path: Path, write_shard: WriteShard) -> None:
    steps, _ = run_training(task_of(tmp_path, write_shard), tmp_path / "s.jsonl")
    assert [row["learning_rate"] for row in steps] == pytest.approx([0.02] * 4 + [0.002] * 3)
    changed = {"schedule": "cosine", "warmup": 2}
    cosine, states = run_training(task_of(tmp_path, write_shard, train=changed), tmp_path / "c.jsonl")
    expected = [0.01 * (1 + np.cos(np.pi * i / 7)) * min(1, (i + 1) / 2) for i in range(7)]
    assert [row["learning_rate"] for row in cosine] == pytest.approx(expected)
    for group in states[7]["optimizer"]["param_groups"]:
        assert group["lr"] == pytest.approx(expected[6])


def test_each_option_changes_the_training(tmp_path: Path, write_shard: WriteShard) -> None:
    losses = set()
    for number, option in enumerate([{}, {"label_smoothing": 0.1}, {"mixup": 0.4}]):
        rows, _ = run_training(
            task_of(tmp_path, write_shard, train=option | {"iterations": 1}), tmp_path / f"{number}.jsonl"
        )
        losses.add(rows[0]["loss"])
    assert len(losses) == 3


def test_speed_settings_change_rounding_only(tmp_path: Path, write_shard: WriteShard) -> None:
    model = {"dropout": 0.0, "partial_bn": "all"}
    results = {}
    for name, compute in {
        "plain": {},
        "contiguous": {"channels_last": False},
        "pieces": {"microbatch": 1},
        "bf16": {"precision": "bf16"},
    }.items():
        task = task_of(tmp_path, write_shard, model=model, compute=compute)
        rows, states = run_training(task, tmp_path / f"{name}.jsonl")
        results[name] = (np.array([row["loss"] for row in rows]), states[7]["network"])
    losses, network = results["plain"]
    start = loop.build_network(task).state_dict()
    moved = max(float((network[name] - start[name]).abs().max()) for name in network)
    for name, share in (("contiguous", 1e-3), ("pieces", 1e-3), ("bf16", 0.2)):
        apart = max(float((results[name][1][key] - network[key]).abs().max()) for key in network)
        assert apart < share * moved
        np.testing.assert_allclose(results[name][0], losses, rtol=0.05 * share)
    assert not np.array_equal(results["bf16"][0], losses)


def test_the_layout_in_memory_is_the_one_asked_for(tmp_path: Path, write_shard: WriteShard) -> None:
    for channels_last in (True, False):
        task = task_of(tmp_path, write_shard, compute={"channels_last": channels_last})
        weight = loop.Training(task, Worker(CPU)).network.backbone.body.conv1.weight
        assert weight.is_contiguous(memory_format=torch.channels_last) == channels_last


def events_of(path: Path) -> list[Any]:
    """The records of an event file: length, checksum of it, content, checksum of that."""
    content, place, found = path.read_bytes(), 0, []
    while place < len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        found.append(event_pb2.Event.FromString(content[place + 12 : place + 12 + length]))
        place += 12 + length + 4
    return found


def test_curves_for_tensorboard_and_the_progress_line(
    tmp_path: Path, write_shard: WriteShard, caplog: pytest.LogCaptureFixture
) -> None:
    task, board = task_of(tmp_path, write_shard), tmp_path / "board"
    path = tmp_path / "history.jsonl"
    states: list[State] = []
    with caplog.at_level(logging.INFO, logger="atw"):
        loop.run(task, Worker(CPU), state=None, history_path=path, save=states.append, board=board)
    assert re.search(r"7 of 7 \(100%\), .* videos/s loss \d.* accuracy \d.* waiting for data \d+%", caplog.text)
    # A run that was interrupted after the first checkpoint, and had gone on beyond it.
    loop.run(task, Worker(CPU), state=states[0], history_path=path, save=states.append, board=board)
    first, second = sorted(board.glob("events.out.tfevents.*"), key=lambda path: path.suffix)
    curves: dict[str, dict[int, float]] = {}
    for event in [*events_of(first), *events_of(second)]:
        for value in event.summary.value:
            curves.setdefault(value.tag, {})[event.step] = value.simple_value
    starts = [event.step for event in events_of(second) if event.session_log.status == event.session_log.START]
    assert starts == [4]  # TensorBoard drops what the first run wrote from there on
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert set(curves) == rows[0].keys() - {"iteration"}
    assert curves["loss"] == pytest.approx({row["iteration"]: row["loss"] for row in rows}, rel=1e-6)


@pytest.mark.parametrize("loaders", [0, 1])
def test_a_look_at_held_out_videos_changes_nothing(tmp_path: Path, write_shard: WriteShard, loaders: int) -> None:
    train = {"held_out": 0.5, "ema": 0.6}
    without, _ = run_training(task_of(tmp_path, write_shard, train=train), tmp_path / "a.jsonl")
    looking = task_of(tmp_path, write_shard, train=train, compute={"validate_every": 2, "loaders": loaders})
    last = list(looking.targets(held_out=True))[-1]
    first_start = sampling.test_starts(looking.shards.positions(last), snippets=2, stack=3)[0]
    shown = {last: [Interval(looking.split.classes[0], 0, int(first_start) + 2, "frames")]}
    rows, states = run_training(dataclasses.replace(looking, intervals=shown), tmp_path / "b.jsonl")
    seen = {row["iteration"]: {name: row.pop(name) for name in list(row) if "validation" in name} for row in rows}
    assert rows == without
    assert [iteration for iteration, found in seen.items() if found] == [2, 4, 6, 7]
    names = ("loss", "accuracy", "entropy", "auc", "mass_inside", "class_auc", "class_mass_inside")
    assert all(set(found) == {f"validation_{name}" for name in names} for found in seen.values() if found)
    # By hand: the moving average at the end, on the centres of both held-out videos.
    task = task_of(tmp_path, write_shard, train=train)
    network = loop.build_network(task).eval()
    network.load_state_dict(loop.final_parameters(states[7]))
    labels = task.targets(held_out=True)
    assert len(labels) == 2
    shards = task.shards
    losses, weights, probability = [], np.empty(2), np.empty(2)
    for video, label in labels.items():
        starts = sampling.test_starts(shards.positions(video), snippets=2, stack=3)
        images = shards.snippets(video, starts, 3, [Crop(Box(0, 4, 24, 24), flip=False)], 16)
        with torch.inference_mode():
            output = network(torch.from_numpy(images))
        losses.append(-output.logits.log_softmax(1)[0, label].item())
        weights = output.weights[0].numpy()
        probability = output.snippet_logits[0].softmax(1)[:, output.logits[0].argmax()].numpy()
    assert seen[7]["validation_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    # Of the last video, the first of both snippets shows the action.
    for name, (inside, outside) in (("validation", weights), ("validation_class", probability)):
        assert seen[7][f"{name}_auc"] == (inside > outside) + 0.5 * (inside == outside)
        assert seen[7][f"{name}_mass_inside"] == pytest.approx(inside / (inside + outside), rel=1e-5)


def test_the_index_of_a_shard_is_read_once(
    tmp_path: Path, write_shard: WriteShard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For training and validation of both tries, and each opens the file for itself."""
    opened: list[bool] = []

    class Counted(Shard):
        def __init__(self, path: Path, *, seal: str | None = None) -> None:
            super().__init__(path, seal=seal)
            opened.append(bool(self.entries))

    monkeypatch.setattr(reader, "Shard", Counted)
    changes = {"train": {"held_out": 0.5, "iterations": 2}, "compute": {"validate_every": 2}}
    task = task_of(tmp_path, write_shard, **changes)
    for name in ("one", "two"):
        run_training(task, tmp_path / f"{name}.jsonl")
    assert opened == [True, False, False, False, False]


def test_the_consensus_stands_still_in_the_first_share_of_the_iterations(
    tmp_path: Path, write_shard: WriteShard
) -> None:
    changes = {"model": {"consensus": "gated"}, "train": {"average_first": 0.5, "weight_decay": 0.0}}
    task = task_of(tmp_path, write_shard, **changes)
    _, states = run_training(task, tmp_path / "h.jsonl")
    name = "consensus.energy.weight"
    first = loop.build_network(task).state_dict()[name]
    # Of seven iterations the first four average: 3 is less than half of 7, and 4 is not.
    assert torch.equal(states[3]["network"][name], first)
    assert not torch.equal(states[6]["network"][name], first)


def test_a_closed_rectifier_is_reported_once_and_trains_on(
    tmp_path: Path, write_shard: WriteShard, caplog: pytest.LogCaptureFixture
) -> None:
    closed = {"attention_bias": -1000.0}
    with caplog.at_level(logging.WARNING, logger="atw"):
        rows, states = run_training(task_of(tmp_path, write_shard, model=closed), tmp_path / "h.jsonl")
    [message] = caplog.messages
    assert message.startswith("iteration 1: the attention's rectifier is closed for every snippet of the batch")
    assert "raise model.attention_bias" in message
    assert [row["positive_energies"] for row in rows] == [0] * 7
    assert [row["flat_attention"] for row in rows] == [1] * 7
    # No gradient: what moves the attention is weight decay alone.
    weight = states[3]["network"]["consensus.weight"]
    velocity, expected = 0.0, 1.0
    for _ in range(3):
        velocity = 0.9 * velocity + 5e-4 * expected
        expected -= 0.02 * velocity
    torch.testing.assert_close(weight, torch.full_like(weight, expected))


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"consensus": "average"},
        {"consensus": "max"},
        {"attention_activation": "tanh", "attention_bias": -5.0},
        {"attention_activation": "none", "attention_bias": -1000.0},
    ],
    ids=str,
)
def test_nothing_is_reported_where_no_rectifier_is_closed(
    tmp_path: Path, write_shard: WriteShard, caplog: pytest.LogCaptureFixture, model: dict[str, Any]
) -> None:
    with caplog.at_level(logging.WARNING, logger="atw"):
        run_training(task_of(tmp_path, write_shard, model=model, train={"iterations": 2, "steps": [1]}), tmp_path / "h")
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("train", "messages"),
    [
        ({"steps": [1, 2, 3]}, ["learning rate steps at [2, 3] lie beyond the 2 iterations"]),
        ({"steps": 1000}, []),
        ({"steps": [3], "schedule": "cosine"}, []),
    ],
    ids=str,
)
def test_steps_that_are_never_reached_are_named(
    tmp_path: Path,
    write_shard: WriteShard,
    caplog: pytest.LogCaptureFixture,
    train: dict[str, Any],
    messages: list[str],
) -> None:
    with caplog.at_level(logging.WARNING, logger="atw"):
        run_training(task_of(tmp_path, write_shard, train=train | {"iterations": 2}), tmp_path / "h.jsonl")
    assert caplog.messages == messages


def by_hand(scores: np.ndarray, weight: np.ndarray, bias: float) -> tuple[np.ndarray, np.ndarray]:
    """Equations 2 to 4 over all snippets [M, K] of a crop, in float64."""
    energies = np.maximum(scores.astype(np.float64) @ weight + bias, 0)
    weights = np.exp(energies) / np.exp(energies).sum()
    return weights @ scores, weights


def test_the_softmax_sees_all_80_snippets_of_a_crop_at_test(tmp_path: Path, write_shard: WriteShard) -> None:
    task = task_of(tmp_path, write_shard, train={"learning_rate": 0.05, "iterations": 12})
    _, states = run_training(task, tmp_path / "h.jsonl")
    model = tmp_path / "model.pt"
    write_trained(model, task, states[12], tmp_path / "h.jsonl")
    dataset = list_dataset("folder", tmp_path / "split1.csv", tmp_path)
    split: Split = task.split
    score_videos(
        tmp_path / "scores.h5",
        model,
        config.ScoreSettings(
            recipe=1,
            dataset="mine",
            stream="flow",
            split="split1",
            videos=split.digest,
            shards=task.settings.shards,
            experiment="",
            evaluate=config.Evaluate(snippets=80, crop=24, crops=10),
        ),
        dataset,
        task.shard_paths,
        config.Compute(gpus=0, loaders=0, microbatch=3),  # 6 snippets at a time through the backbone
        threads=1,
        gpus=0,
    )
    scores = read_scores(tmp_path / "scores.h5")
    with h5py.File(tmp_path / "scores.h5") as file:
        snippet_logits = file["snippet_logits"][()]
    assert snippet_logits.shape == (2, 10, 80, 2)
    network = load_model(model).network
    weight = network.consensus.weight.detach().double().numpy()
    bias = float(network.consensus.bias.detach())
    for video in range(2):
        crops = [by_hand(crop, weight, bias) for crop in snippet_logits[video]]
        np.testing.assert_allclose(scores.attention[video], [weights for _, weights in crops], rtol=1e-4)
        np.testing.assert_allclose(scores.video_logits[video], np.mean([crop for crop, _ in crops], axis=0), rtol=1e-4)
    assert np.ptp(scores.attention, axis=2).min() > 1e-4  # weights of single snippets would all be 1
