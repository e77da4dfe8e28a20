"""Opening shards and drawing samples from them, against the number of videos, of shards and of reading processes."""

import statistics
import time
import tracemalloc
import warnings
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from atw import config
from atw.data.reader import Shards, TrainingSnippets, micro_batches
from atw.train import loop
from benchmarks.scale import synthetic
from benchmarks.stored import Stored

_BATCH = 8


class Opened(NamedTuple):
    """What it costs to have so many videos in so many shards, in CPU time.

    Args:
        seconds: to open them.
        bytes: of the index in memory.
        edge_seconds: of the first sample of an epoch.
        sample_seconds: of one inside it, the mean.
        files: that were open after the samples.
    """

    seconds: float
    bytes: int
    edge_seconds: float
    sample_seconds: float
    files: int


def open_and_read(shards: list[Path], *, videos: int, samples: int) -> Opened:
    """Open shards with `videos` videos, and read training samples until the shards in reach are open, then as many."""
    settings = synthetic.settings_of(Path())
    loaded = config.load(settings)
    train = config.train_settings(loaded, synthetic.NAME, synthetic.STREAM, "", split="split1", videos="")
    begin = time.process_time()
    opened = Shards(shards, train.shards)
    seconds = time.process_time() - begin
    names = list(opened.places)
    snippets = TrainingSnippets(opened, names, [0] * videos, train)
    for place in range(samples):
        snippets[place % videos]
    edges = [_seconds(snippets, (epoch + 1) * videos) for epoch in range(3)]
    start = 3 * videos + 1
    begin = time.process_time()
    for place in range(start, start + samples):
        snippets[place]
    sample_seconds = (time.process_time() - begin) / samples
    files = sum(Path(file.path).suffix == ".h5" for file in psutil.Process().open_files())
    return Opened(seconds, _index_bytes(shards, train.shards), statistics.median(edges), sample_seconds, files)


def _seconds(snippets: TrainingSnippets, place: int) -> float:
    begin = time.process_time()
    snippets[place]
    return time.process_time() - begin


def _index_bytes(shards: list[Path], expected: config.ShardSettings) -> int:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    held = Shards(shards, expected)
    found = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert held.places
    return found


def loader_rate(stored: Stored, stream: str, *, loaders: int, batches: int) -> float:
    """Training samples a second that so many loader processes give, once all of them are at work."""
    compute = config.Compute(gpus=0, microbatch=_BATCH)
    task = stored.task(stream, compute)
    warm_up = 4 * loaders + 4
    stop = warm_up + batches
    pieces = micro_batches(start=0, stop=stop, batch=_BATCH, rank=0, world=1, micro=_BATCH)
    with warnings.catch_warnings():
        # More processes than cores are measured on purpose.
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        feed = iter(loop.build_loader(task, pieces, torch.device("cpu"), loaders=loaders))
    for _ in islice(feed, warm_up):
        pass
    begin = time.perf_counter()
    read = sum(len(labels) for _, labels in feed)
    return read / (time.perf_counter() - begin)
