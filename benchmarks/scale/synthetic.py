"""Shards of many videos with next to nothing in them, by the project's own writer: what is left is the cost of many."""

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from atw import config
from atw.datasets import Dataset
from atw.preprocess.shard import header
from atw.shards import Entry, create, encode_frame

NAME, STREAM = "synthetic", "rgb"
SIDE_PX, FRAMES = 16, 2
_CLASSES = 10
_TEST_EVERY = 4


class Synthetic(NamedTuple):
    """A dataset of synthetic shards as far as a stage needs it."""

    loaded: config.Config
    dataset: Dataset
    shards: list[Path]

    @property
    def split(self) -> dict[str, str]:
        """The split, as settings of stages name it."""
        return {"split": "split1", "videos": self.dataset.split("split1").digest}

    @property
    def train_settings(self) -> config.TrainSettings:
        """Settings of a training on the shards."""
        return config.train_settings(self.loaded, NAME, STREAM, "", **self.split)


def settings_of(folder: Path) -> dict[str, Any]:
    """The content of a config.yaml whose lists are in `folder`."""
    lists = str(folder / "split1.csv")
    of_dataset = {"kind": "folder", "root": str(folder), "lists": lists}
    return {
        "datasets": {NAME: of_dataset},
        "preprocess": {"width": SIDE_PX, "height": SIDE_PX, "shards": 1},
        "augment": {"input_size": SIDE_PX, "scales": [1.0]},
        "model": {"backbone": "tiny", "weights": None},
        "train": {"iterations": 20, "batch": 16, "steps": [15]},
        "evaluate": {"crop": SIDE_PX, "snippets": 10},
        "fusion": {"weights": {STREAM: 1, "flow": 0, "warped": 0}},
    }


def video_id(number: int) -> str:
    """As long as those of UCF-101."""
    return f"class {number % _CLASSES:09d}/v_class_g01_{number:09d}.avi"


def write_shards(folder: Path, *, videos: int, a_shard: int) -> list[Path]:
    """Shards of `videos` videos of two frames, `a_shard` in each."""
    folder.mkdir(parents=True)
    loaded = config.load(settings_of(folder))
    settings = config.shard_settings(loaded, NAME, STREAM)
    noise = np.random.default_rng(0).integers(0, 256, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    items = [encode_frame(noise, 95)] * FRAMES
    paths = []
    for first in range(0, videos, a_shard):
        name = f"{first // a_shard:05d}"
        paths.append(folder / f"{name}.h5")
        own = settings.of_shard(name, "")
        with create(paths[-1], header(own, NAME, None)) as writer:
            for number in range(first, min(first + a_shard, videos)):
                video = video_id(number)
                row = Entry(video, video.partition("/")[0], decoded=FRAMES, declared=FRAMES, fps=25.0)
                row.width, row.height, row.sha256 = SIDE_PX, SIDE_PX, f"{number:064x}"
                writer.add(row, items)
    return paths


def describe(folder: Path, shards: list[Path], videos: int) -> Synthetic:
    """The first `videos` videos as a dataset, its list in `folder`: every fourth is for testing."""
    folder.mkdir(parents=True)
    loaded = config.load(settings_of(folder))
    with (folder / "split1.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(("path", "label", "subset"))
        for number in range(videos):
            video = video_id(number)
            subset = "test" if number // _CLASSES % _TEST_EVERY == _TEST_EVERY - 1 else "train"
            table.writerow((video, video.partition("/")[0], subset))
    return Synthetic(loaded, Dataset(config.location(loaded, NAME)), shards)
