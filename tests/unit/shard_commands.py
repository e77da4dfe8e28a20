"""How the tests of `atw shards` call it, and how they damage a shard."""

from pathlib import Path
from typing import Any

import h5py
from typer.testing import CliRunner

from atw.commands import app


def call(*arguments: object) -> Any:
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
