"""The demo's videos: what is drawn, what is said of it, and what is written to disk."""

import csv
import math
import resource
import signal
from collections import Counter
from itertools import pairwise
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
from atw.extras.demo.actor import MOVEMENTS, REST, Colours, action_pose, movement_pose
from atw.extras.demo.render import FPS, HEIGHT, WIDTH, Clip, choose_scene, render_clip, write_clip, write_dataset
from atw.files import InputError
from atw.plan import Plan

SIZES = {"train_per_class": 1, "test_per_class": 1}


@pytest.fixture(name="clips", scope="module")
def clips_fixture() -> dict[str, Clip]:
    return {label: render_clip(label, seed=1) for label in CLASSES}


def camera_matrix(state: NDArray[np.float64]) -> NDArray[np.float64]:
    """World to image in output pixels, 3 x 3, of one row of `Clip.camera`, with the world's middle at 0, 0."""
    x, y, log_zoom, roll = state
    zoom, cosine, sine = math.exp(log_zoom), math.cos(roll), math.sin(roll)
    turn = zoom * np.array([[cosine, -sine], [sine, cosine]])
    shift = np.array([WIDTH / 2, HEIGHT / 2]) - turn @ [x, y]
    return np.vstack([np.c_[turn, shift], [0, 0, 1]])


def camera_steps(clip: Clip) -> list[NDArray[np.float64]]:
    """Where the camera takes a still point from each frame to the next, 3 x 3."""
    matrices = [camera_matrix(state) for state in clip.camera]
    return [after @ np.linalg.inv(before) for before, after in pairwise(matrices)]


def grid() -> NDArray[np.float64]:
    """Points all over the image, homogeneous, [3, 63]."""
    x, y = np.meshgrid(np.linspace(0, WIDTH - 1, 9), np.linspace(0, HEIGHT - 1, 7))
    return np.stack([x.ravel(), y.ravel(), np.ones(x.size)])


