"""The steps of `benchmarks.gpu_check`, each a process of its own: `python -m benchmarks.gpu_check.steps STEP ...`.

A step prints what it found out as one JSON object, in its last line.
"""

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atw.config import Compute, Flow, Model, Sampling
from atw.data.reader import micro_batches
from atw.datasets.demo import CLASSES
from atw.extras.demo.render import FPS, render_clip, write_clip
from atw.extras.doctor.speed import texture
from atw.files import InputError
from atw.flow import cuda, parameters
from atw.flow.pairs import Images
from atw.machine import usable_cores
from atw.model.modelfile import software
from atw.model.network import VideoNetwork
from atw.train import loop
from atw.train.devices import Worker, full_fp32
from atw.train.task import TrainingTask
from benchmarks import training
from benchmarks.flow import gpu
from benchmarks.material import video_pairs
from benchmarks.stored import STREAMS, store
from benchmarks.training import synchronise, this_device

Found = dict[str, Any]
# Enough work for a GPU, and little enough for two cores.
TRAINING: dict[str, dict[str, Any]] = {
    "cuda": {"backbone": "resnet50", "batch": 128, "microbatch": 32, "loaders": min(12, usable_cores())},
    "cpu": {"backbone": "resnet18", "batch": 4, "microbatch": 4, "loaders": 0},
}
CHECKED_PAIRS = 12
EPOCH_BATCH, LARGEST_DIFFERENCE = 8, 0.02
"""Videos of an update, and how far apart the losses of an update may be on GPU and CPU."""


def environment() -> Found:
    """Driver, cards and packages, and whether each of torch and the flow can use the GPU."""
    found: Found = {"cores": usable_cores(), "flow": cuda.unusable() or "can use the GPU"}
    query = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader")
    if shutil.which(query[0]):
        listed = subprocess.run(query, check=True, capture_output=True, text=True).stdout
        found["cards"] = " / ".join(listed.splitlines())
    found["training"] = "can use the GPU" if torch.cuda.is_available() else f"cannot (CUDA {torch.version.cuda})"
    with contextlib.suppress(OSError):
        found["MiB in /dev/shm"] = shutil.disk_usage("/dev/shm").free >> 20
    return found | software()


def clips(folder: Path, count: int) -> Found:
    """Render clips of the demo, a folder a class."""
    for number in range(count):
        label = CLASSES[number % len(CLASSES)]
        path = folder / label / f"{number}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_clip(path, render_clip(label, seed=number).frames)
    return {"clips": count, "frames per second": FPS}


def small_pairs() -> tuple[Images, Images]:
    """Three pairs of 120 x 90 px that move: uint8 [3, H, W] twice."""
    first, second = (np.ascontiguousarray(images[:, :90, :120]) for images in texture(3))
    return first, second


def small_flow() -> Found:
    """A small flow on the GPU, for programs that look on."""
    settings = parameters(Flow(levels=2, warps=1, iterations=20, epsilon=0.05))
    flow = cuda.solve(*small_pairs(), settings, 1)
    return {"mean px": round(float(flow.mean()), 4)}


def first_flow() -> Found:
    """What the first use of the flow takes in a process, compilation and all, and the next ones."""
    first, second = texture(4)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        cuda.solve(first, second, parameters(Flow(preset="opencv4")), 1)
        seconds.append(round(time.perf_counter() - began, 3))
    return {"seconds of three solves": seconds}


def flow_speed(folder: Path, opencv_cuda: Path | None = None) -> Found:
    """Pairs a second by preset and batch, beside the CPU on all cores, and how far apart their stored levels are."""
    video = video_pairs(folder, CHECKED_PAIRS)
    found = gpu.measure(video, opencv_cuda)
    shown: Found = {"share of the floor in the iterations": f"{found['cuda']['iteration_share']:.0%}"}
    for name, one in found["cuda"]["schedules"].items():
        began = time.perf_counter()
        gpu.solve(video.first, video.second, gpu.SCHEDULES[name], "numba")
        on_cpu = CHECKED_PAIRS / (time.perf_counter() - began)
        rates = {batch: round(rate) for batch, rate in one["pairs_s"].items()}
        shown[name] = f"pairs/s {rates}, on the CPU {on_cpu:.0f}, levels apart {one['levels']:.4f}"
    theirs = found["opencv"]
    shown["OpenCV on the GPU"] = theirs["reason"] or {
        name: f"{one['pairs_s']:.0f} pairs/s" for name, one in theirs["schedules"].items()
    }
    return shown


