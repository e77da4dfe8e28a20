"""A configuration of one dataset, for the tests of configurations."""

from typing import Any

from atw import config

FOLDER = {"kind": "folder", "root": "videos", "lists": "list.csv"}
UCF101 = {"kind": "ucf101", "root": "videos", "lists": "lists"}


def load(**raw: Any) -> config.Config:
    return config.load({"datasets": {"mine": FOLDER}, **raw})


def effective(loaded: config.Config, stream: str = "rgb", experiment: str = "") -> config.Settings:
    return config.effective(loaded, "mine", stream, experiment)


def of_split(stream: str) -> dict[str, Any]:
    """What the workflow adds to the settings of a training or of scores: the split, and its shards."""
    return {"split": "split1", "videos": "0", "shards": config.shard_settings(load(), "mine", stream)}
