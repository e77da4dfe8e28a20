import itertools
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from atw.files import InputError
from atw.shards import Shard
from tests.unit.stored import VIDEOS, WriteShard


def everything(path: Path) -> tuple[Any, list[bytes]]:
    with Shard(path) as shard:
        items = [
            (
                shard.frames(entry, range(entry.count))
                if shard.stream == "rgb"
                else shard.fields(entry, range(entry.count))
            )
            for entry in shard.entries
            if entry.count
        ]
        return (shard.attributes, shard.entries), [item.tobytes() for item in items]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_a_flipped_byte_is_never_read_as_data(tmp_path: Path, write_shard: WriteShard, stream: str, mask: int) -> None:
    path = tmp_path / "good.h5"
    write_shard(path, stream, VIDEOS)
    good, expected = path.read_bytes(), everything(path)
    damaged = tmp_path / "damaged.h5"
    refused = 0
    # Every structure of the file is longer than the step; the superblock is taken byte by byte.
    for offset in itertools.chain(range(48), range(48 + mask % 7, len(good), 41)):
        content = bytearray(good)
        content[offset] ^= mask
        damaged.write_bytes(content)
        try:
            assert everything(damaged) == expected, f"byte {offset} of {len(good)}"
        except InputError as error:
            refused += 1
            assert str(damaged) in str(error)
            assert "the workflow makes it" in str(error) or "has format" in str(error)
    assert refused > 200


@pytest.mark.timeout(60)
@pytest.mark.parametrize("stream", ["rgb", "flow"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.9999])
def test_a_truncated_shard_is_refused(tmp_path: Path, write_shard: WriteShard, stream: str, share: float) -> None:
    path = tmp_path / "00000.h5"
    write_shard(path, stream, VIDEOS)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(InputError, match=r"00000.h5 is damaged or no shard .* the workflow makes it again"):
        everything(path)


@pytest.mark.parametrize("content", [b"", b"no HDF5 at all", b"\x89HDF\r\n\x1a\n" + bytes(1000)])
def test_what_is_no_hdf5_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "0.h5").write_bytes(content)
    with pytest.raises(InputError, match=r"0.h5 is damaged or no shard"):
        Shard(tmp_path / "0.h5")


def test_a_missing_shard_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"0.h5 does not exist; the workflow makes it"):
        Shard(tmp_path / "0.h5")


def test_a_folder_is_no_shard(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="damaged or no shard"):
        Shard(tmp_path)


@pytest.mark.parametrize("attributes", [{}, {"format": 1}, {"format": np.bytes_(b"2")}, {"title": "of something else"}])
def test_another_format_is_refused(tmp_path: Path, attributes: dict[str, Any]) -> None:
    with h5py.File(tmp_path / "0.h5", "w") as file:
        file.attrs.update(attributes)
    found = {1: "1", np.bytes_(b"2"): "2"}.get(attributes.get("format"), "None")
    with pytest.raises(InputError, match=rf"0.h5 has format {found}, this version reads 3; delete the file"):
        Shard(tmp_path / "0.h5")


def test_another_hdf5_file_of_this_format_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "0.h5", "w") as file:
        file.attrs.update({"format": 3, "stream": "rgb", "provenance": "{}"})
        file["logits"] = np.zeros(3)
    with pytest.raises(InputError, match=r"0.h5 is damaged or no shard"):
        Shard(tmp_path / "0.h5")


@pytest.mark.parametrize(
    ("stream", "name"),
    [
        *(("rgb", name) for name in ("data", "offset", "crc32", "index", "index/video", "index/count")),
        *(("flow", name) for name in ("data", "crc32", "index", "index/first")),
    ],
)
def test_a_missing_dataset_is_refused(tmp_path: Path, write_shard: WriteShard, stream: str, name: str) -> None:
    path = tmp_path / "0.h5"
    write_shard(path, stream, VIDEOS)
    with h5py.File(path, "r+") as file:
        del file[name]
    with pytest.raises(InputError, match=r"0.h5 is damaged or no shard"):
        everything(path)


@pytest.mark.parametrize("name", ["checksum", "items", "digest", "stream", "settings"])
def test_a_missing_attribute_is_refused(tmp_path: Path, write_shard: WriteShard, name: str) -> None:
    path = tmp_path / "0.h5"
    write_shard(path, "flow", VIDEOS)
    with h5py.File(path, "r+") as file:
        del file.attrs[name]
    with pytest.raises(InputError, match=r"0.h5 is damaged or no shard"):
        everything(path)


@pytest.mark.parametrize(
    ("name", "value"), [("index/label", b"z"), ("index/first", 1), ("index/count", 2), ("index/fps", 24.0)]
)
def test_an_edited_index_is_refused(tmp_path: Path, write_shard: WriteShard, name: str, value: Any) -> None:
    path = tmp_path / "0.h5"
    write_shard(path, "flow", VIDEOS)
    with h5py.File(path, "r+") as file:
        file[name][1] = value
    with pytest.raises(InputError, match="checksum of attributes and index differs"):
        Shard(path)
