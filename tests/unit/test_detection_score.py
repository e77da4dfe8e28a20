import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from atw.commands import app
from atw.evaluate.detection_files import Detections, Truth, read_detections, read_truth
from atw.evaluate.detection_score import Score, require_shared_names, score
from atw.files import InputError

Detection = tuple[str, str, float, float, float]
"""Video, label, score, start, end."""
Shown = tuple[str, str, float, float]
"""Video, label, start, end."""


def predictions_of(found: list[Detection]) -> Detections:
    results: dict[str, Any] = {}
    for video, label, confidence, start, end in found:
        results.setdefault(video, []).append({"label": label, "score": confidence, "segment": [start, end]})
    return Detections.model_validate({"results": results})


def truth_of(shown: list[Shown], *, subset: str = "test", other: tuple[str, ...] = ()) -> Truth:
    database: dict[str, Any] = {video: {"subset": "other", "annotations": []} for video in other}
    for video, label, start, end in shown:
        entry = database.setdefault(video, {"subset": subset, "duration": 99, "annotations": []})
        entry["annotations"].append({"label": label, "segment": [start, end]})
    return Truth.model_validate({"database": database})


def rate(found: list[Detection], shown: list[Shown], rule: str, *overlaps: float) -> Score:
    return score(predictions_of(found), truth_of(shown), rule=rule, subset="test", overlaps=overlaps)


# The kits once more, by their descriptions and without arrays


def share(one: tuple[float, float], other: tuple[float, float]) -> float:
    together = max(0, min(one[1], other[1]) - max(one[0], other[0]))
    return together / (one[1] - one[0] + other[1] - other[0] - together)


def activitynet(found: list[Detection], shown: list[Shown], overlap: float) -> float:
    """From the highest score, of equal ones from the last, each detection takes the best free segment."""
    in_file = [one for video in dict.fromkeys(one[0] for one in found) for one in found if one[0] == video]
    precisions = []
    for label in {each[1] for each in shown}:
        free = [each for each in shown if each[1] == label]
        positives, curve, right = len(free), [], 0
        ranking = sorted((one for one in reversed(in_file) if one[1] == label), key=lambda one: -one[2])
        for place, (video, _, _, start, end) in enumerate(ranking, start=1):
            good = [(share((start, end), one[2:]), i) for i, one in enumerate(free) if one[0] == video]
            good = [one for one in good if one[0] >= overlap]
            if good:
                del free[max(good)[1]]
                right += 1
            curve.append((right, right / place))
        heights = [max((p for hits, p in curve if hits >= n), default=0.0) for n in range(1, positives + 1)]
        precisions.append(sum(heights) / positives)
    return sum(precisions) / len(precisions)


def thumos14(found: list[Detection], shown: list[Shown], overlap: float) -> float:
    """Each segment takes the best free detection; what is left and touches an ambiguous segment is left out."""
    precisions = []
    for label in {each[1] for each in shown} - {"Ambiguous"}:
        ranking = sorted((one for one in found if one[1] == label), key=lambda one: (-one[2], one[0]))
        right: set[int] = set()
        for video, _, start, end in (each for each in shown if each[1] == label):
            best, chosen = overlap, -1
            for i, one in enumerate(ranking):
                if one[0] == video and i not in right and share(one[3:], (start, end)) > best:
                    best, chosen = share(one[3:], (start, end)), i
            right |= {chosen} - {-1}
        spared = [one for one in shown if one[1] == "Ambiguous"]
        kept = [
            i in right
            for i, one in enumerate(ranking)
            if i in right or not any(one[0] == two[0] and share(one[3:], two[2:]) > 0 for two in spared)
        ]
        total = sum(sum(kept[: i + 1]) / (i + 1) for i, hit in enumerate(kept) if hit)
        precisions.append(total / sum(each[1] == label for each in shown))
    return sum(precisions) / len(precisions)


@st.composite
def segments(draw: st.DrawFn) -> tuple[float, float]:
    start = draw(st.integers(0, 6))
    return float(start), float(start + draw(st.integers(1, 6)))


VIDEOS = st.sampled_from(["b", "a", "c"])
FOUND = st.lists(
    st.tuples(VIDEOS, st.sampled_from("xy"), st.integers(0, 3).map(float), segments()).map(
        lambda one: (*one[:3], *one[3])
    ),
    min_size=1,
    max_size=14,
)
SHOWN = st.lists(
    st.tuples(VIDEOS, st.sampled_from(["x", "y", "Ambiguous"]), segments()).map(lambda one: (*one[:2], *one[2])),
    max_size=8,
).map(lambda shown: [*shown, ("a", "x", 1.0, 4.0), ("b", "y", 2.0, 5.0), ("c", "y", 0.0, 3.0)])
OVERLAPS = st.sampled_from([0.25, 0.5, 0.75])


