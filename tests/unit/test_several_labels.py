"""Videos with several labels or none: in lists, trainings, scores and accuracies."""

import json
import logging
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from torch import Tensor

from atw.config import FuseSettings, ListedVideo, Train
from atw.datasets import Split
from atw.evaluate.average_precision import class_average_precisions, mean_average_precision
from atw.evaluate.compare import compare, outcomes
from atw.evaluate.fuse import fuse
from atw.evaluate.metrics import guess_accuracies
from atw.evaluate.result import Result, mean_over_splits, print_result, result_of
from atw.evaluate.scores import Scores, read_scores
from atw.extras.drawing.scored_videos import VideoSelection, heading, select_rows
from atw.files import InputError, write_json
from atw.train import loop
from atw.train.devices import loss_scaler
from atw.train.task import TrainingTask
from atw.train.update import Cut, hits, mix, update
from tests.unit.drawn import drawn
from tests.unit.lists import dataset, write_folder
from tests.unit.scored import FUSE, write_scores
from tests.unit.streams import LABELS, scores
from tests.unit.trainings import CPU, VIDEOS, WriteShard, network_of, run_training, task_of

# Lists

LINES = ("a.mp4,run|jump,train,", "b.mp4,throw,train,", "c.mp4,jump,test,", "d.mp4, throw | run ,test,")


def test_labels_are_joined_or_have_a_line_each(tmp_path: Path) -> None:
    lines = ("b.mp4,throw,train,", "a.mp4,run,train,", "d.mp4,throw,test,", "c.mp4,jump,test,", "./d.mp4,run,test,")
    splits = [
        dataset("folder", write_folder(tmp_path / name, *rows)).split("split1")
        for name, rows in (("joined.csv", LINES), ("apart.csv", (*lines, "a.mp4,jump,train,")))
    ]
    assert splits[0] == splits[1]
    assert splits[0].digest == splits[1].digest
    assert splits[0].classes == ("jump", "run", "throw")
    assert [(row.video, row.labels) for row in (*splits[0].train, *splits[0].test)] == [
        ("a.mp4", ("run", "jump")),
        ("b.mp4", ("throw",)),
        ("c.mp4", ("jump",)),
        ("d.mp4", ("throw", "run")),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.mp4,run,train,", r"line 6: a.mp4 is listed twice, first in .*line 2; a video may have several lines"),
        ("a.mp4,throw,test,", r"line 6: a.mp4 is listed twice, first in .*line 2; .* all in one subset"),
        ("a.mp4,throw,train,g", r"line 6: a.mp4 is listed twice, first in .*line 2; .* all in one subset and group"),
        ("a.mp4,throw|jump,train,", r"line 6: a.mp4 is listed twice"),
        ("a.mp4,none,train,", r"line 6: a.mp4 is listed twice"),
        ("e.mp4,throw|throw,train,", r"the label of e.mp4 is 'throw|throw', .* give each label once"),
        ("e.mp4,throw||run,train,", r"the label of e.mp4 is 'throw||run', .* give each label once"),
        ("e.mp4,throw|none,train,", r"line 6: the label is 'throw|none', but none is for videos without one"),
        ("e.mp4,throw|high,test,", r"no training video of class high"),
    ],
)
def test_labels_that_contradict_each_other_are_refused(tmp_path: Path, line: str, message: str) -> None:
    mine = dataset("folder", write_folder(tmp_path / "list.csv", *LINES, line), background="none")
    with pytest.raises(InputError, match=message.replace("|", r"\|")):
        mine.split("split1")


def test_background_videos_have_a_label_of_their_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_folder(tmp_path / "list.csv", *LINES, "e.mp4,none,train,", "f.mp4, none,test,")
    mine = dataset("folder", path, background="none")
    with caplog.at_level(logging.INFO, "atw"):
        split = mine.split("split1")
    assert caplog.messages == ["dataset mine, split1: 1 training videos have no label and are left out"]
    assert split.classes == ("jump", "run", "throw")
    assert [row.video for row in split.train] == ["a.mp4", "b.mp4"]
    assert [(row.video, row.labels) for row in split.test[2:]] == [("f.mp4", ())]
    assert [row.label for row in mine.members("00000", 1)] == ["run|jump", "throw", "jump", "throw|run", "", ""]
    assert json.loads(mine.location.to_json())["background"] == "none"
    without = dataset("folder", write_folder(tmp_path / "list.csv", *LINES, "e.mp4,none,train,"))
    assert without.split("split1").classes == ("jump", "none", "run", "throw")
    assert "background" not in json.loads(without.location.to_json())
    with pytest.raises(InputError, match="background"):
        dataset("folder", path, background="a|b")


