"""Training videos that are held out, and weights of the fusion chosen on them: never on test videos."""

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atw import config
from atw.config import FuseSettings, ListedVideo
from atw.datasets import Split
from atw.evaluate.fuse import choose_weights
from atw.evaluate.result import Result, mean_over_splits, print_result, write_result, write_summary
from atw.evaluate.score import score_videos
from atw.evaluate.scores import Scores, read_scores
from atw.files import InputError
from atw.plan import Plan
from atw.train import loop
from atw.train.task import TrainingTask, held_out_videos
from tests.unit.lists import dataset as list_dataset
from tests.unit.scored import write_scores
from tests.unit.streams import scores
from tests.unit.trainings import LISTS, WriteShard, run_training, task_of, write_trained

CONFIGURED = {"rgb": 1.0, "flow": 1.0, "warped": 0.5}
HELD_OUT = ("run/h.avi", "jump/h.avi", "wave/h.avi", "wave/i.avi")
HELD_OUT_LABELS = np.array([0, 1, 2, 2])


# Which videos


def split_of(*rows: tuple[str, str, str]) -> Split:
    """A split with training videos of these ids, labels and groups."""
    train = tuple(sorted((ListedVideo(video, label, "train", group) for video, label, group in rows), key=str))
    return Split("split1", train, (), tuple(sorted({label for _, label, _ in rows})))


@st.composite
def grouped_splits(draw: st.DrawFn) -> Split:
    """Classes of different sizes, with groups of several videos, some of several classes, and videos without any."""
    labels = draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=40))
    group = st.sampled_from(["", "g1", "g2", "g3", "g4", "g5"])
    return split_of(*((f"{i:02}.avi", label, draw(group)) for i, label in enumerate(labels)))


@given(grouped_splits(), st.sampled_from([0.1, 0.29, 0.3, 0.5]), st.integers(0, 3))
def test_groups_stay_whole_and_no_class_gives_more_than_its_share(split: Split, share: float, seed: int) -> None:
    try:
        held_out = split.held_out(share, seed=seed)
    except InputError:
        held_out = ()
    assert set(held_out) <= set(split.train)
    assert list(held_out) == sorted(held_out, key=lambda row: row.video)
    groups = {row.group for row in held_out} - {""}
    assert groups.isdisjoint(row.group for row in split.train if row not in held_out)
    listed, taken = (Counter(row.label for row in rows) for rows in (split.train, held_out))
    for label, count in listed.items():
        assert 100 * taken[label] <= round(100 * share) * count
    # Nothing more would fit: every other unit takes one of its classes beyond the share.
    for row in set(split.train) - set(held_out):
        unit = [other for other in split.train if row.group and other.group == row.group] or [row]
        more = taken + Counter(other.label for other in unit)
        assert any(100 * more[label] > round(100 * share) * listed[label] for label in more)


def test_the_whole_share_of_each_class_is_held_out_where_there_are_no_groups() -> None:
    split = split_of(*((f"{label}/{i}.avi", label, "") for label in "ab" for i in range(100)))
    for share, count in ((0.01, 1), (0.07, 7), (0.29, 29), (0.5, 50)):
        assert Counter(row.label for row in split.held_out(share, seed=0)) == {"a": count, "b": count}


def test_the_draw_follows_from_the_seed_and_from_the_names_alone() -> None:
    rows = [(f"{label}/{i}.avi", label, "") for label in "ab" for i in range(20)]
    split = split_of(*rows)
    drawn = {split.held_out(0.2, seed=seed) for seed in range(5)}
    assert len(drawn) == 5
    # The same by hash, whatever else the list holds of other classes.
    more = split_of(*rows, *((f"c/{i}.avi", "c", "") for i in range(9)))
    assert [row for row in more.held_out(0.2, seed=3) if row.label != "c"] == list(split.held_out(0.2, seed=3))


