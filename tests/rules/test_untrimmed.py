"""Miniatures of ActivityNet and THUMOS14 in their exact layout, from rendered videos to fused.json and the page."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atw.evaluate.scores import Scores, read_scores
from tests.rules.conftest import CONFIG, Workplace, write_video
from tests.unit.encoded import encode
from tests.unit.untrimmed import ACTIVITYNET, TEST, VALIDATION, write_activitynet, write_thumos14

TRAINED = VALIDATION | {4: ["Spin", "Up"]}
BROKEN = "video_test_0000004.mp4"
PAGE = "results/thumos/split1/report.html"


def render(path: Path, label: str, seed: int) -> None:
    """A texture that moves, as MPEG-4."""
    scratch = path.with_suffix(".avi")
    frames = write_video(scratch, "left" if label == "Left" else "up", seed)
    scratch.unlink()
    encode(path, frames, "mpeg4")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A folder with both datasets and their results, of which only rgb is computed."""
    place = Workplace(tmp_path_factory.mktemp("untrimmed"))
    write_activitynet(place.folder / "lists/activity_net.v1-3.min.json")
    write_thumos14(place.folder / "lists/thumos14", TRAINED)
    videos = {f"v_{name}.mp4": given[0][0] for name, (_, given) in ACTIVITYNET.items() if given}
    for subset, labels in (("validation", TRAINED), ("test", TEST)):
        videos |= {f"video_{subset}_{number:07d}.mp4": own[0] for number, own in labels.items()}
    for seed, (name, label) in enumerate(videos.items()):
        render(place.folder / "videos" / name, label, seed)
    broken = place.folder / "videos" / BROKEN
    broken.write_bytes(broken.read_bytes()[:500])
    tiny: Any = copy.deepcopy(CONFIG["datasets"])["tiny"]
    tiny |= {"root": "videos", "fusion": {"weights": {"rgb": 1, "flow": 0, "warped": 0}}}
    anet = tiny | {"kind": "activitynet", "lists": "lists/activity_net.v1-3.min.json"}
    thumos = tiny | {"kind": "thumos14", "lists": "lists/thumos14", "exclude": []}
    place.write_config({"seed": 3, "datasets": {"anet": anet, "thumos": thumos}})
    place.snakemake("results/anet/split1/fused.json", PAGE)
    return place


def made(place: Workplace, name: str) -> tuple[dict[str, Any], Scores]:
    folder = place.folder / f"results/{name}/split1"
    return json.loads((folder / "fused.json").read_text(encoding="utf-8")), read_scores(folder / "rgb/scores.h5")


def mean_average_precision(probabilities: np.ndarray, shown: np.ndarray) -> float:
    """THUMOS14's rule for scores without ties, video by video."""
    found = []
    for scores, positive in zip(probabilities.T, shown.T, strict=True):
        ranked = positive[np.argsort(-scores)]
        hits = [ranked[: place + 1].mean() for place in np.flatnonzero(ranked)]
        found += [sum(hits) / len(hits)] if hits else []
    return float(np.mean(found))


def test_activitynet(place: Workplace) -> None:
    fused, scores = made(place, "anet")
    assert fused["classes"] == ["Left", "Up"]
    assert (fused["videos"]["train"], fused["videos"]["test"], fused["accuracy"]["total"]) == (2, 2, 2)
    assert [scores.label(row) for row in (0, 1)] == ["Left", "Up|Left"]
    assert fused["accuracy"]["correct"] >= 1  # both classes are right of the second video
    powers = np.exp(scores.video_logits.astype(np.float64))
    shares = powers / powers.sum(axis=1, keepdims=True)
    expected = mean_average_precision(shares, np.array([[True, False], [True, True]]))
    assert fused["accuracy"]["map"] == pytest.approx(expected)
    actions = scores.actions
    assert actions.video.tolist() == [0, 1, 1]
    assert actions.label.tolist() == [0, 0, 1]
    assert actions.seconds.tolist() == [[0.1, 0.2], [0.2, 0.2], [0, 0.1]]


def test_thumos14(place: Workplace) -> None:
    fused, scores = made(place, "thumos")
    assert fused["classes"] == ["Up", "Left", "Spin"]
    assert (fused["videos"]["train"], fused["videos"]["test"]) == (4, 4)
    assert [row["video"] for row in fused["videos"]["quarantined"]] == [BROKEN]
    assert fused["accuracy"]["total"] == 3  # without the background video, with the quarantined one
    assert [scores.label(row) for row in range(3)] == ["Left", "", "Up|Left|Spin"]
    assert (scores.quarantined[0][0], scores.quarantined[0][1]) == (BROKEN, 0)
    powers = np.exp(scores.video_logits.astype(np.float64))
    shares = np.pad(powers / powers.sum(axis=1, keepdims=True), ((0, 1), (0, 0)))  # what cannot be decoded comes last
    shown = np.array([[0, 1, 0], [0, 0, 0], [1, 1, 1], [1, 0, 0]], bool)
    assert fused["accuracy"]["map"] == pytest.approx(mean_average_precision(shares, shown))
    assert scores.actions.video.tolist() == [0, 2, 2, 2]
    assert scores.actions.label.tolist() == [-1, 0, 0, 1]
    assert scores.actions.seconds[0].tolist() == [0, 0.2]


def test_the_page_of_a_result_with_background(place: Workplace) -> None:
    page = (place.folder / PAGE).read_text(encoding="utf-8")
    assert '<th scope="col">mAP</th>' in page
    assert "<h3>background, taken for " in page
    assert "<h3>Up, Left, Spin</h3>" in page  # whatever it is taken for
