"""Training on videos from shards, against the same updates fed with one batch that lies in memory.

    python -m benchmarks.training FOLDER_OF_VIDEOS [--backbone resnet18] [--batch 8] [--loaders 0] [--write]

Prints a table; --write writes it to docs/benchmarks/training.md. Takes the GPU where there is one: give it
`--backbone resnet50 --batch 128 --microbatch 128 --precision bf16 --loaders 12`. A few minutes on two cores.
"""

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from atw import config
from atw.data.reader import micro_batches
from atw.files import InputError
from atw.train import loop
from atw.train.devices import Worker
from atw.train.task import TrainingTask
from atw.train.update import Cut, cut_batch, update
from benchmarks.report import Table, number, share_of, show, write_page
from benchmarks.stored import STREAMS, Stored, store

PAGE = Path("docs/benchmarks/training.md")
ROUNDS, UPDATES, WARM_UP = 3, 3, 2
# Side of the matrices and products in a row, by device: a GPU takes tens of milliseconds, a core of a CPU some seconds.
PRODUCTS = {"cuda": (8192, 40), "cpu": (2048, 3)}
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
Feed = Iterator[tuple[Tensor, Tensor]]

METHOD = (
    "An update is that of `atw train` (forward, backward, clipping, step), without Ray and on one device, with random "
    "initial weights. One side trains on videos from shards, decoded, cropped and mirrored each time; the other on one "
    "such batch in memory. The two take turns, several updates at a time; the figure is the median of the rounds.",
    "Waiting: the share of the time in which an update has no data, as history.jsonl records it.",
    "Of the matrix product: floating point operations per second of an update, as torch counts them, divided by those "
    "of a product of two large square matrices (side 8192 on a GPU, 2048 on a CPU). The matrices have the training's "
    "precision (TF32 if its convolutions use that); many products run in a row, on the same device in the same run.",
)


class Measured(NamedTuple):
    """Videos a second from shards and from memory, the share of waiting, and operations a second of an update."""

    from_shards: float
    from_memory: float
    waiting: float
    operations: float


class Updates:
    """One network and its updates, whatever they are fed with."""

    def __init__(self, task: TrainingTask, device: torch.device) -> None:
        self._task, self._device = task, device
        self._training = loop.Training(task, Worker(device))
        self._training.network.train()
        train, micro = task.settings.train, self._training.microbatch
        self.cut: Cut = cut_batch(batch=train.batch, rank=0, world=1, micro=micro)

    def make(self, feed: Feed, count: int) -> tuple[float, float]:
        """Make `count` updates: their seconds, and those of them that waited for data."""
        begin, waited = time.perf_counter(), 0.0
        for _ in range(count):
            row = update(
                self._training.network,
                self._training.optimizer,
                self._training.scaler,
                feed,
                train=self._task.settings.train,
                cut=self.cut,
                share=1.0,
                precision=self._task.compute.precision,
                device=self._device,
            )
            waited += row["data_wait_seconds"] or 0.0
        synchronise(self._device)
        return time.perf_counter() - begin, waited


def measure(stored: Stored, stream: str, asked: argparse.Namespace, device: torch.device) -> Measured:
    """Both ways of feeding the same network, in turns."""
    compute = config.Compute(
        gpus=0,
        loaders=asked.loaders,
        microbatch=asked.microbatch,
        precision=asked.precision,
        train_threads=asked.threads,
    )
    task = stored.task(stream, compute)
    updates = Updates(task, device)
    total = WARM_UP + ROUNDS * UPDATES
    pieces = micro_batches(start=0, stop=total, batch=asked.batch, rank=0, world=1, micro=asked.microbatch)
    from_shards: Feed = iter(loop.build_loader(task, pieces, device, loaders=asked.loaders))
    held = [next(from_shards) for _ in range(updates.cut.pieces)]
    in_memory = itertools.cycle([(snippets.to(device), labels.to(device)) for snippets, labels in held])
    updates.make(in_memory, WARM_UP)
    with FlopCounterMode(display=False) as counter:
        updates.make(in_memory, 1)
    updates.make(from_shards, WARM_UP - 1)
    rows = [(*updates.make(from_shards, UPDATES), updates.make(in_memory, UPDATES)[0]) for _ in range(ROUNDS)]
    shards_s, waited_s, memory_s = (statistics.median(column) / UPDATES for column in zip(*rows, strict=True))
    return Measured(
        asked.batch / shards_s, asked.batch / memory_s, waited_s / shards_s, counter.get_total_flops() / memory_s
    )


