"""The demo's videos: what is drawn, what is said of it, and what is written to disk."""

import csv
import resource
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from atw import config
from atw.config import ListedVideo, Rendering, RenderSettings
from atw.datasets.demo import CLASSES, demo_videos
from atw.extras.demo import render
from atw.extras.demo.render import FPS, Clip, render_clip, write_clip, write_dataset
from atw.files import InputError
from atw.plan import Plan

SIZES = {"train_per_class": 1, "test_per_class": 1}


@pytest.fixture(name="clips", scope="module")
def clips_fixture() -> dict[str, Clip]:
    return {label: render_clip(label, seed=1) for label in CLASSES}


# A clip


def test_a_clip_is_the_same_at_every_call() -> None:
    first = render_clip("walk", seed=7)
    render_clip("bow", seed=3)
    again = render_clip("walk", seed=7)
    assert np.array_equal(first.frames, again.frames)
    assert (first.action_first, first.action_last) == (again.action_first, again.action_last)


def test_frames_and_intervals_are_as_promised(clips: dict[str, Clip]) -> None:
    for clip in clips.values():
        count = len(clip.frames)
        assert clip.frames.shape == (count, 96, 128, 3)
        assert clip.frames.dtype == np.uint8
        assert 48 <= count <= 72
        assert 2 <= clip.action_first < clip.action_last <= count - 3
        length = clip.action_last - clip.action_first + 1
        assert 0.3 * count - 0.5 <= length <= 0.5 * count + 0.5
    assert len({clip.action_first / len(clip.frames) for clip in clips.values()}) > 4


@pytest.mark.parametrize("label", CLASSES)
def test_the_action_is_in_its_interval_and_nowhere_else(label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without_holds = Rendering(movements=0.1)
    clip = render_clip(label, seed=1, rendering=without_holds)
    monkeypatch.setattr(render, "action_pose", lambda *_, **__: np.zeros(12))
    still = render_clip(label, seed=1, rendering=without_holds)
    moved = np.flatnonzero((clip.frames != still.frames).any(axis=(1, 2, 3)))
    assert set(moved) <= set(range(clip.action_first, clip.action_last + 1))
    assert moved[0] <= clip.action_first + 2
    assert moved[-1] >= clip.action_last - 2


# Files


def read_video(path: Path) -> tuple[NDArray[np.uint8], float]:
    capture = cv2.VideoCapture(str(path))
    rate = capture.get(cv2.CAP_PROP_FPS)
    frames: list[NDArray[np.uint8]] = []
    while True:
        there, frame = capture.read()
        if not there:
            return np.array(frames), rate
        frames.append(frame)


def test_a_written_clip_decodes_to_what_was_rendered(tmp_path: Path, clips: dict[str, Clip]) -> None:
    frames = clips["spin"].frames
    write_clip(tmp_path / "spin.avi", frames)
    decoded, rate = read_video(tmp_path / "spin.avi")
    assert rate == FPS
    assert decoded.shape == frames.shape
    differences = np.abs(decoded.astype(int) - frames).mean(axis=(1, 2, 3))
    assert differences.mean() < 6
    # Frame for frame: each is nearer to its own than to its neighbours.
    shifted = np.abs(decoded[1:].astype(int) - frames[:-1]).mean(axis=(1, 2, 3))
    assert (differences[1:] < shifted).all()


def test_equal_frames_give_equal_bytes_and_replace_what_was_there(tmp_path: Path, clips: dict[str, Clip]) -> None:
    one, other = tmp_path / "one.avi", tmp_path / "two.avi"
    other.write_bytes(b"an older file")
    write_clip(one, clips["bow"].frames)
    write_clip(other, clips["bow"].frames)
    assert one.read_bytes() == other.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.avi", "two.avi"]


def test_a_writer_that_does_not_open_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clips: dict[str, Clip]
) -> None:
    path = tmp_path / "old.avi"
    path.write_bytes(b"whole")
    # A writer that was given nothing to open answers as one whose codec is missing.
    closed = cv2.VideoWriter()
    monkeypatch.setattr(cv2, "VideoWriter", type("Closed", (), {"fourcc": lambda *_: 0, "__new__": lambda *_: closed}))
    with pytest.raises(InputError, match="cannot write Motion-JPEG"):
        write_clip(path, clips["bow"].frames)
    assert path.read_bytes() == b"whole"
    assert [found.name for found in tmp_path.iterdir()] == ["old.avi"]


def test_frames_that_cannot_be_written_are_an_error(tmp_path: Path, clips: dict[str, Clip]) -> None:
    path = tmp_path / "large.avi"
    # A limit on the size of files fails like a full disk does, and OpenCV goes on without a word.
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"only \d+ of \d+ frames of .*large\.avi were written"):
            write_clip(path, clips["bow"].frames)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clips: dict[str, Clip]
) -> None:
    def interrupt(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cv2, "VideoCapture", interrupt)  # the file is written, and not yet checked
    with pytest.raises(KeyboardInterrupt):
        write_clip(tmp_path / "bow.avi", clips["bow"].frames)
    assert list(tmp_path.iterdir()) == []


