"""Shards from videos: what they hold, and that no video that changed, vanished or is bad gets into them unnoticed."""

import gc
import logging
import weakref
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from atw import config
from atw import flow as tvl1
from atw.files import InputError
from atw.preprocess import resources
from atw.preprocess import shard as shard_making
from atw.preprocess.resources import Cores, Spool
from atw.preprocess.shard import make
from atw.preprocess.streams import to_items
from atw.shards import Entry, Shard, dequantise, quantise
from tests.unit.preprocessed import BAD, FLOW, GOOD, MISSING, SHARD, MovingFrames, Project, WriteMjpeg
from tests.unit.textures import estimate_warped

STREAMS = pytest.mark.parametrize("stream", config.STREAMS)


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
        header = shard.header
        assert header.settings == project.settings("rgb").to_dict()
        assert (header.dataset, header.shard, header.width, header.height) == ("mine", SHARD, 48, 40)
        assert {"atw", "av", "numpy"} <= set(header.software)


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


@pytest.mark.parametrize("matches", ["tracks", "flow"])
def test_flow_of_stored_frames_decodes_no_video(
    project: Project, monkeypatch: pytest.MonkeyPatch, matches: str
) -> None:
    project.raw["preprocess"]["flow_from"] = "frames"
    project.raw["warp"]["matches"] = matches
    warp = project.settings("warped").warp
    project.make("rgb")
    monkeypatch.delattr(shard_making, "read_as_configured")
    with (
        Shard(project.path("rgb")) as frames,
        Shard(project.make("flow", threads=2)) as flow,
        Shard(project.make("warped")) as warped,
    ):
        for row, known, own in zip(frames.entries, flow.entries, warped.entries, strict=True):
            count = max(row.count - 1, 0)
            for entry, shard in ((known, flow), (own, warped)):
                findings = {"first", "count", "clipped", "accepted", "still", "inliers", "residual"}
                same = {name: value for name, value in vars(row).items() if name not in findings}
                assert {name: getattr(entry, name) for name in same} == same
                assert entry.count == count
                assert shard.times(entry).source == frames.times(row).source
                assert np.array_equal(shard.times(entry).edges, frames.times(row).edges)
            if not count:
                assert row.quarantined
                continue
            stored = [np.frombuffer(frames.stored(row, number), np.uint8) for number in range(row.count)]
            greys = np.stack([np.asarray(cv2.imdecode(image, cv2.IMREAD_GRAYSCALE), np.uint8) for image in stored])
            fields = quantise(tvl1.estimate(greys[:-1], greys[1:], config.Flow(**FLOW)), 20.0)
            assert np.array_equal(flow.fields(known, range(count)), fields)
            still, cameras = estimate_warped(greys[:-1], greys[1:], dequantise(fields, 20.0), config.Flow(**FLOW), warp)
            assert np.array_equal(warped.fields(own, range(count)), quantise(still, 20.0))
            assert own.accepted == np.mean([camera.accepted for camera in cameras]) > 0.5


def test_a_new_video_goes_through_the_frames_that_would_be_stored(project: Project) -> None:
    project.raw["preprocess"] |= {"flow_from": "frames", "jpeg_quality": 60}
    project.make("rgb")
    with Shard(project.make("flow")) as shard:
        entry = entries(shard)[GOOD[0]]
        items = to_items(project.frames(GOOD[0]), project.settings("flow"), resources.Resources(), entry)
        assert [shard.stored(entry, number) for number in range(entry.count)] == list(items.encoded)


def test_frames_of_other_settings_are_refused(project: Project) -> None:
    project.make("rgb")
    project.raw["preprocess"] |= {"flow_from": "frames", "jpeg_quality": 90}
    with pytest.raises(InputError, match=r"rgb/00000.h5 is of other videos or settings; delete the file"):
        project.make("flow")
    assert not project.path("flow").exists()


