"""The numbers of a result's page, against small cases computed by hand."""

import base64
import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from atw.extras.drawing.flow_wheel import flow_to_colours
from atw.extras.report import attention, mistakes, surface, training
from atw.extras.report.charts import class_axis, plain
from atw.extras.report.classes import classes
from atw.extras.report.headline import headline
from atw.extras.report.health import health
from atw.extras.report.pictures import WIDTH_PX, jpeg_address, moments
from atw.shards import Shard, dequantise
from tests.unit.reported import FRAMES, gathered, stored
from tests.unit.scored import VIDEOS
from tests.unit.stored import WriteShard

NO_FLOW: dict[str, Any] = {"streams": {}}


# 12 decoded videos, even ones of run and odd ones of jump, and a quarantined one of jump. Flow decides.


def test_each_stream_is_compared_with_the_fusion_without_it(tmp_path: Path) -> None:
    said = headline(gathered(tmp_path, rgb=[0, 1, 2, 3, 9], flow=[0, 1, 2, 3, 4, 5, 6]), NO_FLOW)
    assert [(row["name"], row["correct"], row["total"]) for row in said["rows"]] == [
        ("rgb", 5, 13),
        ("flow", 7, 13),
        ("fused", 7, 13),
    ]
    assert [row["weight"] for row in said["rows"]] == [1.0, 2.0, None]
    rgb, flow = said["additions"]
    assert (rgb["stream"], rgb["without"], rgb["difference"]) == ("rgb", "flow", 0)
    assert (flow["stream"], flow["without"]) == ("flow", "rgb")
    assert flow["accuracy"] == pytest.approx([5 / 13, 7 / 13])
    assert (flow["only_second"], flow["only_first"]) == (3, 1)  # 4, 5, 6 won and 9 lost
    for row in said["rows"]:
        low, high = row["mean_class_ci95"]
        assert 0 < low < row["mean_class"] < high < 1
    assert said["chance"] == 1 / 2
    assert said["largest"] == 7 / 13


def test_warnings_name_what_speaks_against_the_number(tmp_path: Path) -> None:
    weak = headline(gathered(tmp_path / "weak", rgb=[0, 1, 2, 3], flow=[0, 1, 2]), NO_FLOW)["warnings"]
    assert "reaches down to what guessing gives" in weak[0]
    assert weak[1].startswith("13 test videos are few")
    assert weak[2] == "Fusion gains nothing here: rgb alone has a top-1 of 30.8%."
    assert weak[3] == "The attention of rgb is flat in 100% of the test videos: there it is an average."
    assert weak[4].startswith("The attention of flow is flat")
    assert weak[5] == "Test videos that could not be decoded, and count as wrong in every number: 1."
    assert len(weak) == 6


def test_flow_that_cannot_be_believed_is_warned_of(tmp_path: Path) -> None:
    bad = {"videos": 100, "bound_px": 20.0, "clipped_videos": 6, "accepted": None}
    good = {"videos": 100, "bound_px": 20.0, "clipped_videos": 5, "accepted": 0.49}
    said = headline(gathered(tmp_path, [0], [0, 1]), {"streams": {"flow": bad, "warped": good}})["warnings"]
    assert [warning for warning in said if "flow.bound" in warning] == [
        "6 of 100 videos have more than 1% of their flow displacements beyond the bound of 20 px: raise flow.bound."
    ]
    assert sum("compensated in 49%" in warning for warning in said) == 1


def test_attention_that_was_never_trained_is_not_called_flat(tmp_path: Path) -> None:
    one = gathered(tmp_path, [0], [0, 1])
    for scores in one.scores.values():
        scores.provenance["settings"]["train"]["model"]["consensus"] = "average"
    assert not any("flat" in warning for warning in headline(one, NO_FLOW)["warnings"])


def test_classes_are_sorted_by_what_fusion_gains_over_the_best_stream(tmp_path: Path) -> None:
    said = classes(gathered(tmp_path, rgb=list(range(10)), flow=list(range(7))))
    assert said["best"] == "rgb"
    run, jump = said["rows"]
    assert (run["name"], run["videos"], run["fused"]) == ("run", 6, 4 / 6)
    assert (jump["name"], jump["videos"], jump["fused"]) == ("jump", 7, 3 / 7)
    assert run["gain"] == pytest.approx(-1 / 6)
    assert jump["gain"] == pytest.approx(-2 / 7)
    assert jump["streams"] == {"rgb": 5 / 7, "flow": 3 / 7}
    assert said["cells"] == [[0, 0, 4], [0, 1, 2], [1, 0, 3], [1, 1, 3]]
    assert said["confusions"] == [
        {"places": [1, 0], "label": "jump", "taken": "run", "videos": 3, "share": 0.5},
        {"places": [0, 1], "label": "run", "taken": "jump", "videos": 2, "share": 2 / 6},
    ]
    bars = said["figures"]["classes"].data
    assert [trace.name for trace in bars] == ["fused", "rgb", "flow"]
    assert list(bars[0].y) == ["run", "jump"]
    assert list(bars[0].text) == ["-17", "-29"]