def test_no_two_videos_share_a_seed() -> None:
    seeds = [
        render._seed(seed, split, row)
        for seed in (0, 1, 2)
        for split in (1, 2, 3)
        for row in demo_videos(split, train=1000, trimmed=1000, test=1000)
        if row.label == "jump"
    ]
    assert len(seeds) == 3 * 3 * 3000
    assert len(set(seeds)) == len(seeds)


def test_a_dataset_is_its_list_and_the_videos_of_it(tmp_path: Path) -> None:
    write_dataset(tmp_path, RenderSettings(recipe=1, split=2, seed=5, **SIZES), processes=2)
    text = (tmp_path / "split2.csv").read_bytes().decode()
    assert "\r" not in text
    rows = list(csv.DictReader(text.splitlines()))
    assert list(rows[0]) == ["path", "label", "subset", "action_first", "action_last"]
    expected = [(row.video, row.label, row.subset) for row in demo_videos(2, train=1, test=1)]
    assert [(row["path"], row["label"], row["subset"]) for row in rows] == expected
    assert expected == sorted(expected)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == sorted(["split2.csv", *(row["path"] for row in rows)])
    assert len({(tmp_path / row["path"]).read_bytes() for row in rows}) == 16
    row = rows[3]
    clip = render_clip(row["label"], seed=render._seed(5, 2, ListedVideo(row["path"], row["label"], row["subset"])))
    assert (clip.action_first, clip.action_last) == (int(row["action_first"]), int(row["action_last"]))
    write_clip(tmp_path / "again.avi", clip.frames)
    assert (tmp_path / "again.avi").read_bytes() == (tmp_path / row["path"]).read_bytes()


def test_trimmed_videos_beside_untrimmed_ones(tmp_path: Path) -> None:
    """They are for training, and like those of the trimmed demo: short, and a large part of them is action."""
    long = Rendering(frames=(100, 110), action_share=(0.06, 0.1), movements=2.5, trimmed_per_class=1)
    settings = RenderSettings(recipe=1, split=1, seed=0, **SIZES, **long.model_dump())
    write_dataset(tmp_path, settings, processes=2)
    with (tmp_path / "split1.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert Counter((row["subset"], "_trimmed_" in row["path"]) for row in rows) == {
        ("train", False): 8,
        ("train", True): 8,
        ("test", False): 8,
    }
    for row in rows:
        frames = int(cv2.VideoCapture(str(tmp_path / row["path"])).get(cv2.CAP_PROP_FRAME_COUNT))
        shown = int(row["action_last"]) - int(row["action_first"]) + 1
        fewest, most = (48, 72) if "_trimmed_" in row["path"] else (100, 110)
        assert fewest <= frames <= most
        assert (shown / frames > 0.25) == ("_trimmed_" in row["path"])


UNTRIMMED = Rendering(frames=(150, 170), action_share=(0.1, 0.15), movements=3.0)


def test_an_untrimmed_video_moves_everywhere_and_its_action_is_short() -> None:
    clip = render_clip("jump", seed=3, rendering=UNTRIMMED)
    assert 150 <= len(clip.frames) <= 170
    length = clip.action_last - clip.action_first + 1
    assert 0.1 * len(clip.frames) - 0.5 <= length <= 0.15 * len(clip.frames) + 0.5
    plain = render_clip("jump", seed=3, rendering=UNTRIMMED.model_copy(update={"movements": 0.0}))
    assert (plain.action_first, plain.action_last) == (clip.action_first, clip.action_last)
    different = np.array([not np.array_equal(*frames) for frames in zip(clip.frames, plain.frames, strict=True)])
    assert different[: clip.action_first].any()
    assert different[clip.action_last + 1 :].any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frames": [72, 48]}, "frames is 72 to 48: give the smaller number first"),
        ({"action_share": [0.5, 0.3]}, "action_share is 0.5 to 0.3"),
        ({"frames": [100, 200], "action_share": [0.02, 0.1]}, "shorter than 5 frames: raise action_share or frames"),
    ],
)
def test_impossible_videos_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        config.load({"datasets": {"demo": {"kind": "demo"} | changes}})


def test_rendering_settings_reach_the_job_only_if_they_are_set() -> None:
    settings = {"frames": [150, 170], "action_share": [0.1, 0.15], "movements": 3.0}
    loaded = Plan({"datasets": {"demo": {"kind": "demo"}, "long": {"kind": "demo"} | settings}})
    assert not settings.keys() & loaded.render_settings("demo", "1").to_dict().keys()
    given = loaded.render_settings("long", "1")
    assert settings.items() <= given.to_dict().items()
    assert RenderSettings.from_json(given.to_json()) == given
    assert given.part(Rendering) == UNTRIMMED
