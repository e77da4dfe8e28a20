"""The numbers on the report page, against small cases computed by hand.

There are 12 decoded videos, even ones of run and odd ones of jump, and a quarantined one of jump. Flow decides.
"""

import base64
import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from atw.extras.drawing.flow_wheel import flow_to_colours
from atw.extras.report.accuracy import Confusion, classes, headline
from atw.extras.report.charts import PICTURE_WIDTH_PX, class_axis, jpeg_address, plain, spread
from atw.extras.report.fusion_weights import fusion_weights
from atw.extras.report.inputs import HistoryRow
from atw.extras.report.pipeline import POINTS, FlowQuality, StageTime, TrainingEnd, curve, health, stage_times, training
from atw.extras.report.videos import (
    ATTENTION_VIDEOS,
    MISTAKE_PICTURES,
    MISTAKES,
    StreamOpinion,
    all_test_videos,
    attention,
    mistakes,
)
from atw.shards import Shard, dequantise
from tests.unit.reported import FRAMES, report_inputs, stored
from tests.unit.scored import VIDEOS
from tests.unit.stored import WriteShard


def test_each_stream_is_compared_with_the_fusion_without_it(tmp_path: Path) -> None:
    said = headline(report_inputs(tmp_path, rgb=[0, 1, 2, 3, 9], flow=[0, 1, 2, 3, 4, 5, 6]), {})
    assert [(row.name, row.weight, row.accuracy.correct, row.accuracy.total) for row in said.rows] == [
        ("rgb", 1.0, 5, 13),
        ("flow", 2.0, 7, 13),
        ("fused", None, 7, 13),
    ]
    rgb, flow = said.additions
    assert (rgb.stream, rgb.without, rgb.compared.difference) == ("rgb", "flow", 0)
    assert (flow.stream, flow.without) == ("flow", "rgb")
    assert flow.compared.accuracy == pytest.approx((5 / 13, 7 / 13))
    assert (flow.compared.only_second, flow.compared.only_first) == (3, 1)  # 4, 5, 6 won and 9 lost
    for row in said.rows:
        low, high = row.mean_class_ci95
        assert 0 < low < row.accuracy.mean_class < high < 1
    assert (said.chance, said.largest) == (1 / 2, 7 / 13)


def test_warnings_name_what_speaks_against_the_number(tmp_path: Path) -> None:
    weak = headline(report_inputs(tmp_path, rgb=[0, 1, 2, 3], flow=[0, 1, 2]), {})
    assert weak.verdict == (
        "This does not show that anything was learnt: guessing gives 53.8%, and with 13 test videos, the result may be "
        "anything from 8.2% to 50.3%."
    )
    assert weak.warnings == [
        "Fusion gains nothing here: rgb alone has a top-1 of 30.8%.",
        "The attention of rgb is flat in 100% of the test videos: there it is an average.",
        "The attention of flow is flat in 100% of the test videos: there it is an average.",
        "Test videos that could not be decoded, and count as wrong in every number: 1.",
    ]


def test_flow_that_cannot_be_believed_is_warned_of(tmp_path: Path) -> None:
    inputs = report_inputs(tmp_path, [0], [0, 1])
    inputs.result.videos.quarantined.append({"video": "a", "reason": "one of the training videos"})
    bad = FlowQuality(videos=100, bound_px=20.0, clipped=0.5, clipped_videos=6, worst=[])
    good = FlowQuality(videos=100, bound_px=20.0, clipped=0.5, clipped_videos=5, worst=[], accepted=0.49)
    assert headline(inputs, {"flow": bad, "warped": good}).warnings[-4:] == [
        "6 of 100 videos have more than 1% of their flow displacements beyond the bound of 20 px: raise flow.bound.",
        "Camera motion was compensated in 49% of the pairs of frames only: elsewhere warped flow is plain flow.",
        "Test videos that could not be decoded, and count as wrong in every number: 1.",
        "Training videos that could not be decoded, and were left out: 1.",
    ]


def test_a_consensus_without_attention_is_not_called_flat(tmp_path: Path) -> None:
    inputs = report_inputs(tmp_path, [0], [0, 1])
    for scores in inputs.scores.values():
        scores.provenance["settings"]["train"]["model"]["consensus"] = "average"
    assert not any("flat" in warning for warning in headline(inputs, {}).warnings)