def test_a_class_without_test_videos_comes_last(tmp_path: Path) -> None:
    one = gathered(tmp_path, [0], [0])
    for accuracy in (one.result["accuracy"], *one.result["streams"].values()):
        accuracy["per_class"]["run"] = None
    said = classes(one)
    assert [(row["name"], row["gain"]) for row in said["rows"]] == [("jump", 0), ("run", None)]


def test_the_surface_has_the_accuracy_of_every_weight(tmp_path: Path) -> None:
    said = surface.surface(gathered(tmp_path, rgb=list(range(10)), flow=list(range(7))))
    by_weight = {point["weights"]["rgb"]: round(13 * point["top1"]) for point in said["points"]}
    assert list(by_weight) == [number / 10 for number in range(11)]
    # At equal weights they cancel out about 7, 8 and 9, and the first class is right about 8.
    assert list(by_weight.values()) == [7, 7, 7, 7, 7, 8, 10, 10, 10, 10, 10]
    assert (said["best"], said["worst"], said["top1"]) == (10 / 13, 7 / 13, 7 / 13)
    assert said["used"] == pytest.approx({"rgb": 1 / 3, "flow": 2 / 3})
    assert list(said["figures"]["surface"].data[1].x) == [1 / 3]


def test_a_single_stream_has_no_surface(tmp_path: Path) -> None:
    one = gathered(tmp_path, [0], [0, 1])
    single = dataclasses.replace(one, scores={"flow": one.scores["flow"]})
    del single.result["streams"]["rgb"]
    single.result["fusion"]["weights"] = {"flow": 2.0}
    assert surface.surface(single)["figures"] == {}
    assert headline(single, NO_FLOW)["additions"] == []


def test_curves_are_means_of_equal_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = (4.0, 3.0, None, 1.0)
    rows = [{"iteration": number + 1, "loss": loss} for number, loss in enumerate(losses)]
    assert training.curve(rows, "loss") == ([1, 2, 4], [4, 3, 1])
    monkeypatch.setattr(training, "POINTS", 2)
    assert training.curve(rows, "loss") == ([1.5, 4], [3.5, 1])
    assert training.curve(rows, "accuracy") == ([], [])


def test_panels_without_values_are_left_out(tmp_path: Path) -> None:
    rows = [{"iteration": 1, "loss": 2.0, "validation_loss": 3.0}, {"iteration": 2, "loss": 1.0}]
    said = training.training(gathered(tmp_path, [0], [0], histories={"rgb": rows, "flow": []}))
    assert list(said["figures"]) == ["training-loss"]
    assert [trace.name for trace in said["figures"]["training-loss"].data] == ["rgb", "rgb, held out"]
    assert said["last"] == {
        "rgb": {"iterations": 2, "loss": 1.0, "accuracy": None},
        "flow": {"iterations": 0, "loss": None, "accuracy": None},
    }


def test_half_of_the_weight() -> None:
    chosen, flat = [[0.25, 0.5, 0.25, 0.0]], [[0.25] * 4]
    assert attention.half_of_weight(np.array([chosen], np.float32)) == 0.25
    assert attention.half_of_weight(np.array([flat], np.float32)) == 0.5
    assert attention.half_of_weight(np.array([chosen, flat], np.float32)) == 0.375


def test_attention_over_time_stands_above_its_frames(tmp_path: Path, write_shard: WriteShard) -> None:
    one = gathered(tmp_path, [0, 1], [0, 1], stored=stored(tmp_path / "shards", write_shard))
    for scores in one.scores.values():
        scores.provenance["settings"]["train"]["sampling"] = {"stack": 2}
        scores.attention[:] = [0.5, 0.25, 0.25]
        scores.positions[:] = [0, 1, 3]
    said = attention.attention(one)
    assert said["streams"] == {name: {"flat": 0.0, "half": 1 / 3} for name in ("rgb", "flow")}
    shares = said["figures"]["attention"].data[0]
    assert dict(zip(shares.x, shares.y, strict=True))[1.5] == pytest.approx(1 / 3)  # 3 of .5
    assert len(said["videos"]) == attention.VIDEOS
    assert {"video 0", "video 1"} <= {video["video"] for video in said["videos"]}  # the correct ones first
    rgb, flow = said["figures"]["attention-0"].data
    assert list(rgb.x) == pytest.approx([0.02, 0.06, 0.14])  # 25 frames a second
    assert list(flow.x) == pytest.approx([0.06, 0.1, 0.18])  # the middle of two fields is a frame later
    assert list(rgb.y) == [1.5, 0.75, 0.75]
    assert [frame["seconds"] for frame in said["videos"][0]["frames"]] == pytest.approx(
        [(number + 0.5) / 25 for number in range(FRAMES)]
    )


