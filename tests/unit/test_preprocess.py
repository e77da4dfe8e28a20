import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from atw import config
from atw import flow as tvl1
from atw.datasets import Dataset
from atw.datasets.contents import UNREAD
from atw.files import InputError
from atw.preprocess import shard as shard_making
from atw.preprocess.shard import make
from atw.shards import Entry, Shard, dequantise, quantise

Image = NDArray[np.uint8]
MovingFrames = Callable[..., list[Image]]
WriteMjpeg = Callable[[Path, Sequence[Image]], Path]

SHARD = "00000"
FLOW: dict[str, Any] = {"preset": "fast", "levels": 3, "warps": 2, "iterations": 15}
GOOD = ("a/1.avi", "b/2.avi")
BAD = "a/3.avi"
MISSING = "b/4.avi"


class Project:
    """Three small videos, one of them cut off, one more that is only listed, and the settings that go with them."""

    def __init__(self, folder: Path, moving_frames: MovingFrames, write_mjpeg: WriteMjpeg) -> None:
        self.folder = folder
        self.root = folder / "videos"
        for video, seed in zip((*GOOD, BAD), range(3), strict=True):
            write_mjpeg(self.root / video, moving_frames(9 + seed, seed=seed))
        content = (self.root / BAD).read_bytes()
        (self.root / BAD).write_bytes(content[: len(content) * 3 // 4])
        lists = folder / "list.csv"
        rows = [f"{video},{video[0]},train\n" for video in (*GOOD, BAD, MISSING)]
        lists.write_text("path,label,subset\n" + "".join(rows))
        self.raw: dict[str, Any] = {
            "datasets": {"mine": {"kind": "folder", "root": str(self.root), "lists": str(lists)}},
            "preprocess": {"width": 48, "height": 40, "shards": 1},
            "flow": FLOW,
            "warp": {"distance": 3, "corners": 200, "min_matches": 8, "min_inliers": 6},
            "evaluate": {"crop": 40},
        }

    def dataset(self) -> Dataset:
        return Dataset(config.location(config.load(self.raw), "mine"))

    def settings(self, stream: str, **changes: Any) -> config.ShardSettings:
        plan = config.shard_settings(config.load(self.raw), "mine", stream)
        plan = plan.of_shard(SHARD, self.dataset().members_digest(SHARD, 1))
        return config.read_shard_settings(json.dumps(plan.to_dict() | changes))

    def path(self, stream: str, place: str = "shards") -> Path:
        return self.folder / place / stream / f"{SHARD}.h5"

    def make(self, stream: str, *, place: str = "shards", threads: int = 1) -> Path:
        path = self.path(stream, place)
        flow = self.path("flow", place) if stream == "warped" else None
        make(path, self.settings(stream), self.dataset(), flow_path=flow, threads=threads)
        return path

    def frames(self, video: str) -> list[Image]:
        """The frames at the working size, by another decoder."""
        capture = cv2.VideoCapture(str(self.root / video))
        frames: list[Image] = []
        while True:
            more, frame = capture.read()
            if not more:
                return frames
            frames.append(np.asarray(cv2.resize(frame, (48, 40), interpolation=cv2.INTER_LINEAR), np.uint8))

    def greys(self, video: str) -> Image:
        return np.stack([np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), np.uint8) for frame in self.frames(video)])


@pytest.fixture
def project(tmp_path: Path, moving_frames: MovingFrames, write_mjpeg: WriteMjpeg) -> Project:
    return Project(tmp_path, moving_frames, write_mjpeg)


def entries(shard: Shard) -> dict[str, Entry]:
    return {entry.video: entry for entry in shard.entries}


def test_frames_of_every_good_video(project: Project) -> None:
    with Shard(project.make("rgb")) as shard:
        assert [entry.video for entry in shard.entries] == sorted((*GOOD, BAD, MISSING))
        for video, count in zip(GOOD, (9, 10), strict=True):
            entry = entries(shard)[video]
            assert (entry.label, entry.count, entry.decoded, entry.declared) == (video[0], count, count, count)
            assert (entry.fps, entry.width, entry.height) == (25.0, 64, 48)
            assert (entry.repaired, entry.quarantined, len(entry.sha256)) == ("", "", 64)
            for frame, image in zip(shard.frames(entry, range(count)), project.frames(video), strict=True):
                encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
                assert np.array_equal(frame, np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))[..., ::-1])
        assert shard.header.settings == project.settings("rgb").to_dict()
        assert (shard.header.dataset, shard.header.shard) == ("mine", SHARD)
        assert (shard.header.width, shard.header.height) == (48, 40)
        assert {"atw", "av", "numpy"} <= set(shard.header.software)