def test_only_some_kinds_have_several_labels(tmp_path: Path, root: Path) -> None:
    header, row = "label,youtube_id,time_start,time_end,split", "run|jump,abc,1,2,train"
    kinetics = dataset("kinetics", write_folder(tmp_path / "all.csv", row, header=header))
    with pytest.raises(InputError, match=r"'run\|jump', and \| joins several labels; its kind, kinetics, has one per"):
        kinetics.split("split1")
    (root / "a").rename(root / "a|b")
    with pytest.raises(InputError, match=r"the directory 'a\|b' would be several classes"):
        drawn(root)


def test_a_class_of_an_official_list_must_not_look_like_two(tmp_path: Path) -> None:
    (tmp_path / "classInd.txt").write_text("1 Run|Jump\n")
    with pytest.raises(InputError, match=r"a class is called 'Run\|Jump'; give it a name without \|"):
        _ = dataset("ucf101", tmp_path).classes


@given(
    st.lists(st.sets(st.sampled_from("abcd"), min_size=1), min_size=1, max_size=40), st.sampled_from([0.1, 0.3, 0.5])
)
def test_no_class_gives_more_than_its_share_of_videos_to_be_held_out(labels: list[set[str]], share: float) -> None:
    rows = tuple(ListedVideo(f"{i:02}", "|".join(sorted(own)), "train") for i, own in enumerate(labels))
    try:
        held_out = Split("split1", rows, (), tuple("abcd")).held_out(share, seed=0)
    except InputError:
        held_out = ()
    for label in "abcd":
        taken, listed = (sum(label in row.labels for row in some) for some in (held_out, rows))
        assert taken <= share * listed + 1e-9
    # None is left that could be taken.
    for row in set(rows) - set(held_out):
        counts = [
            (sum(label in each.labels for each in held_out), sum(label in each.labels for each in rows))
            for label in row.labels
        ]
        assert any(taken + 1 > share * listed + 1e-9 for taken, listed in counts)


# Trainings

BATCH, SEGMENTS, CLASSES = 12, 3, 5


def targets() -> Tensor:
    """Of videos with one to three labels, float32 [B, K]."""
    drawn = np.random.default_rng(0).permuted(np.arange(BATCH * CLASSES).reshape(BATCH, CLASSES) % CLASSES, axis=1)
    shown = drawn < 1 + np.arange(BATCH)[:, None] % 3
    return torch.from_numpy((shown / shown.sum(1, keepdims=True)).astype(np.float32))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("share", [1.0, 0.3])
def test_labels_share_the_cross_entropy_equally(share: float, smoothing: float) -> None:
    network = network_of("rgb", classes=CLASSES).eval()
    levels = np.random.default_rng(1).integers(1, 256, (BATCH, SEGMENTS, 3, 32, 32), dtype=np.uint8)
    snippets, wanted = torch.from_numpy(levels), targets()
    with torch.no_grad():
        logits = network(snippets if share == 1 else mix(snippets, share)).logits.double().numpy()
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    loss = right = 0.0
    for b in range(BATCH):
        for part, own in ((share, wanted[b]), (1 - share, wanted[BATCH - 1 - b])):
            labels = np.flatnonzero(own)
            given = [(1 - smoothing) * (k in labels) / len(labels) + smoothing / CLASSES for k in range(CLASSES)]
            loss -= part * (given * logs[b]).sum()
            right += part * (logits[b].argmax() in labels)
    row = update(
        network,
        torch.optim.SGD(network.parameters(), lr=0.1),
        loss_scaler("fp32", CPU),
        iter([(snippets, wanted)]),
        train=Train(label_smoothing=smoothing),
        cut=Cut(batch=BATCH, world=1, pieces=1),
        share=share,
        precision="fp32",
        device=CPU,
    )
    assert row["loss"] == pytest.approx(loss / BATCH, rel=1e-5)
    assert row["accuracy"] == pytest.approx(right / BATCH, rel=1e-5)


def test_a_hit_names_any_label_of_the_video() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert hits(logits, torch.tensor([1, 2, 2])).tolist() == [True, False, True]
    assert hits(logits, torch.tensor([[0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0, 1]])).tolist() == [True, False, True]


def with_labels(task: TrainingTask, **labels: str) -> TrainingTask:
    """The training with other labels of some videos: `a1` is that of a/1.avi."""
    rows = [
        ListedVideo(row.video, labels.get(row.video.replace("/", "")[:2], row.label), row.subset)
        for row in (*task.split.train, *task.split.test)
    ]
    train, test = (tuple(row for row in rows if row.subset == subset) for subset in ("train", "test"))
    split = Split(task.split.name, train, test, task.split.classes)
    return TrainingTask(task.settings, task.compute, split, task.shard_paths, task.weights)


