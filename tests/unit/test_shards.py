import dataclasses
import hashlib
import itertools
import json
import signal
import subprocess
import sys
import time
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
from tests.unit.stored import VIDEOS, WriteShard

BOUNDS = st.floats(0.5, 1000, width=32)
# Displacements relative to the bound, so that some are clipped.
SHARES = st.lists(st.floats(-1.5, 1.5, width=32), min_size=1, max_size=50)


@given(shares=SHARES, bound=BOUNDS)
def test_levels_are_off_by_half_a_level_at_most(shares: list[float], bound: float) -> None:
    flow = np.array(shares, np.float32) * np.float32(bound)
    levels = quantise(flow, bound)
    assert levels.dtype == np.uint8
    assert levels.min() >= 1
    error = np.abs(dequantise(levels, bound).astype(np.float64) - flow.astype(np.float64))
    # Levels 1 and 255 lie 127 steps from zero, that is at 254/255 of the bound.
    inside = np.abs(flow) <= bound * 254 / 255
    # A value half-way between two levels may round to either: float32 leaves some units in the last place.
    rounding = 4 * np.finfo(np.float32).eps * bound
    assert (error[inside] <= bound / 255 + rounding).all()
    assert set(levels[flow > bound].tolist()) <= {255}
    assert set(levels[flow < -bound].tolist()) <= {1}


@given(shares=SHARES, bound=BOUNDS)
def test_a_mirrored_displacement_has_the_mirrored_level(shares: list[float], bound: float) -> None:
    flow = np.array(shares, np.float32) * np.float32(bound)
    assert np.array_equal(quantise(-flow, bound).astype(int), 256 - quantise(flow, bound).astype(int))


def test_levels_come_back_from_displacements_unchanged() -> None:
    levels = np.arange(1, 256, dtype=np.uint8)
    assert np.array_equal(quantise(dequantise(levels, 20.0), 20.0), levels)


@pytest.mark.parametrize(
    ("levels_from_zero", "expected"),
    [
        (0.0, 128),
        (0.5, 128),  # halves go to the even level
        (1.5, 130),
        (2.5, 130),
        (-0.5, 128),
        (-1.5, 126),
        (1.0, 129),
        (0.49, 128),
        (0.51, 129),
        (127.0, 255),
        (127.4, 255),
        (500.0, 255),
        (-127.0, 1),
        (-127.5, 1),
        (-500.0, 1),
    ],
)
def test_levels_by_hand(levels_from_zero: float, expected: int) -> None:
    # With a bound of 127.5 px a level is 1 px.
    assert quantise(np.array([levels_from_zero], np.float32), 127.5).tolist() == [expected]


def test_zero_is_exactly_zero() -> None:
    assert quantise(np.zeros(3, np.float32), 20.0).tolist() == [128] * 3
    assert dequantise(np.full(3, 128, np.uint8), 20.0).tolist() == [0.0] * 3


def test_one_level_is_the_fields_own_step() -> None:
    assert dequantise(np.array([129, 255, 1], np.uint8), 20.0).tolist() == pytest.approx(
        [40 / 255, 127 * 40 / 255, -127 * 40 / 255]
    )


def test_frames_come_back_in_rgb(tmp_path: Path, write_shard: WriteShard) -> None:
    stored = write_shard(tmp_path / "00000.h5", "rgb", VIDEOS)
    with Shard(tmp_path / "00000.h5") as shard:
        assert shard.stream == "rgb"
        for entry in shard.entries:
            assert np.array_equal(shard.frames(entry, range(entry.count)), stored[entry.video])
        entry = next(entry for entry in shard.entries if entry.video == "a/1.avi")
        assert np.array_equal(shard.frames(entry, [2, 0, 2]), stored["a/1.avi"][[2, 0, 2]])


def test_a_red_frame_is_red(tmp_path: Path) -> None:
    image = np.zeros((24, 32, 3), np.uint8)
    image[..., 2] = 255  # blue, green, red
    attributes = {"stream": "rgb", "dataset": "d", "shard": "0", "width": 32, "height": 24, "settings": {}}
    with create(tmp_path / "0.h5", attributes) as writer:
        writer.add(Entry("v", "l"), [encode_frame(image, 95)])
    with Shard(tmp_path / "0.h5") as shard:
        red, green, blue = shard.frames(shard.entries[0], [0]).reshape(-1, 3).mean(0)
    assert red > 250
    assert max(green, blue) < 5


@pytest.mark.parametrize("stream", ["flow", "warped"])
def test_fields_come_back_exactly(tmp_path: Path, write_shard: WriteShard, stream: str) -> None:
    stored = write_shard(tmp_path / "00000.h5", stream, VIDEOS)
    with Shard(tmp_path / "00000.h5") as shard:
        assert shard.stream == stream
        for entry in shard.entries:
            for first, count in itertools.product(range(entry.count), range(1, entry.count + 1)):
                if first + count <= entry.count:
                    expected = stored[entry.video][first : first + count]
                    assert np.array_equal(shard.fields(entry, range(first, first + count)), expected)


