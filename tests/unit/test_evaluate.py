import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy import stats

from atw.evaluate import metrics
from atw.evaluate.fuse import fuse, mean_over_splits, pairs, report
from atw.evaluate.result import print_result, write_result, write_summary
from atw.evaluate.scores import Scores, read_scores, write_scores
from atw.files import InputError

CLASSES = ("run", "jump", "wave")

# The highest logit is class 0, 1, 2, 1; the labels are 0, 1, 1, 2: two of four are right.
LOGITS = np.array([[3, 1, 0], [0, 2, 1], [0, 1, 2], [0, 9, 1]], np.float32)
LABELS = np.array([0, 1, 1, 2], np.int64)


def scores(stream: str = "rgb", **changes: Any) -> Scores:
    V, crops, M, K = 4, 2, 5, 3
    rng = np.random.default_rng(len(stream))
    energies = rng.normal(size=(V, crops, M)).astype(np.float32)
    exponentials = np.exp(energies)
    arguments: dict[str, Any] = {
        "stream": stream,
        "dataset": "mine",
        "split": "split1",
        "experiment": "",
        "classes": CLASSES,
        "videos": ("run/a.avi", "jump/b.avi", "jump/c.avi", "wave/ü #;.avi"),
        "labels": LABELS,
        "video_logits": LOGITS,
        "snippet_logits": rng.normal(size=(V, crops, M, K)).astype(np.float32),
        "attention": exponentials / exponentials.sum(axis=2, keepdims=True),
        "attention_logits": energies,
        "positions": np.sort(rng.integers(0, 50, (V, M)), axis=1).astype(np.int32),
        "quarantined": [("wave/d.avi", 2, "one frame: no motion to see")],
        "provenance": {"train_videos": 9, "train_quarantined": [["run/x.avi", "empty file"]], "seed": 0},
    }
    return Scores(**arguments | changes)


def all_streams(**changes: Any) -> dict[str, Scores]:
    return {stream: scores(stream, **changes) for stream in ("rgb", "flow", "warped")}


# Score files


@pytest.mark.parametrize("quarantined", [[], scores().quarantined * 3])
def test_a_score_file_gives_back_what_was_written(tmp_path: Path, quarantined: list[tuple[str, int, str]]) -> None:
    # 1 MB of provenance, because HDF5 keeps only 64 kB of an attribute in place.
    written = scores(experiment="ones", quarantined=quarantined, provenance={"reasons": "ü" * 500_000, "seed": 3})
    write_scores(tmp_path / "deep" / "scores.h5", written)
    read = read_scores(tmp_path / "deep" / "scores.h5")
    for field in dataclasses.fields(Scores):
        had, has = getattr(written, field.name), getattr(read, field.name)
        assert type(has) is type(had), field.name
        if isinstance(had, np.ndarray):
            assert has.dtype == had.dtype, field.name
            np.testing.assert_array_equal(has, had)
        else:
            assert has == had, field.name


def test_score_files_are_plain_hdf5_and_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        write_scores(tmp_path / name, scores())
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    with h5py.File(tmp_path / "a.h5") as file:
        assert (file.attrs["format"], file.attrs["subset"], file.attrs["stream"]) == (1, "test", "rgb")
        assert file["quarantined/label"][()].tolist() == [2]
        assert json.loads(file.attrs["provenance"])["train_videos"] == 9


def test_numbers_are_stored_in_the_types_of_the_format(tmp_path: Path) -> None:
    # Sampling gives int64 positions; a file must not depend on that.
    write_scores(tmp_path / "s.h5", scores(positions=scores().positions.astype(np.int64)))
    assert read_scores(tmp_path / "s.h5").positions.dtype == np.int32


def test_a_diverged_network_writes_no_scores(tmp_path: Path) -> None:
    logits = LOGITS.copy()
    logits[2, 1] = np.nan
    with pytest.raises(InputError, match=r"flow scores of jump/c\.avi are not finite.*learning_rate"):
        write_scores(tmp_path / "scores.h5", scores("flow", video_logits=logits))
    assert not list(tmp_path.iterdir())


