"""Shards that are damaged, or made by someone who means harm with checksums that are right: refused and named."""

import hashlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import h5py
import hdf5plugin
import numpy as np
import pytest
import zstandard

from atw.files import InputError
from atw.shards import Entry, Shard, create
from atw.shards.tools import verify
from tests.unit.stored import (
    VIDEOS,
    WriteShard,
    header,
    image_of,
    replace_dataset,
    replace_field,
    replace_images,
    seal,
)

TWO = {"a.avi": 2, "b.avi": 3}
Edit = Callable[[h5py.File], object]


def everything(path: Path) -> tuple[Any, list[bytes]]:
    with Shard(path) as shard:
        items = [item.tobytes() for entry in shard.entries for _, item in shard.items(entry, range(entry.count))]
        return (shard.header, shard.seal, shard.entries), items


@pytest.mark.timeout(120)
@pytest.mark.parametrize("mask", [0x01, 0x80])
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


@pytest.mark.parametrize("stream", ["rgb", "flow"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.9999])
def test_a_truncated_shard_is_refused(tmp_path: Path, write_shard: WriteShard, stream: str, share: float) -> None:
    path = tmp_path / "00000.h5"
    write_shard(path, stream, VIDEOS)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(InputError, match=r"00000.h5 is damaged or no shard .* the workflow makes it again"):
        everything(path)


@pytest.mark.parametrize("content", [b"no HDF5 at all", b"\x89HDF\r\n\x1a\n" + bytes(1000), None])
def test_what_is_no_hdf5_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is None:
        (tmp_path / "0.h5").mkdir()
    else:
        (tmp_path / "0.h5").write_bytes(content)
    with pytest.raises(InputError, match=r"0.h5 is damaged or no shard"):
        Shard(tmp_path / "0.h5")
    with pytest.raises(InputError, match=r"1.h5 does not exist; the workflow makes it"):
        Shard(tmp_path / "1.h5")


@pytest.mark.parametrize(
    ("attributes", "found"), [({}, "None"), ({"format": 1}, "1"), ({"format": np.bytes_(b"2")}, "2")]
)
def test_another_format_is_refused(tmp_path: Path, attributes: dict[str, Any], found: str) -> None:
    with h5py.File(tmp_path / "0.h5", "w") as file:
        file.attrs.update(attributes)
    with pytest.raises(InputError, match=rf"0.h5 has format {found}, this version reads 3; delete the file"):
        Shard(tmp_path / "0.h5")


def link_elsewhere(file: h5py.File) -> None:
    del file["crc32"]
    file["crc32"] = h5py.ExternalLink("secret.h5", "/crc32")


def soft_link(file: h5py.File) -> None:
    file["index/secret"] = file["index/video"][:]
    del file["index/label"]
    file["index/label"] = h5py.SoftLink("/index/secret")


def external_storage(file: h5py.File) -> None:
    size = len(file["data"])
    secret = Path(file.filename).with_name("secret.txt")
    secret.write_bytes(bytes(size))
    replace_dataset(file, "data", (size,), "uint8", external=[(str(secret), 0, size)])


def virtual_data(file: h5py.File) -> None:
    size = len(file["data"])
    layout = h5py.VirtualLayout((size,), "uint8")
    layout[:] = h5py.VirtualSource("secret.h5", "data", (size,))
    del file["data"]
    file.create_virtual_dataset("data", layout)


def change(name: str, place: int, value: object) -> Edit:
    return lambda file: file[name].__setitem__(place, value)


def attribute(name: str, value: object) -> Edit:
    return lambda file: file.attrs.__setitem__(name, value)


def without(name: str) -> Edit:
    return lambda file: file.__delitem__(name)


def without_attribute(name: str) -> Edit:
    return lambda file: file.attrs.__delitem__(name)


def huge(name: str, dtype: str, rows: int) -> Edit:
    return lambda file: replace_dataset(file, name, (rows,), dtype, chunks=(1 << 20,))


