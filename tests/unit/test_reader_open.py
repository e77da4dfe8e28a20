"""However many shards a stream has, few are open at the same time, and one that is opened again is the same one."""

import hashlib
from pathlib import Path

import numpy as np
import psutil
import pytest

from atw.data import reader
from atw.data.augment import Box, Crop
from atw.data.reader import Shards, sources
from atw.files import InputError
from atw.shards import Shard
from tests.unit.lists import dataset as list_dataset
from tests.unit.opened import opened
from tests.unit.stored import Stored, WriteShard

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


# A video's content now, and what the shards of rgb and flow were made from; what is said to whom.
MADE = [
    ("1", "1", "1", "", ""),
    ("2", "1", "1", "", ""),  # somebody else's shards, made from other copies
    ("1", "1", "2", "flow/00000.h5 is outdated", "delete {flow}, and the workflow makes it again"),
    ("2", "1", "2", "delete {rgb}, and the workflow makes it again", "rgb/00000.h5 is outdated"),
    ("3", "1", "2", "delete both, and the workflow makes them again", "delete both"),
    (None, "1", "2", "delete both, and the workflow makes them again", "delete both"),
    (None, "", "2", "flow/00000.h5 is outdated", "delete {flow}"),
]


@pytest.mark.parametrize(("now", "of_rgb", "of_flow", "to_rgb", "to_flow"), MADE)
def test_streams_of_different_files_are_refused_by_those_that_are_outdated(
    tmp_path: Path,
    write_shard: WriteShard,
    caplog: pytest.LogCaptureFixture,
    now: str | None,
    of_rgb: str,
    of_flow: str,
    to_rgb: str,
    to_flow: str,
) -> None:
    sha256 = {name: hashlib.sha256(name.encode()).hexdigest() for name in "123"} | {"": ""}
    (tmp_path / "a").mkdir()
    (tmp_path / "split1.csv").write_text("path,label,subset\na/0.avi,a,train\na/1.avi,a,test\n")
    if now:
        (tmp_path / "a/1.avi").write_text(now)
    dataset = list_dataset("folder", tmp_path / "split1.csv", tmp_path)
    paths = {stream: tmp_path / "shards" / stream / "00000.h5" for stream in ("rgb", "flow")}
    for stream, content in (("rgb", of_rgb), ("flow", of_flow)):
        # One that is in no list does not count.
        files = {"a/0.avi": sha256["1"], "a/1.avi": sha256[content], "a/unlisted.avi": stream}
        write_shard(paths[stream], stream, dict.fromkeys(files, 2), files=files)
    found = []
    for stream, said in (("rgb", to_rgb), ("flow", to_flow)):
        expected = said.format(**paths)
        if "delete" in said:
            with pytest.raises(InputError, match=r"made from different files of a/1.avi") as error:
                sources([paths[stream]], dataset.split("split1"), dataset)
            assert expected in str(error.value)
            continue
        caplog.clear()
        found.append(sources([paths[stream]], dataset.split("split1"), dataset))
        assert (expected in caplog.text) if said else not caplog.text
    assert len(set(found)) <= 1


def test_a_damaged_shard_of_another_stream_is_not_judged(tmp_path: Path, write_shard: WriteShard) -> None:
    (tmp_path / "split1.csv").write_text("path,label,subset\na/0.avi,a,train\na/1.avi,a,test\n")
    dataset = list_dataset("folder", tmp_path / "split1.csv", tmp_path)
    write_shard(tmp_path / "shards/rgb/00000.h5", "rgb", {"a/0.avi": 2, "a/1.avi": 2})
    (tmp_path / "shards/flow").mkdir()
    (tmp_path / "shards/flow/00000.h5").write_bytes(b"no shard")
    assert sources([tmp_path / "shards/rgb/00000.h5"], dataset.split("split1"), dataset)


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
