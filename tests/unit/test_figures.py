"""Pictures of attention and of a prediction, and which frames, weights and times they show."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy import stats

from atw import config
from atw.datasets.lists import read_intervals
from atw.evaluate.scores import Scores, read_scores
from atw.extras.drawing import shortened
from atw.extras.drawing.attention import write_attention
from atw.extras.drawing.figures import WindowProbabilities, write_prediction_picture
from atw.extras.drawing.scored_videos import VideoSelection, attention_curves, middle_frames
from atw.files import InputError
from atw.shards import Shard, create
from tests.unit.scored import write_scores
from tests.unit.trained import TEST_VIDEOS, Trained

STREAMS = ("rgb", "flow", "warped")


def draw(trained: Trained, out: Path, selection: VideoSelection, **more: Any) -> dict[str, Any]:
    scores = [trained.split / stream / "scores.h5" for stream in STREAMS]
    write_attention(out, scores, trained.shards["rgb"].parent, selection, **more)
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
    assert shown["action_seconds"] is None
    assert content["streams"]["rgb"]["interval_auc"] is None
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


def test_a_video_shorter_than_a_stack_shows_its_own_frames(trained: Trained) -> None:
    with Shard(trained.shards["rgb"]) as shard:
        counts = {entry.video: entry.count for entry in shard.entries}
    scores = read_scores(trained.split / "flow/scores.h5")
    longer = dataclasses.replace(scores, positions=np.zeros_like(scores.positions))
    longer.provenance["settings"]["train"]["sampling"]["stack"] = 99
    middles = middle_frames(longer, counts)
    assert middles.tolist() == [[(counts[video] - 1) // 2] * middles.shape[1] for video in scores.videos]
    with pytest.raises(InputError, match=r"have snippets of left/1\.avi up to frame .* has 5 frames"):
        middle_frames(scores, dict.fromkeys(scores.videos, 5))


def test_area_under_the_curve(trained: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Against the Mann-Whitney statistic; a video without snippets on both sides does not count."""
    intervals = trained.root.parent / "split1.csv"
    selection = VideoSelection(videos=["left/1.avi"])
    content = draw(trained, tmp_path / "attention.png", selection, intervals=intervals)
    for stream in STREAMS:
        scores = read_scores(trained.split / stream / "scores.h5")
        middles = scores.positions + (0 if stream == "rgb" else 1)
        expected = []
        for row, weights in enumerate(scores.attention.mean(axis=1)):
            inside = (middles[row] >= 4) & (middles[row] <= 8)
            if inside.any() and not inside.all():
                statistic = stats.mannwhitneyu(weights[inside], weights[~inside]).statistic
                expected.append(statistic / (inside.sum() * (~inside).sum()))
        assert 0 < len(expected) < 3
        assert content["streams"][stream]["interval_auc"] == pytest.approx(np.mean(expected))
    assert "the action of up/short.avi ends with frame 8, and it has 3 frames; it is left out" in caplog.text
    assert content["videos"][0]["action_seconds"] == pytest.approx([4 / 25, 9 / 25])


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


def test_seconds_are_those_at_which_frames_are_shown(trained: Trained, tmp_path: Path) -> None:
    """A shard with the same frames at other times: positions stay, seconds are those of the times."""
    path = tmp_path / "rgb/00000.h5"
    path.parent.mkdir()
    with Shard(trained.shards["rgb"]) as shard:
        edges = {entry.video: np.cumsum([0.0, *(0.04 + 0.1 * (np.arange(entry.count) % 3))]) for entry in shard.entries}
        with create(path, shard.header) as writer:
            for entry in shard.entries:
                items = [shard.stored(entry, number) for number in range(entry.count)]
                writer.add(dataclasses.replace(entry), items, edges[entry.video])
    scores: dict[str, Scores] = {stream: read_scores(trained.split / stream / "scores.h5") for stream in STREAMS}
    with Shard(path) as shard:
        entry = next(entry for entry in shard.entries if entry.video == scores["rgb"].videos[0])
        times = shard.times(entry)
        counts = {one.video: one.count for one in shard.entries}
    curves = attention_curves(scores, 0, counts, times)
    own = edges[entry.video]
    for stream, one in scores.items():
        first = one.positions[0]
        last = first + (0 if stream == "rgb" else 3)
        assert curves[stream][0] == pytest.approx((own[first] + own[last + 1]) / 2)
    assert times.stretch(4, 8) == (own[4], own[9])


def test_intervals(tmp_path: Path) -> None:
    path = tmp_path / "split1.csv"
    path.write_text("path,label,subset,action_first,action_last\na.avi,a,test,3,9\nb.avi,b,test,,\n")
    assert read_intervals(path) == {"a.avi": (3, 9)}
    path.write_text("path,label,subset\na.avi,a,test\n")
    with pytest.raises(InputError, match="no column action_first, action_last"):
        read_intervals(path)
    path.write_text("path,action_first,action_last\na.avi,soon,9\n")
    with pytest.raises(InputError, match=r"line 2: the action is from frame 'soon' to '9'"):
        read_intervals(path)


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