def huge_fields(file: h5py.File) -> None:
    shape = (1 << 30, 2, 24, 32)
    replace_dataset(file, "data", shape, "uint8", chunks=(1, *shape[1:]), **hdf5plugin.Zstd())


# With the checksum of attributes and index that belongs to what was changed.
SEALED: dict[str, tuple[str, Edit, str]] = {
    "a link to another file": ("rgb", link_elsewhere, "crc32 is missing, or a link"),
    "data of another file": ("rgb", external_storage, "data is no dataset of this file"),
    "virtual data": ("rgb", virtual_data, "data is no dataset of this file"),
    "a group as data": ("rgb", lambda file: (file.pop("data"), file.create_group("data")), "data is no dataset"),
    "no images": ("rgb", without("data"), "data is missing"),
    "no fields": ("flow", without("data"), "data is missing"),
    "no offsets": ("rgb", without("offset"), "offset is missing"),
    "no checksums": ("flow", without("crc32"), "crc32 is missing"),
    "offsets backwards": ("rgb", change("offset", 2, 1), "offsets of the images are impossible"),
    "offsets beyond the end": ("rgb", change("offset", -1, 1 << 40), "offsets of the images are impossible"),
    "offsets before the start": ("rgb", change("offset", 0, -5), "offsets of the images are impossible"),
    "offsets of a terabyte": ("rgb", huge("offset", "int64", 1 << 37), "offset has the type int64 and the shape"),
    "checksums of a terabyte": ("rgb", huge("crc32", "uint32", 1 << 38), "crc32 has the type uint32 and the shape"),
    "an image of a terabyte": ("rgb", huge("data", "uint8", 1 << 40), "data is not a block of bytes"),
    "fields of a terabyte": ("flow", huge_fields, "5 items promised, data has the shape"),
    "items beyond the end": ("rgb", change("index/count", 1, 9), "5 items promised, 11 in the index"),
    "items of another video": ("flow", change("index/first", 1, 1), "'b.avi' has the impossible items 1 to 3"),
    "negative items": ("flow", lambda file: file["index/count"].write_direct(np.array([-1, 6])), "impossible items"),
    "negative first": ("flow", change("index/first", 0, -2), "impossible items -2"),
    "a video twice": ("rgb", change("index/video", 1, b"a.avi"), "a video is listed twice"),
    "another stream": ("rgb", attribute("stream", np.bytes_(b"depth")), "its stream is 'depth'"),
    "no stream": ("flow", without_attribute("stream"), "stream"),
    "a negative width": ("rgb", attribute("width", -32), "its width is -32"),
    "a huge height": ("flow", attribute("height", 1 << 30), "its height is"),
    "another size": ("flow", attribute("height", 48), "data does not have one chunk per field"),
    "an impossible bound": ("flow", attribute("bound", float("nan")), "its bound is nan"),
    "no bound": ("flow", without_attribute("bound"), "its bound is 0.0"),
    "too many items": ("flow", attribute("items", 1 << 50), "its items is"),
    "no items": ("flow", without_attribute("items"), "items"),
    "settings that are none": (
        "rgb",
        attribute("settings", np.bytes_(b"[1]")),
        "its digest is not text, or its settings are not an object",
    ),
    "no settings": ("rgb", without_attribute("settings"), "settings"),
    "no digest": ("rgb", without_attribute("digest"), "digest"),
    "no times": ("rgb", without_attribute("times"), "times"),
}
UNSEALED: dict[str, tuple[str, Edit, str]] = {
    "another label": ("flow", change("index/label", 1, b"z"), "checksum of attributes and index differs"),
    "another rate": ("flow", change("index/fps", 1, 24.0), "checksum of attributes and index differs"),
    "another bound": ("flow", attribute("bound", 19.0), "checksum of attributes and index differs"),
    "no checksum": ("flow", without_attribute("checksum"), "checksum"),
    "no index": ("rgb", without("index"), "index/video is missing"),
    "no column": ("flow", without("index/count"), "index/count is missing"),
    "a soft link": ("rgb", soft_link, "label is missing, or a link"),
    "an index of a terabyte": ("rgb", huge("index/video", "S8", 1 << 37), "video is not stored whole"),
    "text of any length": ("rgb", attribute("dataset", "variable"), "attribute dataset is neither a number nor text"),
    "an array": ("rgb", attribute("items", np.arange(9)), "attribute items is neither a number nor text"),
    "deep settings": ("rgb", attribute("settings", np.bytes_(b"[" * 20_000)), "recursion"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", [*SEALED, *UNSEALED])
def test_a_hostile_shard_is_refused(tmp_path: Path, write_shard: WriteShard, name: str) -> None:
    stream, edit, message = (SEALED | UNSEALED)[name]
    path = tmp_path / "0.h5"
    write_shard(path, stream, TWO)
    write_shard(tmp_path / "secret.h5", stream, TWO)
    with h5py.File(path, "r+") as file:
        edit(file)
        if name in SEALED:
            seal(file)
    with pytest.raises(InputError, match=message) as refusal:
        everything(path)
    assert str(refusal.value).startswith(f"shard {path} is damaged or no shard (")
    assert str(refusal.value).endswith("; delete the file, and the workflow makes it again")


def jpeg(height: int, width: int) -> bytes:
    return cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8))[1].tobytes()