def train(folder: Path, precision: str) -> Found:
    """Videos a second of training from shards and from memory, and the memory that it takes."""
    on = this_device()
    asked = argparse.Namespace(**TRAINING[on.type], precision=precision, threads=min(4, usable_cores()))
    torch.set_num_threads(asked.threads)
    sections = {"model": {"backbone": asked.backbone, "weights": None}, "train": {"batch": asked.batch}}
    shown: Found = {name: getattr(asked, name) for name in ("backbone", "batch", "loaders")}
    with tempfile.TemporaryDirectory() as out:
        stored = store(folder, Path(out), videos=CHECKED_PAIRS, threads=asked.threads, **sections)
        for stream in STREAMS if on.type == "cuda" else STREAMS[1:]:
            if on.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            one = training.measure(stored, stream, asked, on)
            shown[stream] = (
                f"videos/s {one.from_shards:.1f}, from memory {one.from_memory:.1f}, waiting {one.waiting:.0%}"
            )
            if on.type == "cuda":
                shown[stream] += f", {torch.cuda.max_memory_allocated() / 1e9:.1f} GB"
    return shown


def scoring() -> Found:
    """Snippets a second through a network in evaluation mode, from memory."""
    on = this_device()
    backbone = TRAINING[on.type]["backbone"]
    network = VideoNetwork(Model(backbone=backbone, weights=None), Sampling(), stream="flow", classes=101).to(on)
    snippets = torch.randint(0, 256, (10, 25 if on.type == "cuda" else 3, 10, 224, 224), dtype=torch.uint8)
    with full_fp32():
        network.score(snippets, chunk=128)
        synchronise(on)
        began = time.perf_counter()
        network.score(snippets, chunk=128)
        synchronise(on)
    seconds = time.perf_counter() - began
    return {"backbone": backbone, "snippets/s": round(snippets.shape[0] * snippets.shape[1] / seconds)}


def epoch(folder: Path) -> Found:
    """An epoch of the demo's network on GPU and CPU in full fp32: the losses of each update are the same.

    Without dropout, because its draws differ from device to device.

    Raises:
        InputError: they differ by more than rounding does.
    """
    model = {"backbone": "tiny", "weights": None, "dropout": 0.0, "partial_bn": "none", "attention_init": "ones"}
    sections: dict[str, Any] = {"model": model, "train": {"batch": EPOCH_BATCH, "learning_rate": 0.03, "clip": 5}}
    with tempfile.TemporaryDirectory() as out:
        stored = store(folder, Path(out), videos=1000, threads=usable_cores(), **sections)
        compute = Compute(loaders=0, microbatch=EPOCH_BATCH, precision="fp32")
        losses = [list(_losses(stored.task("flow", compute), on)) for on in ("cpu", "cuda")]
    largest = float(np.ptp(losses, axis=0).max())
    if largest > LARGEST_DIFFERENCE:
        raise InputError(f"losses are up to {largest:.2g} apart: {losses}")
    return {"updates": len(losses[0]), "losses at most apart": f"{largest:.2g} of {LARGEST_DIFFERENCE} allowed"}


def _losses(task: TrainingTask, on: str) -> Iterator[float]:
    """The loss of each update of an epoch."""
    made = loop.Training(task, Worker(torch.device(on)))
    made.network.train()
    updates = len(task.targets(held_out=False)) // EPOCH_BATCH
    places = micro_batches(start=0, stop=updates, batch=EPOCH_BATCH, rank=0, world=1, micro=EPOCH_BATCH)
    feed = iter(loop.build_loader(task, places, torch.device(on), loaders=0))
    for iteration in range(updates):
        yield float(made.update(feed, iteration)["loss"] or 0)


STEPS: dict[str, Callable[..., Found]] = {
    "environment": environment,
    "clips": lambda folder, count: clips(Path(folder), int(count)),
    "first_flow": first_flow,
    "small_flow": small_flow,
    "flow_speed": lambda folder, *opencv: flow_speed(Path(folder), *map(Path, opencv)),
    "training": lambda folder, precision: train(Path(folder), precision),
    "scoring": scoring,
    "epoch": lambda folder: epoch(Path(folder)),
}


if __name__ == "__main__":
    try:
        print(json.dumps(STEPS[sys.argv[1]](*sys.argv[2:])))
    except InputError as error:
        sys.exit(f"error: {error}")