def test_classes_are_sorted_by_what_fusion_gains_over_the_best_stream(tmp_path: Path) -> None:
    said = classes(report_inputs(tmp_path, rgb=list(range(10)), flow=list(range(7))))
    assert said.best == "rgb"
    run, jump = said.rows
    assert (run.name, run.videos, run.fused, run.gain) == ("run", 6, 4 / 6, pytest.approx(-1 / 6))
    assert (jump.name, jump.videos, jump.fused, jump.gain) == ("jump", 7, 3 / 7, pytest.approx(-2 / 7))
    assert jump.streams == {"rgb": 5 / 7, "flow": 3 / 7}
    assert said.cells == [(0, 0, 4), (0, 1, 2), (1, 0, 3), (1, 1, 3)]
    assert said.confusions == [
        Confusion((1, 0), "jump", "run", 3, 0.5),
        Confusion((0, 1), "run", "jump", 2, 2 / 6),
    ]
    bars = said.figures["classes"].data
    assert [trace.name for trace in bars] == ["fused", "rgb", "flow"]
    assert (list(bars[0].y), list(bars[0].text)) == (["run", "jump"], ["-17", "-29"])


def test_a_class_without_test_videos_comes_last(tmp_path: Path) -> None:
    inputs = report_inputs(tmp_path, [0], [0])
    for accuracy in (inputs.result.accuracy, *inputs.result.streams.values()):
        accuracy.per_class["run"] = None
    assert [(row.name, row.gain) for row in classes(inputs).rows] == [("jump", 0), ("run", None)]


def test_every_weight_of_the_fusion_has_its_accuracy(tmp_path: Path) -> None:
    said = fusion_weights(report_inputs(tmp_path, rgb=list(range(10)), flow=list(range(7))))
    by_weight = {point.weights["rgb"]: round(13 * point.top1) for point in said.points}
    assert list(by_weight) == [number / 10 for number in range(11)]
    # At equal weights they cancel out about 7, 8 and 9, and the first class is right about 8.
    assert list(by_weight.values()) == [7, 7, 7, 7, 7, 8, 10, 10, 10, 10, 10]
    assert (said.used.weights, said.used.top1) == (pytest.approx({"rgb": 1 / 3, "flow": 2 / 3}), 7 / 13)
    assert list(said.figures["surface"].data[1].x) == [1 / 3]


def test_a_single_stream_has_no_weights_to_compare(tmp_path: Path) -> None:
    inputs = report_inputs(tmp_path, [0], [0, 1])
    single = dataclasses.replace(inputs, scores={"flow": inputs.scores["flow"]})
    del single.result.streams["rgb"]
    single.result.fusion.weights.pop("rgb")
    assert fusion_weights(single).figures == {}
    assert headline(single, {}).additions == []


def test_curves_are_means_of_equal_runs() -> None:
    rows = [HistoryRow(iteration=number + 1, loss=loss) for number, loss in enumerate((4.0, 3.0, None, 1.0))]
    assert curve(rows, "loss") == ([1, 2, 4], [4, 3, 1])
    assert curve(rows, "accuracy") == ([], [])
    long = [HistoryRow(iteration=number + 1, loss=number % 2) for number in range(2 * POINTS)]
    assert curve(long, "loss") == ([2 * point + 1.5 for point in range(POINTS)], [0.5] * POINTS)


def test_panels_without_values_are_left_out(tmp_path: Path) -> None:
    rows = [HistoryRow(iteration=1, loss=2.0, validation_loss=3.0), HistoryRow(iteration=2, loss=1.0)]
    said = training(report_inputs(tmp_path, [0], [0], histories={"rgb": rows, "flow": []}))
    assert list(said.figures) == ["training-loss"]
    assert [trace.name for trace in said.figures["training-loss"].data] == ["rgb", "rgb, held out"]
    assert said.last == {"rgb": TrainingEnd(2, 1.0, None), "flow": TrainingEnd(0, None, None)}


