"""Measure the rates of this machine with the code that will do the work, on a sample of the videos."""

import logging
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from atw.config import (
    ON_GPU,
    Compute,
    FieldSettings,
    FrameSettings,
    FrameShards,
    RenderSettings,
    ShardSettings,
    TrainSettings,
    WarpedShards,
)
from atw.datasets import Dataset, Split
from atw.extras.demo.render import write_dataset
from atw.files import InputError
from atw.model.network import VideoNetwork, channels
from atw.preprocess.resources import Resources, job_backend
from atw.preprocess.streams import to_items
from atw.shards import Entry
from atw.terminal import meter
from atw.train import loop
from atw.train.devices import Worker, full_fp32
from atw.train.task import TrainingTask
from atw.train.update import Cut, update
from atw.videos.decode import Audit, BadVideoError, Frame, read_as_configured

_SAMPLED = 32
_KEPT_VIDEOS, _KEPT_FRAMES = 4, 24
_SNIPPETS = 16
_RUNS = 3


@dataclass(frozen=True)
class VideoSample:
    """A sample of a dataset's videos.

    Args:
        frames: number of frames of each video that can be decoded.
        clips: the first frames of some videos, at the working size.
        decoding_seconds: per frame, on one core.
    """

    frames: list[int]
    clips: list[list[Frame]]
    decoding_seconds: float

    @property
    def mean(self) -> float:
        """Return the mean number of frames per video."""
        return float(np.mean(self.frames))

    @property
    def error(self) -> float:
        """Return the relative error of the mean: about two of its standard errors."""
        if len(self.frames) < 2:
            return 1.0
        return float(2 * np.std(self.frames, ddof=1) / np.sqrt(len(self.frames)) / self.mean)


def sample_videos(dataset: Dataset, preprocess: FrameSettings | FieldSettings, *, seed: int) -> VideoSample:
    """Decode some videos of a dataset, drawn with `seed`. If the demo is not rendered yet, render videos like its own.

    Raises:
        InputError: none of them can be decoded.
    """
    videos = sorted({row.video for name in dataset.split_names for row in dataset.rows(name)})
    drawn = np.random.default_rng(seed).permutation(len(videos))[:_SAMPLED]
    paths = [dataset.root / videos[number] for number in drawn]
    if dataset.generated and not all(path.exists() for path in paths):
        with tempfile.TemporaryDirectory() as folder:
            small = RenderSettings(recipe=0, split=1, seed=seed, train_per_class=1, test_per_class=1)
            write_dataset(Path(folder), small, processes=1)
            return _decode_sample(sorted(Path(folder).rglob("*.avi")), preprocess, dataset.name)
    return _decode_sample(paths, preprocess, dataset.name)


def _decode_sample(paths: list[Path], preprocess: FrameSettings | FieldSettings, dataset: str) -> VideoSample:
    frames: list[int] = []
    clips: list[list[Frame]] = []
    begin = time.perf_counter()
    with meter(f"looking at videos of {dataset}", "videos", len(paths)) as progress:
        for path in paths:
            audit = Audit()
            clip: list[Frame] = []
            with suppress(BadVideoError):
                for frame in read_as_configured(path, audit, preprocess):
                    if len(clip) < _KEPT_FRAMES:
                        clip.append(frame)
                frames.append(audit.decoded)
                if len(clips) < _KEPT_VIDEOS:
                    clips.append(clip)
            progress.advance(1)
    if not frames:
        raise InputError(f"none of {len(paths)} videos of {dataset} that were drawn can be decoded, first {paths[0]}")
    return VideoSample(frames, clips, (time.perf_counter() - begin) / sum(frames))


class Rate(NamedTuple):
    """Seconds that one core, job or GPU takes per item, and bytes that an item leaves on disk."""

    seconds: float
    bytes: float = 0.0
    on_gpu: bool = False


def preprocessing(settings: ShardSettings, sample: VideoSample, *, gpus: int) -> Rate:
    """Measure a frame of rgb, or a pair of frames of (warped) flow, with its decoding, on one core or with one GPU.

    Args:
        settings: of the shards.
        sample: of the dataset.
        gpus: number that a job reserves.
    """
    if isinstance(settings, FrameShards):
        return _encoding(settings, sample, on_gpu=False)
    with job_backend(settings.flow.backend, gpus) as backend:
        used = settings.on(backend)
        if isinstance(used, WarpedShards):
            used = used.without_masks()
        return _encoding(used, sample, on_gpu=backend in ON_GPU)


def _encoding(settings: ShardSettings, sample: VideoSample, *, on_gpu: bool) -> Rate:
    def encode(clip: list[Frame]) -> list[int]:
        return [len(item) for item in to_items(clip, settings, Resources(), Entry(video="", label="")).encoded]

    encode(sample.clips[0])  # compiles and allocates memory
    begin = time.perf_counter()
    items = [size for clip in sample.clips for size in encode(clip)]
    seconds = (time.perf_counter() - begin) / len(items)
    decoding = 0.0 if settings.frames else sample.decoding_seconds
    return Rate(seconds + decoding, sum(items) / len(items), on_gpu)


def training(settings: TrainSettings, compute: Compute, split: Split) -> Rate:
    """Measure a video of a training step, on the device that the job would use."""
    device = _device(compute)
    torch.set_num_threads(compute.train_threads)
    task = TrainingTask(settings, compute, split, [], None)
    logging.disable(logging.INFO)  # what `auto` stands for, which each training logs
    try:
        made = loop.Training(task, Worker(device))
    finally:
        logging.disable(logging.NOTSET)
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
            precision=made.settled.precision,
            device=device,
        )
        _synchronise(device)

    return Rate(_seconds(step) / videos, on_gpu=device.type == "cuda")


def scoring(settings: TrainSettings, compute: Compute, split: Split) -> Rate:
    """Measure a snippet of a crop of a test video; `settings` are those of the training."""
    device = _device(compute)
    torch.set_num_threads(compute.train_threads)
    network: VideoNetwork = loop.build_network(TrainingTask(settings, compute, split, [], None)).to(device)
    snippets = _random_snippets(settings, _SNIPPETS)[None]

    def step() -> None:
        network.score(snippets, chunk=_SNIPPETS)
        _synchronise(device)

    with full_fp32():
        return Rate(_seconds(step) / _SNIPPETS, on_gpu=device.type == "cuda")


def _seconds(step: Callable[[], None]) -> float:
    """Return the shortest of several runs, after one that compiles and allocates memory."""
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
