"""Training samples a second from shards, against JPEG folders and against decoding the raw videos.

    python -m benchmarks.reader FOLDER_OF_VIDEOS [--videos 40] [--samples 100] [--write]

Prints tables; --write writes them to docs/benchmarks/reader.md. About five minutes on one core. decord and torchcodec
are measured where they are installed.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console

from atw.files import InputError
from benchmarks.reader import contestants, parts
from benchmarks.reader.contestants import Images, Read
from benchmarks.reader.material import SEGMENTS, Material, Sample, draw_samples, prepare
from benchmarks.report import Table, number, show, write_page
from benchmarks.stored import STREAMS

PAGE = Path("docs/benchmarks/reader.md")
ROUNDS = 5
SEED = 0
SHARDS, FOLDERS, TSN = "shards", "JPEG folders, Pillow", "JPEG folders, Pillow, float"

METHOD = (
    "A sample is what the training reads with its default settings: 4 snippets of a video, each of one frame (rgb) or "
    "5 fields of flow, at random places, cropped at a random scale and corner, resized to 224 x 224 px, mirrored half "
    "of the time, as uint8. Every reader gives the same samples.",
    "One process with one thread. In each round, every reader in turn reads all samples; the figure is the least CPU "
    "time of the rounds. Files are in the page cache.",
    "The JPEG folders hold the frames and fields of the shards at quality 95, one file per frame and two per field. "
    "They are read as in TSN's loaders: Pillow opens, crops, resizes (bilinear) and mirrors. Loaders with float return "
    "normalised float32, as TSN's do, which is four times the bytes; ours leaves that to the device.",
    "Raw videos are opened for each sample, with one decoding thread. decord resizes during decoding; OpenCV resizes "
    "torchcodec's frames (bilinear); our code crops both. A video holds no flow.",
    "Parts are measured one by one on the data of the samples; the rest of the total is Python around them.",
)


def least_seconds(readers: dict[str, Read], samples: list[Sample]) -> dict[str, float]:
    """CPU seconds of all samples by reader, the least of the rounds, in each of which the readers take turns."""
    found = {name: float("inf") for name in readers}
    for _ in range(ROUNDS):
        for name, read in readers.items():
            taken = parts.cpu_seconds(lambda read=read: [read(sample) for sample in samples] and None, repeats=1)
            found[name] = min(found[name], taken)
    return found


def check_agreement(readers: dict[str, Read], samples: list[Sample], stream: str) -> None:
    """The readers must give the same pictures, but for compression, rounding and the order of the resizes."""
    for sample in samples[:5]:
        ours = readers[SHARDS](sample)
        for name in readers.keys() - {SHARDS, TSN}:
            apart = distance(ours, readers[name](sample))
            if apart > 12:
                raise InputError(f"{name} reads another {stream} sample of {sample.video}: {apart:.1f} levels apart")


def distance(first: Images, second: Images) -> float:
    return float(abs(first.astype(np.float32) - second).mean())


def readers_of(material: Material, stream: str) -> dict[str, Read]:
    folders = contestants.jpeg_folders(material, stream)
    readers = {SHARDS: contestants.shards(material, stream), FOLDERS: folders, TSN: contestants.normalised(folders)}
    if stream == "rgb":
        for name, build in contestants.VIDEO_READERS.items():
            if contestants.installed(name):
                readers[f"raw videos, {name}"] = build(material)
    return readers


def rate_table(stream: str, seconds: dict[str, float], count: int) -> Table:
    """Snippets a second of each reader, and how many times that is for ours."""
    rows = [
        [name, number(count / taken), number(1000 * taken / count), number(taken / seconds[SHARDS])]
        for name, taken in seconds.items()
    ]
    notes = []
    if stream == "rgb":
        missing = [name for name in contestants.VIDEO_READERS if not contestants.installed(name)]
        notes += [f"Not installed, not measured: {', '.join(missing)}."] if missing else []
        if not contestants.torchvision_reads_videos():
            notes.append("This torchvision no longer has a video reader of its own.")
    return Table(stream, ("reader", "snippets/s per core", "ms per snippet", "times ours"), rows, notes)


def part_table(stream: str, found: dict[str, float], whole: float, count: int) -> Table:
    """Milliseconds and share of each step of our reader."""
    found = found | {"the rest": max(whole - sum(found.values()), 0.0)}
    rows = [[name, number(1000 * taken / count), f"{taken / whole:.0%}"] for name, taken in found.items()]
    return Table(f"{stream}: where our time goes", ("part", "ms per snippet", "share"), rows)


def main(given: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reader", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of videos")
    parser.add_argument("--videos", type=int, default=40, help="clips to take")
    parser.add_argument("--samples", type=int, default=100, help="samples of each stream")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE}")
    asked = parser.parse_args(given)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        material = prepare(asked.folder, Path(folder), videos=asked.videos, threads=2)
        for stream in STREAMS:
            samples = draw_samples(material, stream, asked.samples, seed=SEED)
            readers = readers_of(material, stream)
            check_agreement(readers, samples, stream)
            seconds = least_seconds(readers, samples)
            count = len(samples) * SEGMENTS
            found = parts.measure(material, stream, samples, repeats=ROUNDS)
            tables += [rate_table(stream, seconds, count), part_table(stream, found, seconds[SHARDS], count)]
    show(Console(), tables)
    if asked.write:
        command = (
            f"python -m benchmarks.reader FOLDER_OF_VIDEOS --videos {asked.videos} --samples {asked.samples} --write"
        )
        write_page(PAGE, "Reading", command, tables, METHOD)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except InputError as error:
        sys.exit(f"error: {error}")