def test_the_surest_errors_come_first(tmp_path: Path, write_shard: WriteShard) -> None:
    one = gathered(tmp_path, [], [], stored=stored(tmp_path / "shards", write_shard))
    logits = np.zeros((12, 2))
    logits[0] = [0, 9]  # a run that is taken for a jump: e^3 : 1 at a sum of weights of 3
    logits[1] = [3, 0]
    logits[2:, 0] = 1  # the odd ones, which are jumps, are taken for run
    said = mistakes.mistakes(dataclasses.replace(one, fused=logits))
    assert said["wrong"] == 7
    assert [video["video"] for video in said["videos"]][:3] == ["video 0", "video 1", "video 3"]
    worst = said["videos"][0]
    assert (worst["label"], worst["predicted"]) == ("run", "jump")
    assert worst["p_predicted"] == pytest.approx(np.exp(3) / (1 + np.exp(3)))
    assert worst["p_label"] == pytest.approx(1 / (1 + np.exp(3)))
    assert worst["streams"]["rgb"] == {"predicted": "jump", "p": pytest.approx(np.e / (1 + np.e))}
    assert len(worst["frames"]) == len(worst["flow"]) == mistakes.PICTURES
    path, entry = one.stored["flow"]["video 0"]
    with Shard(path) as shard:
        fields = dequantise(shard.fields(entry, moments(FRAMES - 1, 4)), shard.attributes["bound"])
    assert worst["full_px"] == pytest.approx(np.percentile(np.hypot(fields[:, 0], fields[:, 1]), 99))
    shown = jpeg_address(flow_to_colours(fields[0], full_px=worst["full_px"]))
    assert worst["flow"][0]["address"] == shown


def test_the_number_of_errors_shown_is_bounded(tmp_path: Path, write_shard: WriteShard) -> None:
    one = gathered(tmp_path, [], [], stored=stored(tmp_path / "shards", write_shard))
    assert len(mistakes.mistakes(one)["videos"]) == mistakes.VIDEOS == len(VIDEOS)
    assert mistakes.mistakes(gathered(tmp_path / "all", [], list(range(12))))["videos"] == []


def test_health_is_that_of_the_index(tmp_path: Path, write_shard: WriteShard) -> None:
    found = stored(tmp_path / "shards", write_shard)
    path = found["warped"]["video 0"][0]
    rows = {"video 0": (0.5, 1.0, 1.0, 0.25), "video 1": (0.01, 0.5, 0.0, 0.75), "video 2": (0.0, 0.0, 0.0, 0.5)}
    found["warped"] = {
        video: (path, dataclasses.replace(found["warped"][video][1], clipped=c, accepted=a, still=s, residual=r))
        for video, (c, a, s, r) in rows.items()
    }
    said = health(gathered(tmp_path, [0], [0], stored=found))
    warped = said["streams"]["warped"]
    assert warped["clipped"] == pytest.approx(0.17)
    assert (warped["videos"], warped["clipped_videos"], warped["static"], warped["bound_px"]) == (3, 1, 1, 20)
    assert (warped["accepted"], warped["still"], warped["residual_px"]) == pytest.approx((0.5, 1 / 3, 0.5))
    assert warped["worst"] == [{"video": "video 0", "clipped": 0.5}, {"video": "video 1", "clipped": 0.01}]
    assert said["streams"]["flow"]["accepted"] is None
    bars = said["figures"]["health-warped"].data[0]
    assert [(round(x, 3), y) for x, y in zip(bars.x, bars.y, strict=True) if y] == [(0.025, 1), (0.525, 1), (0.975, 1)]


def test_pictures_are_small() -> None:
    address = jpeg_address(np.full((300, 640, 3), (255, 0, 0), np.uint8))
    content = base64.b64decode(address.removeprefix("data:image/jpeg;base64,"))
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (75, WIDTH_PX, 3)
    assert image[0, 0] == pytest.approx([0, 0, 255], abs=3)  # BGR


def test_moments_are_middles_of_equal_parts() -> None:
    assert moments(8, 4) == [1, 3, 5, 7]
    assert moments(3, 8) == [0, 1, 2]
    assert moments(1, 4) == [0]


def test_names_are_no_markup_for_plotly() -> None:
    assert plain("<b>&\x1b") == "&lt;b&gt;&amp;\\u001b"
    long = "x" * 26 + "<" * 10
    assert class_axis([long])["labelalias"] == {plain(long): "x" * 26 + "&lt;…"}
    assert class_axis(["walk"])["labelalias"] == {}
