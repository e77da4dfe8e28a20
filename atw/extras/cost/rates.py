"""Rates of this machine, each measured by the code that will do the work."""

import time
from collections.abc import Callable
from functools import partial
from itertools import repeat
from typing import NamedTuple

import torch

from atw.config import ON_GPU, Compute, FrameShards, ShardSettings, TrainSettings, WarpedShards
from atw.datasets import Split
from atw.extras.cost.footage import Footage
from atw.model.network import VideoNetwork, channels
from atw.preprocess import streams
from atw.preprocess.backend import job_backend
from atw.shards import Entry
from atw.train import loop
from atw.train.arithmetic import full_fp32
from atw.train.update import Cut, update
from atw.videos.decode import Frame

_SNIPPETS = 16
_RUNS = 3
Encode = Callable[[list[Frame]], streams.Items]


class Rate(NamedTuple):
    """Seconds that one core, job or GPU takes for one item, and the bytes of it that stay."""

    seconds: float
    bytes: float = 0.0
    on_gpu: bool = False


def preprocessing(settings: ShardSettings, footage: Footage, *, gpus: int) -> Rate:
    """A frame of rgb, or a pair of frames of flow and warped flow, with its decoding, on one core or with one GPU.

    Args:
        settings: of the shards.
        footage: of the dataset.
        gpus: that a job reserves.
    """
    job = streams.Job()
    if isinstance(settings, FrameShards):
        return _encoding(partial(streams.frames_to_items, settings=settings, job=job), footage, on_gpu=False)
    with job_backend(settings.flow.backend, gpus) as backend:
        here = settings.on(backend)
        if isinstance(here, WarpedShards):
            entry = Entry(video="", label="")
            encode = partial(streams.warped_to_items, settings=here.without_masks(), job=job, flow=None, entry=entry)
        else:
            encode = partial(streams.flow_to_items, settings=here, job=job)
        return _encoding(encode, footage, on_gpu=backend in ON_GPU)


def _encoding(encode: Encode, footage: Footage, *, on_gpu: bool) -> Rate:
    encode(footage.clips[0])  # compiles, and takes up memory
    begin = time.perf_counter()
    items = [len(item) for clip in footage.clips for item in encode(clip).encoded]
    seconds = (time.perf_counter() - begin) / len(items)
    return Rate(seconds + footage.decoding_seconds, sum(items) / len(items), on_gpu)


def training(settings: TrainSettings, compute: Compute, split: Split) -> Rate:
    """A video of an update, in a job as config.yaml describes it, on the device that it would take."""
    device = _device(compute)
    torch.set_num_threads(compute.train_threads)
    task = loop.Task(settings, compute, split, [], None)
    made = loop.Training(task, device)
    made.network.train()
    videos = min(made.microbatch, settings.train.batch, 4 if device.type == "cpu" else made.microbatch)
    snippets = _random_snippets(settings, videos * settings.sampling.segments)
    batch = (
        snippets.reshape(videos, -1, *snippets.shape[1:]).to(device),
        torch.zeros(videos, dtype=torch.long, device=device),
    )

    def step() -> None:
        update(
            made.network,
            made.optimizer,
            made.scaler,
            repeat(batch),
            train=settings.train,
            cut=Cut(batch=videos, world=1, pieces=1),
            share=1.0,
            precision=compute.precision,
            device=device,
        )
        _synchronise(device)

    return Rate(_seconds(step) / videos, on_gpu=device.type == "cuda")


def scoring(settings: TrainSettings, compute: Compute, split: Split) -> Rate:
    """A snippet of a crop of a test video; `settings` are those of the training."""
    device = _device(compute)
    torch.set_num_threads(compute.train_threads)
    network: VideoNetwork = loop.build_network(loop.Task(settings, compute, split, [], None)).to(device)
    snippets = _random_snippets(settings, _SNIPPETS)[None]

    def step() -> None:
        network.score(snippets, chunk=_SNIPPETS)
        _synchronise(device)

    with full_fp32():
        return Rate(_seconds(step) / _SNIPPETS, on_gpu=device.type == "cuda")


def _seconds(step: Callable[[], None]) -> float:
    """The least of several runs, after one that compiles and takes up memory."""
    step()
    taken = []
    for _ in range(_RUNS):
        begin = time.perf_counter()
        step()
        taken.append(time.perf_counter() - begin)
    return min(taken)


def _device(compute: Compute) -> torch.device:
    return torch.device("cuda" if compute.gpus != 0 and torch.cuda.is_available() else "cpu")


def _random_snippets(settings: TrainSettings, count: int) -> torch.Tensor:
    side = settings.augment.input_size
    shape = (count, channels(settings.stream, stack=settings.stack), side, side)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
