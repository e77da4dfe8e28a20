"""Quantised displacements, the documented layout of a shard, and that everything comes back from it."""

import dataclasses
import hashlib
import json
import zlib
from pathlib import Path

import cv2
import h5py
import hdf5plugin
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atw.shards import Entry, Shard, create, dequantise, encode_field, encode_frame, quantise
from tests.unit.stored import VIDEOS, WriteShard, header

BOUNDS = st.floats(0.5, 1000, width=32)
# Displacements relative to the bound, so that some are clipped.
SHARES = st.lists(st.floats(-1.5, 1.5, width=32), min_size=1, max_size=50)
BLACK = encode_frame(np.zeros((24, 32, 3), np.uint8), 95)


@given(shares=SHARES, bound=BOUNDS)
def test_levels_are_off_by_half_a_level_at_most_and_mirror_exactly(shares: list[float], bound: float) -> None:
    flow = np.array(shares, np.float32) * np.float32(bound)
    levels = quantise(flow, bound)
    assert levels.dtype == np.uint8
    error = np.abs(dequantise(levels, bound).astype(np.float64) - flow.astype(np.float64))
    # Levels 1 and 255 lie 127 steps from zero, that is at 254/255 of the bound.
    inside = np.abs(flow) <= bound * 254 / 255
    # A value half-way between two levels may round to either: float32 leaves some units in the last place.
    rounding = 4 * np.finfo(np.float32).eps * bound
    assert (error[inside] <= bound / 255 + rounding).all()
    assert set(levels[flow > bound].tolist()) <= {255}
    assert set(levels[flow < -bound].tolist()) <= {1}
    assert np.array_equal(quantise(-flow, bound).astype(int), 256 - levels.astype(int))


def test_levels_by_hand() -> None:
    # With a bound of 127.5 px a level is 1 px; halves go to the even level.
    displacements = [0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 1.0, 0.49, 0.51, 127.0, 127.4, 500.0, -127.0, -127.5, -500.0]
    expected = [128, 128, 130, 130, 128, 126, 129, 128, 129, 255, 255, 255, 1, 1, 1]
    assert quantise(np.array(displacements, np.float32), 127.5).tolist() == expected
    found = dequantise(np.array([128, 129, 255, 1], np.uint8), 20.0)
    assert found[0] == 0
    assert found.tolist() == pytest.approx([0, 40 / 255, 127 * 40 / 255, -127 * 40 / 255])
    levels = np.arange(1, 256, dtype=np.uint8)
    assert np.array_equal(quantise(dequantise(levels, 20.0), 20.0), levels)


@pytest.mark.parametrize("stream", ["rgb", "flow", "warped"])
def test_items_come_back_in_any_order(tmp_path: Path, write_shard: WriteShard, stream: str) -> None:
    stored = write_shard(tmp_path / "0.h5", stream, VIDEOS)
    with Shard(tmp_path / "0.h5") as shard:
        assert shard.stream == stream
        read = shard.frames if stream == "rgb" else shard.fields
        for entry in shard.entries:
            assert np.array_equal(read(entry, range(entry.count)), stored[entry.video])
        assert np.array_equal(read(shard.entries[1], [2, 0, 2]), stored["a/1.avi"][[2, 0, 2]])
        for number in (-1, 3):
            with pytest.raises(IndexError, match=f"a/1.avi has 3 items, and no item {number}"):
                shard.stored(shard.entries[1], number)


def test_a_red_frame_is_red(tmp_path: Path) -> None:
    image = np.zeros((24, 32, 3), np.uint8)
    image[..., 2] = 255  # blue, green, red
    with create(tmp_path / "0.h5", header()) as writer:
        writer.add(Entry("v", "l"), [encode_frame(image, 95)])
    with Shard(tmp_path / "0.h5") as shard:
        red, green, blue = shard.frames(shard.entries[0], [0]).reshape(-1, 3).mean(0)
    assert red > 250
    assert max(green, blue) < 5


def test_header_and_entries_come_back_with_every_column(tmp_path: Path) -> None:
    values = {"repaired": "1 damaged packets or frames", "notes": "variable frame rate", "sha256": "ab"}
    numbers = {"clipped": 0.1, "accepted": 0.5, "still": 0.6, "inliers": 0.7, "residual": 0.8}
    entries = [
        Entry("a/ü #1.avi", "wäve", 0, 2, 3, 4, 29.97, 1.5, 320, 240, **values, **numbers),
        Entry("a/2.avi", "wave", 2, 0, 1, quarantined="one frame: no motion to see"),
    ]
    given = header(dataset="d", settings={"a": [1, None]}, software={"b": "2"}, flow={"c": 3.0}, bound=4.0, zero=128)
    with create(tmp_path / "0.h5", given) as writer:
        for entry in entries:
            writer.add(dataclasses.replace(entry, first=-1, count=-1), [BLACK] * entry.count)
    with Shard(tmp_path / "0.h5") as shard:
        assert shard.entries == entries
        assert shard.header == given
        assert shard.files == {"a/ü #1.avi": "ab", "a/2.avi": ""}