def displacement(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far `matrix` moves each point of the grid, pixels."""
    moved: NDArray[np.float64] = np.hypot(*(matrix @ grid() - grid())[:2])
    return moved


# A clip


def test_a_clip_is_the_same_at_every_call() -> None:
    first = render_clip("walk", seed=7)
    render_clip("bow", seed=3)
    again = render_clip("walk", seed=7)
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.camera, again.camera)
    assert (first.action_first, first.action_last, first.scene) == (again.action_first, again.action_last, again.scene)


def test_seed_and_class_each_make_another_clip() -> None:
    one, other_seed, other_class = render_clip("walk", seed=7), render_clip("walk", seed=8), render_clip("bow", seed=7)
    for other in (other_seed, other_class):
        assert not np.array_equal(one.frames[0], other.frames[0])
        assert not np.array_equal(one.camera[:48], other.camera[:48])


def test_frames_and_intervals_are_as_promised(clips: dict[str, Clip]) -> None:
    for label, clip in clips.items():
        count = len(clip.frames)
        assert clip.label == label
        assert clip.frames.shape == (count, 96, 128, 3)
        assert clip.frames.dtype == np.uint8
        assert clip.camera.shape == (count, 4)
        assert 48 <= count <= 72
        assert 2 <= clip.action_first < clip.action_last <= count - 3
        length = clip.action_last - clip.action_first + 1
        assert 0.3 * count - 0.5 <= length <= 0.5 * count + 0.5
    assert len({clip.action_first / len(clip.frames) for clip in clips.values()}) > 4


def test_actors_differ_and_half_of_them_hold_a_pose(monkeypatch: pytest.MonkeyPatch) -> None:
    poses: list[NDArray[np.float64]] = []
    heights: list[float] = []
    places: list[NDArray[np.float64]] = []

    def watch(
        image: NDArray[np.uint8],
        pose: NDArray[np.float64],
        *,
        root: NDArray[np.float64],
        height: float,
        camera: NDArray[np.float64],
        colours: Colours,
    ) -> None:
        poses.append(pose)
        heights.append(height)
        places.append(camera[:, :2] @ root + camera[:, 2])

    monkeypatch.setattr(render, "draw_actor", watch)
    monkeypatch.setattr(render, "_background", lambda *_: np.zeros((4 * HEIGHT, 4 * WIDTH, 3), np.uint8))
    # Five standard deviations of the fidgeting of each joint, which a held pose exceeds somewhere.
    fidget = 5 * 0.25 * np.array([0.06, 0.03, 0.12, 0.2, 0.6, 0.5, 0.6, 0.5, 0.25, 0.3, 0.25, 0.3])
    held, sizes = [], []
    for seed in range(60):
        poses.clear()
        clip = render_clip("jump", seed=seed)
        away = np.abs(np.array(poses) - REST) > fidget  # [T, 12]
        held.append(np.r_[away[: clip.action_first], away[clip.action_last + 1 :]].any())
        sizes.append(heights[-1] / 2)  # drawn at twice the size
        assert away[clip.action_first + 3 : clip.action_last - 2, 1].any()  # it leaves the ground
    assert np.mean(held) == pytest.approx(0.5, abs=0.26)
    assert 46 <= min(sizes) < 48
    assert 56 < max(sizes) <= 58
    # Hips within 9 px of the middle and 2 to 8 below it, and a camera that swings by some pixels.
    middle = np.mean(places, axis=0) / 2
    assert middle == pytest.approx([WIDTH / 2, HEIGHT / 2 + 5], abs=3)
    assert (np.abs(np.array(places) / 2 - middle) < [16, 10]).all()


def test_the_actor_moves_most_in_the_interval(clips: dict[str, Clip]) -> None:
    ratios = []
    for clip in clips.values():
        gray = [cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), (0, 0), 1) for frame in clip.frames]
        inside: list[float] = []
        outside: list[float] = []
        for frame, step in enumerate(camera_steps(clip)):
            stilled = cv2.warpAffine(gray[frame], step[:2], (WIDTH, HEIGHT))
            change = float(cv2.absdiff(stilled, gray[frame + 1])[16:-8, 28:-28].mean())
            within = clip.action_first <= frame and frame + 1 <= clip.action_last
            (inside if within else outside).append(change)
        ratios.append(np.mean(inside) / np.mean(outside))
    # A passing disc may outweigh one figure, not most of them.
    assert np.median(ratios) > 1.5


# The camera


def test_the_camera_moves_as_far_as_stated(clips: dict[str, Clip]) -> None:
    moved = np.concatenate([displacement(step).mean(keepdims=True) for c in clips.values() for step in camera_steps(c)])
    median, high = np.percentile(moved, [50, 99])
    assert 0.35 < median < 0.65
    assert 0.9 < high < 1.6


@pytest.mark.parametrize("label", ["kick", "walk", "spin"])
def test_the_stated_camera_is_the_one_in_the_frames(label: str, clips: dict[str, Clip]) -> None:
    clip = clips[label]
    gray = [cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in clip.frames]
    steps = camera_steps(clip)
    for frame in range(0, len(steps), 6):
        corners = cv2.goodFeaturesToTrack(gray[frame], 300, 0.005, 4)
        found, status, _ = cv2.calcOpticalFlowPyrLK(gray[frame], gray[frame + 1], corners, None)
        seen = status[:, 0] == 1
        measured, _ = cv2.estimateAffinePartial2D(
            corners[seen], found[seen], method=cv2.RANSAC, ransacReprojThreshold=0.5
        )
        difference = np.vstack([measured, [0, 0, 1]]) @ np.linalg.inv(steps[frame])
        assert displacement(difference).max() < 0.25


# The scene


def test_scenes_tell_of_the_class_but_not_enough() -> None:
    for label in ("wave", "bow"):
        own = CLASSES.index(label)
        drawn = np.bincount([choose_scene(label, np.random.default_rng(i)) for i in range(4000)], minlength=8)
        shares = drawn / 4000
        # Its own with .6 and one in eight of the rest; five standard errors on either side.
        assert shares[own] == pytest.approx(0.65, abs=0.038)
        assert np.delete(shares, own) == pytest.approx(0.05, abs=0.018)


def test_the_stated_scene_sets_the_hue_in_the_frames(clips: dict[str, Clip]) -> None:
    for clip in clips.values():
        border = clip.frames[0][:, :20].reshape(-1, 1, 3)  # beside the actor
        # Colours add up as vectors: the angle of their mean is the hue, the noise of the texture cancels.
        b, g, r = border.mean(axis=(0, 1))
        hue = math.degrees(math.atan2(math.sqrt(3) * (g - b), 2 * r - g - b)) % 360
        away = (hue - 45 * clip.scene + 180) % 360 - 180
        assert abs(away) < 40


def test_parts_are_drawn_apart(monkeypatch: pytest.MonkeyPatch, clips: dict[str, Clip]) -> None:
    def grey(scene: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        rng.random(5)
        return np.full((4 * HEIGHT, 4 * WIDTH, 3), 128, np.uint8)

    monkeypatch.setattr(render, "_background", grey)
    clip, before = render_clip("squat", seed=1), clips["squat"]
    assert np.array_equal(clip.camera, before.camera)
    assert (clip.action_first, clip.action_last, clip.scene) == (before.action_first, before.action_last, before.scene)
    # Noise of -4 to 4 levels, each as likely, on a background that fills most of the picture.
    levels = np.bincount(clip.frames.ravel(), minlength=256)
    assert levels[124:133].sum() > 0.5 * clip.frames.size
    assert levels[124:133].min() > 0.95 * levels[124:133].max()
    assert levels[[123, 133]].max() < 0.1 * levels[128]


def test_each_part_has_random_numbers_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    first_numbers: list[float] = []
    make = np.random.default_rng

    def watch(seed: list[int]) -> np.random.Generator:
        first_numbers.append(make(seed).random())
        return make(seed)

    monkeypatch.setattr(np.random, "default_rng", watch)
    render_clip("jack", seed=4)
    assert len(first_numbers) == len(set(first_numbers)) == 4


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


def test_distractions_stay_outside_of_the_action_and_do_not_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    spans: list[tuple[int, int]] = []
    hold = render._hold

    def watched(start: int, stop: int, *args: Any, **options: Any) -> NDArray[np.float64]:
        spans.append((start, stop))
        return hold(start, stop, *args, **options)

    monkeypatch.setattr(render, "_hold", watched)
    for seed in range(5):
        spans.clear()
        poses = render._distraction(40, 240, 300, 4.0, np.random.default_rng(seed))
        assert poses.shape == (300, 12)
        assert not poses[:40].any()
        assert not poses[240:].any()
        assert poses[40:240].any(axis=1).mean() > 0.4
        assert all(before[1] <= after[0] for before, after in pairwise(spans))
    assert not render._distraction(0, 10, 300, 4.0, np.random.default_rng(0)).any()  # no room for one


@pytest.mark.parametrize("name", MOVEMENTS)
def test_a_movement_is_none_of_the_actions(name: str) -> None:
    """Whatever its strength and side, no moment of an action is nearer to it than a third of its own size."""
    frames = np.arange(0, 28, 0.5)
    poses = np.array([movement_pose(name, f, period=12, strength=1, side="left") for f in frames])
    size = np.abs(poses).max()
    assert size > 0.1
    for label in CLASSES:
        for side in ("left", "right"):
            actions = np.array([action_pose(label, f, period=12, strength=1, side=side, phase=0) for f in frames])
            assert np.abs(poses - actions).max() > size / 3


def test_an_unknown_movement_is_an_error() -> None:
    with pytest.raises(ValueError, match="no movement is called dance"):
        movement_pose("dance", 0, period=1, strength=1, side="left")


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
