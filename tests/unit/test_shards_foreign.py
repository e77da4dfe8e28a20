"""Shards made by someone who means harm, with checksums that are right: refused, with the file named."""

import itertools
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import h5py
import hdf5plugin
import numpy as np
import pytest
import zstandard
from numpy.typing import NDArray

from atw.files import InputError
from atw.shards import Entry, Shard, create
from atw.shards.inspect import verify
from atw.shards.layout import checksum

WriteShard = Callable[..., dict[str, NDArray[np.uint8]]]
VIDEOS = {"a.avi": 2, "b.avi": 3}


def seal(path: Path) -> None:
    """Give a changed shard the checksum that its attributes and its index have now."""
    with h5py.File(path, "r+") as file:
        attributes: dict[str, Any] = {}
        for name, value in file.attrs.items():
            text = value.decode() if isinstance(value, bytes) else value.item()
            attributes[name] = json.loads(text) if name in ("settings", "software", "flow") else text
        names = list(Entry.__dataclass_fields__)
        columns = [file["index"][name][:].tolist() for name in names]
        rows = [
            {
                name: value.decode() if isinstance(value, bytes) else value
                for name, value in zip(names, row, strict=True)
            }
            for row in zip(*columns, strict=True)
        ]
        file.attrs["checksum"] = np.bytes_(checksum(attributes, [Entry(**row) for row in rows]).encode())


def read_all(path: Path) -> None:
    with Shard(path) as shard:
        for entry in shard.entries:
            if shard.stream == "rgb":
                shard.frames(entry, range(entry.count))
            else:
                shard.fields(entry, range(entry.count))


def replace_dataset(file: h5py.File, name: str, *arguments: Any, **options: Any) -> None:
    del file[name]
    file.create_dataset(name, *arguments, **options)


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


def change(name: str, place: int, value: object) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        file[name][place] = value

    return edit


def attribute(name: str, value: object) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        file.attrs[name] = value

    return edit


def huge(name: str, dtype: str, rows: int) -> Callable[[h5py.File], None]:
    return lambda file: replace_dataset(file, name, (rows,), dtype, chunks=(1 << 20,))


def huge_fields(file: h5py.File) -> None:
    shape = (1 << 30, 2, 24, 32)
    replace_dataset(file, "data", shape, "uint8", chunks=(1, *shape[1:]), **hdf5plugin.Zstd())


CASES = {
    "a link to another file": ("rgb", link_elsewhere, "crc32 is missing, or a link"),
    "a soft link": ("rgb", soft_link, "label is missing, or a link"),
    "data of another file": ("rgb", external_storage, "data is no dataset of this file"),
    "virtual data": ("rgb", virtual_data, "data is no dataset of this file"),
    "a group as data": ("rgb", lambda file: (file.pop("data"), file.create_group("data")), "data is no dataset"),
    "offsets backwards": ("rgb", change("offset", 2, 1), "offsets of the images are impossible"),
    "offsets beyond the end": ("rgb", change("offset", -1, 1 << 40), "offsets of the images are impossible"),
    "offsets before the start": ("rgb", change("offset", 0, -5), "offsets of the images are impossible"),
    "offsets of a terabyte": ("rgb", huge("offset", "int64", 1 << 37), "offset has the type int64 and the shape"),
    "checksums of a terabyte": ("rgb", huge("crc32", "uint32", 1 << 38), "crc32 has the type uint32 and the shape"),
    "an index of a terabyte": ("rgb", huge("index/video", "S8", 1 << 37), "video is not stored whole"),
    "an image of a terabyte": ("rgb", huge("data", "uint8", 1 << 40), "data is not a block of bytes"),
    "fields of a terabyte": ("flow", huge_fields, "5 items promised, data has the shape"),
    "items beyond the end": ("rgb", change("index/count", 1, 9), "5 items promised, 11 in the index"),
    "items of another video": ("flow", change("index/first", 1, 1), "impossible items 0 to 1"),
    "negative items": ("flow", lambda file: file["index/count"].write_direct(np.array([-1, 6])), "impossible items"),
    "negative first": ("flow", change("index/first", 0, -2), "impossible items -2"),
    "a video twice": ("rgb", change("index/video", 1, b"a.avi"), "a video is listed twice"),
    "another stream": ("rgb", attribute("stream", np.bytes_(b"depth")), "its stream is 'depth'"),
    "a negative width": ("rgb", attribute("width", -32), "its width is -32"),
    "a huge height": ("flow", attribute("height", 1 << 30), "its height is"),
    "another size": ("flow", attribute("height", 48), "data is not chunks of a field each"),
    "no bound": ("flow", attribute("bound", float("nan")), "its bound is nan"),
    "text of any length": ("rgb", attribute("dataset", "variable"), "attribute dataset is neither a number nor text"),
    "an array": ("rgb", attribute("items", np.arange(9)), "attribute items is neither a number nor text"),
    "settings that are none": ("rgb", attribute("settings", np.bytes_(b"[1]")), "its digest or its settings"),
    "deep settings": ("rgb", attribute("settings", np.bytes_(b"[" * 20_000)), "recursion"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", CASES)
def test_a_hostile_shard_is_refused(tmp_path: Path, write_shard: WriteShard, name: str) -> None:
    stream, edit, message = CASES[name]
    path = tmp_path / "0.h5"
    write_shard(path, stream, VIDEOS)
    write_shard(tmp_path / "secret.h5", stream, VIDEOS)
    with h5py.File(path, "r+") as file:
        edit(file)
    if name not in ("text of any length", "an array", "deep settings", "an index of a terabyte", "a soft link"):
        seal(path)
    with pytest.raises(InputError, match=message) as refusal:
        read_all(path)
    assert str(refusal.value).startswith(f"shard {path} is damaged or no shard (")
    assert str(refusal.value).endswith("; delete the file, and the workflow makes it again")


def jpeg(height: int, width: int) -> bytes:
    return cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8))[1].tobytes()