def test_a_share_that_holds_out_nothing_is_refused() -> None:
    split = split_of(("a/1.avi", "a", ""), ("a/2.avi", "a", ""), ("b/1.avi", "b", "g"), ("b/2.avi", "b", "g"))
    assert split.held_out(0.0, seed=0) == ()
    with pytest.raises(InputError, match=r"split1: train.held_out is 0.3, but no class has a video .* raise it"):
        split.held_out(0.3, seed=0)


def test_a_result_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "split1.csv").write_text(LISTS, encoding="utf-8")
    for line in LISTS.splitlines()[1:]:
        path = tmp_path / line.partition(",")[0]
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no video")
    given = {"kind": "folder", "root": str(tmp_path), "lists": str(tmp_path / "split{split}.csv")}
    raw = {"datasets": {"mine": given}, "model": {"weights": None}}
    assert Plan(raw | {"train": {"held_out": 0.5}}).fused_streams("mine", "split1") == ["rgb", "flow", "warped"]
    with pytest.raises(InputError, match=r"train.held_out is 0.4"):
        Plan(raw | {"train": {"held_out": 0.4}}).fused_streams("mine", "split1")


# Training and scoring


def test_held_out_videos_are_not_trained_on(tmp_path: Path, write_shard: WriteShard) -> None:
    task = task_of(tmp_path, write_shard, train={"held_out": 0.5})
    held_out = held_out_videos(task.split, task.settings)
    assert [row.label for row in held_out] == ["a", "b"]
    with_them = task_of(tmp_path, write_shard)
    without_them = dataclasses.replace(
        with_them,
        split=dataclasses.replace(
            with_them.split, train=tuple(row for row in with_them.split.train if row not in held_out)
        ),
    )
    losses, weights = [], []
    for number, one in enumerate((task, without_them, with_them)):
        rows, states = run_training(one, tmp_path / f"{number}.jsonl")
        losses.append([row["loss"] for row in rows])
        weights.append(next(iter(loop.final_parameters(states[7]).values())).tolist())
    # The same training as if the lists did not name them, and another one than with them.
    assert (losses[0], weights[0]) == (losses[1], weights[1])
    assert losses[0] != losses[2]


def test_every_stream_holds_out_and_scores_the_same_videos(tmp_path: Path, write_shard: WriteShard) -> None:
    seen = []
    for stream in config.STREAMS:
        task = task_of(tmp_path, write_shard, stream, train={"held_out": 0.5, "iterations": 1})
        path = score(tmp_path, task, subset="held_out")
        read = read_scores(path, subset="held_out")
        assert read_scores(path, subset=None).subset == "held_out"
        assert read.video_logits.shape == (2, 2)
        assert [task.split.classes[label] for label in read.labels] == [video[0] for video in read.videos]
        assert (read.provenance["train_videos"], read.provenance["held_out_videos"]) == (2, 2)
        seen.append(read.videos)
    assert seen[0] == seen[1] == seen[2] == tuple(row.video for row in task.split.held_out(0.5, seed=0))
    assert set(seen[0]) <= {row.video for row in task.split.train}
    with pytest.raises(InputError, match="has scores of held_out videos, not of test ones"):
        read_scores(path)
    test = read_scores(score(tmp_path, task, subset="test"))
    assert test.videos == ("a/3.avi", "b/3.avi")


def test_a_network_that_held_out_nothing_is_named(tmp_path: Path, write_shard: WriteShard) -> None:
    task = task_of(tmp_path, write_shard, train={"iterations": 1})
    with pytest.raises(InputError, match=r"model\.pt was trained on every video; set train.held_out"):
        score(tmp_path, task, subset="held_out")