@given(FOUND, SHOWN, OVERLAPS)
def test_activitynets_rule_is_that_of_its_kit(found: list[Detection], shown: list[Shown], overlap: float) -> None:
    shown = [one for one in shown if one[1] != "Ambiguous"]
    assert rate(found, shown, "activitynet", overlap).average_map == pytest.approx(activitynet(found, shown, overlap))


@given(FOUND, SHOWN, OVERLAPS)
def test_thumos14s_rule_is_that_of_its_kit(found: list[Detection], shown: list[Shown], overlap: float) -> None:
    assert rate(found, shown, "thumos14", overlap).average_map == pytest.approx(thumos14(found, shown, overlap))


@given(FOUND, SHOWN)
def test_overlaps_at_once_are_those_one_by_one(found: list[Detection], shown: list[Shown]) -> None:
    for rule in ("activitynet", "thumos14"):
        together = rate(found, shown, rule, 0.25, 0.5, 0.75)
        assert list(together.map.values()) == [rate(found, shown, rule, o).average_map for o in (0.25, 0.5, 0.75)]
        assert together.average_map == pytest.approx(sum(together.map.values()) / 3)


# Where the rules differ

ONE = [("a", "x", 0.0, 10.0)]


def test_an_overlap_that_is_just_met_counts_for_activitynet_only() -> None:
    found = [("a", "x", 1.0, 0.0, 5.0)]
    assert rate(found, ONE, "activitynet", 0.5).map == {"0.5": 1}
    assert rate(found, ONE, "thumos14", 0.5).map == {"0.5": 0}


def test_the_higher_score_is_paired_for_activitynet_the_better_overlap_for_thumos14() -> None:
    found = [("a", "x", 0.9, 0.0, 6.0), ("a", "x", 0.8, 0.0, 10.0)]
    assert rate(found, ONE, "activitynet", 0.5).average_map == 1
    assert rate(found, ONE, "thumos14", 0.5).average_map == 0.5


def test_precision_is_interpolated_for_activitynet_only() -> None:
    found = [("a", "x", 0.9, 20.0, 30.0), ("a", "x", 0.8, 0.0, 10.0), ("b", "x", 0.7, 0.0, 10.0)]
    shown = [*ONE, ("b", "x", 0.0, 10.0)]
    assert rate(found, shown, "activitynet", 0.5).average_map == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert rate(found, shown, "thumos14", 0.5).average_map == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_of_equal_scores_activitynet_takes_the_last_and_thumos14_the_first_name() -> None:
    found = [("b", "x", 1.0, 0.0, 10.0), ("a", "x", 1.0, 0.0, 10.0)]
    shown = [*ONE, ("b", "y", 0.0, 10.0)]
    assert rate(found, shown, "activitynet", 0.5).per_class == {"x": {"0.5": 1}, "y": {"0.5": 0}}
    assert rate(found, shown, "thumos14", 0.5).per_class["x"] == {"0.5": 1}
    assert rate(found[::-1], shown, "activitynet", 0.5).per_class["x"] == {"0.5": 0.5}
    assert rate(found[::-1], shown, "thumos14", 0.5).per_class["x"] == {"0.5": 1}


def test_ambiguous_segments_spare_wrong_detections_of_thumos14_and_are_no_class() -> None:
    found = [("a", "x", 0.9, 20.0, 30.0), ("a", "x", 0.8, 0.0, 10.0)]
    shown = [*ONE, ("a", "Ambiguous", 29.0, 40.0)]
    assert rate(found, shown, "thumos14", 0.5).average_map == 1
    assert rate(found, ONE, "thumos14", 0.5).average_map == 0.5
    assert rate(found, shown, "activitynet", 0.5).per_class == {"x": {"0.5": 0.5}}


def test_segments_without_length_are_paired_as_by_activitynets_kit() -> None:
    found, shown = [("a", "x", 1.0, 3.0, 3.0)], [("a", "x", 3.0, 3.0)]
    assert rate(found, shown, "activitynet", 0.95).average_map == 1
    assert rate(found, shown, "thumos14", 0.1).average_map == 0


