import dataclasses
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy import stats

from atw import config
from atw.datasets.intervals import intervals_path, read_intervals
from atw.evaluate.scores import Scores, read_scores
from atw.extras.drawing import attention
from atw.extras.drawing.attention import write_attention
from atw.extras.drawing.curves import save
from atw.extras.drawing.moments import Choice, attention_curves, middle_frames
from atw.extras.drawing.palette import shortened
from atw.extras.drawing.strip import Strip, Windows, write_strip
from atw.files import InputError
from atw.shards import Shard, create
from tests.unit.trained import TEST_VIDEOS, Trained

MADE_BY_WRITER = {"format", "items", "times", "digest", "checksum"}
STREAMS = ("rgb", "flow", "warped")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    from tests.conftest import _moving_frames, _write_mjpeg

    return Trained(tmp_path_factory.mktemp("figures"), _moving_frames, _write_mjpeg)


def draw(trained: Trained, out: Path, choice: Choice, **more: Any) -> dict[str, Any]:
    scores = [trained.split / stream / "scores.h5" for stream in STREAMS]
    write_attention(out, scores, trained.shards["rgb"].parent, choice, **more)
    content: dict[str, Any] = json.loads(out.with_suffix(".json").read_text())
    return content


def test_the_frames_are_those_of_the_highest_and_lowest_weights(trained: Trained, tmp_path: Path) -> None:
    choice = Choice(videos=["left/1.avi", "up/1.avi"], stream="flow")
    content = draw(trained, tmp_path / "attention.png", choice)
    scores = read_scores(trained.split / "flow/scores.h5")
    weights = scores.attention[0].mean(axis=0)
    middles = scores.positions[0] + 1  # of a stack of 3 fields
    shown = content["videos"][0]
    order = np.argsort(weights)
    assert [one["frame"] for one in shown["highest"]] == middles[order[::-1][:4]].tolist()
    assert [one["weight"] for one in shown["highest"]] == pytest.approx(weights[order[::-1][:4]].tolist())
    assert [one["frame"] for one in shown["lowest"]] == middles[order[:4]].tolist()
    assert [one["seconds"] for one in shown["lowest"]] == pytest.approx(((middles[order[:4]] + 0.5) / 25).tolist())
    for stream in STREAMS:
        of_stream = read_scores(trained.split / stream / "scores.h5").attention[0].mean(axis=0)
        assert shown["attention"][stream]["weight"] == pytest.approx(of_stream.tolist())
    assert shown["action_seconds"] is None
    assert content["streams"]["rgb"]["interval_auc"] is None
    picture = cv2.imread(str(tmp_path / "attention.png"))
    assert picture.shape[1] == 1440
    assert picture.shape[0] == pytest.approx(2 * 2.9 * 120, abs=1)
    assert picture.std() > 20


