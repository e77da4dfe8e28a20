"""The demo's videos: what is drawn, what is said of it, and what is written to disk."""

import csv
import math
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from atw.datasets import figure, render
from atw.datasets.demo import CLASSES, listed
from atw.datasets.figure import ARM, LEAN, LEG, REST, ROLL, SHIFT_X, Colours, action_pose, draw_figure
from atw.datasets.render import FPS, FRAMES, HEIGHT, WIDTH, Clip, choose_scene, render_clip, write_clip, write_dataset
from atw.files import InputError

SIZES = {"train_per_class": 1, "test_per_class": 1}
PLAIN = Colours(((255, 0, 0), (0, 255, 0), (0, 0, 255)), ((99, 0, 0), (0, 99, 0), (0, 0, 99)), (255, 255, 255))


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
        assert FRAMES[0] <= count <= FRAMES[1]
        assert 2 <= clip.action_first < clip.action_last <= count - 3
        length = clip.action_last - clip.action_first + 1
        assert 0.3 * count - 0.5 <= length <= 0.5 * count + 0.5
    assert len({clip.action_first / len(clip.frames) for clip in clips.values()}) > 4


def test_actors_differ_and_half_of_them_hold_a_pose(monkeypatch: pytest.MonkeyPatch) -> None:
    poses: list[NDArray[np.float64]] = []
    heights: list[float] = []

    def watch(image: NDArray[np.uint8], pose: NDArray[np.float64], *, height: float, **_: object) -> None:
        poses.append(pose)
        heights.append(height)

    monkeypatch.setattr(render, "draw_figure", watch)
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


def test_the_figure_moves_most_in_the_interval(clips: dict[str, Clip]) -> None:
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


def test_an_unknown_action_is_refused() -> None:
    with pytest.raises(ValueError, match="swim"):
        action_pose("swim", 0, period=10, strength=1, side="left", phase=0)


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
        border = clip.frames[0][:, :20].reshape(-1, 1, 3)  # beside the figure
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


# The figure