def test_the_usual_overlaps() -> None:
    found = [("a", "x", 1.0, 0.0, 8.0)]
    rated = {rule: score(predictions_of(found), truth_of(ONE), rule=rule) for rule in ("activitynet", "thumos14")}
    assert list(rated["activitynet"].map) == ["0.5", "0.55", "0.6", "0.65", "0.7", "0.75", "0.8", "0.85", "0.9", "0.95"]
    assert list(rated["activitynet"].map.values()) == [1] * 7 + [0] * 3
    assert list(rated["thumos14"].map) == ["0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7"]


# Which videos and classes count


def test_videos_of_other_subsets_count_as_wrong_and_other_classes_do_not_count() -> None:
    found = [
        ("t", "x", 0.9, 0.0, 10.0),
        ("new", "x", 0.8, 0.0, 10.0),
        ("a", "z", 0.7, 0.0, 1.0),
        ("a", "x", 0.6, 0.0, 10.0),
    ]
    rated = score(predictions_of(found), truth_of(ONE, other=("t",)), rule="thumos14", subset="test", overlaps=[0.5])
    assert rated.map == {"0.5": pytest.approx(1 / 3)}
    assert rated.counts.to_dict() == {"videos": 1, "truths": 1, "predictions": 3, "other_videos": 2, "other_classes": 1}


def test_the_subset_is_that_of_the_predictions() -> None:
    truth = truth_of(ONE, other=("t",))
    assert score(predictions_of([("a", "x", 1.0, 0.0, 10.0)]), truth, rule="activitynet").subset == "test"
    both = predictions_of([("a", "x", 1.0, 0.0, 10.0), ("t", "x", 1.0, 0.0, 10.0)])
    with pytest.raises(InputError, match=r"several subsets \(other, test\); choose one with --subset"):
        score(both, truth, rule="activitynet")
    with pytest.raises(InputError, match="no video of the subset tset has an annotation; the truth has other, test"):
        score(both, truth, rule="activitynet", subset="tset")


def test_a_class_without_detections_has_no_precision() -> None:
    rated = rate([("a", "x", 1.0, 0.0, 10.0)], [*ONE, ("a", "y", 0.0, 10.0)], "activitynet", 0.5)
    assert rated.per_class == {"x": {"0.5": 1}, "y": {"0.5": 0}}
    assert score(Detections(results={}), truth_of(ONE), rule="thumos14").average_map == 0


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([("v_a", "x", 1.0, 0.0, 1.0)], "none of the videos of the predictions is in the truth: 'v_a' here, 'a' there"),
        ([("a", "X", 1.0, 0.0, 1.0)], "none of the classes of the predictions is in the truth: 'X' here, 'x' there"),
    ],
)
def test_names_that_never_fit_are_an_error(found: list[Detection], message: str) -> None:
    with pytest.raises(InputError, match=message):
        require_shared_names(predictions_of(found), truth_of(ONE))
    assert rate(found, ONE, "activitynet", 0.5).average_map == 0


# Classification


def classified(**said: list[tuple[str, float]]) -> Detections:
    results = {video: [{"label": label, "score": value} for label, value in each] for video, each in said.items()}
    return Detections.model_validate({"results": results})


def test_a_classification_counts_each_label_of_a_video_once() -> None:
    truth = truth_of([("a", "x", 0, 1), ("a", "x", 5, 6), ("a", "y", 0, 1), ("b", "y", 0, 1), ("c", "z", 0, 1)])
    said = classified(
        a=[("x", 0.9), ("x", 0.8), ("y", 0.1)], b=[("x", 0.7), ("z", 0.6), ("w", 0.55), ("y", 0.5)], d=[("y", 0.4)]
    )
    rated = score(said, truth, rule="activitynet")
    assert (rated.task, rated.counts.truths, rated.counts.other_classes) == ("classification", 4, 1)
    # y: right, wrong (no such video), right: the first and, of three, two.
    assert rated.per_class == {"x": {"video": 1}, "y": {"video": pytest.approx((1 + 2 / 3) / 2)}, "z": {"video": 0}}
    assert rated.hit_at is not None
    assert rated.hit_at.to_dict() == {
        "any": {"1": pytest.approx(1 / 3), "3": pytest.approx(1 / 3)},
        "mean": {"1": pytest.approx(1 / 6), "3": pytest.approx(1 / 3)},
    }


def test_ambiguous_segments_spare_no_classification() -> None:
    truth = truth_of([("a", "x", 0, 1), ("b", "Ambiguous", 0, 1), ("b", "y", 0, 1)])
    rated = score(classified(b=[("x", 0.9)], a=[("x", 0.8)]), truth, rule="thumos14")
    assert rated.per_class["x"] == {"video": 0.5}