def score(folder: Path, task: TrainingTask, *, subset: Any) -> Path:
    """The scores of a network after its training."""
    stream = task.settings.stream
    _, states = run_training(task, folder / "history.jsonl")
    state = states[task.settings.train.iterations]
    write_trained(folder / "model.pt", task, state, folder / "history.jsonl")
    common = task.settings.model_dump(include={"recipe", "dataset", "stream", "split", "videos", "shards"})
    evaluate = config.Evaluate(snippets=2, crop=24)
    asked = config.ScoreSettings(**common, experiment="", evaluate=evaluate)
    lists = str(folder / "split{split}.csv")
    dataset = list_dataset("folder", Path(lists), folder)
    out = folder / f"{stream}-{subset}.h5"
    compute = config.Compute(gpus=0, loaders=0)
    score_videos(out, folder / "model.pt", asked, dataset, task.shard_paths, compute, threads=1, gpus=0, subset=subset)
    return out


# Weights


def held_out_scores(logits: dict[str, list[list[float]]], **changes: Any) -> dict[str, Scores]:
    """Scores of `HELD_OUT` by stream, with these logits."""
    return {
        stream: scores(
            stream,
            videos=HELD_OUT,
            labels=HELD_OUT_LABELS,
            video_logits=np.array(rows, np.float32),
            quarantined=[],
            subset="held_out",
            **changes,
        )
        for stream, rows in logits.items()
    }


RIGHT = [[9, 0, 0], [0, 9, 0], [0, 0, 9], [0, 0, 9]]
WRONG = [[0, 9, 0], [0, 0, 9], [9, 0, 0], [9, 0, 0]]


def test_of_equally_good_weights_the_nearest_to_the_configured_are_taken() -> None:
    chosen = choose_weights(
        held_out_scores({"rgb": RIGHT, "flow": RIGHT, "warped": RIGHT}), configured=CONFIGURED, on="logits"
    )
    assert chosen.to_dict() == {
        "videos": 4,
        "grid": {"step": 0.1, "candidates": 66},  # 1 : 1 : 0.5 is one of the 12 * 11 / 2 points itself
        "configured": {"weights": CONFIGURED, "top1": 1.0},
        "chosen": {"weights": {"rgb": 0.4, "flow": 0.4, "warped": 0.2}, "top1": 1.0},
    }
    # Off the grid: 2/3 and 1/3 stay what they are.
    pair = choose_weights(held_out_scores({"rgb": RIGHT, "flow": RIGHT}), configured={"rgb": 2, "flow": 1}, on="logits")
    assert pair.chosen.weights == {"rgb": 2 / 3, "flow": 1 / 3}
    assert pair.grid.candidates == 12


def test_the_weights_of_a_table_by_hand() -> None:
    # Of w rgb + (1 - w) flow: video 0 is right for w > 1/4, video 1 for w < 3/4, video 2 for w < 11/20, video 3 never.
    streams = held_out_scores(
        {"rgb": [[3, 0, 0], [1, 0, 0], [0, 9, 0], [9, 0, 0]], "flow": [[0, 1, 0], [0, 3, 0], [0, 0, 11], [9, 0, 0]]}
    )
    found = choose_weights(streams, configured={"rgb": 3.0, "flow": 1.0}, on="logits")
    assert found.configured.top1 == 0.25  # the tie of video 1 goes to the first class
    assert found.chosen.to_dict() == {"weights": {"rgb": 0.5, "flow": 0.5}, "top1": 0.75}
    from_below = choose_weights(streams, configured={"rgb": 1.0, "flow": 9.0}, on="logits")
    assert from_below.chosen.weights == {"rgb": 0.3, "flow": 0.7}


def test_a_stream_that_only_harms_gets_no_weight() -> None:
    streams = held_out_scores({"rgb": WRONG, "flow": (np.array(RIGHT) / 100).tolist(), "warped": WRONG})
    found = choose_weights(streams, configured=CONFIGURED, on="logits")
    assert found.chosen.to_dict() == {"weights": {"flow": 1.0}, "top1": 1.0}
    # Of equally sure probabilities more than half is enough, and the least of that is nearest.
    sure = held_out_scores({"rgb": WRONG, "flow": RIGHT, "warped": WRONG})
    assert choose_weights(sure, configured=CONFIGURED, on="probabilities").chosen.weights["flow"] == 0.6


