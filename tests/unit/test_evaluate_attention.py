"""When snippets and actions happen, and how well the attention finds the actions."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy import stats

from atw import config
from atw.config import Location
from atw.data.actions import Actions
from atw.datasets import Dataset
from atw.evaluate.attention import stream_attention
from atw.evaluate.score import score_videos
from atw.evaluate.scores import Scores, read_scores
from atw.shards import Shard, create
from tests.unit.streams import padded, scores
from tests.unit.trained import CPU, TEST_VIDEOS, Trained

STREAMS = ("rgb", "flow", "warped")


@pytest.mark.parametrize("stream", STREAMS)
def test_snippets_and_actions_stand_on_the_clock_of_their_video(trained: Trained, tmp_path: Path, stream: str) -> None:
    """Against shards with the same items at uneven times."""
    edges = {}
    with Shard(trained.shards[stream]) as shard, create(tmp_path / "00000.h5", shard.header) as writer:
        for entry in shard.entries:
            frames = entry.count + (stream != "rgb")
            edges[entry.video] = np.cumsum([0.0, *(0.04 + 0.1 * (np.arange(frames) % 3))])
            items = [shard.stored(entry, number) for number in range(entry.count)]
            writer.add(dataclasses.replace(entry), items, edges[entry.video])
    made = rescored(trained, tmp_path, stream, trained.dataset)
    before = read_scores(trained.split / stream / "scores.h5")
    np.testing.assert_array_equal(made.positions, before.positions)
    for row, video in enumerate(made.videos):
        frames = len(edges[video]) - 1
        for first, (start, end) in zip(made.positions[row], made.seconds[row].tolist(), strict=True):
            last = first if stream == "rgb" else min(first + 3, frames - 1)  # a stack of 3 fields
            assert (start, end) == (edges[video][first], edges[video][last + 1])
    assert made.actions.video.tolist() == [0, 1]
    assert made.actions.label.tolist() == [0, 1]
    bounds = [[edges[video][4], edges[video][9]] for video in TEST_VIDEOS[:2]]  # frames 4 to 8
    assert made.actions.seconds.tolist() == bounds


def rescored(trained: Trained, folder: Path, stream: Any, dataset: Dataset) -> Scores:
    videos = dataset.split("split1").digest
    settings = config.score_settings(trained.config, "mine", stream, "", split="split1", videos=videos)
    shards = [path if (path := folder / "00000.h5").is_file() else trained.shards[stream]]
    model = trained.split / stream / "model.pt"
    score_videos(folder / "scores.h5", model, settings, dataset, shards, CPU, threads=1, gpus=0)
    return read_scores(folder / "scores.h5")


def test_the_probability_of_the_predicted_class(trained: Trained) -> None:
    """Against the stored scores of all snippets, crop by crop."""
    for stream in STREAMS:
        path = trained.split / stream / "scores.h5"
        one = read_scores(path)
        with h5py.File(path) as file:
            snippet_logits = file["snippet_logits"][:].astype(np.float64)
        for row, logits in enumerate(one.video_logits):
            powers = np.exp(snippet_logits[row])  # [crops, M, K]
            expected = (powers / powers.sum(axis=2, keepdims=True))[..., logits.argmax()].mean(axis=0)
            np.testing.assert_allclose(one.probability[row], expected, rtol=1e-5)
    assert np.ptp(one.probability) > 0.01


def test_actions_beyond_their_video_are_named(
    trained: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The columns of all lists say frames 4 to 8; up/short.avi has 3 frames at 25 per second."""
    assert read_scores(trained.split / "rgb/scores.h5").actions.video.tolist() == [0, 1]
    listed = [("up/short.avi", "up", 0.1, 7), ("up/short.avi", "up", 0.12, 7), ("left/1.avi", "", 0, 0.5)]
    made = rescored(trained, tmp_path, "rgb", with_seconds(trained, tmp_path, listed))
    said = [record.getMessage() for record in caplog.records if "action" in record.getMessage()]
    assert said == [
        "up/short.avi ends after 0.12 seconds, and its action from 0.1 s on only after 7; look at the list of actions",
        "up/short.avi has an action from 0.12 to 7 seconds, and ends after 3 frames and 0.12 seconds; the action is "
        "left out",
    ]
    assert made.actions.video.tolist() == [0, 2]
    assert made.actions.label.tolist() == [-1, 1]
    assert made.actions.seconds.tolist() == [[0, 0.5], [0.1, 7]]


