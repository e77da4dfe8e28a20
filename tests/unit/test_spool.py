"""Items of a long video wait on the disk, and nobody can tell by what comes out."""

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
from av import VideoFrame

from atw.preprocess import spool
from atw.preprocess.shard import make
from atw.preprocess.spool import Spool
from atw.shards import Encoded, Entry
from atw.shards.writer import Writer
from tests.unit.test_preprocess import SHARD, MovingFrames, Project, WriteMjpeg


def unnamed_files(folder: Path) -> int:
    """Open files of this process that were below `folder` and have no name any more."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        found += target.startswith(str(folder)) and target.endswith("(deleted)")
    return found


def test_items_come_back_from_memory_and_from_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "IN_MEMORY_BYTES", 10)
    held = Spool(tmp_path)
    held.extend([b"one", b"", b"three"])
    assert unnamed_files(tmp_path) == 0
    held.extend(iter([b"fourth", b"5"]))
    assert unnamed_files(tmp_path) == 1
    assert len(held) == 5
    for _ in range(2):
        assert list(held) == [b"one", b"", b"three", b"fourth", b"5"]
    gone = weakref.ref(held)
    del held
    gc.collect()
    assert gone() is None
    assert unnamed_files(tmp_path) == 0
    assert list(tmp_path.iterdir()) == []


def test_frames_of_finished_videos_are_gone(
    tmp_path: Path, moving_frames: MovingFrames, write_mjpeg: WriteMjpeg, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"a/{number:02d}.avi" for number in range(12)]
    project = Project(tmp_path, moving_frames, write_mjpeg)
    for name in names:
        write_mjpeg(project.root / name, moving_frames(10))
    rows = [f"{name},a,train\n" for name in names]
    (tmp_path / "list.csv").write_text("path,label,subset\n" + "".join(rows))
    alive = []
    add = Writer.add

    def counting(self: Writer, entry: Entry, items: Encoded, edges: Any) -> None:
        add(self, entry, items, edges)
        alive.append(sum(isinstance(each, VideoFrame) for each in gc.get_objects()))

    monkeypatch.setattr(Writer, "add", counting)
    gc.disable()  # it would come at some moment or other
    try:
        make(project.path("rgb"), project.settings("rgb"), project.dataset(), flow_path=None, threads=1)
    finally:
        gc.enable()
    assert len(alive) == 12
    assert max(alive) <= 50  # of five videos: in work, waiting, being written; there are twelve
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize("stream", ["rgb", "flow", "warped"])
def test_a_shard_has_the_same_bytes_whether_its_videos_fit_into_memory(
    tmp_path: Path,
    moving_frames: MovingFrames,
    write_mjpeg: WriteMjpeg,
    stream: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = Project(tmp_path, moving_frames, write_mjpeg)
    flow = project.path("flow")
    if stream == "warped":
        make(flow, project.settings("flow"), project.dataset(), flow_path=None, threads=1)
    contents = []
    for most in (1 << 24, 1):
        monkeypatch.setattr(spool, "IN_MEMORY_BYTES", most)
        path = tmp_path / str(most) / f"{SHARD}.h5"
        path.parent.mkdir()
        given = flow if stream == "warped" else None
        make(path, project.settings(stream), project.dataset(), flow_path=given, threads=2)
        contents.append(path.read_bytes())
        assert unnamed_files(tmp_path) == 0
    assert contents[0] == contents[1]