def mirrored(pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """The pose as a mirror shows it."""
    seen = pose.copy()
    seen[[SHIFT_X, ROLL, LEAN]] *= -1
    for limb in (ARM, LEG):
        left, right = limb["left"], limb["right"]
        seen[[left, left + 1, right, right + 1]] = pose[[right, right + 1, left, left + 1]]
    return seen


@pytest.mark.parametrize("label", CLASSES)
def test_every_action_is_the_same_action_in_a_mirror(label: str) -> None:
    for frame in (0.0, 2.5, 7.0, 19.0):
        pose = action_pose(label, frame, period=11, strength=0.9, side="left", phase=0.7)
        # A walk's sway and stride mirror themselves one turn later, half of the sway's own period.
        side, phase = ("left", 0.7 + 2 * math.pi) if label == "walk" else ("right", 0.7)
        other = action_pose(label, frame, period=11, strength=0.9, side=side, phase=phase)
        np.testing.assert_allclose(mirrored(pose), other, atol=1e-12)
        assert np.abs(pose).max() > 0 or frame == 0


@pytest.mark.parametrize("label", [label for label in CLASSES if label != "spin"])
def test_actions_repeat_with_their_period(label: str) -> None:
    # Walking takes two periods for one sway to the left and back.
    turns = 2 if label == "walk" else 1
    pose = action_pose(label, 3, period=10, strength=1, side="left", phase=0)
    later = action_pose(label, 3 + 10 * turns, period=10, strength=1, side="left", phase=0)
    np.testing.assert_allclose(pose, later, atol=1e-12)


def test_poses_by_hand() -> None:
    def halfway(label: str) -> NDArray[np.float64]:
        return action_pose(label, 5, period=10, strength=1, side="right", phase=0)

    zeros = [0.0] * 4
    literal = {
        "wave": [*zeros, 0, 0, 2.1, 0.5, 0, 0, 0, 0],
        "jack": [0, -0.06, 0, 0, 2.3, 0, 2.3, 0, 0.45, 0, 0.45, 0],
        "kick": [*zeros, 0, 0, 0.3, 0, 0, 0, 1.25, 0],
        "squat": [0, 0.19, 0, 0, 0.5, 0, 0.5, 0, 0.95, -1.8, 0.95, -1.8],
        "jump": [0, -0.26, 0, 0, 0.3, 0, 0.3, 0, 0, 0, 0, 0],
        "walk": [-0.42, 0, 0, 0, 0.5, 0, -0.5, 0, -0.5, 0, 0.5, 0],
        "spin": [0, 0, -math.pi / 1.7, 0, 1.3, 0, 1.3, 0, 0.25, 0, 0.25, 0],
        "bow": [0, 0, 0, -1.15, 0, 0, 0.3, 0, 0, 0, 0, 0],
    }
    assert tuple(literal) == CLASSES
    for label, pose in literal.items():
        np.testing.assert_allclose(halfway(label), pose, atol=1e-12, err_msg=label)


def drawn(pose: NDArray[np.float64], *, camera: NDArray[np.float64] | None = None) -> NDArray[np.bool_]:
    """Which pixels a figure 100 px tall covers, its hips at 120, 120."""
    image = np.zeros((241, 241, 3), np.uint8)
    eye = np.eye(2, 3) if camera is None else camera
    draw_figure(image, pose, root=np.array([120.0, 120.0]), height=100.0, camera=eye, colours=PLAIN)
    covered: NDArray[np.bool_] = image.max(axis=2) > 0
    return covered


def test_the_figure_stands_as_tall_as_it_is_said_to_be() -> None:
    rows, columns = np.nonzero(drawn(REST))
    # Legs of .44 and a foot's radius of .04 below the hips; torso .33, neck to head .13 and its radius .1 above.
    assert rows.max() - 120 == pytest.approx(44 * math.cos(0.16) + 4.25, abs=1.5)
    assert 120 - rows.min() == pytest.approx(56, abs=2)
    assert columns.min() + columns.max() == pytest.approx(240, abs=1)


@pytest.mark.parametrize("label", ["wave", "kick", "walk", "spin", "bow"])
def test_a_mirrored_pose_is_drawn_mirrored(label: str) -> None:
    pose = REST + action_pose(label, 4, period=11, strength=1, side="left", phase=0)
    covered, flipped = drawn(pose), drawn(mirrored(pose))[:, ::-1]
    assert (covered ^ flipped).sum() < 0.06 * covered.sum()  # edges only
    assert (covered ^ flipped[:, ::-1]).sum() > 0.15 * covered.sum()


def test_roll_turns_the_figure_about_its_waist_and_the_camera_zooms() -> None:
    upside_down = REST.copy()
    upside_down[ROLL] = math.pi
    upright = drawn(REST)
    # The waist is a tenth of the height above the hips, at row 110, so a half turn maps row r to 220 - r.
    turned = np.zeros_like(upright)
    turned[:221] = upright[:221][::-1, ::-1]
    assert (drawn(upside_down) ^ turned).sum() < 0.06 * upright.sum()
    half = drawn(REST, camera=np.array([[0.5, 0, 60], [0, 0.5, 60]]))
    for axis in (0, 1):
        whole = np.flatnonzero(upright.any(axis=axis))
        assert np.ptp(np.flatnonzero(half.any(axis=axis))) == pytest.approx(np.ptp(whole) / 2, abs=2)


def test_discs_sit_between_pixels() -> None:
    image = np.zeros((21, 21, 3), np.uint8)
    figure.draw_disc(image, np.array([10.25, 9.75]), 6.0, (255, 255, 255))
    weight = image[..., 0] / 255.0
    rows, columns = np.indices(weight.shape)
    # OpenCV's smoothing adds half a pixel all around.
    assert weight.sum() == pytest.approx(math.pi * 6.5**2, rel=0.03)
    assert (weight * columns).sum() / weight.sum() == pytest.approx(10.25, abs=0.1)
    assert (weight * rows).sum() / weight.sum() == pytest.approx(9.75, abs=0.1)


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


def test_no_two_videos_share_a_seed() -> None:
    seeds = [
        render._seed(seed, split, row.subset, row.video)
        for seed in (0, 1, 2)
        for split in (1, 2, 3)
        for row in listed({"train_per_class": 1000, "test_per_class": 1000}, split)
        if row.label == "jump"
    ]
    assert len(seeds) == 3 * 3 * 2000
    assert len(set(seeds)) == len(seeds)


def test_a_dataset_is_its_list_and_the_videos_of_it(tmp_path: Path) -> None:
    write_dataset(tmp_path, split=2, **SIZES, seed=5, processes=2)
    text = (tmp_path / "split2.csv").read_bytes().decode()
    assert "\r" not in text
    rows = list(csv.DictReader(text.splitlines()))
    assert list(rows[0]) == ["path", "label", "subset", "action_first", "action_last"]
    expected = [(row.video, row.label, row.subset) for row in listed(SIZES, 2)]
    assert [(row["path"], row["label"], row["subset"]) for row in rows] == expected
    assert expected == sorted(expected)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == sorted(["split2.csv", *(row["path"] for row in rows)])
    assert len({(tmp_path / row["path"]).read_bytes() for row in rows}) == 16
    row = rows[3]
    clip = render_clip(row["label"], seed=render._seed(5, 2, row["subset"], row["path"]))
    assert (clip.action_first, clip.action_last) == (int(row["action_first"]), int(row["action_last"]))
    write_clip(tmp_path / "again.avi", clip.frames)
    assert (tmp_path / "again.avi").read_bytes() == (tmp_path / row["path"]).read_bytes()
