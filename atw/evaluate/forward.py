"""Videos through a trained network, shared out over processes; what comes out does not depend on their number.

Videos are grouped beforehand, so that a few of them fill a batch. Which videos share one with a video is then the same
however many workers there are, and groups say nothing to each other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from atw.config import Compute, ShardSettings
from atw.data.augment import Crop
from atw.data.reader import Shards
from atw.train.arithmetic import full_fp32, memory_format
from atw.train.memory import check_shared
from atw.train.modelfile import load_model
from atw.train.ray.folder import forkserver


@dataclass(frozen=True)
class Task:
    """What every process needs to know.

    Args:
        model_path: the trained network.
        shard_paths: shards of the videos.
        shard_settings: what they were made with.
        videos: ids.
        starts: [V, M] first position of each snippet of each video.
        stack: positions of a snippet.
        crops: of each snippet.
        size: of the network's input, px.
        chunk: snippets that go through the network at once.
        compute: the `compute` section.
        threads: CPU threads of all workers together.
        gpus: numbers of the GPUs, one for each worker; none for the CPU.
    """

    model_path: Path
    shard_paths: list[Path]
    shard_settings: ShardSettings
    videos: list[str]
    starts: NDArray[np.int64]
    stack: int
    crops: list[Crop]
    size: int
    chunk: int
    compute: Compute
    threads: int
    gpus: tuple[int, ...]

    @property
    def groups(self) -> list[range]:
        """Videos, by number, that go through the network together."""
        snippets = len(self.crops) * self.starts.shape[1]
        together = max(1, self.chunk // snippets)
        count = len(self.videos)
        return [range(first, min(first + together, count)) for first in range(0, count, together)]


class Group(NamedTuple):
    """What the network says of G videos: after the consensus [G, crops, K], its weights and energies [G, crops, M], and
    before it [G, crops, M, K].
    """

    videos: range
    logits: NDArray[np.float32]
    weights: NDArray[np.float32]
    energies: NDArray[np.float32]
    snippet_logits: NDArray[np.float32]


def forward(task: Task) -> Iterator[Group]:
    """Every group once, in whatever order they are done.

    Raises:
        InputError: a shard or the network cannot be read.
    """
    world = min(task.compute.workers, len(task.groups))
    return _work(task, rank=0, world=1) if world == 1 else _share_out(task, world)


class _Snippets(Dataset[Tensor]):
    """Groups by number: uint8 [G crops, M, C, S, S]."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._groups = task.groups
        self._shards = Shards(task.shard_paths, task.shard_settings)

    def __getitem__(self, number: int) -> Tensor:
        task = self._task
        cut = [
            self._shards.snippets(task.videos[video], task.starts[video], task.stack, task.crops, task.size)
            for video in self._groups[number]
        ]
        return torch.from_numpy(np.concatenate(cut))


def _work(task: Task, *, rank: int, world: int) -> Iterator[Group]:
    torch.set_num_threads(max(task.threads // world, 1))
    device = torch.device("cuda", task.gpus[rank]) if task.gpus else torch.device("cpu")
    if task.gpus:
        torch.cuda.set_device(device)  # what names no device would be computed on the first, and take memory there
    network = load_model(task.model_path).network
    network.to(device).to(memory_format=memory_format(channels_last=task.compute.channels_last))
    groups = task.groups
    mine = range(rank, len(groups), world)
    check_shared(
        task.compute.loaders,
        len(groups[0]) * len(task.crops) * task.starts.shape[1] * network.channels * task.size**2,
        processes=world,
    )
    loader: DataLoader[Tensor] = DataLoader(
        _Snippets(task),
        batch_size=None,
        sampler=list(mine),
        num_workers=task.compute.loaders,
        multiprocessing_context=forkserver() if task.compute.loaders else None,
        pin_memory=bool(task.gpus),
    )
    with torch.inference_mode(), full_fp32():
        for number, snippets in zip(mine, loader, strict=True):
            found = network.score(snippets, chunk=task.chunk)
            parts = (found.logits, found.weights, found.energies, found.snippet_logits)
            shape = (len(groups[number]), len(task.crops))
            yield Group(groups[number], *(part.reshape(*shape, *part.shape[1:]).cpu().numpy() for part in parts))


def _share_out(task: Task, world: int) -> Iterator[Group]:
    """A pipe for each process: one whose group is not taken yet waits, and one that dies closes its own."""
    context = forkserver()
    workers: dict[Connection, Any] = {}
    try:
        for rank in range(world):
            results, sender = context.Pipe(duplex=False)
            worker = context.Process(target=_send_groups, args=(task, rank, world, sender))
            worker.start()
            workers[results] = worker
            sender.close()  # the process has its own, and is then the only one that has
        at_work = set(workers)
        while at_work:
            for results in at_work.intersection(wait(at_work)):
                group = _received(results, workers[results])
                if group is None:
                    at_work.remove(results)
                else:
                    yield group
    finally:
        for results, worker in workers.items():
            worker.terminate()
            worker.join()
            results.close()


def _received(results: Connection, worker: Any) -> Group | None:
    """The next group of a process, None if there are no more."""
    try:
        found: Group | Exception = results.recv()
    except (EOFError, OSError):  # the latter in the middle of a group
        worker.join()
        if worker.exitcode:
            raise RuntimeError(f"a scoring process ended with status {worker.exitcode}") from None
        return None
    if isinstance(found, Exception):
        raise found
    return found


def _send_groups(task: Task, rank: int, world: int, results: Connection) -> None:
    try:
        for group in _work(task, rank=rank, world=world):
            results.send(group)
    except Exception as error:
        results.send(error)