def test_entries_come_back_with_every_column(tmp_path: Path) -> None:
    given = [
        Entry(
            "a/ü #1.avi",
            "wäve",
            0,
            2,
            3,
            4,
            29.97,
            1.5,
            320,
            240,
            "1 damaged packets or frames",
            "variable frame rate",
            "",
            "ab",
            0.1,
            0.5,
            0.6,
            0.7,
        ),
        Entry("a/2.avi", "wave", 2, 0, 1, -1, 0.0, 0.0, 64, 48, "", "", "one frame: no motion to see", "cd"),
    ]
    attributes = {
        "stream": "rgb",
        "dataset": "d",
        "shard": "7",
        "width": 32,
        "height": 24,
        "settings": {"a": [1, None]},
    }
    with create(tmp_path / "7.h5", attributes) as writer:
        image = encode_frame(np.zeros((24, 32, 3), np.uint8), 95)
        for entry in given:
            writer.add(dataclasses.replace(entry, first=-1, count=-1), [image] * entry.count)
    with Shard(tmp_path / "7.h5") as shard:
        assert shard.entries == given
        assert shard.attributes["settings"] == {"a": [1, None]}
        assert (shard.attributes["shard"], shard.attributes["width"], shard.attributes["height"]) == ("7", 32, 24)