def test_the_loss_of_a_long_training_is_smoothed(tmp_path: Path) -> None:
    rows = [HistoryRow(iteration=number + 1, loss=number % 2, learning_rate=0.1) for number in range(POINTS)]
    said = training(report_inputs(tmp_path, [0], [0], histories={"rgb": rows, "flow": []}))
    pale, smooth = said.figures["training-loss"].data
    assert list(pale.y) == [number % 2 for number in range(POINTS)]
    assert (smooth.name, pale.showlegend, smooth.showlegend) == ("rgb", False, None)
    # The mean of a twentieth of the points to each side, of fewer at the ends.
    assert smooth.y[0] == np.mean(pale.y[: POINTS // 20 + 1])
    assert smooth.y[20] == np.mean(pale.y[20 - POINTS // 20 : 21 + POINTS // 20])
    assert len(said.figures["training-learning-rate"].data) == 1


def test_attention_over_time_stands_above_its_frames(tmp_path: Path, write_shard: WriteShard) -> None:
    inputs = report_inputs(tmp_path, [0, 1], [0, 1], stored=stored(tmp_path / "shards", write_shard))
    for scores in inputs.scores.values():
        scores.attention[:] = [0.5, 0.25, 0.25]
        scores.seconds[:] = np.array([[0, 2], [1, 3], [3, 6]]) / 25
    said = attention(inputs)
    assert (said.streams["flow"].peak, said.streams["flow"].flat) == (1.5, 0)
    shares = said.figures["attention"].data[0]
    assert dict(zip(shares.x, shares.y, strict=True))[1.5] == pytest.approx(1 / 3)  # 3 of .5
    assert len(said.videos) == ATTENTION_VIDEOS
    assert {"video 0", "video 1"} <= {video.video for video in said.videos}  # the correct ones first
    rgb, flow = said.figures["attention-0"].data
    for trace in (rgb, flow):
        assert list(trace.x) == pytest.approx([0.04, 0.08, 0.18])
        assert list(trace.y) == [1.5, 0.75, 0.75]
    seconds = [picture.seconds for picture in said.videos[0].frames]
    assert seconds == pytest.approx([(number + 0.5) / 25 for number in range(FRAMES)])


def test_the_surest_errors_come_first(tmp_path: Path, write_shard: WriteShard) -> None:
    inputs = report_inputs(tmp_path, [], [], stored=stored(tmp_path / "shards", write_shard))
    logits = np.zeros((12, 2))
    logits[0] = [0, 9]  # a run that is taken for a jump: e^3 : 1 at a sum of weights of 3
    logits[1] = [3, 0]
    logits[2:, 0] = 1  # the odd ones, which are jumps, are taken for run
    said = mistakes(dataclasses.replace(inputs, fused=logits))
    assert said.wrong == 7
    assert [video.video for video in said.videos][:3] == ["video 0", "video 1", "video 3"]
    worst = said.videos[0]
    assert (worst.label, worst.predicted) == ("run", "jump")
    assert worst.predicted_probability == pytest.approx(np.exp(3) / (1 + np.exp(3)))
    assert worst.label_probability == pytest.approx(1 / (1 + np.exp(3)))
    assert worst.streams["rgb"] == StreamOpinion("jump", pytest.approx(np.e / (1 + np.e)))
    assert [flow.stream for flow in worst.flow] == ["flow", "warped"]
    stored_fields = []
    for flow in worst.flow:
        assert len(worst.frames) == len(flow.pictures) == MISTAKE_PICTURES
        path, entry = inputs.stored[flow.stream]["video 0"]
        with Shard(path) as shard:
            stored_fields.append(dequantise(shard.fields(entry, spread(FRAMES - 1, 4)), shard.header.bound))
    longest = max(np.percentile(np.hypot(fields[:, 0], fields[:, 1]), 99) for fields in stored_fields)
    for flow, fields in zip(worst.flow, stored_fields, strict=True):
        assert flow.full_px == pytest.approx(longest)
        assert flow.pictures[0].address == jpeg_address(flow_to_colours(fields[0], full_px=flow.full_px))


def test_every_test_video_is_listed_with_what_each_stream_says(tmp_path: Path) -> None:
    inputs = report_inputs(tmp_path, rgb=[0, 1, 2, 3], flow=[0, 1, 9])
    rows = all_test_videos(inputs)
    first = inputs.first
    assert [row.video for row in rows] == [*first.videos, *(video for video, _, _ in first.quarantined)]
    assert {row.video: row.right for row in rows} == {
        video: right for (_, video), (_, right) in inputs.outcomes["fused"].items()
    }
    for place, row in enumerate(rows[: len(first.videos)]):
        assert row.label == first.classes[first.labels[place]]
        assert row.right == (row.predicted == row.label)
        assert row.streams == tuple(
            first.classes[int(one.video_logits[place].argmax())] for one in inputs.scores.values()
        )
        assert 0.5 <= row.probability <= 1
    assert rows[-1][1:] == (first.classes[first.quarantined[0][1]], "", 0.0, False, ("", ""))


def test_the_number_of_errors_shown_is_bounded(tmp_path: Path, write_shard: WriteShard) -> None:
    shards = stored(tmp_path / "shards", write_shard)
    inputs = report_inputs(tmp_path, [], [], stored={"rgb": shards["rgb"]})
    videos = mistakes(inputs).videos
    assert len(videos) == MISTAKES == len(VIDEOS)
    assert all(video.flow == [] for video in videos)
    assert mistakes(report_inputs(tmp_path / "all", [], list(range(12)))).videos == []


def test_quality_of_flow_is_that_of_the_index(tmp_path: Path, write_shard: WriteShard) -> None:
    found = stored(tmp_path / "shards", write_shard)
    rows = {"video 0": (0.5, 1.0, 1.0, 0.25), "video 1": (0.01, 0.5, 0.0, 0.75), "video 2": (0.0, 0.0, 0.0, 0.5)}
    for video, (clipped, accepted, still, residual) in rows.items():
        entry = found["warped"][video].entry
        changed = dataclasses.replace(entry, clipped=clipped, accepted=accepted, still=still, residual=residual)
        found["warped"][video] = found["warped"][video]._replace(entry=changed)
    found["warped"] = {video: found["warped"][video] for video in rows}
    said = health(report_inputs(tmp_path, [0], [0], stored=found))
    warped = said.streams["warped"]
    assert warped.clipped == pytest.approx(0.17)
    assert (warped.videos, warped.clipped_videos, warped.static, warped.bound_px) == (3, 1, 1, 20)
    assert (warped.accepted, warped.still, warped.residual_px) == pytest.approx((0.5, 1 / 3, 0.5))
    assert [(entry.video, entry.clipped) for entry in warped.worst] == [("video 0", 0.5), ("video 1", 0.01)]
    assert said.streams["flow"].accepted is None
    bars = said.figures["health-warped"].data[0]
    assert [(round(x, 3), y) for x, y in zip(bars.x, bars.y, strict=True) if y] == [(0.025, 1), (0.525, 1), (0.975, 1)]


def test_times_of_a_stage_add_up_and_cached_shards_have_none(tmp_path: Path) -> None:
    inputs = report_inputs(tmp_path, [0], [0], stored={"rgb": {}, "flow": {}, "warped": {}})
    for stream, scores in inputs.scores.items():
        scores.provenance["shards"] = {"00000": "f00d", "00001": "beef"}
        inputs.scores[stream] = dataclasses.replace(scores, experiment="average")
    for log, text in (
        ("frames/mine/00000", "finished after 1.5 s and 10 J of the CPUs"),
        ("frames/mine/00001", "finished after 2.0 s and 20 J of the CPUs"),
        ("flow/mine/00001", "finished after 9.0 s"),
        ("warped/mine/00000", "finished after 1.0 s and 10 J of the CPUs"),
        ("warped/mine/00001", "finished after 2.0 s"),
        ("train/mine/experiments/average/split1/rgb", "finished after 60.0 s"),
    ):
        path = tmp_path / f"logs/{log}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert stage_times(inputs, tmp_path / "logs") == [
        StageTime("frames", 2, 2, 3.5, 30.0),
        StageTime("flow", 2, 1, 9.0, None),
        StageTime("warped", 2, 2, 3.0, None),
        StageTime("train rgb", 1, 1, 60.0, None),
        *(StageTime(stage, 1, 0, None, None) for stage in ("train flow", "score rgb", "score flow", "fuse")),
    ]


def test_pictures_are_small() -> None:
    address = jpeg_address(np.full((300, 640, 3), (255, 0, 0), np.uint8))
    content = base64.b64decode(address.removeprefix("data:image/jpeg;base64,"))
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (75, PICTURE_WIDTH_PX, 3)
    assert image[0, 0] == pytest.approx([0, 0, 255], abs=3)  # BGR


@pytest.mark.parametrize(("count", "wanted", "numbers"), [(8, 4, [1, 3, 5, 7]), (3, 8, [0, 1, 2]), (1, 4, [0])])
def test_pictures_are_spread_over_the_video(count: int, wanted: int, numbers: list[int]) -> None:
    assert spread(count, wanted) == numbers


def test_names_are_no_markup_for_plotly() -> None:
    assert plain("<b>&\x1b") == "&lt;b&gt;&amp;\\u001b"
    long = "x" * 26 + "<" * 10
    assert class_axis([long])["labelalias"] == {plain(long): "x" * 26 + "&lt;…"}
    assert class_axis(["walk"])["labelalias"] == {}
