"""What tests of shards share: what a shard is made of, how it is damaged, and `atw shards` as a person calls it."""

import itertools
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from typer.testing import CliRunner

from atw.commands import app
from atw.shards import Entry, Header
from atw.shards.format import checksum

Stored = dict[str, NDArray[np.uint8]]
WriteShard = Callable[..., Stored]

VIDEOS = {"b/2.avi": 2, "a/1.avi": 3, "a/0.avi": 0, "c/#3 é.avi": 1}


def header(stream: str = "rgb", **changes: Any) -> Header:
    """A header of small pictures and next to nothing else."""
    given = {"stream": stream, "shard": "0", "width": 32, "height": 24, "bound": 20.0 if stream != "rgb" else 0.0}
    return Header(**given | {"settings": {"preprocess": {"zstd_level": 3}}} | changes)


def call(*arguments: object) -> Any:
    """Run `atw shards`."""
    return CliRunner().invoke(app, ["shards", *map(str, arguments)])


def flip_item(path: Path, item: int) -> None:
    """Change a byte of the stored bytes of an item."""
    with h5py.File(path, "r") as file:
        if "offset" in file:
            place = file["data"].id.get_offset() + int(file["offset"][item]) + 30
        else:
            place = file["data"].id.get_chunk_info_by_coord((item, 0, 0, 0)).byte_offset + 30
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


def replace_dataset(file: h5py.File, name: str, *arguments: Any, **options: Any) -> None:
    del file[name]
    file.create_dataset(name, *arguments, **options)


def image_of(file: h5py.File, item: int) -> bytes:
    return file["data"][slice(*file["offset"][item : item + 2])].tobytes()


def replace_images(file: h5py.File, changed: dict[int, bytes]) -> None:
    """Put other bytes in the place of images, with offsets and checksums that are right."""
    images = [file["data"][first:last].tobytes() for first, last in itertools.pairwise(file["offset"])]
    for item, image in changed.items():
        images[item] = image
    replace_dataset(file, "data", data=np.frombuffer(b"".join(images), np.uint8))
    file["offset"][:] = np.cumsum([0, *map(len, images)])
    file["crc32"][:] = [zlib.crc32(image) for image in images]


def replace_field(file: h5py.File, item: int, stored: bytes, *, unfiltered: bool = False) -> None:
    """Put other bytes in the place of a compressed field, with a checksum that is right."""
    file["data"].id.write_direct_chunk((item, 0, 0, 0), stored, int(unfiltered))
    file["crc32"][item] = zlib.crc32(stored)


def seal(file: h5py.File) -> None:
    """Give a changed shard the checksum that its attributes and its index have now."""
    attributes = {name: _plain(value) for name, value in file.attrs.items()}
    for name in {"settings", "software", "flow"} & attributes.keys():
        attributes[name] = json.loads(attributes[name])
    names = list(Entry.__dataclass_fields__)
    columns = [file["index"][name][:].tolist() for name in names]
    rows = [Entry(**dict(zip(names, map(_plain, row), strict=True))) for row in zip(*columns, strict=True)]
    file.attrs["checksum"] = np.bytes_(checksum(attributes, rows).encode())


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value.item() if isinstance(value, np.generic) else value