def write_all(folder: Path, *streams: dict[str, Scores]) -> list[Path]:
    paths = []
    for of_subset in streams:
        for stream, one in of_subset.items():
            name = {"test": "scores.h5", "held_out": "held_out.h5"}[one.subset]
            paths.append(folder / one.split / stream / name)
            write_scores(paths[-1], one)
    return paths


def provenance(**changes: Any) -> dict[str, Any]:
    return {"train_videos": 7, "held_out_videos": 4, "train_quarantined": [], "model": {"sha256": "0"}} | changes


def settings(**changes: Any) -> FuseSettings:
    given = {"recipe": 2, "weights": CONFIGURED, "on": "logits", "seed": 0, "choose": "held_out"}
    return FuseSettings.model_validate(given | changes)


def test_test_videos_never_influence_the_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    held_out = held_out_scores(
        {"rgb": WRONG, "flow": (np.array(RIGHT) / 2).tolist(), "warped": WRONG}, provenance=provenance()
    )
    said = []
    for _ in range(5):
        test = {
            stream: scores(stream, provenance=provenance(), video_logits=rng.normal(size=(4, 3)).astype(np.float32))
            for stream in CONFIGURED
        }
        write_result(tmp_path / "fused.json", write_all(tmp_path, test, held_out), settings())
        said.append(json.loads((tmp_path / "fused.json").read_text()))
    assert len({one["accuracy"]["top1"] for one in said}) > 1
    for one in said:
        assert one["fusion"] == said[0]["fusion"]
        assert one["fusion"]["weights"] == one["fusion"]["held_out"]["chosen"]["weights"]
        assert one["fusion"]["held_out"] == choose_weights(held_out, configured=CONFIGURED, on="logits").to_dict()
        assert (one["videos"]["train"], one["videos"]["held_out"]) == (7, 4)
    # Held-out videos do.
    other = held_out_scores({"rgb": RIGHT, "flow": WRONG, "warped": WRONG}, provenance=provenance())
    write_result(tmp_path / "fused.json", write_all(tmp_path, test, other), settings())
    assert json.loads((tmp_path / "fused.json").read_text())["fusion"]["weights"] != said[0]["fusion"]["weights"]
    print_result(tmp_path / "fused.json")
    printed = " ".join(capsys.readouterr().out.split())
    assert "weights chosen on 4 held-out videos: rgb 0.6, flow 0.3, warped 0.1; top-1 there 1.000, with the" in printed


def test_scores_of_test_videos_are_refused_as_held_out_ones() -> None:
    with pytest.raises(InputError, match="rgb scores are of test videos; weights are chosen on held-out ones"):
        choose_weights({"rgb": scores()}, configured={"rgb": 1.0}, on="logits")


@pytest.mark.parametrize(
    ("held_out", "choose", "message"),
    [
        ({}, "held_out", "held-out scores of no stream; give both of every stream"),
        ({"rgb": RIGHT}, "held_out", "test scores of rgb, flow and held-out scores of rgb;"),
        ({"rgb": RIGHT, "flow": RIGHT}, "none", "fusion.choose is none; leave them out"),
    ],
)
def test_held_out_scores_come_when_they_are_asked_for(
    tmp_path: Path, held_out: dict[str, Any], choose: str, message: str
) -> None:
    test = {stream: scores(stream, provenance=provenance()) for stream in ("rgb", "flow")}
    paths = write_all(tmp_path, test, held_out_scores(held_out, provenance=provenance()))
    asked = settings(choose=choose, weights={"rgb": 1.0, "flow": 1.0})
    with pytest.raises(InputError, match=message):
        write_result(tmp_path / "fused.json", paths, asked)