def test_flow_of_other_frames_is_refused(
    project: Project, moving_frames: MovingFrames, write_mjpeg: WriteMjpeg
) -> None:
    project.raw["preprocess"]["flow_from"] = "frames"
    project.make("rgb")
    project.make("flow")
    write_mjpeg(project.root / GOOD[1], moving_frames(12, seed=9))
    project.make("rgb")
    with pytest.raises(InputError, match=r"b/2.avi is not the file that shard .*flow/00000.h5 was made from"):
        project.make("warped")


@pytest.mark.parametrize("matches", ["tracks", "flow"])
def test_warped_flow_has_the_camera_taken_out(
    project: Project, moving_frames: MovingFrames, write_mjpeg: WriteMjpeg, matches: str
) -> None:
    project.raw["warp"]["matches"] = matches
    write_mjpeg(project.root / GOOD[0], moving_frames(67))  # more frames than are in memory at once
    project.make("flow")
    with Shard(project.path("flow")) as flow, Shard(project.make("warped")) as shard:
        for video, count in zip(GOOD, (66, 9), strict=True):
            entry, known = entries(shard)[video], entries(flow)[video]
            assert (entry.count, entry.sha256) == (known.count, known.sha256) == (count, known.sha256)
            greys = project.greys(video)
            fields = dequantise(flow.fields(known, range(count)), 20.0)
            assert np.array_equal(
                quantise(tvl1.estimate(greys[:-1], greys[1:], config.Flow(**FLOW)), 20.0), quantise(fields, 20.0)
            )
            warp = project.settings("warped").warp
            expected, cameras = estimate_warped(greys[:-1], greys[1:], fields, config.Flow(**FLOW), warp)
            levels = shard.fields(entry, range(count))
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


def test_displacements_beyond_the_bound_are_counted(project: Project) -> None:
    project.raw["flow"] = {**FLOW, "bound": 1.0}
    with Shard(project.make("flow")) as shard:
        entry = entries(shard)[GOOD[0]]
        assert shard.header.bound == 1.0
        greys = project.greys(GOOD[0])
        assert entry.clipped == np.mean(np.abs(tvl1.estimate(greys[:-1], greys[1:], config.Flow(**FLOW))) > 1.0)
        assert 0.2 < entry.clipped < 0.8
        assert shard.fields(entry, [0]).min() == 1


def test_a_bad_video_costs_that_video_and_is_named(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="atw"):
        for stream in config.STREAMS:
            with Shard(project.make(stream)) as shard:
                bad, missing = entries(shard)[BAD], entries(shard)[MISSING]
            assert bad.count == missing.count == 0
            assert bad.quarantined == f"truncated: {bad.decoded} of 11 frames can be decoded"
            assert 0 < bad.decoded < 9
            assert (missing.quarantined, missing.sha256) == ("missing file", "")
    assert f"quarantined {BAD}: truncated" in caplog.text
    assert f"quarantined {MISSING}: missing file" in caplog.text


