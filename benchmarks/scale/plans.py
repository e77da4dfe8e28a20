"""What is done before the first video is decoded: lists are drawn, and Snakemake plans."""

import contextlib
import csv
import math
import tempfile
import time
from pathlib import Path

import yaml

from atw import config
from atw.datasets import Dataset
from benchmarks.scale.watched import REPOSITORY, Taken, run

VIDEOS_A_SHARD = 256
_NAME = "kinetics400"
_CLASSES = 400
_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split", "is_cc")


def shards_of(videos: int) -> int:
    """Shards that so many videos lie in."""
    return math.ceil(videos / VIDEOS_A_SHARD)


def write_dataset(folder: Path, videos: int) -> None:
    """Lists of Kinetics' form and a configuration with 256 videos a shard; one of the videos is there.

    Five are to train on for each to test on, in 400 classes where there are enough for that.
    """
    lists = folder / "lists"
    lists.mkdir()
    classes = min(_CLASSES, videos // 6)
    for subset, kept in (("train", range(5)), ("validate", range(5, 6))):
        with (lists / f"{subset}.csv").open("w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream)
            table.writerow(_COLUMNS)
            for number in range(videos):
                if number // classes % 6 in kept:
                    label, start = f"doing thing number {number % classes}", number % 290
                    table.writerow((label, f"clip-{number:06d}", start, start + 10, subset, 0))
    first = folder / "videos" / "doing thing number 0" / "clip-000000_000000_000010.mp4"
    first.parent.mkdir(parents=True)
    first.write_bytes(b"a plan looks at no frame")
    preprocess = {"shards": shards_of(videos)}
    kinetics = {"kind": "kinetics", "root": "videos", "lists": "lists", "preprocess": preprocess}
    written = {"datasets": {_NAME: kinetics | {"model": {"weights": None}}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(written), encoding="utf-8")


def dry_run(videos: int) -> Taken:
    """Plan three streams to fused.json with `snakemake --dry-run`."""
    with tempfile.TemporaryDirectory() as name:
        write_dataset(Path(name), videos)
        given = ("--snakefile", REPOSITORY / "Snakefile", "--dry-run", "--quiet", "all", "--cores", "2")
        return run("snakemake", *given, f"results/{_NAME}/split1/fused.json", folder=Path(name))


def draw_seconds(videos: int) -> float:
    """CPU time of drawing the splits of a folder of that many files in 400 classes, and writing their lists."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        root = Path("videos")
        for label in range(_CLASSES):
            (root / f"{label:03d}").mkdir(parents=True)
        for number in range(videos):
            (root / f"{number % _CLASSES:03d}" / f"{number:08d}.avi").touch()
        loaded = config.load({"datasets": {"mine": {"kind": "folder", "root": "videos"}}})
        dataset = Dataset(config.location(loaded, "mine"))
        begin = time.process_time()
        dataset.draw_splits()
        return time.process_time() - begin
