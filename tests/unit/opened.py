"""Shards opened for reading snippets."""

from pathlib import Path
from typing import Any

from atw import config
from atw.data.reader import Shards


def opened(paths: list[Path], stream: str, **preprocess: Any) -> Shards:
    """Open shards of the fixture `write_shard`, by a configuration that asks for its settings."""
    raw = {
        "datasets": {"mine": {"kind": "folder", "root": "elsewhere", "lists": "l.csv"}},
        "preprocess": {"width": 32, "height": 24, **preprocess},
        "evaluate": {"crop": 16},
    }
    return Shards(paths, config.shard_settings(config.load(raw), "mine", stream))
