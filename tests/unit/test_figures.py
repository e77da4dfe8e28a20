"""Pictures of attention and of a prediction, and which frames, weights and times they show."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from atw import config
from atw.data.actions import Actions
from atw.evaluate.scores import read_scores
from atw.extras.drawing import shortened
from atw.extras.drawing.attention_picture import write_attention
from atw.extras.drawing.figures import WindowProbabilities, write_prediction_picture
from atw.extras.drawing.scored_videos import VideoSelection, middle_frames
from atw.files import InputError
from tests.unit.scored import write_scores
from tests.unit.streams import padded
from tests.unit.trained import FRAMES, TEST_VIDEOS, Trained

STREAMS = ("rgb", "flow", "warped")


def draw(trained: Trained, out: Path, selection: VideoSelection) -> dict[str, Any]:
    scores = [trained.split / stream / "scores.h5" for stream in STREAMS]
    write_attention(out, scores, trained.shards["rgb"].parent, selection)
    content: dict[str, Any] = json.loads(out.with_suffix(".json").read_text())
    return content


def test_the_frames_are_those_of_the_highest_and_lowest_weights(trained: Trained, tmp_path: Path) -> None:
    selection = VideoSelection(videos=["left/1.avi", "up/1.avi"], stream="flow")
    content = draw(trained, tmp_path / "attention.png", selection)
    scores = read_scores(trained.split / "flow/scores.h5")
    weights = scores.attention[0].mean(axis=0)
    middles = scores.positions[0] + 1  # of a stack of 3 fields
    shown = content["videos"][0]
    order = np.argsort(weights)
    for name, expected in (("highest", order[::-1][:4]), ("lowest", order[:4])):
        assert [one["frame"] for one in shown[name]] == middles[expected].tolist()
        assert [one["weight"] for one in shown[name]] == pytest.approx(weights[expected].tolist())
        assert [one["seconds"] for one in shown[name]] == pytest.approx(((middles[expected] + 0.5) / 25).tolist())
    for stream in STREAMS:
        of_stream = read_scores(trained.split / stream / "scores.h5").attention[0].mean(axis=0)
        assert shown["attention"][stream]["weight"] == pytest.approx(of_stream.tolist())
        seconds = read_scores(trained.split / stream / "scores.h5").seconds[0]
        assert shown["attention"][stream]["seconds"] == pytest.approx(seconds.mean(axis=1).tolist())
    assert shown["actions"] == [pytest.approx([4 / 25, 9 / 25])]
    assert 0 < content["streams"]["rgb"]["actions"]["weights"]["auc"] < 1
    picture = cv2.imread(str(tmp_path / "attention.png"))
    assert picture is not None
    assert picture.shape[:2] == (pytest.approx(2 * 2.9 * 120, abs=1), 1440)
    assert picture.std() > 20
    draw(trained, tmp_path / "again.png", selection)
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "attention.png").read_bytes()


def test_a_flat_video_prefers_no_frame(trained: Trained, tmp_path: Path) -> None:
    """Its frames are spread over the video, instead of some of equal weights being called the highest."""
    scores = read_scores(trained.split / "flow/scores.h5")
    flat = np.full_like(scores.attention, 1 / scores.attention.shape[2])
    write_scores(tmp_path / "scores.h5", dataclasses.replace(scores, attention=flat))
    selection = VideoSelection(videos=["left/1.avi"])
    write_attention(tmp_path / "a.png", [tmp_path / "scores.h5"], trained.shards["rgb"].parent, selection)
    content = json.loads((tmp_path / "a.json").read_text())
    (shown,) = content["videos"]
    frames = [one["frame"] for one in (*shown["highest"], *shown["lowest"])]
    assert shown["flat"] and content["streams"]["flow"]["flat"] == 1
    assert frames == sorted(frames)
    assert (frames[0], frames[-1]) == (scores.positions[0][0] + 1, scores.positions[0][-1] + 1)


def test_a_video_shows_its_own_snippets_only(trained: Trained, tmp_path: Path) -> None:
    """2 of 7 snippets, while other videos have all."""
    scores = read_scores(trained.split / "flow/scores.h5")
    fewer = padded(scores, [2, 7, 7])
    fewer = dataclasses.replace(fewer, actions=Actions.of([]))
    write_scores(tmp_path / "scores.h5", fewer)
    selection = VideoSelection(videos=["left/1.avi"])
    write_attention(tmp_path / "a.png", [tmp_path / "scores.h5"], trained.shards["rgb"].parent, selection)
    content = json.loads((tmp_path / "a.json").read_text())
    (shown,) = content["videos"]
    frames = (scores.positions[0, :2] + 1).tolist()
    assert sorted(one["frame"] for one in shown["highest"]) == frames
    assert len(shown["attention"]["flow"]["weight"]) == 2
    assert (shown["actions"], content["streams"]["flow"].get("actions")) == ([], None)


def test_a_video_shorter_than_a_stack_shows_its_own_frames(trained: Trained) -> None:
    scores = read_scores(trained.split / "flow/scores.h5")
    longer = dataclasses.replace(scores, positions=np.zeros_like(scores.positions))
    longer.provenance["settings"]["train"]["sampling"]["stack"] = 99
    for row, video in enumerate(scores.videos):
        assert middle_frames(longer, row, FRAMES[video]).tolist() == [(FRAMES[video] - 1) // 2] * 7
    with pytest.raises(InputError, match=r"have snippets of left/1\.avi up to frame .* has 5 frames"):
        middle_frames(scores, 0, 5)


def test_videos_are_drawn_among_the_right_ones_by_seed(trained: Trained, tmp_path: Path) -> None:
    everything = draw(trained, tmp_path / "a.png", VideoSelection(count=9))["videos"]
    right = {video["video"] for video in everything if video["label"] == video["predicted"]}
    assert {video["video"] for video in everything} == set(TEST_VIDEOS)
    assert right
    drawn = []
    for seed in (0, 0, 1, 2):
        videos = draw(trained, tmp_path / "a.png", VideoSelection(count=2, seed=seed))["videos"]
        drawn.append([video["video"] for video in videos])
        assert len(right & set(drawn[-1])) == min(2, len(right))
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    ("out", "selection", "message"),
    [
        ("a.png", VideoSelection(videos=["nobody"]), "nobody is not among the 3 scored test videos of split1"),
        ("a.png", VideoSelection(stream="depth"), "no scores of the stream 'depth'"),
        ("a.jpg", VideoSelection(count=1), r"must be a \.png"),
    ],
)
def test_impossible_pictures_are_refused(
    trained: Trained, tmp_path: Path, out: str, selection: VideoSelection, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        draw(trained, tmp_path / out, selection)


def test_other_shards_are_refused(trained: Trained, tmp_path: Path, write_shard: Any) -> None:
    scores = [trained.split / "rgb/scores.h5"]
    with pytest.raises(InputError, match="does not exist"):
        write_attention(tmp_path / "a.png", scores, tmp_path, VideoSelection(count=1))
    (tmp_path / "00000.h5").write_bytes(trained.shards["flow"].read_bytes())
    with pytest.raises(InputError, match="is not the shard that was scored"):
        write_attention(tmp_path / "a.png", scores, tmp_path, VideoSelection(count=1))
    # The shards of a stream that was not scored need no digest, but all videos.
    write_shard(tmp_path / "frames/00000.h5", "rgb", {"left/1.avi": 30})
    with pytest.raises(InputError, match=r"up/1\.avi is in none of the shards 00000 of"):
        write_attention(
            tmp_path / "a.png", [trained.split / "flow/scores.h5"], tmp_path / "frames", VideoSelection(count=1)
        )


def test_a_prediction_with_and_without_windows(tmp_path: Path) -> None:
    seconds = np.linspace(0, 2, 5)
    curves = {"rgb": (seconds, np.full(5, 0.2)), "warped": (seconds, np.array([0, 0, 0.5, 0.5, 0]))}
    images = [(0.5, np.full((20, 30, 3), 200, np.uint8))]
    # Names that Matplotlib would read as formulas or hide.
    labels = [("$x_{$ walk", 0.9), ("_hidden", 0.1)]
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8]])
    windows = WindowProbabilities(np.array([0.0, 1.0]), np.array([1.0, 2.0]), ("a", "b$"), probabilities)
    heights = []
    for shown in (None, windows):
        out = tmp_path / "prediction.png"
        write_prediction_picture(
            out, "$ costs.avi", seconds=2, images=images, curves=curves, labels=labels, windows=shown
        )
        picture = cv2.imread(str(out))
        assert picture is not None
        heights.append(picture.shape[0])
        assert picture.std() > 10
    assert heights[1] > heights[0]


def test_long_names_are_shortened() -> None:
    assert shortened("walk") == "walk"
    assert len(shortened("x" * 100)) == 28


def test_a_new_recipe_draws_again_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    given = config.load({"datasets": {"mine": {"kind": "folder", "root": "r", "lists": "l.csv"}}, "seed": 5})
    fused, before = config.fuse_settings(given, "mine", ""), config.attention_settings(given, "mine", "")
    assert before.to_dict() == fused.to_dict() | {"recipe": before.recipe}
    monkeypatch.setitem(config.RECIPES, "attention", before.recipe + 1)
    after = config.attention_settings(given, "mine", "")
    assert after == before.model_copy(update={"recipe": before.recipe + 1})
    assert config.fuse_settings(given, "mine", "") == fused