def test_targets_are_indices_where_each_video_has_one_label(tmp_path: Path, write_shard: WriteShard) -> None:
    task = task_of(tmp_path, write_shard)
    assert task.targets(held_out=False) == {"a/1.avi": 0, "a/2.avi": 0, "b/1.avi": 1, "b/2.avi": 1}
    several = with_labels(task, a1="b|a").targets(held_out=False)
    assert {video: own.tolist() for video, own in several.items()} == {
        "a/1.avi": [0.5, 0.5],
        "a/2.avi": [1, 0],
        "b/1.avi": [0, 1],
        "b/2.avi": [0, 1],
    }


def test_videos_with_several_labels_are_trained_on_and_validated(tmp_path: Path, write_shard: WriteShard) -> None:
    changes: dict[str, Any] = {"train": {"held_out": 0.5, "iterations": 2}, "compute": {"validate_every": 2}}
    task = with_labels(task_of(tmp_path, write_shard, **changes), a1="a|b", a2="a|b", b1="b|a", b2="a|b")
    rows, _ = run_training(task, tmp_path / "h.jsonl")
    assert [row["accuracy"] for row in rows] == [1, 1]  # whatever the network says
    assert rows[-1]["validation_accuracy"] == 1
    assert rows[-1]["validation_loss"] > 0


def test_a_class_whose_training_videos_are_all_quarantined_is_named(tmp_path: Path, write_shard: WriteShard) -> None:
    write_shard(tmp_path / "flow/00000.h5", "flow", VIDEOS | {"b/1.avi": 0, "b/2.avi": 0}, width=32, height=24)
    task = with_labels(task_of(tmp_path, write_shard), b1="a|b")
    with pytest.raises(InputError, match="every training video of class b is quarantined"):
        loop.build_loader(task, [], CPU, loaders=0)
    loop.build_loader(with_labels(task, a1="b|a"), [], CPU, loaders=0)


# Scores and accuracies

WAVE_TOO = np.array([[1, 2], [4, 0]], np.int32)  # the second scored video waves, too, and the quarantined one runs


def several(stream: str = "rgb", **changes: Any) -> Scores:
    """Scores whose first two videos are right; the third, a background video, is taken for `wave`."""
    labels = np.array([0, 0, -1, 2], np.int64)
    logits = np.array([[3, 1, 0], [0, 1, 2], [0, 1, 2], [0, 9, 1]], np.float32)
    return scores(stream, **{"labels": labels, "more_labels": WAVE_TOO, "video_logits": logits} | changes)


def test_scores_say_which_classes_a_video_shows(tmp_path: Path) -> None:
    write_scores(tmp_path / "scores.h5", several())
    one = read_scores(tmp_path / "scores.h5")
    assert one.more_labels.tolist() == WAVE_TOO.tolist()
    expected = [[1, 0, 0], [1, 0, 1], [0, 0, 0], [0, 0, 1], [1, 0, 1]]
    assert one.listed_truth.tolist() == np.array(expected, bool).tolist()
    assert one.truth.tolist() == np.array(expected[:4], bool).tolist()
    # Of the four videos with a label, three wave; together they have six of twelve labels.
    assert guess_accuracies(one.listed_truth) == (0.5, 0.75)
    assert result_of({"rgb": one}, FuseSettings.model_validate(FUSE | {"weights": {"rgb": 1.0}})).guessing == 0.75
    assert [one.label(row) for row in range(4)] == ["run", "run|wave", "", "wave"]
    write_scores(tmp_path / "plain.h5", scores())
    with h5py.File(tmp_path / "plain.h5") as file:
        assert "more_labels" not in file  # and so the bytes of other datasets' files stay what they were


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": np.array([0, 0, -2, 2])}, "labels go from -2 to 2, and there are 3 classes"),
        ({"quarantined": [("x", 3, "empty")]}, "labels go from -1 to 3"),
        ({"more_labels": [[5, 0]]}, "more_labels go beyond 5 videos or 3 classes"),
        ({"more_labels": [[-1, 0]]}, "more_labels go beyond"),
        ({"more_labels": [[0, 3]]}, "more_labels go beyond"),
        ({"more_labels": [[0, -1]]}, "more_labels go beyond"),
        ({"more_labels": [[0, 0]]}, "more_labels repeat a label"),
        ({"more_labels": [[0, 1], [0, 1]]}, "more_labels repeat a label"),
        ({"more_labels": [[2, 1]]}, "more_labels .* of a video without a first one"),
    ],
)
def test_labels_that_cannot_be_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_scores(tmp_path / "scores.h5", several(**changes))
    with pytest.raises(InputError, match=message):
        read_scores(tmp_path / "scores.h5")


def result(**changes: Any) -> Result:
    one = {stream: several(stream, **changes) for stream in ("rgb", "flow")}
    return result_of(one, FuseSettings.model_validate(FUSE))