def product_rate(precision: str, device: torch.device) -> float:
    """Floating point operations a second of large matrix products in a row, the best of several times.

    In tf32, products of float32 are computed as the training computes its convolutions.
    """
    side, count = PRODUCTS[device.type]
    first, second = (torch.randn(side, side, device=device).to(DTYPES[precision]) for _ in range(2))
    product = torch.empty_like(first)
    products: Any = torch.backends.cuda.matmul
    before, products.fp32_precision = products.fp32_precision, "tf32" if precision == "tf32" else "ieee"
    best = float("inf")
    try:
        for _ in range(ROUNDS + 1):  # the first finds the fastest kernel
            begin = time.perf_counter()
            for _ in range(count):
                torch.mm(first, second, out=product)
            synchronise(device)
            best = min(best, time.perf_counter() - begin)
    finally:
        products.fp32_precision = before
    return 2 * side**3 * count / best


def this_device() -> torch.device:
    """The GPU where torch can use one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronise(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def table(found: dict[str, Measured], peak: float, asked: argparse.Namespace, device: torch.device) -> Table:
    """A row a stream."""
    rows = [
        [
            stream,
            number(one.from_shards),
            number(one.from_memory),
            f"{one.from_shards / one.from_memory:.1%}",
            f"{one.waiting:.1%}",
            f"{one.operations / 1e9:.0f}",
            f"{share_of(one.operations / peak, f'training of {stream}'):.0%}",
        ]
        for stream, one in found.items()
    ]
    columns = ("stream", "videos/s from shards", "from memory", "ratio", "waiting", "GFLOP/s", "of the matrix product")
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"the CPU, {asked.threads} threads"
    title = f"{asked.backbone}, N = 4, batch {asked.batch}, {asked.precision}, {asked.loaders} loaders, on {where}"
    notes = [] if device.type == "cuda" else ["On a GPU: not measured."]
    return Table(title, columns, rows, notes)


def main(given: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of videos, a subfolder a class")
    parser.add_argument("--videos", type=int, default=40, help="clips to take")
    parser.add_argument("--backbone", default="resnet18", help="tiny, bn_inception or a network of torchvision")
    parser.add_argument("--batch", type=int, default=8, help="videos of an update")
    parser.add_argument("--microbatch", type=int, default=8, help="videos of a forward pass")
    parser.add_argument("--precision", default="fp32", choices=tuple(DTYPES))
    parser.add_argument("--loaders", type=int, default=0, help="reading processes")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of the network and of preprocessing")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE}")
    asked = parser.parse_args(given)
    torch.set_num_threads(asked.threads)
    device = this_device()
    sections: dict[str, Any] = {
        "model": {"backbone": asked.backbone, "weights": None},
        "train": {"batch": asked.batch},
    }
    with tempfile.TemporaryDirectory() as folder:
        stored = store(asked.folder, Path(folder), videos=asked.videos, threads=asked.threads, **sections)
        found = {stream: measure(stored, stream, asked, device) for stream in STREAMS}
    tables = [table(found, product_rate(asked.precision, device), asked, device)]
    show(Console(), tables)
    if asked.write:
        command = f"python -m benchmarks.training FOLDER_OF_VIDEOS {' '.join(given[1:])}"
        write_page(PAGE, "Training", command, tables, METHOD)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except InputError as error:
        sys.exit(f"error: {error}")
