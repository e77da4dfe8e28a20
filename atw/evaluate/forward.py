"""Videos through a trained network, shared out over processes; the results do not depend on their number.

Videos with equal numbers of snippets are grouped beforehand, so that a few of them fill a batch. So the same videos
share a batch whatever the number of workers is, and groups do not depend on each other.

The processes and their pipes are made here. `concurrent.futures.ProcessPoolExecutor` waits for ever if a process is
killed while it sends a result: the executor keeps the other end of that pipe open itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from atw.config import Compute
from atw.data.augment import Crop
from atw.data.reader import Shards
from atw.model.modelfile import load_model
from atw.model.network import VideoNetwork
from atw.train.devices import check_shared_memory, choose_loaders, full_fp32, memory_format
from atw.train.ray.sockets import forkserver


@dataclass(frozen=True)
class ScoringRun:
    """What every process needs to know.

    Args:
        model_path: the trained network.
        shards: of the videos.
        videos: ids.
        starts: first position of each snippet, [M] for each video; M may differ from video to video.
        stack: positions of a snippet.
        crops: of each snippet.
        size: of the network's input, px.
        chunk: snippets that go through the network at once.
        compute: the `compute` section.
        threads: CPU threads of all workers together.
        gpus: numbers of the GPUs, one for each worker; none for the CPU.
    """

    model_path: Path
    shards: Shards
    videos: list[str]
    starts: Sequence[NDArray[np.int64]]
    stack: int
    crops: list[Crop]
    size: int
    chunk: int
    compute: Compute
    threads: int
    gpus: tuple[int, ...]

    @property
    def groups(self) -> list[list[int]]:
        """Videos, by number in rising order, that go through the network together, with equal numbers of snippets."""

        def snippets(video: int) -> int:
            return len(self.starts[video])

        groups = []
        for count, videos in groupby(sorted(range(len(self.videos)), key=snippets), key=snippets):
            alike, together = list(videos), max(1, self.chunk // (len(self.crops) * count))
            groups += [alike[first : first + together] for first in range(0, len(alike), together)]
        return groups


class ScoredGroup(NamedTuple):
    """The network's outputs for G videos: after the consensus [G, crops, K], its weights and energies [G, crops, M],
    and before it [G, crops, M, K].
    """

    videos: list[int]
    logits: NDArray[np.float32]
    weights: NDArray[np.float32]
    energies: NDArray[np.float32]
    snippet_logits: NDArray[np.float32]


def forward(run: ScoringRun, network: VideoNetwork) -> Iterator[ScoredGroup]:
    """Score every group once, in whatever order they are done; a single worker is this process, with this network.

    Raises:
        InputError: a shard or the network cannot be read.
        RuntimeError: a process was killed.
    """
    world = min(run.compute.workers, len(run.groups))
    return _score(run, network, rank=0, world=1) if world == 1 else _share_out(run, world)


class _Snippets(Dataset[Tensor]):
    """Groups by number: uint8 [G crops, M, C, S, S]."""

    def __init__(self, run: ScoringRun) -> None:
        self._run = run
        self._groups = run.groups

    def __getitem__(self, number: int) -> Tensor:
        run = self._run
        cut = [
            run.shards.snippets(run.videos[video], run.starts[video], run.stack, run.crops, run.size)
            for video in self._groups[number]
        ]
        return torch.from_numpy(np.concatenate(cut))


def _score(run: ScoringRun, network: VideoNetwork, *, rank: int, world: int) -> Iterator[ScoredGroup]:
    """Score every `world`-th group from the one of this rank on."""
    torch.set_num_threads(max(run.threads // world, 1))
    device = torch.device("cuda", run.gpus[rank]) if run.gpus else torch.device("cpu")
    if run.gpus:
        torch.cuda.set_device(device)  # else whatever names no device would take memory on the first
    network.to(device).to(memory_format=memory_format(channels_last=run.compute.channels_last))
    groups = run.groups
    own = range(rank, len(groups), world)
    most = max(len(group) * len(run.starts[group[0]]) for group in groups)  # snippets of a crop
    group_bytes = most * len(run.crops) * network.channels * run.size**2
    loaders = choose_loaders(run.compute.loaders, device, processes=world)
    check_shared_memory(loaders, group_bytes, processes=world)
    loader: DataLoader[Tensor] = DataLoader(
        _Snippets(run),
        batch_size=None,
        sampler=list(own),
        num_workers=loaders,
        multiprocessing_context=forkserver() if loaders else None,
        pin_memory=bool(run.gpus),
    )
    with torch.inference_mode(), full_fp32():
        for number, snippets in zip(own, loader, strict=True):
            output = network.score(snippets, chunk=run.chunk)
            parts = (output.logits, output.weights, output.energies, output.snippet_logits)
            shape = (len(groups[number]), len(run.crops))
            yield ScoredGroup(groups[number], *(part.reshape(*shape, *part.shape[1:]).cpu().numpy() for part in parts))


def _share_out(run: ScoringRun, world: int) -> Iterator[ScoredGroup]:
    """Each process has a pipe of its own: it waits until its last group is taken, and if it dies, the pipe closes."""
    context = forkserver()
    workers: dict[Connection, ForkServerProcess] = {}
    try:
        for rank in range(world):
            results, sender = context.Pipe(duplex=False)
            worker = context.Process(target=send_groups, args=(run, rank, world, sender))
            worker.start()
            workers[results] = worker
            sender.close()  # the process has its own, and is then the only one that has it
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
            worker.kill()  # SIGTERM may be blocked: the server of a training's readers passes its mask on
            worker.join()
            results.close()


def _received(results: Connection, worker: ForkServerProcess) -> ScoredGroup | None:
    """The next group of a process, None if there are no more."""
    try:
        received: ScoredGroup | Exception = results.recv()
    except (EOFError, OSError):  # the latter in the middle of a group
        worker.join()
        if worker.exitcode:
            raise RuntimeError(f"a scoring process ended with status {worker.exitcode}") from None
        return None
    if isinstance(received, Exception):
        raise received
    return received


def send_groups(run: ScoringRun, rank: int, world: int, results: Connection) -> None:
    """What a process does: it sends its groups, or the reason why it cannot."""
    try:
        network = load_model(run.model_path).network
        for group in _score(run, network, rank=rank, world=world):
            results.send(group)
    except Exception as error:
        results.send(error)
