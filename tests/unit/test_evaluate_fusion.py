"""Streams fused into a result, and results of several splits into a summary."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atw.config import FuseSettings
from atw.data.actions import Actions
from atw.evaluate.attention import stream_attention
from atw.evaluate.fuse import fuse, pairs
from atw.evaluate.metrics import Accuracy, wilson_interval
from atw.evaluate.result import (
    Result,
    mean_over_splits,
    print_result,
    read_result,
    result_of,
    verdict,
    write_result,
    write_summary,
)
from atw.evaluate.scores import Scores
from atw.files import InputError
from tests.unit.scored import write_scores
from tests.unit.streams import CLASSES, LABELS, LOGITS, scores

SETTINGS = FuseSettings(recipe=2, seed=0, weights={"rgb": 1.0, "flow": 1.0, "warped": 0.0}, on="logits")


def all_streams(**changes: Any) -> dict[str, Scores]:
    return {stream: scores(stream, **changes) for stream in ("rgb", "flow", "warped")}


# Fusion


def test_logits_add_up_by_weight() -> None:
    flow = np.array([[0, 4, 0], [1, 1, 1], [0, 0, 0], [2, 0, -2]], np.float32)
    streams = {"rgb": scores(), "flow": scores("flow", video_logits=flow)}
    fused = fuse(streams, weights={"rgb": 1.0, "flow": 0.5}, on="logits")
    assert fused.dtype == np.float64
    assert fused.tolist() == [[3, 3, 0], [0.5, 2.5, 1.5], [0, 1, 2], [1, 9, 0]]


def test_probabilities_add_up_by_weight() -> None:
    # On logits the second stream's one extreme score decides; on probabilities it cannot outweigh two others.
    streams = {
        "rgb": scores(video_logits=np.array([[2, 0, 0]], np.float32), labels=LABELS[:1], videos=("a",)),
        "flow": scores("flow", video_logits=np.array([[0, 900, 0]], np.float32), labels=LABELS[:1], videos=("a",)),
    }
    weights = {"rgb": 2.0, "flow": 1.0}
    fused = fuse(streams, weights=weights, on="probabilities")
    e2 = math.exp(2)
    np.testing.assert_allclose(fused, [[2 * e2 / (e2 + 2), 2 / (e2 + 2) + 1, 2 / (e2 + 2)]], rtol=1e-12)
    assert fused.argmax() == 0
    assert fuse(streams, weights=weights, on="logits").argmax() == 1


def test_a_stream_without_a_weight_takes_no_part() -> None:
    streams = {"rgb": scores(), "flow": scores("flow", video_logits=-LOGITS)}
    assert fuse(streams, weights={"rgb": 2.0}, on="logits").tolist() == (2 * LOGITS).tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "other"}, r"dataset: 'mine' in rgb, 'other' in warped \(entry 0\)"),
        ({"split": "split2"}, r"split: 'split1' in rgb, 'split2' in warped \(entry 0\)"),
        ({"experiment": "ones"}, r"experiment: '' in rgb, 'ones' in warped \(entry 0\)"),
        ({"classes": ("run", "wave", "jump")}, r"classes: 'jump' in rgb, 'wave' in warped \(entry 1\)"),
        (
            {"videos": ("run/a.avi", "jump/c.avi", "jump/b.avi", "wave/ü #;.avi")},
            r"videos: 'jump/b.avi' in rgb, 'jump/c.avi' in warped \(entry 1\)",
        ),
        ({"videos": scores().videos[:3]}, r"videos: 'wave/ü #;.avi' in rgb, None in warped \(entry 3\)"),
        ({"labels": np.array([0, 1, 1, 0])}, r"labels: 2 in rgb, 0 in warped \(entry 3\)"),
        ({"quarantined": []}, r"quarantined videos: \('wave/d.avi', 2\) in rgb, None in warped \(entry 0\)"),
    ],
)
def test_streams_that_disagree_are_refused(changes: dict[str, Any], message: str) -> None:
    streams = all_streams() | {"warped": scores("warped", **changes)}
    with pytest.raises(InputError, match=f"rgb and warped cannot be fused, they differ in {message}"):
        fuse(streams, weights=dict.fromkeys(streams, 1.0), on="logits")


def test_streams_of_different_files_are_refused() -> None:
    streams = {stream: scores(stream, provenance={"files": files}) for stream, files in (("rgb", "a"), ("flow", "b"))}
    with pytest.raises(InputError, match=r"rgb and flow cannot be fused, .* made from different files.*shards verify"):
        fuse(streams, weights=dict.fromkeys(streams, 1.0), on="logits")
    for provenance in ({"files": "a"}, {}):
        fuse(streams | {"flow": scores("flow", provenance=provenance)}, weights={"rgb": 1.0}, on="logits")


def test_a_stream_may_fail_for_a_reason_of_its_own() -> None:
    streams = {"rgb": scores(), "flow": scores("flow", quarantined=[("wave/d.avi", 2, "truncated")])}
    fuse(streams, weights={"rgb": 1.0, "flow": 1.0}, on="logits")


def test_a_missing_stream_is_named() -> None:
    with pytest.raises(InputError, match=r"stream warped a weight of 0\.5, but there are scores for rgb only"):
        fuse({"rgb": scores()}, weights={"rgb": 1.0, "warped": 0.5}, on="logits")


def test_the_whole_result_by_hand() -> None:
    # Alone, flow is right about videos 0 and 3; with rgb the fused sum is right about 0, 1 and 3.
    flow = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 9]], np.float32)
    streams = {"rgb": scores(), "flow": scores("flow", video_logits=flow, provenance={"seed": 4})}
    result = result_of(streams, SETTINGS).to_dict()
    json.dumps(result, allow_nan=False)
    assert {stream: accuracy["correct"] for stream, accuracy in result.pop("streams").items()} == {"rgb": 2, "flow": 2}
    assert result.pop("attention") == {name: stream_attention(one).to_dict() for name, one in streams.items()}
    accuracy = result.pop("accuracy")
    assert (accuracy["correct"], accuracy["total"], accuracy["top1"]) == (3, 5, 0.6)
    assert result.pop("guessing") == 0.4  # two of the five listed videos jump, and two wave
    assert accuracy["top1_decodable"] == 0.75
    # The one pair is the fusion here.
    assert result.pop("pairs") == {"rgb+flow": accuracy}
    reasons = {"run/x.avi": "empty file", "wave/d.avi": "one frame: no motion to see"}
    assert result == {
        "format": 2,
        "dataset": "mine",
        "split": "split1",
        "experiment": None,
        "fusion": {"weights": {"rgb": 1.0, "flow": 1.0}, "on": "logits"},
        "videos": {
            "train": 9,
            "test": 5,
            "quarantined": [{"video": video, "reason": reason} for video, reason in reasons.items()],
        },
        "classes": ["run", "jump", "wave"],
        "confusion": [[1, 0, 0], [0, 1, 1], [0, 0, 1]],
        "provenance": {"rgb": scores().provenance, "flow": {"seed": 4}, "fuse": SETTINGS.to_dict()},
    }


def test_every_pair_of_streams_is_fused_with_the_weights() -> None:
    flow = np.array([[0, 4, 0], [1, 1, 1], [0, 0, 0], [2, 0, -2]], np.float32)
    streams = {"rgb": scores(), "flow": scores("flow", video_logits=flow), "warped": scores("warped")}
    found = pairs(streams, weights={"rgb": 1.0, "flow": 0.5, "warped": 2.0}, on="logits")
    assert list(found) == ["rgb+flow", "rgb+warped", "flow+warped"]
    assert found["rgb+flow"].tolist() == [[3, 3, 0], [0.5, 2.5, 1.5], [0, 1, 2], [1, 9, 0]]
    assert found["rgb+warped"].tolist() == (3 * LOGITS).tolist()
    assert pairs(streams, weights={"rgb": 1.0}, on="logits") == {}


# Several splits


def accuracy_of(correct: int, total: int, **changes: Any) -> dict[str, Any]:
    shares = {"top1": correct / total, "top1_decodable": 1.0, "top5": None, "mean_class": 0.25}
    return {**shares, "top1_ci95": [0, 1], "correct": correct, "total": total, "per_class": {}} | changes


def split_result(name: str, *, correct: int, total: int, **changes: Any) -> Result:
    given = {
        "format": 2,
        "dataset": "mine",
        "experiment": None,
        "split": name,
        "classes": list(CLASSES),
        "fusion": {"weights": {"rgb": 1.0}, "on": "logits"},
        "accuracy": accuracy_of(correct, total),
        "streams": {"rgb": accuracy_of(1, total, top5=0.5 + total / 1000)},
        "pairs": {"rgb+flow": accuracy_of(2, total)},
        "videos": {"train": 1, "test": total, "quarantined": []},
        "confusion": [],
        "provenance": {"fuse": {"seed": 0}},
    }
    return Result.model_validate(given | changes)


def test_summary_averages_splits_and_pools_their_videos() -> None:
    results = [split_result("split1", correct=8, total=10), split_result("split2", correct=24, total=40)]
    summary = mean_over_splits(results)
    assert (summary.format, summary.dataset, summary.experiment) == (2, "mine", None)
    assert summary.splits == ["split1", "split2"]
    assert summary.accuracy.top1.mean == pytest.approx(0.7)
    assert summary.accuracy.top1.std == pytest.approx(0.1 * math.sqrt(2))
    assert summary.accuracy.top5.to_dict() == {"mean": None, "std": None}
    assert summary.pooled.top1 == 32 / 50
    # Wilson: (p + z2/2n ± z sqrt(p(1-p)/n + z2/4n2)) / (1 + z2/n) with z = 1.959964, n = 50, p = .64
    z = 1.959963984540054
    middle, half = 0.64 + z**2 / 100, z * math.sqrt(0.64 * 0.36 / 50 + z**2 / 10_000)
    scale = 1 + z**2 / 50
    assert summary.pooled.top1_ci95 == pytest.approx(((middle - half) / scale, (middle + half) / scale))
    assert summary.streams["rgb"].accuracy.top5.mean == pytest.approx(0.525)
    assert (summary.streams["rgb"].pooled.top1, summary.pairs["rgb+flow"].pooled.top1) == (0.04, 0.08)


def test_one_split_has_no_deviation() -> None:
    summary = mean_over_splits([split_result("split1", correct=8, total=10)])
    assert summary.accuracy.top1.to_dict() == {"mean": 0.8, "std": None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "other"}, "dataset is mine in the one and other in the other"),
        ({"experiment": "ones"}, "experiment is None in the one and ones"),
        ({"classes": ["run"]}, "classes is"),
        ({"streams": {}}, r"streams is \['rgb'\] in the one and \[\]"),
        ({"pairs": {}}, r"pairs is \['rgb\+flow'\] in the one and \[\]"),
        ({"fusion": {"weights": {"rgb": 2.0}, "on": "logits"}}, "fusion is"),
        ({"split": "split1"}, "split1, split1 name one twice"),
    ],
)
def test_results_that_do_not_belong_together_are_refused(changes: dict[str, Any], message: str) -> None:
    results = [split_result("split1", correct=1, total=4), split_result("split2", correct=1, total=4, **changes)]
    with pytest.raises(InputError, match=message):
        mean_over_splits(results)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accuracy": {}}, r"accuracy\.top1: Field required"),
        ({"fusion": {"weights": {}, "on": "logits"}}, r"fusion\.weights: "),
        ({"provenance": {"fuse": {}}}, r"provenance\.fuse\.seed is no whole number"),
    ],
)
def test_a_damaged_result_is_named_with_the_place(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    content = split_result("split1", correct=1, total=4).to_dict() | changes
    (tmp_path / "fused.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"fused\.json is damaged \(.*{message}.*run the workflow"):
        read_result(tmp_path / "fused.json")


def test_what_a_newer_version_adds_is_kept(tmp_path: Path) -> None:
    content = split_result("split1", correct=1, total=4).to_dict() | {"added": [1]}
    (tmp_path / "fused.json").write_text(json.dumps(content))
    assert read_result(tmp_path / "fused.json").to_dict() == content


def test_from_score_files_to_the_printed_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fused = []
    for split in ("split1", "split2"):
        paths = []
        for stream in ("rgb", "flow"):
            paths.append(tmp_path / split / stream / "scores.h5")
            write_scores(paths[-1], scores(stream, split=split))
        fused.append(tmp_path / split / "fused.json")
        write_result(fused[-1], paths, SETTINGS)
    write_summary(tmp_path / "summary.json", fused)
    said = json.loads(fused[0].read_text())
    assert (said["accuracy"]["correct"], said["accuracy"]["total"], said["videos"]["train"]) == (2, 5, 9)
    assert said["fusion"]["weights"] == {"rgb": 1.0, "flow": 1.0}
    assert [bad["video"] for bad in said["videos"]["quarantined"]] == ["run/x.avi", "wave/d.avi"]
    assert json.loads((tmp_path / "summary.json").read_text())["pooled"]["top1"] == 0.4
    print_result(fused[0])
    printed = capsys.readouterr().out
    assert "mine split1: 5 test videos" in printed
    # Wilson's for 2 of 5, by hand: (.4 + .3841 ± 1.96 sqrt(.4 * .6 / 5 + .19207 / 5)) / 1.7683.
    # Of the four videos that were decoded, two show the same class.
    words = "guessing gives 40.0%, and with 5 test videos, the result may be anything from 11.8% to 76.9%."
    assert words in " ".join(printed.split())
    assert "rgb+flow" in printed
    assert "quarantined wave/d.avi: one frame: no motion to see" in printed


@pytest.mark.parametrize(
    ("correct", "total", "guessing", "said"),
    [
        (30, 100, 0.2188, "Better than guessing (21.9%), but rough: 100 test videos are few, and the accuracy may be "),
        (
            30,
            100,
            0.2190,
            "This does not show that anything was learnt: guessing gives 21.9%, and with 100 test videos",
        ),
        (0, 100, 0.5, "This does not show that anything was learnt: guessing gives 50.0%"),
        (192, 384, 0.1, "A number to quote with its interval, 45.0% to 55.0%; guessing gives 10.0%."),
        (190, 380, 0.1, "Better than guessing (10.0%), but rough: 380 test videos are few"),
    ],
)
def test_a_sentence_says_what_a_number_is_worth(correct: int, total: int, guessing: float, said: str) -> None:
    accuracy = Accuracy.model_validate(accuracy_of(correct, total, top1_ci95=wilson_interval(correct, total)))
    assert verdict(accuracy, guessing).startswith(said)


def test_the_entropy_stands_beside_the_accuracy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And how well actions are found, if they are known; an older file says nothing of all that."""
    half = np.zeros((4, 2, 5), np.float32)
    half[..., :2] = 0.5  # of 5 snippets
    times = {"seconds": np.tile(np.stack([np.arange(5), np.arange(5) + 1.0], axis=1), (4, 1, 1))}
    known = scores(attention=half, actions=Actions.of([(0, 0, 0.0, 1.0)]), **times)
    path = tmp_path / "rgb/scores.h5"
    write_scores(path, dataclasses.replace(known, probability=np.full((4, 5), 0.25, np.float32)))
    write_scores(tmp_path / "flow/scores.h5", scores("flow", attention=half))
    write_result(tmp_path / "fused.json", [path, tmp_path / "flow/scores.h5"], SETTINGS)
    print_result(tmp_path / "fused.json")
    printed = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines_of(capsys) if "│" in line]
    assert [cells[0] for cells in printed] == ["rgb", "flow", "rgb+flow", "fused", "rgb"]
    assert [cells[5] for cells in printed[:4]] == ["0.431", "0.431", "", ""]  # log 2 / log 5
    # The snippet inside weighs as much as one of four outside, and more than three.
    assert printed[4][1:] == ["20.0%", "0.875", "50.0%", "50.0%", "0.500", "20.0%", "20.0%"]
    content = json.loads((tmp_path / "fused.json").read_text())
    del content["attention"]
    (tmp_path / "fused.json").write_text(json.dumps(content))
    print_result(tmp_path / "fused.json")
    assert not [line for line in lines_of(capsys) if "0.431" in line]


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()