def with_seconds(trained: Trained, folder: Path, rows: Sequence[tuple[Any, ...]]) -> Dataset:
    """The dataset with a list of actions in seconds, and without the columns of its own."""
    lines = Path(trained.config.dataset("mine").lists).read_text().splitlines()
    (folder / "split1.csv").write_text("".join(f"{line.rsplit(',', 2)[0]}\n" for line in lines))
    (folder / "actions.csv").write_text("\n".join(["path,label,start,end", *(",".join(map(str, row)) for row in rows)]))
    given = json.loads(config.location(trained.config, "mine").to_json())
    given |= {"lists": str(folder / "split1.csv"), "intervals": str(folder / "actions.csv")}
    return Dataset(Location.from_json(json.dumps(given)))


ACTIONS = [(0, 0, 1, 3), (0, 0, 4, 5), (1, 2, 0, 2), (1, -1, 2, 3), (2, 1, 0, 9), (3, -1, 0, 9)]
INSIDE = [[1, 2, 4], [0, 1], [0, 1, 2, 3, 4]]  # snippets that last a second each, of 5, 4 and 5
OUTSIDE: list[list[int]] = [[0, 3], [3], []]


def with_actions(actions: Sequence[tuple[int, int, float, float]]) -> Scores:
    seconds = np.tile(np.stack([np.arange(5), np.arange(5) + 1.0], axis=1), (4, 1, 1))
    return padded(scores(seconds=seconds, actions=Actions.of(actions)), [5, 4, 5, 5])


@pytest.mark.parametrize("name", ["weights", "probability"])
def test_how_well_actions_are_found(name: str) -> None:
    """Against the Mann-Whitney statistic and sums, over each video's own snippets that no ignored stretch holds."""
    one = with_actions(ACTIONS)
    values = one.attention.mean(axis=1) if name == "weights" else one.probability
    areas = [
        stats.mannwhitneyu(values[row][inside], values[row][outside]).statistic / (len(inside) * len(outside))
        for row, (inside, outside) in enumerate(zip(INSIDE[:2], OUTSIDE[:2], strict=True))
    ]
    masses = [
        values[row][inside].sum() / values[row][[*inside, *outside]].sum()
        for row, (inside, outside) in enumerate(zip(INSIDE, OUTSIDE, strict=True))
    ]
    largest = [
        max([*inside, *outside], key=lambda snippet, row=row: values[row][snippet]) in inside  # type: ignore[misc]
        for row, (inside, outside) in enumerate(zip(INSIDE, OUTSIDE, strict=True))
    ]
    found = stream_attention(one).actions
    assert found is not None
    assert (found.videos, found.share) == (3, pytest.approx(np.mean([3 / 5, 2 / 3, 1])))
    assert getattr(found, name).auc == pytest.approx(np.mean(areas))
    assert getattr(found, name).mass_inside == pytest.approx(np.mean(masses))
    assert getattr(found, name).pointing == pytest.approx(np.mean(largest))


def test_actions_that_say_nothing() -> None:
    all_inside = stream_attention(with_actions(ACTIONS[4:])).actions
    assert all_inside is not None
    assert (all_inside.weights.auc, all_inside.weights.mass_inside) == (None, pytest.approx(1))
    for actions in ([], ACTIONS[5:]):
        assert stream_attention(with_actions(actions)).to_dict().keys() == {"entropy", "peak", "flat"}
    unsure = dataclasses.replace(with_actions(ACTIONS), probability=np.zeros((4, 5), np.float32))
    found = stream_attention(unsure).actions
    assert found is not None
    assert (found.probability.auc, found.probability.mass_inside) == (0.5, 0)
    assert found.probability.pointing == pytest.approx(found.share)


def test_what_weights_are_like() -> None:
    """A loop over the weights of each video's own snippets; a single snippet counts as uniform."""
    one = padded(scores(), [5, 3, 2, 1])
    entropies, peaks = [], []
    for row, count in enumerate((5, 3, 2, 1)):
        for weights in one.attention[row, :, :count].astype(float):
            nats = -sum(weight * np.log(weight) for weight in weights)
            entropies.append(nats / np.log(count) if count > 1 else 1)
            peaks.append(max(weights) * count)
    found = stream_attention(one)
    assert found.entropy == pytest.approx(np.mean(entropies))
    assert found.peak == pytest.approx(np.mean(peaks))
    assert found.flat == 1 / 4
    flat = stream_attention(padded(scores(attention=np.full((4, 2, 5), 0.2, np.float32)), [5, 3, 2, 1]))
    assert (flat.entropy, flat.peak, flat.flat) == (pytest.approx(1), pytest.approx(1), 1)
    alone = np.zeros((4, 2, 5), np.float32)
    alone[..., 2] = 1
    sharp = stream_attention(scores(attention=alone))
    assert (sharp.entropy, sharp.peak, sharp.flat) == (0, 5, 0)