def test_flow_is_that_of_the_decoded_frames(project: Project) -> None:
    with Shard(project.make("flow")) as shard:
        for video, count in zip(GOOD, (8, 9), strict=True):
            entry = entries(shard)[video]
            greys = project.greys(video)
            assert (entry.count, entry.decoded) == (count, len(greys)) == (count, count + 1)
            levels = shard.fields(entry, range(count))
            assert np.array_equal(levels, quantise(tvl1.estimate(greys[:-1], greys[1:], config.Flow(**FLOW)), 20.0))
            # The texture moves by -2 and -1 px in 64 x 48, so by -1.5 and -0.83 px at the working size.
            inside = dequantise(levels, 20.0)[..., 8:-8, 8:-8]
            assert np.median(inside[:, 0]) == pytest.approx(-1.5, abs=0.2)
            assert np.median(inside[:, 1]) == pytest.approx(-0.83, abs=0.2)
            assert entry.clipped == 0.0


def test_flow_agrees_with_opencv(project: Project) -> None:
    optflow: Any = cv2.optflow
    solver = optflow.DualTVL1OpticalFlow_create(
        theta=0.2,
        nscales=3,
        warps=2,
        innnerIterations=15,
        outerIterations=1,
        scaleStep=0.5,
        medianFiltering=1,
        epsilon=0.0,
    )
    with Shard(project.make("flow")) as shard:
        entry = entries(shard)[GOOD[0]]
        greys = project.greys(GOOD[0])
        for number in range(entry.count):
            ours = dequantise(shard.fields(entry, [number]), 20.0)[0]
            theirs = solver.calc(greys[number], greys[number + 1], None).transpose(2, 0, 1)
            distance = np.hypot(*(ours - theirs))
            assert np.median(distance) < 0.1
            assert distance.mean() < 0.2


@pytest.mark.parametrize("matches", ["tracks", "flow"])
def test_warped_flow_has_the_camera_taken_out(project: Project, matches: str) -> None:
    project.raw["warp"]["matches"] = matches
    project.make("flow")
    with Shard(project.path("flow")) as flow, Shard(project.make("warped")) as shard:
        for video in GOOD:
            entry, known = entries(shard)[video], entries(flow)[video]
            assert (entry.count, entry.sha256) == (known.count, known.sha256)
            greys = project.greys(video)
            fields = dequantise(flow.fields(known, range(known.count)), 20.0)
            warp = project.settings("warped").warp
            expected, cameras = tvl1.estimate_warped(greys[:-1], greys[1:], fields, config.Flow(**FLOW), warp)
            levels = shard.fields(entry, range(entry.count))
            assert np.array_equal(levels, quantise(expected, 20.0))
            # Everything moves alike, which is what a moving camera looks like.
            assert np.abs(dequantise(levels, 20.0)).mean() < 0.5 * np.abs(fields).mean()
            accepted = [camera for camera in cameras if camera.accepted]
            assert entry.accepted == len(accepted) / len(cameras) > 0.5
            assert entry.still == np.mean([camera.still for camera in cameras])
            assert entry.inliers == pytest.approx(np.mean([camera.inliers / camera.matches for camera in accepted]))
            assert entry.residual == pytest.approx(np.mean([camera.residual_px for camera in accepted]))
            assert 0 < entry.inliers <= 1
            assert 0 < entry.residual < 1


def test_a_bad_video_costs_that_video_and_is_named(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="atw"):
        project.make("rgb")
        project.make("flow")
        project.make("warped")
    for stream in ("rgb", "flow", "warped"):
        with Shard(project.path(stream)) as shard:
            bad, missing = entries(shard)[BAD], entries(shard)[MISSING]
        assert bad.count == missing.count == 0
        assert bad.quarantined == f"truncated: {bad.decoded} of 11 frames can be decoded"
        assert 0 < bad.decoded < 9
        assert missing.quarantined == "missing file"
        assert missing.sha256 == ""
    assert f"quarantined {BAD}: truncated" in caplog.text
    assert f"quarantined {MISSING}: missing file" in caplog.text


def test_displacements_beyond_the_bound_are_counted(project: Project) -> None:
    project.raw["flow"] = {**FLOW, "bound": 1.0}
    with Shard(project.make("flow")) as shard:
        entry = entries(shard)[GOOD[0]]
        assert shard.header.bound == 1.0
        greys = project.greys(GOOD[0])
        fields = tvl1.estimate(greys[:-1], greys[1:], config.Flow(**FLOW))
        assert entry.clipped == np.mean(np.abs(fields) > 1.0)
        assert 0.2 < entry.clipped < 0.8
        assert shard.fields(entry, [0]).min() == 1