def test_a_flat_video_prefers_no_frame(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its row in the picture walks through the video, instead of calling some of equal weights the highest."""

    def flattened(path: Path) -> Scores:
        scores = read_scores(path)
        return dataclasses.replace(scores, attention=np.full_like(scores.attention, 1 / scores.attention.shape[2]))

    monkeypatch.setattr(attention, "read_scores", flattened)
    content = draw(trained, tmp_path / "attention.png", Choice(videos=["left/1.avi"], stream="flow"))
    shown = content["videos"][0]
    frames = [one["frame"] for one in [*shown["highest"], *shown["lowest"]]]
    middles = read_scores(trained.split / "flow/scores.h5").positions[0] + 1
    assert shown["flat"] and content["streams"]["flow"]["flat"] == 1
    assert frames == sorted(frames)
    assert (frames[0], frames[-1]) == (middles[0], middles[-1])


def test_a_video_shorter_than_a_stack_shows_its_own_frames(trained: Trained, tmp_path: Path) -> None:
    with Shard(trained.shards["rgb"]) as shard:
        counts = {entry.video: entry.count for entry in shard.entries}
        with pytest.raises(IndexError, match=r"has 9 items, and no item 9"):
            shard.frames(shard.entries[0], [9])  # the first of the next video
    scores = read_scores(trained.split / "flow/scores.h5")
    longer = dataclasses.replace(scores, positions=np.zeros_like(scores.positions))
    longer.provenance["settings"]["train"]["sampling"]["stack"] = 99
    middles = middle_frames(longer, counts)
    assert middles.tolist() == [[(counts[video] - 1) // 2] * middles.shape[1] for video in scores.videos]


def test_area_under_the_curve(trained: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Against the Mann-Whitney statistic; a video without snippets on both sides does not count."""
    intervals = trained.root.parent / "split1.csv"
    content = draw(trained, tmp_path / "attention.png", Choice(videos=["left/1.avi"]), intervals=intervals)
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
    (shown,) = content["videos"]
    assert shown["action_seconds"] == pytest.approx([4 / 25, 9 / 25])


def test_videos_are_drawn_among_the_right_ones_by_seed(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "write_plate", lambda *_: None)
    first = [draw(trained, tmp_path / "a.png", Choice(count=2, seed=seed))["videos"] for seed in range(4)]
    again = [draw(trained, tmp_path / "a.png", Choice(count=2, seed=seed))["videos"] for seed in range(4)]
    assert first == again
    right = [video for videos in first for video in videos if video["label"] == video["predicted"]]
    assert right
    everything = draw(trained, tmp_path / "a.png", Choice(count=9))["videos"]
    known = {video["video"] for video in everything if video["label"] == video["predicted"]}
    assert {video["video"] for video in everything} == set(TEST_VIDEOS)
    for videos in first:
        assert sum(video["video"] in known for video in videos) == min(2, len(known))


def test_the_same_picture_has_the_same_bytes(trained: Trained, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw(trained, tmp_path / name, Choice(count=1))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_wrong_wishes_are_named(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nobody is not among the 3 scored test videos of split1"):
        draw(trained, tmp_path / "a.png", Choice(videos=["nobody"]))
    with pytest.raises(InputError, match="no scores of the stream 'depth'"):
        draw(trained, tmp_path / "a.png", Choice(stream="depth"))
    with pytest.raises(InputError, match=r"must be a \.png"):
        draw(trained, tmp_path / "a.jpg", Choice(count=1))
    with pytest.raises(InputError, match="does not exist"):
        scores = [trained.split / "rgb/scores.h5"]
        write_attention(tmp_path / "a.png", scores, tmp_path, Choice(count=1))
    with pytest.raises(InputError, match="is not the shard that was scored"):
        from_flow = tmp_path / "00000.h5"
        from_flow.write_bytes(trained.shards["flow"].read_bytes())
        write_attention(tmp_path / "a.png", [trained.split / "rgb/scores.h5"], tmp_path, Choice(count=1))


def test_seconds_are_those_at_which_frames_are_shown(trained: Trained, tmp_path: Path) -> None:
    """A shard of the same frames that are shown at other times: positions stay, seconds are those of the times."""
    path = tmp_path / "rgb/00000.h5"
    path.parent.mkdir()
    with Shard(trained.shards["rgb"]) as shard:
        edges = {entry.video: np.cumsum([0.0, *(0.04 + 0.1 * (np.arange(entry.count) % 3))]) for entry in shard.entries}
        given = {name: shard.attributes[name] for name in shard.attributes if name not in MADE_BY_WRITER}
        with create(path, given) as writer:
            for entry in shard.entries:
                items = [shard.stored(entry, number) for number in range(entry.count)]
                writer.add(dataclasses.replace(entry), items, edges[entry.video])
    scores = {stream: read_scores(trained.split / stream / "scores.h5") for stream in STREAMS}
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


def test_snippets_beyond_a_video_are_refused(trained: Trained) -> None:
    scores = read_scores(trained.split / "flow/scores.h5")
    with pytest.raises(InputError, match=r"have snippets of left/1\.avi up to frame .* has 5 frames"):
        middle_frames(scores, dict.fromkeys(scores.videos, 5))


# Lists that know when the action happens


def test_intervals(tmp_path: Path) -> None:
    path = tmp_path / "split1.csv"
    path.write_text("path,label,subset,action_first,action_last\na.avi,a,test,3,9\nb.avi,b,test,,\n")
    assert read_intervals(path) == {"a.avi": (3, 9)}
    location = {"kind": "folder", "name": "mine", "root": "r", "lists": str(tmp_path / "split{split}.csv")}
    assert intervals_path(location, 1) == path
    assert intervals_path({"kind": "demo", "root": "data/demo"}, 2) == Path("data/demo/split2.csv")
    assert intervals_path({"kind": "ucf101", "root": "data"}, 1) is None
    path.write_text("path,label,subset\na.avi,a,test\n")
    assert intervals_path(location, 1) is None
    with pytest.raises(InputError, match="no column action_first, action_last"):
        read_intervals(path)
    path.write_text("path,action_first,action_last\na.avi,soon,9\n")
    with pytest.raises(InputError, match=r"line 2: the action is from frame 'soon' to '9'"):
        read_intervals(path)


# The strip of a prediction


def test_a_strip_with_and_without_windows(tmp_path: Path) -> None:
    seconds = np.linspace(0, 2, 5)
    curves = {"rgb": (seconds, np.full(5, 0.2)), "warped": (seconds, np.array([0, 0, 0.5, 0.5, 0]))}
    images = [(0.5, np.full((20, 30, 3), 200, np.uint8))]
    # Names that Matplotlib would read as formulas or hide.
    labels = [("$x_{$ walk", 0.9), ("_hidden", 0.1)]
    windows = Windows(np.array([0.0, 1.0]), np.array([1.0, 2.0]), ("a", "b$"), np.array([[0.9, 0.1], [0.2, 0.8]]))
    heights = []
    for shown in (None, windows):
        strip = Strip(title="$ costs.avi", seconds=2, images=images, curves=curves, labels=labels, windows=shown)
        write_strip(strip, tmp_path / "strip.png")
        picture = cv2.imread(str(tmp_path / "strip.png"))
        heights.append(picture.shape[0])
        assert picture.std() > 10
    assert heights[1] > heights[0]


def test_long_names_are_shortened() -> None:
    assert shortened("walk") == "walk"
    assert len(shortened("x" * 100)) == 28


def test_a_picture_is_a_png_file(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    with pytest.raises(InputError, match=r"must be a \.png file"):
        save(Figure(), tmp_path / "a.pdf")


def test_a_new_recipe_draws_again_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    given = config.load({"datasets": {"mine": {"kind": "folder", "root": "r", "lists": "l.csv"}}, "seed": 5})
    fused, before = config.fuse_settings(given, "mine", ""), config.attention_settings(given, "mine", "")
    assert before.to_dict() == fused.to_dict() | {"recipe": before.recipe}
    monkeypatch.setitem(config.RECIPES, "attention", before.recipe + 1)
    after = config.attention_settings(given, "mine", "")
    assert after == before.model_copy(update={"recipe": before.recipe + 1})
    assert config.fuse_settings(given, "mine", "") == fused