def test_repairs_and_notes_are_told(
    project: Project, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = shard_making.read_as_configured

    def noted(path: Path, audit: Any, settings: Any) -> Any:
        audit.repaired.append("one thing")
        audit.notes += ["two", "three"]
        return decode(path, audit, settings)

    monkeypatch.setattr(shard_making, "read_as_configured", noted)
    with caplog.at_level(logging.INFO, logger="atw"):
        project.make("rgb")
    assert f"repaired {GOOD[1]}: one thing" in caplog.text
    assert f"two; three: 4 of 4 videos, first {GOOD[0]}" in caplog.text


def unnamed_files(folder: Path) -> int:
    """Count the open files of this process that were below `folder` and have no name any more."""
    targets = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            targets.append(str(descriptor.readlink()))
        except FileNotFoundError:
            continue
    return sum(target.startswith(str(folder)) and target.endswith("(deleted)") for target in targets)


@STREAMS
def test_neither_threads_nor_memory_change_a_byte(
    project: Project, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    for place, threads, most in (("one", 1, 1 << 24), ("three", 3, 1)):
        monkeypatch.setattr(resources, "IN_MEMORY_BYTES", most)
        if stream == "warped":
            project.make("flow", place=place)
        project.make(stream, place=place, threads=threads)
        assert unnamed_files(project.folder) == 0
    assert project.path(stream, "one").read_bytes() == project.path(stream, "three").read_bytes()


def test_items_come_back_from_memory_and_from_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "IN_MEMORY_BYTES", 10)
    spool = Spool(tmp_path)
    spool.extend([b"one", b"", b"three"])
    assert unnamed_files(tmp_path) == 0
    spool.extend(iter([b"fourth", b"5"]))
    assert unnamed_files(tmp_path) == 1
    assert len(spool) == 5
    for _ in range(2):
        assert list(spool) == [b"one", b"", b"three", b"fourth", b"5"]
    gone = weakref.ref(spool)
    del spool
    gc.collect()
    assert gone() is None
    assert unnamed_files(tmp_path) == 0
    assert list(tmp_path.iterdir()) == []


def swap_bytes(path: Path) -> None:
    """Write other content of the same size."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize("change", [swap_bytes, lambda path: path.write_bytes(bytes(path.stat().st_size))])
def test_a_video_that_changed_between_flow_and_warped_is_refused(project: Project, change: Any) -> None:
    project.make("flow")
    change(project.root / GOOD[1])
    with pytest.raises(InputError, match=r"b/2.avi is not the file that shard .*flow/00000.h5 was made from"):
        project.make("warped")
    assert not project.path("warped").exists()


def test_videos_that_changed_since_the_job_was_planned_are_refused(project: Project) -> None:
    planned = project.settings("rgb")
    swap_bytes(project.root / GOOD[0])
    with pytest.raises(InputError, match=r"videos of dataset mine in .* are not those that this job was planned for"):
        make(project.path("rgb"), planned, project.dataset(), flow_path=None, threads=1)
    assert not project.path("rgb").exists()


@STREAMS
@pytest.mark.parametrize("event", ["the drive vanishes", "a video is replaced"])
def test_what_happens_midway_is_noticed(
    project: Project, monkeypatch: pytest.MonkeyPatch, stream: str, event: str
) -> None:
    flow = project.make("flow", place="earlier") if stream == "warped" else None
    decode = shard_making.read_as_configured

    def disturbed(path: Path, *arguments: Any, **limits: Any) -> Any:
        if path.name == Path(GOOD[1]).name and event == "a video is replaced":
            swap_bytes(path)
        elif path.name == Path(GOOD[1]).name and project.root.exists():
            project.root.rename(project.folder / "unplugged")
        return decode(path, *arguments, **limits)

    monkeypatch.setattr(shard_making, "read_as_configured", disturbed)
    with pytest.raises(InputError, match=r"is not the file that shard|their drive is gone\. Nothing was written"):
        make(project.path(stream), project.settings(stream), project.dataset(), flow_path=flow, threads=1)
    assert not list(project.path(stream).parent.glob("*"))


def test_a_job_that_was_only_planned_takes_the_videos_as_they_are(project: Project) -> None:
    make(
        project.path("rgb"),
        project.settings("rgb", members=config.UNREAD),
        project.dataset(),
        flow_path=None,
        threads=1,
    )
    assert project.path("rgb").read_bytes() == project.make("rgb", place="planned").read_bytes()


def test_settings_of_no_single_shard_are_refused(project: Project) -> None:
    settings = project.settings("rgb", shard=None)
    with pytest.raises(InputError, match="settings do not name a shard; give its name"):
        make(project.path("rgb"), settings, project.dataset(), flow_path=None, threads=1)


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

    monkeypatch.setattr(tvl1, "estimate_stored", fail)
    with pytest.raises(InputError, match="no memory"):
        make(project.path("flow"), project.settings("flow"), project.dataset(), flow_path=None, threads=2)
    assert not project.path("flow").exists()


def test_threads_go_to_the_videos_in_work() -> None:
    cores = Cores(8)
    assert cores.share() == 8
    with cores.one_video():
        assert cores.share() == 8
        with cores.one_video(), cores.one_video():
            assert cores.share() == 2
        with pytest.raises(RuntimeError), cores.one_video():  # one that fails gives its threads back
            raise RuntimeError
        assert cores.share() == 8
    with (many := Cores(2)).one_video(), many.one_video(), many.one_video():
        assert many.share() == 1