def change_format(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = 2


def drop_attention(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file["attention"]


def drop_stream(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        del file.attrs["stream"]


def damage_logits(path: Path) -> None:
    content = bytearray(path.read_bytes())
    place = content.index(LOGITS.tobytes())
    content[place + 5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (Path.unlink, "cannot be read"),
        (lambda path: path.write_bytes(b"no HDF5 file at all"), "cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:3000]), "cannot be read"),
        (change_format, r"format 1 \(its format is 2\)"),
        (drop_attention, "cannot be read"),
        (drop_stream, "cannot be read"),
        (damage_logits, "cannot be read"),
    ],
    ids=["missing", "other", "truncated", "version", "dataset", "attribute", "damaged"],
)
def test_unusable_score_files_are_refused_by_name(tmp_path: Path, harm: Any, message: str) -> None:
    path = tmp_path / "scores.h5"
    write_scores(path, scores())
    harm(path)
    with pytest.raises(InputError, match=rf"{path}.*{message}.*run the workflow"):
        read_scores(path)


# Metrics


@st.composite
def scored_videos(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits with many ties, and labels."""
    V, K = draw(st.integers(1, 12)), draw(st.integers(2, 8))
    logits = draw(arrays.arrays(np.float32, (V, K), elements=st.integers(-2, 2)))
    return logits, draw(arrays.arrays(np.int64, V, elements=st.integers(0, K - 1)))


@given(scored_videos(), st.integers(1, 8))
def test_top_k_is_the_rank_of_the_true_class(videos: tuple[Any, Any], k: int) -> None:
    logits, labels = videos
    expected = []
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        before = sum(other > row[label] or (other == row[label] and i < label) for i, other in enumerate(row))
        expected.append(before < k)
    assert metrics.in_top(logits, labels, k=k).tolist() == expected
    assert metrics.accuracy(logits, labels, k=k) == pytest.approx(sum(expected) / len(expected))


@given(scored_videos())
def test_confusion_matrix_and_class_accuracies_count_each_video_once(videos: tuple[Any, Any]) -> None:
    logits, labels = videos
    K = logits.shape[1]
    expected = [[0] * K for _ in range(K)]
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        expected[label][row.index(max(row))] += 1
    confusion = metrics.confusion_matrix(logits, labels)
    assert confusion.tolist() == expected
    correct = metrics.in_top(logits, labels, k=1)
    assert np.trace(confusion) == correct.sum()
    shares = [row[i] / sum(row) if sum(row) else math.nan for i, row in enumerate(expected)]
    np.testing.assert_allclose(metrics.per_class_accuracy(correct, labels, class_count=K), shares)
    known = [share for share in shares if not math.isnan(share)]
    mean = metrics.mean_class_accuracy(correct, labels, class_count=K)
    assert mean == pytest.approx(sum(known) / len(known))


def test_the_bootstrap_interval_is_that_of_the_binomial_distribution() -> None:
    correct = np.arange(400) < 300
    # Resampling n videos of which a share p is right draws from Binomial(n, p).
    expected = stats.binom.ppf([0.025, 0.975], 400, 0.75) / 400
    for seed in range(5):
        interval = metrics.bootstrap_interval(correct, seed=seed)
        np.testing.assert_allclose(interval, expected, atol=1.5 / 400)
        assert metrics.bootstrap_interval(correct, seed=seed) == interval


@pytest.mark.parametrize(("correct", "point"), [([True], 1), ([False], 0), ([True] * 9, 1), ([False] * 9, 0)])
def test_the_bootstrap_of_equal_outcomes_is_a_point(correct: list[bool], point: int) -> None:
    assert metrics.bootstrap_interval(np.array(correct), seed=0) == (point, point)


def summarise(**changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {"quarantined_labels": [], "classes": CLASSES, "seed": 0}
    return metrics.summary(LOGITS, LABELS, **arguments | changes)


def test_summary_of_a_table_by_hand() -> None:
    said = summarise()
    low, high = said.pop("top1_ci95")
    assert 0 <= low < 0.5 < high <= 1
    assert said == {
        "top1": 0.5,
        "top1_decodable": 0.5,
        "top5": None,
        "mean_class": 0.5,
        "correct": 2,
        "total": 4,
        "per_class": {"run": 1.0, "jump": 0.5, "wave": 0.0},
    }


def test_quarantined_videos_count_as_wrong() -> None:
    said = summarise(quarantined_labels=[0, 0, 0, 1])
    assert (said["top1"], said["top1_decodable"]) == (0.25, 0.5)
    assert (said["correct"], said["total"]) == (2, 8)
    assert said["per_class"] == {"run": 0.25, "jump": pytest.approx(1 / 3), "wave": 0.0}
    assert said["mean_class"] == pytest.approx((1 / 4 + 1 / 3 + 0) / 3)
    low, high = said["top1_ci95"]
    assert low < 0.25 < high < 0.75


def test_a_class_without_test_videos_has_no_accuracy() -> None:
    wider = np.pad(LOGITS, ((0, 0), (0, 1)), constant_values=-1)
    said = metrics.summary(wider, LABELS, quarantined_labels=[], classes=(*CLASSES, "rest"), seed=0)
    assert said["per_class"]["rest"] is None
    assert said["mean_class"] == 0.5
    json.dumps(said, allow_nan=False)


def test_top5_needs_more_than_five_classes() -> None:
    labels = np.array([0, 1, 5], np.int64)
    logits = np.tile(np.arange(6, 0, -1, dtype=np.float32), (3, 1))  # class 5 comes last
    said = metrics.summary(logits, labels, quarantined_labels=[3], classes=tuple("abcdef"), seed=0)
    assert said["top5"] == 0.5
    said = metrics.summary(logits[:2, :5], labels[:2], quarantined_labels=[], classes=tuple("abcde"), seed=0)
    assert said["top5"] is None


@given(
    arrays.arrays(np.float32, (3, 6), elements=st.integers(0, 3)),
    arrays.arrays(np.bool_, (3, 6), elements=st.booleans()),
)
def test_interval_auc_is_the_share_of_pairs_in_order(weights: Any, inside: Any) -> None:
    areas = []
    for row, within in zip(weights.tolist(), inside.tolist(), strict=True):
        pairs = [
            (a, b) for a, is_in in zip(row, within, strict=True) if is_in for b in np.array(row)[~np.array(within)]
        ]
        if pairs:
            areas.append(sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs))
    area = metrics.interval_auc(weights, inside)
    assert area == (pytest.approx(sum(areas) / len(areas)) if areas else None)


def test_interval_auc_by_hand() -> None:
    inside = np.array([[False, True, True, False]])
    assert metrics.interval_auc(np.array([[0.1, 0.4, 0.3, 0.2]]), inside) == 1
    assert metrics.interval_auc(np.array([[0.1, 0.4, 0.3, 0.2]]), ~inside) == 0
    assert metrics.interval_auc(np.full((1, 4), 0.25), inside) == 0.5
    assert metrics.interval_auc(np.full((1, 4), 0.25), np.ones((1, 4), bool)) is None


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


def test_a_stream_may_fail_for_a_reason_of_its_own() -> None:
    streams = {"rgb": scores(), "flow": scores("flow", quarantined=[("wave/d.avi", 2, "truncated")])}
    fuse(streams, weights={"rgb": 1.0, "flow": 1.0}, on="logits")


def test_a_missing_stream_is_named() -> None:
    with pytest.raises(InputError, match=r"stream warped a weight of 0\.5, but there are scores for rgb only"):
        fuse({"rgb": scores()}, weights={"rgb": 1.0, "warped": 0.5}, on="logits")


def test_report_holds_the_whole_result() -> None:
    # Alone, flow is right about videos 0 and 3; with rgb the fused sum is right about 0, 1 and 3.
    flow = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 9]], np.float32)
    streams = {"rgb": scores(), "flow": scores("flow", video_logits=flow, provenance={"seed": 4})}
    bad = [{"video": "wave/d.avi", "reason": "one frame"}]
    said = report(streams, weights={"rgb": 1.0, "flow": 1.0}, on="logits", seed=0, train_videos=9, quarantined=bad)
    json.dumps(said, allow_nan=False)
    assert {stream: summary["correct"] for stream, summary in said["streams"].items()} == {"rgb": 2, "flow": 2}
    accuracy = said.pop("accuracy")
    assert (accuracy["correct"], accuracy["total"], accuracy["top1"]) == (3, 5, 0.6)
    assert accuracy["top1_decodable"] == 0.75
    del said["streams"]
    # The one pair is the fusion here.
    assert said.pop("pairs") == {"rgb+flow": accuracy}
    assert said == {
        "format": 2,
        "dataset": "mine",
        "split": "split1",
        "experiment": None,
        "fusion": {"weights": {"rgb": 1.0, "flow": 1.0}, "on": "logits"},
        "videos": {"train": 9, "test": 5, "quarantined": bad},
        "classes": ["run", "jump", "wave"],
        "confusion": [[1, 0, 0], [0, 1, 1], [0, 0, 1]],
        "provenance": {"rgb": scores().provenance, "flow": {"seed": 4}},
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


def split_result(name: str, *, correct: int, total: int, **changes: Any) -> dict[str, Any]:
    accuracy = {"correct": correct, "total": total, "top1": correct / total, "top5": None, "mean_class": 0.25}
    result = {
        "dataset": "mine",
        "experiment": None,
        "split": name,
        "classes": list(CLASSES),
        "fusion": {"weights": {"rgb": 1.0}, "on": "logits"},
        "accuracy": accuracy,
        "streams": {"rgb": accuracy | {"correct": 1, "top1": 1 / total, "top5": 0.5 + total / 1000}},
        "pairs": {"rgb+flow": accuracy | {"correct": 2, "top1": 2 / total}},
    }
    return result | changes


def test_summary_averages_splits_and_pools_their_videos() -> None:
    said = mean_over_splits([split_result("split1", correct=8, total=10), split_result("split2", correct=24, total=40)])
    json.dumps(said, allow_nan=False)
    # Wilson: (p + z2/2n ± z sqrt(p(1-p)/n + z2/4n2)) / (1 + z2/n) with z = 1.959964, n = 50, p = .64
    z = 1.959963984540054
    middle, half = 0.64 + z**2 / 100, z * math.sqrt(0.64 * 0.36 / 50 + z**2 / 10_000)
    scale = 1 + z**2 / 50
    assert said["accuracy"] == {
        "top1": {"mean": pytest.approx(0.7), "std": pytest.approx(math.sqrt(0.02))},
        "top5": {"mean": None, "std": None},
        "mean_class": {"mean": 0.25, "std": 0.0},
    }
    assert said["pooled"]["top1"] == 0.64
    assert said["pooled"]["top1_ci95"] == pytest.approx([(middle - half) / scale, (middle + half) / scale])
    assert said["streams"]["rgb"]["accuracy"]["top5"]["mean"] == pytest.approx(0.525)
    assert said["streams"]["rgb"]["pooled"]["top1"] == 0.04
    assert said["pairs"]["rgb+flow"]["pooled"]["top1"] == 0.08
    assert {key: said[key] for key in ("format", "dataset", "experiment", "splits")} == {
        "format": 2,
        "dataset": "mine",
        "experiment": None,
        "splits": ["split1", "split2"],
    }


def test_one_split_has_no_deviation() -> None:
    said = mean_over_splits([split_result("split1", correct=8, total=10)])
    assert said["accuracy"]["top1"] == {"mean": 0.8, "std": None}


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


def test_from_score_files_to_the_printed_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {"weights": {"rgb": 1.0, "flow": 1.0, "warped": 0.0}, "on": "logits", "seed": 0}
    fused = []
    for split in ("split1", "split2"):
        paths = []
        for stream in ("rgb", "flow"):
            paths.append(tmp_path / split / stream / "scores.h5")
            write_scores(paths[-1], scores(stream, split=split))
        fused.append(tmp_path / split / "fused.json")
        write_result(fused[-1], paths, settings)
    write_summary(tmp_path / "summary.json", fused)
    said = json.loads(fused[0].read_text())
    assert (said["accuracy"]["correct"], said["accuracy"]["total"], said["videos"]["train"]) == (2, 5, 9)
    assert said["fusion"]["weights"] == {"rgb": 1.0, "flow": 1.0}
    assert [bad["video"] for bad in said["videos"]["quarantined"]] == ["run/x.avi", "wave/d.avi"]
    assert json.loads((tmp_path / "summary.json").read_text())["pooled"]["top1"] == 0.4
    print_result(fused[0])
    printed = capsys.readouterr().out
    assert "mine split1" in printed
    assert "rgb+flow" in printed
    assert "quarantined wave/d.avi: one frame: no motion to see" in printed
