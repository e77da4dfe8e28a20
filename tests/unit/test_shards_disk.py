"""Shards on a disk that is full, read-only or gone: one clear message, and nothing under the final name."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from atw.shards import Shard
from atw.shards.tools import verify

# Its own process: HDF5 that meets a full disk must not crash it, not even at its end.
WRITER = """
import resource, shutil, sys
from pathlib import Path
import numpy as np
from atw.commands import main
from atw import commands as command
from atw.shards import Entry, Header, create, encode_field, encode_frame

def write():
    path, stream, videos, event = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
    settings = {"preprocess": {"zstd_level": 3}}
    rng = np.random.default_rng(0)
    with create(path, Header(stream=stream, shard="0", width=64, height=48, settings=settings, bound=20.0)) as writer:
        for video in range(videos):
            image = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            item = encode_frame(image, 95) if stream == "rgb" else encode_field(image[..., :2].transpose(2, 0, 1), 3)
            writer.add(Entry(f"video {video}", "label", quarantined="x" * 100), [item] * 4)
        if event == "vanish":
            shutil.rmtree(path.parent)
        if event == "fill":
            with (path.parent / "fill").open("wb", 0) as rest:
                while rest.write(bytes(4096)) == 4096:
                    pass

command.app = write
main()
"""


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
    if mount.returncode:
        pytest.skip(f"no file system can be mounted here: {mount.stderr.decode()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def write(
    path: Path, stream: str, videos: int, event: str = "", *, largest_bytes: int = -1
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WRITER, str(path), stream, str(videos), event],
        capture_output=True,
        text=True,
        timeout=100,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest_bytes, largest_bytes)),
    )


def require_one_message(run: subprocess.CompletedProcess[str], message: str) -> None:
    assert run.returncode == 2, run.stderr[-2000:]
    assert run.stderr.splitlines() == [message]


STREAMS = pytest.mark.parametrize("stream", ["rgb", "flow"])


@STREAMS
@pytest.mark.parametrize("videos", [80, 4])
def test_a_full_disk(tmp_path: Path, stream: str, videos: int) -> None:
    # 80 videos are too large for the disk, 4 are not: something else fills it before they are finished.
    disk = tmp_path / "disk"
    with mounted(disk, "size=1m"):
        run = write(disk / "0.h5", stream, videos, "fill")
        message = "No space left on device; free some space, and start again"
        require_one_message(run, f"error: cannot write {disk}/0.h5: {message}")
        assert {path.name for path in disk.iterdir()} <= {"fill"}


@pytest.fixture(scope="module", params=["rgb", "flow"])
def ten_videos(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, int]:
    """A stream, and the bytes of its shard of ten videos."""
    path = tmp_path_factory.mktemp("whole") / "0.h5"
    assert write(path, request.param, 10).returncode == 0
    return request.param, path.stat().st_size


@pytest.mark.parametrize("missing_bytes", [1, 500, 2_000, 4_000, 8_000, 50_000, 100_000])
def test_a_limit_on_files(tmp_path: Path, ten_videos: tuple[str, int], missing_bytes: int) -> None:
    path, (stream, whole_bytes) = tmp_path / "0.h5", ten_videos
    largest_bytes = whole_bytes - missing_bytes  # data, index or HDF5's own structures do not fit
    message = "File too large; raise the limit on the size of files (ulimit -f), and start again"
    require_one_message(write(path, stream, 10, largest_bytes=largest_bytes), f"error: cannot write {path}: {message}")
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_survives_a_full_disk(tmp_path: Path) -> None:
    assert write(tmp_path / "0.h5", "flow", 4).returncode == 0
    before = (tmp_path / "0.h5").read_bytes()
    assert write(tmp_path / "0.h5", "flow", 10, largest_bytes=60_000).returncode == 2
    assert (tmp_path / "0.h5").read_bytes() == before
    assert verify([tmp_path]) == (1, [])


@STREAMS
def test_a_read_only_folder_is_read_and_not_written(tmp_path: Path, stream: str) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "size=1m"):
        assert write(disk / "0.h5", stream, 2).returncode == 0
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with Shard(disk / "0.h5") as shard:
            assert [entry.count for entry in shard.entries] == [4, 4]
        run = write(disk / "new/0.h5", stream, 1)
        message = "Read-only file system; choose a folder that can be written to"
        require_one_message(run, f"error: cannot write {disk}/new/0.h5: {message}")
        assert [path.name for path in disk.iterdir()] == ["0.h5"]


@STREAMS
def test_a_folder_that_vanishes_midway(tmp_path: Path, stream: str) -> None:
    run = write(tmp_path / "share/0.h5", stream, 4, "vanish")
    message = "No such file or directory; look whether its folder is there and can be written to"
    require_one_message(run, f"error: cannot write {tmp_path}/share/0.h5: {message}")
    assert list(tmp_path.iterdir()) == []