def test_accuracies_count_hits_of_the_videos_with_a_label(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    fused = result()
    accuracy = fused.accuracy
    assert (accuracy.correct, accuracy.total, accuracy.top1) == (2, 4, 0.5)
    assert accuracy.top1_decodable == pytest.approx(2 / 3)
    assert accuracy.per_class == {"run": 1.0, "jump": None, "wave": 0.0}
    assert accuracy.mean_class == 0.5
    assert fused.confusion == [[2, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert fused.videos.test == 5
    # By hand: `run` ranks its videos 1, 3 (with two others of the same share) and last; `wave` 1, 3 and last.
    shares = softmax(np.array([[3, 1, 0], [0, 1, 2], [0, 1, 2], [0, 9, 1]]), axis=1)
    for place, positives in ((0, [0, 1]), (2, [1, 3])):
        order = sorted(shares[:, place], reverse=True)
        found = [max(i for i, share in enumerate(order) if share == shares[row, place]) + 1 for row in positives]
        hits_before = [sum(other <= rank for other in found) for rank in found]
        precisions = [*(hit / rank for hit, rank in zip(hits_before, found, strict=True)), 3 / 5]
        one = several()
        both = np.concatenate([shares, np.full((1, 3), -np.inf)])
        truth = one.listed_truth
        assert class_average_precisions(both, truth, interpolated=False)[place] == pytest.approx(sum(precisions) / 3)
    assert accuracy.map == pytest.approx(mean_average_precision(both, truth, interpolated=False))
    assert fused.streams["rgb"].map == pytest.approx(accuracy.map)
    write_json(tmp_path / "fused.json", fused.to_dict())
    print_result(tmp_path / "fused.json")
    assert f" {accuracy.map:.3f} " in capsys.readouterr().out
    assert mean_over_splits([fused]).accuracy.map.mean == accuracy.map


def test_probabilities_rank_the_videos_and_not_logits() -> None:
    """A video with high logits everywhere is sure of nothing."""
    logits = np.array([[9, 9, 9], [5, 0, 0], [0, 0, 0], [0, 5, 5]], np.float32)
    one = several(video_logits=logits, labels=np.array([1, 0, -1, 2]), more_labels=np.array([[3, 1]]), quarantined=[])
    # jump: the probabilities of the videos are 1/3, .01, 1/3, .5; those that jump have places 1 and 3.
    # run, wave: their one video has place 1.
    assert result_of({"rgb": one}, FuseSettings.model_validate(FUSE | {"weights": {"rgb": 2.0}})).accuracy.map == (
        pytest.approx(((1 + 2 / 3) / 2 + 1 + 1) / 3)
    )


def test_without_several_labels_nothing_is_added(tmp_path: Path) -> None:
    plain = result(labels=LABELS, more_labels=np.empty((0, 2), np.int32)).to_dict()
    assert "map" not in plain["accuracy"] | plain["streams"]["rgb"]
    assert "map" in result().to_dict()["accuracy"]
    assert "map" not in mean_over_splits([Result.model_validate(plain)]).to_dict()["accuracy"]


def test_a_split_of_background_alone_has_no_result() -> None:
    with pytest.raises(InputError, match="no test video of split1 with a label could be decoded"):
        result(labels=np.full(4, -1), more_labels=np.empty((0, 2), np.int32))


def test_streams_that_differ_in_a_further_label_are_not_fused() -> None:
    with pytest.raises(InputError, match="they differ in further labels: None in rgb"):
        fuse({"rgb": several(more_labels=WAVE_TOO[:0]), "flow": several("flow")}, weights={"rgb": 1.0}, on="logits")


def test_a_comparison_leaves_background_out() -> None:
    first = outcomes(several().video_logits, several())
    assert [(video, *one) for (_, video), one in first.items()] == [
        ("run/a.avi", "run", True),
        ("jump/b.avi", "run", True),
        ("wave/ü #;.avi", "wave", False),
        ("wave/d.avi", "wave", False),
    ]
    assert compare(first, outcomes(-several().video_logits, several()), seed=0).only_first == 1


@pytest.mark.parametrize(
    ("label", "predicted", "expected"),
    [
        ("run", "run", "run"),
        ("run", "jump", "run, taken for jump"),
        ("run|wave", "wave", "run, wave"),
        ("run|wave", "jump", "run, wave, taken for jump"),
        ("", "jump", "background, taken for jump"),
    ],
)
def test_headings_of_videos(label: str, predicted: str, expected: str) -> None:
    assert heading(label, predicted) == expected


def test_recognised_videos_are_shown_first() -> None:
    one = several()
    assert select_rows(one, one.video_logits.argmax(axis=1), VideoSelection(count=2)) == [0, 1]