def test_held_out_scores_of_another_network_are_refused(tmp_path: Path) -> None:
    test = {"rgb": scores(provenance=provenance())}
    held_out = held_out_scores({"rgb": RIGHT}, provenance=provenance(model={"sha256": "1"}))
    with pytest.raises(InputError, match="videos of rgb were scored by different networks; run the workflow"):
        write_result(tmp_path / "f.json", write_all(tmp_path, test, held_out), settings(weights={"rgb": 1.0}))
    with pytest.raises(InputError, match=r"held_out\.h5 has no scores of test videos"):
        write_result(tmp_path / "f.json", write_all(tmp_path, held_out), settings(weights={"rgb": 1.0}))


def test_splits_with_weights_of_their_own_are_averaged(tmp_path: Path) -> None:
    paths = []
    for split, logits in (("split1", {"rgb": WRONG, "flow": RIGHT}), ("split2", {"rgb": RIGHT, "flow": RIGHT})):
        test = {stream: scores(stream, split=split, provenance=provenance()) for stream in logits}
        small = {
            stream: (np.array(rows) / (100 if stream == "flow" else 1)).tolist() for stream, rows in logits.items()
        }
        held_out = held_out_scores(small, split=split, provenance=provenance())
        paths.append(tmp_path / split / "fused.json")
        write_result(paths[-1], write_all(tmp_path, test, held_out), settings(weights={"rgb": 1.0, "flow": 1.0}))
    results = [json.loads(path.read_text()) for path in paths]
    assert [list(result["fusion"]["weights"]) for result in results] == [["flow"], ["rgb", "flow"]]
    write_summary(tmp_path / "summary.json", paths)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert (list(summary["streams"]), summary["pairs"]) == (["rgb", "flow"], {})
    results[1]["fusion"]["held_out"]["configured"]["weights"]["rgb"] = 2.0
    with pytest.raises(InputError, match=r"split1 and split2 cannot be averaged: fusion is"):
        mean_over_splits([Result.model_validate(result) for result in results])


# Settings


def load(**raw: Any) -> config.Config:
    return config.load({"datasets": {"mine": {"kind": "folder", "root": "v", "lists": "l.csv"}}, **raw})


def test_what_is_not_held_out_or_chosen_is_in_no_settings() -> None:
    plain, spelt = load(), load(train={"held_out": 0.0}, fusion={"choose": "none"})
    for loaded in (plain, spelt):
        trained = config.train_settings(loaded, "mine", "rgb", "", split="split1", videos="0")
        assert "held_out" not in trained.to_json()
        assert "choose" not in config.fuse_settings(loaded, "mine", "").to_json()
    chosen = load(train={"held_out": 0.2}, fusion={"choose": "held_out"})
    trained = config.train_settings(chosen, "mine", "flow", "", split="split1", videos="0")
    assert '"held_out": 0.2' in trained.to_json()
    assert '"choose": "held_out"' in config.fuse_settings(chosen, "mine", "").to_json()
    # Pictures and tables keep the configured weights.
    assert config.attention_settings(chosen, "mine", "") == config.attention_settings(plain, "mine", "")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"fusion": {"choose": "held_out"}}, r"fusion.choose is held_out, but train.held_out is 0: give the share"),
        ({"train": {"held_out": 0.6}}, r"train.held_out: .*less than or equal to 0.5 \(value 0.6\)"),
        ({"fusion": {"choose": "test"}}, r"fusion.choose: .*'none' or 'held_out' \(value 'test'\)"),
        (
            {"streams": {"flow": {"train": {"held_out": 0.2}}}},
            r"streams.flow cannot change train.held_out: all streams hold out the same videos",
        ),
        (
            {
                "train": {"held_out": 0.1},
                "fusion": {"choose": "held_out"},
                "experiments": {"all": {"train": {"held_out": 0.0}}},
            },
            r"experiment all: fusion.choose is held_out, but train.held_out is 0",
        ),
    ],
)
def test_impossible_settings_are_named(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(**raw)