def test_the_rgb_layout_is_the_documented_one(tmp_path: Path, write_shard: WriteShard) -> None:
    stored = write_shard(tmp_path / "00003.h5", "rgb", VIDEOS)
    with h5py.File(tmp_path / "00003.h5", "r") as file:
        assert set(file) == {"data", "offset", "crc32", "index", "time", "time_offset"}
        data, offset, crc32 = file["data"], file["offset"], file["crc32"]
        assert (data.dtype, data.ndim, data.chunks) == (np.uint8, 1, None)
        assert (offset.dtype, offset.shape) == (np.int64, (7,))
        assert (crc32.dtype, crc32.shape) == (np.uint32, (6,))
        assert (offset[0], offset[-1]) == (0, len(data))
        assert set(file["index"]) == {field.name for field in dataclasses.fields(Entry)}
        assert [name.decode() for name in file["index/video"]] == sorted(VIDEOS)
        assert file["index/first"][:].tolist() == [0, 0, 3, 5]
        assert file["index/count"][:].tolist() == [0, 3, 2, 1]
        assert [reason.decode()[:10] for reason in file["index/quarantined"]] == ["truncated:", "", "", ""]
        for item in range(6):
            image = data[offset[item] : offset[item + 1]]
            assert image[:2].tolist() == [0xFF, 0xD8]
            assert zlib.crc32(image.tobytes()) == crc32[item]
            video = sorted(VIDEOS)[np.searchsorted([0, 3, 5], item, side="right")]
            frame = cv2.cvtColor(np.asarray(cv2.imdecode(image, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB)
            assert any(np.array_equal(frame, expected) for expected in stored[video])
        attributes = dict(file.attrs)
    assert (attributes["format"], attributes["width"], attributes["height"], attributes["items"]) == (3, 32, 24, 6)
    assert (attributes["stream"], attributes["dataset"], attributes["shard"]) == (b"rgb", b"mine", b"00003")
    assert json.loads(attributes["settings"])["preprocess"]["jpeg_quality"] == 95
    assert json.loads(attributes["software"]) == {"atw": "1"}


def test_the_flow_layout_is_the_documented_one(tmp_path: Path, write_shard: WriteShard) -> None:
    stored = write_shard(tmp_path / "00003.h5", "flow", VIDEOS)
    with h5py.File(tmp_path / "00003.h5", "r") as file:
        assert set(file) == {"data", "crc32", "index", "time", "time_offset"}
        data = file["data"]
        assert (data.dtype, data.shape, data.chunks) == (np.uint8, (6, 2, 24, 32), (1, 2, 24, 32))
        assert [data.id.get_create_plist().get_filter(0)[0]] == [hdf5plugin.Zstd.filter_id]
        assert data.id.get_create_plist().get_nfilters() == 1
        expected = np.concatenate([stored[video] for video in sorted(VIDEOS)])
        assert np.array_equal(data[:], expected)  # through HDF5's own filter
        chunks = [data.id.read_direct_chunk((item, 0, 0, 0))[1] for item in range(6)]
        assert [zlib.crc32(chunk) for chunk in chunks] == file["crc32"][:].tolist()
        assert (file.attrs["bound"], file.attrs["zero"], file.attrs["stream"]) == (20.0, 128, b"flow")


def test_the_digest_is_that_of_items_and_index(tmp_path: Path) -> None:
    fields = np.random.default_rng(0).integers(1, 256, (2, 2, 24, 32), dtype=np.uint8)
    items = [encode_field(field, 3) for field in fields]
    attributes = {"stream": "flow", "width": 32, "height": 24, "bound": 20.0}
    with create(tmp_path / "0.h5", attributes | {"settings": {"preprocess": {"zstd_level": 3}}}) as writer:
        writer.add(Entry("v", "l"), items, np.array([0.0, 0.1, 0.3, 0.4]))
    rows = json.dumps([dataclasses.asdict(Entry("v", "l", 0, 2))], sort_keys=True)
    with h5py.File(tmp_path / "0.h5", "r") as file:
        times = hashlib.sha256(file["time_offset"][:].tobytes() + file["time"][:].tobytes()).hexdigest()
    with Shard(tmp_path / "0.h5") as shard:
        assert shard.attributes["times"] == times
        assert shard.digest == hashlib.sha256(b"".join(items) + rows.encode() + times.encode()).hexdigest()


def test_times_come_back_and_are_unknown_where_they_are_not_given(tmp_path: Path) -> None:
    image = encode_frame(np.zeros((24, 32, 3), np.uint8), 95)
    attributes = {"stream": "rgb", "width": 32, "height": 24, "settings": {}}
    edges = np.array([0.0, 0.5, 0.5, 2.0])
    with create(tmp_path / "0.h5", attributes) as writer:
        writer.add(Entry("a", "l", fps=1.5), [image] * 3, edges)
        writer.add(Entry("b", "l", fps=10.0), [image] * 2)
        writer.add(Entry("c", "l"), [image] * 2)
        writer.add(Entry("d", "l", quarantined="truncated"), [], edges)  # what was decoded before the end of the file
    with Shard(tmp_path / "0.h5") as shard:
        times = [shard.times(entry) for entry in shard.entries]
    assert [one.source for one in times] == ["file", "rate", "assumed", "assumed"]
    assert [one.edges.tolist() for one in times] == [edges.tolist(), [0, 0.1, 0.2], [0, 0.04, 0.08], [0]]


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_two_writes_give_identical_bytes(tmp_path: Path, write_shard: WriteShard, stream: str) -> None:
    for folder in ("one", "another, longer"):
        write_shard(tmp_path / folder / "00000.h5", stream, VIDEOS)
        time.sleep(1.1)  # HDF5's times are whole seconds
    assert (tmp_path / "one" / "00000.h5").read_bytes() == (tmp_path / "another, longer" / "00000.h5").read_bytes()


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_the_digest_follows_the_content(tmp_path: Path, write_shard: WriteShard, stream: str) -> None:
    variants: list[tuple[dict[str, int], int]] = [
        (VIDEOS, 0),
        (VIDEOS, 1),  # other pictures
        ({**VIDEOS, "a/0.avi": 1}, 0),
        ({**VIDEOS, "a/9.avi": 0}, 0),
        ({name.replace("2", "3"): count for name, count in VIDEOS.items()}, 0),
    ]
    digests = set()
    for number, (videos, seed) in enumerate(variants):
        path = tmp_path / f"{number}.h5"
        write_shard(path, stream, videos, seed=seed)
        with Shard(path) as shard:
            digests.add(shard.digest)
    assert len(digests) == len(variants)


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_a_shard_of_quarantined_videos_only(tmp_path: Path, write_shard: WriteShard, stream: str) -> None:
    write_shard(tmp_path / "0.h5", stream, {"a/1.avi": 0, "a/2.avi": 0})
    with Shard(tmp_path / "0.h5") as shard:
        assert [(entry.video, entry.count) for entry in shard.entries] == [("a/1.avi", 0), ("a/2.avi", 0)]
        assert all("truncated" in entry.quarantined for entry in shard.entries)


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_a_failing_writer_leaves_nothing(tmp_path: Path, write_shard: WriteShard, stream: str) -> None:
    attributes = {"stream": stream, "width": 32, "height": 24, "settings": {"preprocess": {"zstd_level": 3}}}
    with pytest.raises(RuntimeError, match="the disk is full"), create(tmp_path / "0.h5", attributes) as writer:
        writer.add(Entry("v", "l"), [])
        raise RuntimeError("the disk is full")
    assert list(tmp_path.iterdir()) == []


KILLED_WRITER = """
import sys, time
from pathlib import Path
from atw.shards import Entry, create

settings = {"preprocess": {"zstd_level": 3}}
with create(Path(sys.argv[1]), {"stream": "flow", "width": 32, "height": 24, "settings": settings}) as writer:
    writer.add(Entry("v", "l"), [])
    print("written", flush=True)
    time.sleep(60)
"""


@pytest.mark.timeout(60)
def test_a_killed_writer_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    path = tmp_path / "00000.h5"
    child = subprocess.Popen([sys.executable, "-c", KILLED_WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == "written\n"
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not path.exists()
    assert list(tmp_path.glob("*.h5")) == []
