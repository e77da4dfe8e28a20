"""The detections of a split: what is written, and how it is rated."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from atw import config
from atw.commands import app
from atw.config import Detect, FuseSettings
from atw.data.actions import Actions
from atw.evaluate.detected import write_detections
from atw.evaluate.detection_files import Detections, Truth, read_detections
from atw.evaluate.detection_score import score
from atw.evaluate.result import print_result, read_result, write_result
from atw.evaluate.scores import Scores, score_writer
from atw.files import InputError
from tests.unit.scored import FUSE, scored
from tests.unit.streams import padded

VIDEOS = ("a", "b", "c")
CLASSES = ("run", "jump")
M = 8
# Row, class and seconds of each action; a stretch of the third video is to be ignored.
ACTIONS = [(0, 0, 2.0, 4.0), (1, 1, 5.0, 7.0), (2, 0, 1.0, 2.0), (2, -1, 4.0, 6.0)]
ALONE = Detect(merge=0, thresholds=(0.5,))


def made(stream: str = "rgb", actions: list[Any] = ACTIONS, **changes: Any) -> Scores:
    """Three videos of eight snippets of a second each, the network sure of the class of each."""
    V = len(VIDEOS)
    starts = np.broadcast_to(np.arange(M, dtype=float), (V, M))
    arguments: dict[str, Any] = {
        "stream": stream,
        "videos": VIDEOS,
        "labels": np.array([0, 1, 0]),
        "video_logits": np.array([[4, 0], [0, 4], [4, 0]], np.float32),
        "attention": np.full((V, 1, M), 1 / M, np.float32),
        "attention_logits": np.zeros((V, 1, M), np.float32),
        "probability": np.full((V, M), 0.5, np.float32),
        "snippets": np.full(V, M, np.int32),
        "positions": np.broadcast_to(np.arange(M), (V, M)).astype(np.int32),
        "seconds": np.stack([starts, starts + 1], axis=2),
        "quarantined": [],
        "actions": Actions.of(actions),
    }
    return scored([], **arguments | changes)


def logits_at(*places: tuple[int, int, int, int], margin: float = 4.0) -> Any:
    """Logits of the snippets: of a video (first number), those from one to another (excluded) show a class."""
    logits = np.zeros((len(VIDEOS), 1, M, len(CLASSES)), np.float32)
    for row, label, first, end in places:
        logits[row, 0, first:end, label] = margin
    return logits


SEEN = logits_at((0, 0, 2, 4), (1, 1, 4, 7), (2, 0, 5, 7))


def write(path: Path, scores: Scores, logits: Any = SEEN) -> Path:
    with score_writer(path, (*scores.attention.shape, len(scores.classes))) as writer:
        writer.add(range(len(scores.videos)), logits)
        writer.finish(scores)
    return path


def detected(paths: list[Path], settings: Detect = ALONE, **weights: float) -> dict[str, Any]:
    out = paths[0].with_name("detections.json")
    write_detections(out, paths, settings, weights=weights or {"rgb": 1}, on="logits")
    content: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return content


def test_the_file_has_activitynets_form(tmp_path: Path) -> None:
    content = detected([write(tmp_path / "rgb.h5", made())])
    assert list(content) == ["version", "external_data", "results", "streams"]
    assert content["version"] == "mine split1"
    assert content["external_data"] == {"used": False, "details": "none"}
    sure = float(np.exp(4) / (np.exp(4) + 1))
    # Outside of the action the signal is at its lowest, so the contrast is 1.
    assert content["results"] == {
        "a": [{"label": "run", "score": pytest.approx(sure), "segment": [2, 4]}],
        "b": [{"label": "jump", "score": pytest.approx(sure), "segment": [4, 7]}],
        "c": [{"label": "run", "score": pytest.approx(sure), "segment": [5, 7]}],
    }
    assert content["streams"] == {"rgb": content["results"]}
    assert read_detections(tmp_path / "detections.json").results.keys() == set(VIDEOS)


def test_first_weights_are_external_data(tmp_path: Path) -> None:
    provenance = made().provenance
    trained = made(provenance={**provenance, "model": {"sha256": "f00d", "weights": "beef"}})
    content = detected([write(tmp_path / "rgb.h5", trained)])
    assert content["external_data"] == {"used": True, "details": "SHA-256 of the first weights: beef"}


def test_streams_are_fused_with_their_weights(tmp_path: Path) -> None:
    """The other stream sees the action of the first video a second later."""
    paths = [
        write(tmp_path / "rgb.h5", made()),
        write(tmp_path / "flow.h5", made("flow"), logits_at((0, 0, 3, 5), (1, 1, 4, 7), (2, 0, 5, 7))),
    ]

    def of_first(found: dict[str, Any]) -> list[float]:
        (only,) = found["a"]
        segment: list[float] = only["segment"]
        return segment

    even, mostly_flow = detected(paths, rgb=1, flow=1), detected(paths, rgb=1, flow=4)
    assert of_first(even["results"]) == [2, 5]
    assert of_first(mostly_flow["results"]) == [3, 5]
    assert {stream: of_first(found) for stream, found in even["streams"].items()} == {"rgb": [2, 4], "flow": [3, 5]}
    assert list(detected(paths, flow=1)["streams"]) == ["flow"]


def test_attention_moves_the_detections(tmp_path: Path) -> None:
    weights = np.full((len(VIDEOS), 1, M), 0.02, np.float32)
    weights[:, :, 3] = 1 - 0.02 * (M - 1)
    content = detected([write(tmp_path / "rgb.h5", made(attention=weights))])
    assert [one["segment"] for one in content["results"]["a"]] == [[3, 4]]


def test_what_lies_behind_the_snippets_of_a_video_is_not_looked_at(tmp_path: Path) -> None:
    whole = made()
    short = padded(whole, [M, 6, M])
    hidden = SEEN.copy()
    hidden[1, :, 6:] = 9
    content = detected([write(tmp_path / "rgb.h5", short, hidden)])
    assert [one["segment"] for one in content["results"]["b"]] == [[4, 6]]


def test_damaged_scores_of_snippets_are_refused(tmp_path: Path) -> None:
    wrong = SEEN.copy()
    wrong[1, 0, 3, 0] = np.nan
    path = write(tmp_path / "rgb.h5", made(), wrong)
    with pytest.raises(InputError, match="snippet_logits of row 1 are not all finite"):
        detected([path])
    with h5py.File(path, "r+") as file:
        del file["snippet_logits"]
        file.create_dataset("snippet_logits", data=SEEN[..., :1], fletcher32=True)
    with pytest.raises(InputError, match=r"snippet_logits has .* shape \(3, 1, 8, 1\), not \(3, 1, 8, 2\)"):
        detected([path])


# How good they are, in fused.json


ONLY_RGB = FUSE | {"weights": {"rgb": 1.0, "flow": 0.0, "warped": 0.0}, "detect": ALONE}


def fused(path: Path, scores: Scores) -> dict[str, Any]:
    write_result(path, [write(path.with_name("rgb.h5"), scores)], FuseSettings.model_validate(ONLY_RGB))
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def test_detections_are_rated_where_actions_are_known(tmp_path: Path) -> None:
    rated = fused(tmp_path / "fused.json", made())["detections"]
    assert rated["videos"] == 3
    assert rated["streams"] == {"rgb": rated["fused"]}
    # Of two actions run, one is found; the other detection comes first, and touches what is to be ignored.
    # The action jump is found with an overlap of 2/3.
    assert rated["fused"]["activitynet"]["map"]["0.65"] == pytest.approx((0.25 + 1) / 2)
    assert rated["fused"]["activitynet"]["map"]["0.7"] == pytest.approx((0.25 + 0) / 2)
    assert rated["fused"]["thumos14"]["map"]["0.6"] == pytest.approx((0.5 + 1) / 2)
    assert rated["fused"]["thumos14"]["map"]["0.7"] == pytest.approx((0.5 + 0) / 2)
    found = json.loads((tmp_path / "fused.json").read_text(encoding="utf-8"))
    assert found["provenance"]["fuse"]["detect"]["thresholds"] == [0.5]


def test_the_numbers_are_those_of_the_command(tmp_path: Path) -> None:
    rated = fused(tmp_path / "fused.json", made())["detections"]["fused"]
    content = detected([tmp_path / "rgb.h5"])
    database = {
        video: {
            "annotations": [
                {"label": "Ambiguous" if label < 0 else CLASSES[label], "segment": [start, end]}
                for row, label, start, end in ACTIONS
                if row == number
            ]
        }
        for number, video in enumerate(VIDEOS)
    }
    predictions, truth = Detections.model_validate(content), Truth.model_validate({"database": database})
    for rule in ("activitynet", "thumos14"):
        expected = score(predictions, truth, rule=rule)
        assert rated[rule] == {"map": expected.map, "average_map": expected.average_map}


def test_only_videos_of_known_actions_count(tmp_path: Path) -> None:
    # Of the third video it is only known what to ignore.
    rated = fused(tmp_path / "fused.json", made(actions=[*ACTIONS[:2], ACTIONS[3]]))["detections"]
    assert rated["videos"] == 2
    assert rated["fused"]["thumos14"]["map"]["0.6"] == rated["fused"]["activitynet"]["map"]["0.6"] == 1


@pytest.mark.parametrize("actions", [[], [(0, -1, 0.0, 1.0)]])
def test_without_known_actions_nothing_is_rated(tmp_path: Path, actions: list[Any]) -> None:
    assert "detections" not in fused(tmp_path / "fused.json", made(actions=actions))


def test_the_result_is_shown_with_its_detections(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fused(tmp_path / "fused.json", made())
    print_result(tmp_path / "fused.json")
    shown = " ".join(capsys.readouterr().out.split())
    detections = read_result(tmp_path / "fused.json").detections
    assert detections is not None
    means = [detections.fused[rule].average_map for rule in ("activitynet", "thumos14")]
    line = f"mAP over all overlaps {means[0]:.3f} (rule activitynet), {means[1]:.3f} (rule thumos14)"
    assert f"detections, rgb: {line}" in shown
    assert f"detections, fused: {line}" in shown


# The job


def test_the_job_takes_the_weights_of_the_result(tmp_path: Path) -> None:
    paths = [write(tmp_path / "rgb.h5", made()), write(tmp_path / "flow.h5", made("flow"))]
    write_result(tmp_path / "fused.json", paths, FuseSettings.model_validate(FUSE))  # flow has twice the weight
    settings = config.DetectSettings(recipe=1, detect=ALONE).to_json()
    arguments = ["detect", str(tmp_path / "out.json"), *map(str, paths), "--result", str(tmp_path / "fused.json")]
    assert CliRunner().invoke(app, [*arguments, "--settings", settings]).exit_code == 0
    expected = detected(paths, rgb=1, flow=2)
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8")) == expected


def test_settings_of_detections_fuse_again_only_if_they_are_given() -> None:
    dataset = {"datasets": {"mine": {"kind": "folder", "root": "v"}}}
    plain, spelt = config.load(dataset), config.load(dataset | {"detect": {"merge": 0.5}})
    for loaded in (plain, spelt):
        assert "detect" not in config.fuse_settings(loaded, "mine", "").to_json()
        assert config.detect_settings(loaded, "mine", "").detect == Detect()
    changed = config.load(dataset | {"detect": {"merge": 1.5}})
    settings = config.fuse_settings(changed, "mine", "")
    assert FuseSettings.from_json(settings.to_json()) == settings
    assert settings.detect.merge == config.detect_settings(changed, "mine", "").detect.merge == 1.5