@pytest.mark.parametrize("stream", ["rgb", "flow", "warped"])
def test_threads_change_no_byte(project: Project, stream: str) -> None:
    for place, threads in (("one", 1), ("three", 3)):
        if stream == "warped":
            project.make("flow", place=place)
        project.make(stream, place=place, threads=threads)
    assert project.path(stream, "one").read_bytes() == project.path(stream, "three").read_bytes()


def test_a_video_of_more_frames_than_a_block_has_every_field(
    project: Project, moving_frames: MovingFrames, write_mjpeg: WriteMjpeg
) -> None:
    write_mjpeg(project.root / GOOD[0], moving_frames(67))
    greys = project.greys(GOOD[0])
    with Shard(project.make("flow")) as flow, Shard(project.make("warped")) as warped:
        known, entry = entries(flow)[GOOD[0]], entries(warped)[GOOD[0]]
        assert known.count == entry.count == 66
        expected = quantise(tvl1.estimate(greys[:-1], greys[1:], config.Flow(**FLOW)), 20.0)
        assert np.array_equal(flow.fields(known, range(66)), expected)
        settings = project.settings("warped").warp
        fields, _ = tvl1.estimate_warped(
            greys[:-1], greys[1:], dequantise(expected, 20.0), config.Flow(**FLOW), settings
        )
        assert np.array_equal(warped.fields(entry, range(66)), quantise(fields, 20.0))


def swap_bytes(path: Path) -> None:
    """Other content of the same size."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("change", ["one byte", "no video at all"])
def test_a_video_that_changed_between_flow_and_warped_is_refused(project: Project, change: str) -> None:
    project.make("flow")
    path = project.root / GOOD[1]
    if change == "one byte":
        swap_bytes(path)
    else:
        path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(InputError, match=r"b/2.avi is not the file that shard .*flow/00000.h5 was made from"):
        project.make("warped")
    assert not project.path("warped").exists()


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_videos_that_changed_since_the_job_was_planned_are_refused(project: Project, stream: str) -> None:
    planned = project.settings(stream)
    swap_bytes(project.root / GOOD[0])
    with pytest.raises(
        InputError, match=r"the videos of dataset mine in .* are not those that this job was planned for"
    ):
        make(project.path(stream), planned, project.dataset(), flow_path=None, threads=1)
    assert not project.path(stream).exists()


@pytest.mark.parametrize("stream", ["rgb", "flow", "warped"])
def test_a_drive_that_vanishes_midway_quarantines_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    flow = project.make("flow", place="earlier") if stream == "warped" else None
    decode = shard_making.read_as_configured

    def vanish(path: Path, *arguments: Any, **limits: Any) -> Any:
        if path.name == Path(GOOD[1]).name and project.root.exists():
            project.root.rename(project.folder / "unplugged")
        return decode(path, *arguments, **limits)

    monkeypatch.setattr(shard_making, "read_as_configured", vanish)
    with pytest.raises(InputError, match=r"is not the file that shard|their drive is gone\. Nothing was written"):
        make(project.path(stream), project.settings(stream), project.dataset(), flow_path=flow, threads=1)
    assert not list(project.path(stream).parent.glob("*"))


@pytest.mark.parametrize("stream", ["rgb", "flow", "warped"])
def test_a_video_that_is_replaced_midway_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    flow = project.make("flow", place="earlier") if stream == "warped" else None
    decode = shard_making.read_as_configured

    def replace(path: Path, *arguments: Any, **limits: Any) -> Any:
        if path.name == Path(GOOD[1]).name:
            swap_bytes(path)
        return decode(path, *arguments, **limits)

    monkeypatch.setattr(shard_making, "read_as_configured", replace)
    with pytest.raises(InputError, match=r"is not the file that shard|are not those that this job was planned for"):
        make(project.path(stream), project.settings(stream), project.dataset(), flow_path=flow, threads=1)
    assert not project.path(stream).exists()


def test_a_job_that_was_only_planned_takes_the_videos_as_they_are(project: Project) -> None:
    make(project.path("rgb"), project.settings("rgb", members=UNREAD), project.dataset(), flow_path=None, threads=1)
    assert project.path("rgb").read_bytes() == project.make("rgb", place="planned").read_bytes()


def test_a_flow_shard_that_lacks_a_video_is_refused(project: Project) -> None:
    project.make("flow")
    lists = project.folder / "list.csv"
    lists.write_text(lists.read_text() + "b/5.avi,b,train\n")
    with pytest.raises(InputError, match=r"flow/00000.h5 lacks b/5.avi; delete the file"):
        project.make("warped")
    assert not project.path("warped").exists()


def test_an_error_inside_leaves_no_shard(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise InputError("no memory")

    monkeypatch.setattr(tvl1, "estimate", fail)
    with pytest.raises(InputError, match="no memory"):
        make(project.path("flow"), project.settings("flow"), project.dataset(), flow_path=None, threads=2)
    assert not project.path("flow").exists()