def test_the_rgb_layout_is_the_documented_one(tmp_path: Path, write_shard: WriteShard) -> None:
    stored = write_shard(tmp_path / "00003.h5", "rgb", VIDEOS)
    frames = np.concatenate([stored[video] for video in sorted(VIDEOS)])
    with h5py.File(tmp_path / "00003.h5", "r") as file:
        assert set(file) == {"data", "offset", "crc32", "index", "time", "time_offset"}
        data, offset, crc32 = file["data"], file["offset"], file["crc32"]
        assert (data.dtype, data.ndim, data.chunks) == (np.uint8, 1, None)
        assert (offset.dtype, offset.shape, offset[0], offset[-1]) == (np.int64, (7,), 0, len(data))
        assert (crc32.dtype, crc32.shape) == (np.uint32, (6,))
        assert set(file["index"]) == {field.name for field in dataclasses.fields(Entry)}
        assert [name.decode() for name in file["index/video"]] == sorted(VIDEOS)
        assert file["index/first"][:].tolist() == [0, 0, 3, 5]
        assert file["index/count"][:].tolist() == [0, 3, 2, 1]
        assert [reason.decode()[:10] for reason in file["index/quarantined"]] == ["truncated:", "", "", ""]
        for item in range(6):
            image = data[offset[item] : offset[item + 1]]
            assert image[:2].tolist() == [0xFF, 0xD8]
            assert zlib.crc32(image.tobytes()) == crc32[item]
            assert np.array_equal(np.asarray(cv2.imdecode(image, cv2.IMREAD_COLOR))[..., ::-1], frames[item])
        attributes = dict(file.attrs)
    assert {name: attributes[name] for name in ("format", "width", "height", "items")} == {
        **{"format": 3, "width": 32},
        **{"height": 24, "items": 6},
    }
    assert (attributes["stream"], attributes["dataset"], attributes["shard"]) == (b"rgb", b"mine", b"00003")
    assert json.loads(attributes["settings"])["preprocess"]["jpeg_quality"] == 95
    assert json.loads(attributes["software"]) == {"atw": "1"}
    assert "bound" not in attributes


def test_the_flow_layout_is_the_documented_one(tmp_path: Path, write_shard: WriteShard) -> None:
    stored = write_shard(tmp_path / "00003.h5", "flow", VIDEOS)
    with h5py.File(tmp_path / "00003.h5", "r") as file:
        assert set(file) == {"data", "crc32", "index", "time", "time_offset"}
        data = file["data"]
        assert (data.dtype, data.shape, data.chunks) == (np.uint8, (6, 2, 24, 32), (1, 2, 24, 32))
        assert data.id.get_create_plist().get_filter(0)[0] == hdf5plugin.Zstd.filter_id
        assert data.id.get_create_plist().get_nfilters() == 1
        expected = np.concatenate([stored[video] for video in sorted(VIDEOS)])
        assert np.array_equal(data[:], expected)  # through HDF5's own filter
        chunks = [data.id.read_direct_chunk((item, 0, 0, 0))[1] for item in range(6)]
        assert [zlib.crc32(chunk) for chunk in chunks] == file["crc32"][:].tolist()
        assert (file.attrs["bound"], file.attrs["zero"], file.attrs["stream"]) == (20.0, 128, b"flow")


def test_the_digest_is_that_of_items_index_and_times(tmp_path: Path) -> None:
    fields = np.random.default_rng(0).integers(1, 256, (2, 2, 24, 32), dtype=np.uint8)
    items = [encode_field(field, 3) for field in fields]
    with create(tmp_path / "0.h5", header("flow")) as writer:
        writer.add(Entry("v", "l"), items, np.array([0.0, 0.1, 0.3, 0.4]))
    rows = json.dumps([dataclasses.asdict(Entry("v", "l", 0, 2))], sort_keys=True)
    with h5py.File(tmp_path / "0.h5", "r") as file:
        times = hashlib.sha256(file["time_offset"][:].tobytes() + file["time"][:].tobytes()).hexdigest()
        assert file.attrs["times"].decode() == times
    with Shard(tmp_path / "0.h5") as shard:
        assert shard.digest == hashlib.sha256(b"".join(items) + rows.encode() + times.encode()).hexdigest()


def test_times_come_back_and_are_unknown_if_they_are_not_given(tmp_path: Path) -> None:
    edges = np.array([0.0, 0.5, 0.5, 2.0])
    with create(tmp_path / "0.h5", header()) as writer:
        writer.add(Entry("a", "l", fps=1.5), [BLACK] * 3, edges)
        writer.add(Entry("b", "l", fps=10.0), [BLACK] * 2)
        writer.add(Entry("c", "l"), [BLACK] * 2)
        writer.add(Entry("d", "l", quarantined="truncated"), [], edges)  # what was decoded before the end of the file
    with Shard(tmp_path / "0.h5") as shard:
        times = [shard.times(entry) for entry in shard.entries]
    assert [one.source for one in times] == ["file", "rate", "assumed", "assumed"]
    assert [one.edges.tolist() for one in times] == [edges.tolist(), [0, 0.1, 0.2], [0, 0.04, 0.08], [0]]


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_a_shard_of_quarantined_videos_only(tmp_path: Path, write_shard: WriteShard, stream: str) -> None:
    write_shard(tmp_path / "0.h5", stream, {"a/1.avi": 0, "a/2.avi": 0})
    with Shard(tmp_path / "0.h5") as shard:
        assert [(entry.video, entry.count) for entry in shard.entries] == [("a/1.avi", 0), ("a/2.avi", 0)]
        assert all("truncated" in entry.quarantined for entry in shard.entries)


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_a_failing_writer_leaves_nothing(tmp_path: Path, stream: str) -> None:
    with pytest.raises(RuntimeError, match="no more"), create(tmp_path / "0.h5", header(stream)) as writer:
        writer.add(Entry("v", "l"), [])
        raise RuntimeError("no more")
    assert list(tmp_path.iterdir()) == []