def with_size(image: bytes, height: int, width: int) -> bytes:
    """A JPEG image that declares another size than it has."""
    place = image.index(b"\xff\xc0") + 5
    return image[:place] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + image[place + 4 :]


def replace_image(file: h5py.File, item: int, image: bytes) -> None:
    """Put other bytes in the place of an image, with offsets and a checksum that are right."""
    images = [file["data"][first:last].tobytes() for first, last in itertools.pairwise(file["offset"])]
    images[item] = image
    replace_dataset(file, "data", data=np.frombuffer(b"".join(images), np.uint8))
    file["offset"][:] = np.cumsum([0, *map(len, images)])
    file["crc32"][item] = zlib.crc32(image)


def turned(image: bytes) -> bytes:
    """A JPEG image that asks to be turned by 90 degrees when it is shown (EXIF orientation 6)."""
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    return image[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + image[2:]


IMAGES = {
    "larger": jpeg(48, 64),
    "a bomb": with_size(jpeg(24, 32), 65_500, 65_500),
    "a PNG image": cv2.imencode(".png", np.zeros((24, 32, 3), np.uint8))[1].tobytes(),
    "text": b"no image at all",
    "nothing": b"",
    "a header alone": jpeg(24, 32)[:4],
    "markers without end": b"\xff\xd8" + b"\xff\xe0\x00\x00" * 1000,
}


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_of_another_size_is_refused(tmp_path: Path, write_shard: WriteShard, name: str) -> None:
    path = tmp_path / "0.h5"
    write_shard(path, "rgb", VIDEOS)
    image = IMAGES[name]
    with h5py.File(path, "r+") as file:
        replace_image(file, 3, image)
    with pytest.raises(InputError, match=r"0.h5 .*frame 1 of b.avi is not of 32 x 24 px"):
        read_all(path)


def test_an_image_that_cannot_be_decoded_is_refused(tmp_path: Path, write_shard: WriteShard) -> None:
    path = tmp_path / "0.h5"
    write_shard(path, "rgb", {"a.avi": 1})
    with h5py.File(path, "r+") as file:
        image = file["data"][:].tobytes()
        replace_image(file, 0, image[: image.index(b"\xff\xc0") + 19] + b"\xff\xd9")
    with pytest.raises(InputError, match=r"0.h5 .*frame 0 of a.avi is no image"):
        read_all(path)


def test_a_frame_is_not_turned(tmp_path: Path, write_shard: WriteShard) -> None:
    path = tmp_path / "0.h5"
    stored = write_shard(path, "rgb", VIDEOS)
    with h5py.File(path, "r+") as file:
        replace_image(file, 3, turned(file["data"][slice(*file["offset"][3:5])].tobytes()))
    with Shard(path) as shard:
        assert np.array_equal(shard.frames(shard.entries[1], range(3)), stored["b.avi"])


def test_an_image_of_another_shape_than_it_declares_is_refused(
    tmp_path: Path, write_shard: WriteShard, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "0.h5"
    write_shard(path, "rgb", VIDEOS)
    monkeypatch.setattr("cv2.imdecode", lambda *_: np.zeros((32, 24, 3), np.uint8))
    with pytest.raises(InputError, match=r"0.h5 .*frame 0 of a.avi has the shape \(32, 24, 3\) when decoded"):
        read_all(path)


def test_verify_finds_a_frame_that_is_cut_in_half(tmp_path: Path, write_shard: WriteShard) -> None:
    path = tmp_path / "0.h5"
    write_shard(path, "rgb", VIDEOS)
    with h5py.File(path, "r+") as file:
        image = file["data"][slice(*file["offset"][3:5])].tobytes()
        replace_image(file, 3, image[: len(image) // 2])
    count, (message,) = verify([path])
    assert count == 1
    assert f"shard {path} is damaged or no shard (frame 1 of b.avi is cut off)" in message


@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_verify_decodes_every_item(tmp_path: Path, write_shard: WriteShard, stream: str) -> None:
    path = tmp_path / "0.h5"
    write_shard(path, stream, VIDEOS)
    with h5py.File(path, "r+") as file:
        if stream == "rgb":
            image = file["data"][slice(*file["offset"][3:5])].tobytes()
            replace_image(file, 3, image[: image.index(b"\xff\xc0") + 19] + b"\xff\xd9")
        else:
            _, field = file["data"].id.read_direct_chunk((3, 0, 0, 0))
            file["data"].id.write_direct_chunk((3, 0, 0, 0), field[: len(field) // 2])
            file["crc32"][3] = zlib.crc32(field[: len(field) // 2])
    _, (message,) = verify([path])
    assert f"shard {path} is damaged" in message
    assert "1 of b.avi" in message


def test_a_zstandard_bomb_is_refused(tmp_path: Path, write_shard: WriteShard) -> None:
    path = tmp_path / "0.h5"
    write_shard(path, "flow", VIDEOS)
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 26))
    with h5py.File(path, "r+") as file:
        file["data"].id.write_direct_chunk((1, 0, 0, 0), bomb)
        file["crc32"][1] = zlib.crc32(bomb)
    with pytest.raises(InputError, match=r"0.h5 .*field 1 of a.avi is not of 32 x 24 px"):
        read_all(path)


def test_a_field_that_is_no_zstandard_frame_is_refused(tmp_path: Path, write_shard: WriteShard) -> None:
    path = tmp_path / "0.h5"
    write_shard(path, "flow", VIDEOS)
    with h5py.File(path, "r+") as file:
        file["data"].id.write_direct_chunk((1, 0, 0, 0), b"no frame at all")
        file["crc32"][1] = zlib.crc32(b"no frame at all")
    with pytest.raises(InputError, match=r"0.h5 is damaged"):
        read_all(path)


def test_a_chunk_that_skips_the_filter_is_refused(tmp_path: Path, write_shard: WriteShard) -> None:
    path = tmp_path / "0.h5"
    write_shard(path, "flow", VIDEOS)
    with h5py.File(path, "r+") as file:
        file["data"].id.write_direct_chunk((1, 0, 0, 0), bytes(2 * 24 * 32), 1)
        file["crc32"][1] = zlib.crc32(bytes(2 * 24 * 32))
    with pytest.raises(InputError, match=r"0.h5 .*field 1 of a.avi is not compressed"):
        read_all(path)


@pytest.mark.parametrize(
    ("edges", "fps"),
    [
        ([0.0, 0.1], 25.0),
        ([0.0, 0.2, 0.1, 0.3], 25.0),
        ([0.0, 0.1, float("nan"), 0.3], 25.0),
        ([0.0, 0.1, 0.2, float("inf")], 25.0),
        ([0.1, 0.2, 0.3, 0.4], 25.0),
        ([0.0, 0.0, 0.0, 0.0], 25.0),
        ([], float("nan")),
        ([], -1.0),
    ],
)
def test_impossible_times_are_refused(tmp_path: Path, edges: list[float], fps: float) -> None:
    attributes = {"stream": "rgb", "shard": "0", "width": 32, "height": 24, "settings": {}}
    with create(tmp_path / "0.h5", attributes) as writer:
        writer.add(Entry("a.avi", "a", fps=fps), [jpeg(24, 32)] * 3, np.array(edges))
    with Shard(tmp_path / "0.h5") as shard, pytest.raises(InputError, match=r"0\.h5 .*times of a\.avi are impossible"):
        shard.times(shard.entries[0])
    assert len(verify([tmp_path])[1]) == 1


@pytest.mark.parametrize(("name", "place", "value"), [("time", 2, 0.9), ("time_offset", 1, 3)])
def test_edited_times_are_refused(tmp_path: Path, name: str, place: int, value: float) -> None:
    attributes = {"stream": "rgb", "shard": "0", "width": 32, "height": 24, "settings": {}}
    with create(tmp_path / "0.h5", attributes) as writer:
        writer.add(Entry("a.avi", "a"), [jpeg(24, 32)] * 3, np.arange(4) / 10)
        writer.add(Entry("b.avi", "a"), [jpeg(24, 32)] * 3, np.arange(4) / 10)
    with h5py.File(tmp_path / "0.h5", "r+") as file:
        file[name][place] = value
    with Shard(tmp_path / "0.h5") as shard, pytest.raises(InputError, match="checksum of the times differs"):
        shard.times(shard.entries[0])
    assert "checksum of the times differs" in verify([tmp_path])[1][0]
