"""Fixtures that several of these files share."""

from pathlib import Path

import pytest

from tests.unit.stored import Stored, WriteShard

VIDEOS = {"a/0.avi": 0, "a/1.avi": 3, "b/it's #2 & é.avi": 2}


@pytest.fixture
def shards(tmp_path: Path, write_shard: WriteShard) -> dict[str, Stored]:
    """A folder `shards` with two shards of frames and one of each kind of flow; what each holds, by relative path."""
    stored = {}
    for name, stream, videos in (
        ("rgb/00000.h5", "rgb", VIDEOS),
        ("rgb/00001.h5", "rgb", {"c/3.avi": 1}),
        ("flow/00000.h5", "flow", VIDEOS),
        ("warped/00000.h5", "warped", VIDEOS),
    ):
        stored[name] = write_shard(tmp_path / "shards" / name, stream, videos)
    return stored
