"""However many shards a stream has, few are open at the same time, and one that is opened again is the same one."""

from pathlib import Path

import numpy as np
import psutil
import pytest

from atw.data import reader
from atw.data.augment import Box, Crop
from atw.data.reader import Shards
from atw.files import InputError
from atw.shards import Shard
from tests.unit.stored import Stored, WriteShard
from tests.unit.test_reader import opened

COUNT = 6
CROP = Crop(Box(0, 0, 16, 16), False)


def write(folder: Path, write_shard: WriteShard, stream: str) -> tuple[list[Path], Stored]:
    paths = [folder / f"{number:05d}.h5" for number in range(COUNT)]
    stored: Stored = {}
    for number, path in enumerate(paths):
        stored |= write_shard(path, stream, {f"a/{number}.avi": 5}, seed=number)
    return paths, stored


def descriptors(paths: list[Path]) -> int:
    """Files of `paths` that this process has open."""
    return len({file.path for file in psutil.Process().open_files()} & {str(path) for path in paths})


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_only_the_shards_read_last_are_open(
    tmp_path: Path, write_shard: WriteShard, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MOST_OPEN", 2)
    paths, stored = write(tmp_path, write_shard, stream)
    shards = opened(paths, stream)
    assert descriptors(paths) == 0
    for number in (0, 1, 0, 2, 0, 5, 4, 3, 2, 1, 0):
        video = f"a/{number}.avi"
        cut = shards.snippets(video, np.array([2]), 1, [CROP], 16)
        whole = stored[video][2, :16, :16].transpose(2, 0, 1) if stream == "rgb" else stored[video][2, :, :16, :16]
        assert np.array_equal(cut[0, 0], whole)
        assert descriptors(paths) <= 2
    assert descriptors(paths) == 2


def test_the_one_read_longest_ago_is_closed(
    tmp_path: Path, write_shard: WriteShard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MOST_OPEN", 2)
    paths, _ = write(tmp_path, write_shard, "rgb")
    shards = opened(paths, "rgb")
    first, second = shards[0], shards[1]
    assert shards[0] is first
    assert shards[2].path == paths[2]
    assert shards[0] is first
    assert shards[1] is not second


def test_a_shard_that_was_replaced_meanwhile_is_refused(tmp_path: Path, write_shard: WriteShard) -> None:
    paths, _ = write(tmp_path, write_shard, "rgb")
    shards: Shards = opened(paths, "rgb")
    write_shard(paths[3], "rgb", {"a/3.avi": 5}, seed=99)
    with pytest.raises(InputError, match=r"00003\.h5 was replaced or damaged while it was in use"):
        shards.snippets("a/3.avi", np.array([0]), 1, [CROP], 16)


def test_a_shard_is_known_by_its_attributes(tmp_path: Path, write_shard: WriteShard) -> None:
    paths, stored = write(tmp_path, write_shard, "flow")
    with Shard(paths[0]) as whole, Shard(paths[0], seal=whole.seal) as again, Shard(paths[1]) as other:
        assert again.seal == whole.seal != other.seal
        assert again.entries == []
        assert np.array_equal(again.fields(whole.entries[0], range(5)), stored["a/0.avi"])
