"""Shards of some clips of a folder, made by the pipeline's own code."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from atw import config
from atw.datasets import Dataset
from atw.preprocess.shard import make
from atw.train.task import TrainingTask
from benchmarks.material import find_videos, folders_in_turn

STREAMS = ("rgb", "flow")
_NAME = "measured"


class Stored(NamedTuple):
    """A configuration with one dataset of the clips, most of them to train on, and the shard of each stream."""

    loaded: config.Config
    dataset: Dataset
    shards: dict[str, Path]

    def train_settings(self, stream: str) -> config.TrainSettings:
        """What a training of `stream` gets."""
        videos = self.dataset.split("split1").digest
        return config.train_settings(self.loaded, _NAME, stream, "", split="split1", videos=videos)

    def task(self, stream: str, compute: config.Compute) -> TrainingTask:
        """A training of `stream` from random weights."""
        split = self.dataset.split("split1")
        return TrainingTask(self.train_settings(stream), compute, split, [self.shards[stream]], None)


def store(folder: Path, out: Path, *, videos: int, threads: int, **sections: dict[str, Any]) -> Stored:
    """Write shards of `videos` clips of `folder`, from its subfolders in turn, below `out`; a subfolder is a class.

    `sections` are settings beyond the defaults; flow is of the preset fast.
    """
    chosen = folders_in_turn(find_videos(folder))[:videos]
    lists = out / "split1.csv"
    with lists.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label", "subset"))
        rows.writerows((path.relative_to(folder), path.parent.name, subset) for path, subset in _subsets(chosen))
    mine = {"kind": "folder", "root": str(folder), "lists": str(lists), "preprocess": {"shards": 1}}
    loaded = config.load({"datasets": {_NAME: mine | {"flow": {"preset": "fast"}}}, **sections})
    stored = Stored(loaded, Dataset(config.location(loaded, _NAME)), {name: out / f"{name}.h5" for name in STREAMS})
    members = stored.dataset.members_digest("00000", 1)
    for stream, path in stored.shards.items():
        settings = config.shard_settings(loaded, _NAME, stream)
        make(path, settings.of_shard("00000", members), stored.dataset, flow_path=None, threads=threads)
    return stored


def _subsets(clips: list[Path]) -> Iterator[tuple[Path, str]]:
    """Every class is trained on, by its first clip at least; of the other clips every fourth is for testing."""
    classes: set[Path] = set()
    others = 0
    for path in clips:
        if path.parent in classes:
            yield path, "train" if others % 4 else "test"
            others += 1
        else:
            yield path, "train"
        classes.add(path.parent)