def with_size(image: bytes, height: int, width: int) -> bytes:
    """Return a JPEG image that declares another size than it has."""
    place = image.index(b"\xff\xc0") + 5
    return image[:place] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + image[place + 4 :]


def without_tables(image: bytes) -> bytes:
    """Return a JPEG image of which only the declared size is left."""
    return image[: image.index(b"\xff\xc0") + 19] + b"\xff\xd9"


def turned(image: bytes) -> bytes:
    """Return a JPEG image that asks to be turned by 90 degrees when it is shown (EXIF orientation 6)."""
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    return image[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + image[2:]


SMALL = jpeg(24, 32)
PNG = cv2.imencode(".png", np.zeros((24, 32, 3), np.uint8))[1].tobytes()
OTHER_SIZE = "is not of 32 x 24 px"
IMAGES = {
    "larger": (jpeg(48, 64), OTHER_SIZE),
    "a bomb": (with_size(SMALL, 65_500, 65_500), OTHER_SIZE),
    "a PNG image": (PNG, OTHER_SIZE),
    "text": (b"no image at all", OTHER_SIZE),
    "nothing": (b"", OTHER_SIZE),
    "a header alone": (SMALL[:4], OTHER_SIZE),
    "markers without end": (b"\xff\xd8" + b"\xff\xe0\x00\x00" * 1000, OTHER_SIZE),
    "half": (SMALL[: len(SMALL) // 2], "is cut off"),
    "without tables": (without_tables(SMALL), "is no image"),
}
FIELDS = {
    "a bomb": (zstandard.ZstdCompressor().compress(bytes(1 << 26)), False, OTHER_SIZE),
    "half": (zstandard.ZstdCompressor().compress(bytes(range(256)) * 6)[:200], False, "cannot be unpacked"),
    "text": (b"no frame at all", False, "damaged or no shard"),
    "not compressed": (bytes(2 * 24 * 32), True, "is not compressed"),
}


@pytest.mark.parametrize(
    ("stream", "name"), [*(("rgb", name) for name in IMAGES), *(("flow", name) for name in FIELDS)]
)
def test_hostile_items_are_refused_and_found_by_verify(
    tmp_path: Path, write_shard: WriteShard, stream: str, name: str
) -> None:
    path = tmp_path / "0.h5"
    write_shard(path, stream, TWO)
    with h5py.File(path, "r+") as file:
        if stream == "rgb":
            content, message = IMAGES[name]
            replace_images(file, {3: content})
        else:
            content, unfiltered, message = FIELDS[name]
            replace_field(file, 3, content, unfiltered=unfiltered)
    if name != "text":
        message = f"{'frame' if stream == 'rgb' else 'field'} 1 of b.avi {message}"
    with pytest.raises(InputError, match=message):
        everything(path)
    count, (found,) = verify([path])
    assert count == 1
    assert found.startswith(f"shard {path} is damaged or no shard (")
    assert message in found


def test_a_frame_is_not_turned(tmp_path: Path, write_shard: WriteShard) -> None:
    path = tmp_path / "0.h5"
    stored = write_shard(path, "rgb", TWO)
    with h5py.File(path, "r+") as file:
        replace_images(file, {3: turned(image_of(file, 3))})
    with Shard(path) as shard:
        assert np.array_equal(shard.frames(shard.entries[1], range(3)), stored["b.avi"])


def test_an_image_of_another_shape_than_it_declares_is_refused(
    tmp_path: Path, write_shard: WriteShard, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shard(tmp_path / "0.h5", "rgb", TWO)
    monkeypatch.setattr("cv2.imdecode", lambda *_: np.zeros((32, 24, 3), np.uint8))
    with pytest.raises(InputError, match=r"0.h5 .*frame 0 of a.avi has the shape \(32, 24, 3\) when decoded"):
        everything(tmp_path / "0.h5")


def test_verify_looks_at_the_digest(tmp_path: Path, write_shard: WriteShard) -> None:
    # Two images changed places, and their checksums with them, as no flipped bit would do.
    path = tmp_path / "0.h5"
    write_shard(path, "rgb", TWO)
    with h5py.File(path, "r+") as file:
        replace_images(file, {0: image_of(file, 1), 1: image_of(file, 0)})
    _, (message,) = verify([path])
    assert "the digest of index and items differs" in message


NOT_A_NUMBER = float("nan")
TIMES = [
    ([0.0, 0.1], 25.0),
    ([0.0, 0.2, 0.1, 0.3], 25.0),
    ([0.0, 0.1, NOT_A_NUMBER, 0.3], 25.0),
    ([0.0, 0.1, 0.2, float("inf")], 25.0),
    ([0.1, 0.2, 0.3, 0.4], 25.0),
    ([0.0, 0.0, 0.0, 0.0], 25.0),
    ([], NOT_A_NUMBER),
    ([], -1.0),
]


@pytest.mark.parametrize(("edges", "fps"), TIMES)
def test_impossible_times_are_refused(tmp_path: Path, edges: list[float], fps: float) -> None:
    with create(tmp_path / "0.h5", header()) as writer:
        writer.add(Entry("a.avi", "a", fps=fps), [SMALL] * 3, np.array(edges))
    with Shard(tmp_path / "0.h5") as shard, pytest.raises(InputError, match=r"0\.h5 .*times of a\.avi are impossible"):
        shard.times(shard.entries[0])
    assert len(verify([tmp_path])[1]) == 1


@pytest.mark.parametrize(("name", "place", "value"), [("time", 2, 0.9), ("time_offset", 1, 3)])
def test_edited_times_are_refused(tmp_path: Path, name: str, place: int, value: float) -> None:
    with create(tmp_path / "0.h5", header()) as writer:
        writer.add(Entry("a.avi", "a"), [SMALL] * 3, np.arange(4) / 10)
        writer.add(Entry("b.avi", "a"), [SMALL] * 3, np.arange(4) / 10)
    with h5py.File(tmp_path / "0.h5", "r+") as file:
        file[name][place] = value
    with Shard(tmp_path / "0.h5") as shard, pytest.raises(InputError, match="checksum of the times differs"):
        shard.times(shard.entries[0])
    assert "checksum of the times differs" in verify([tmp_path])[1][0]


def test_times_with_impossible_offsets_are_refused(tmp_path: Path) -> None:
    with create(tmp_path / "0.h5", header()) as writer:
        writer.add(Entry("a.avi", "a"), [SMALL] * 3, np.arange(4) / 10)
    with h5py.File(tmp_path / "0.h5", "r+") as file:
        file["time_offset"][1] = 9
        content = file["time_offset"][:].tobytes() + file["time"][:].tobytes()
        file.attrs["times"] = np.bytes_(hashlib.sha256(content).hexdigest().encode())
        seal(file)
    with Shard(tmp_path / "0.h5") as shard, pytest.raises(InputError, match="offsets of the times are impossible"):
        shard.times(shard.entries[0])