def test_some_predictions_with_segments_are_an_error() -> None:
    results = {"a": [{"label": "x", "score": 1, "segment": [0, 1]}], "b": [{"label": "x", "score": 1}]}
    with pytest.raises(InputError, match="a prediction of 'b' has no segment, one of 'a' has"):
        score(Detections.model_validate({"results": results}), truth_of(ONE), rule="activitynet")
    with pytest.raises(InputError, match="the predictions have no segments; leave the overlaps out"):
        score(classified(a=[("x", 1)]), truth_of(ONE), rule="activitynet", overlaps=[0.5])


# Files and the command

RESULTS = {"a": [{"label": "x", "score": 0.5, "segment": ["0", "9.5"]}]}
DATABASE = {"a": {"subset": "test", "duration": 20, "annotations": [{"label": "x", "segment": ["0.0", 10]}]}}


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., Any]:
    """Writes both files, and runs the command on them."""

    def run(*options: str, results: Any = RESULTS, database: Any = DATABASE) -> Any:
        found, truth = tmp_path / "found.json", tmp_path / "truth.json"
        found.write_text(json.dumps({"version": "1", "results": results, "external_data": {}}), encoding="utf-8")
        truth.write_text(json.dumps({"database": database, "taxonomy": []}), encoding="utf-8")
        return CliRunner().invoke(app, ["detections", "score", str(found), str(truth), *options])

    return run


def test_the_command_prints_numbers_for_people_and_programs(command: Callable[..., Any]) -> None:
    shown = json.loads(command("--rule", "activitynet", "--json").stdout)
    assert shown["map"]["0.95"] == shown["average_map"] == 1
    chosen = json.loads(command("--rule", "thumos14", "--overlaps", "0.9,0.95", "--json").stdout)
    assert chosen["map"] == {"0.9": 1, "0.95": 0}
    assert "hit_at" not in chosen
    text = command("--rule", "thumos14", "--overlaps", "0.9,0.95").stdout
    assert "detection by the rule thumos14, subset test, 1 classes" in text
    assert "mean    │ 0.5000" in text
    names = [{"label": "x", "score": 1}, {"label": "w", "score": 0.5}]
    text = command("--rule", "activitynet", results={"a": names, "b": names[:1]}).stdout
    assert "hit@1 1.0000, hit@3 1.0000" in text
    assert "1 predictions are wrong: their video has no annotation in the subset" in text
    assert "1 further predictions, of classes that the truth lacks, do not count" in text


@pytest.mark.parametrize("overlaps", ["", "a", "0", "1.5", "0.5,0.5", "nan"])
def test_overlaps_that_are_none_are_refused(command: Callable[..., Any], overlaps: str) -> None:
    run = command("--rule", "activitynet", "--overlaps", overlaps)
    assert isinstance(run.exception, InputError)
    assert f"--overlaps is {overlaps!r}" in str(run.exception)


def test_files_that_do_not_belong_together_are_refused(command: Callable[..., Any]) -> None:
    run = command("--rule", "thumos14", results={"other": RESULTS["a"]})
    assert isinstance(run.exception, InputError)
    assert "none of the videos of the predictions is in the truth: 'other' here, 'a' there" in str(run.exception)


def test_an_unknown_rule_is_refused(command: Callable[..., Any]) -> None:
    run = command("--rule", "coco")
    assert isinstance(run.exception, InputError)
    assert "the rule is 'coco'; give activitynet or thumos14" in str(run.exception)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, ", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("{}", r'results is \{\}: Field required; it needs "results"'),
        ('{"results": {"a": [{"label": "x", "score": NaN}]}}', "results.a.0.score is nan"),
        ('{"results": {"a": [{"label": "x", "score": 1, "segment": [2, 1]}]}}', "must not end before it starts"),
        ('{"results": {"a": [{"label": "x", "score": 1, "segment": [2]}]}}', "results.a.0.segment.1"),
        ('{"results": {"a": [], "a": []}}', "'a' stands twice"),
    ],
)
def test_files_of_another_form_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "found.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read_detections(path)
    assert str(caught.value).startswith(str(path))
    with pytest.raises(InputError, match='it needs "database"'):
        read_truth(tmp_path / "missing.json")


def test_a_truth_without_segments_can_only_rate_classifications(command: Callable[..., Any]) -> None:
    database = {"a": {"subset": "test", "annotations": [{"label": "x"}]}}
    run = command("--rule", "activitynet", database=database)
    assert isinstance(run.exception, InputError)
    assert "annotation 0 of 'a' has no segment" in str(run.exception)
    assert (
        command("--rule", "activitynet", database=database, results={"a": [{"label": "x", "score": 1}]}).exit_code == 0
    )
