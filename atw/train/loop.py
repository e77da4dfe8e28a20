"""The training of one stream in one process, alone or as one of several under torch.distributed. No Ray here.

An iteration is one update on `batch` videos over all workers. Everything random follows from the seed and the
iteration, so a run that was interrupted and resumed gives the same losses as one that was not.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from atw.config import Compute, ListedVideo, Model, Train, TrainSettings
from atw.data.reader import Shards, TrainingSnippets, micro_batches, report_repeats
from atw.datasets import Split
from atw.files import InputError
from atw.model.consensus import AttentionOptions
from atw.model.network import VideoNetwork
from atw.terminal import meter
from atw.train import memory
from atw.train.arithmetic import allow_tf32, autocast, compile_network, memory_format, scaler_of
from atw.train.checkpoints import Checkpoints
from atw.train.history import History
from atw.train.optim import build_optimizer, learning_rate_factor
from atw.train.ray.folder import forkserver
from atw.train.stopping import unheard
from atw.train.update import cut_batch, mixup_share, update
from atw.train.validate import CentreSnippets, Validation

log = logging.getLogger("atw")
_SEED_STRIDE = 1_000_003  # keeps the dropout of neighbouring seeds, iterations and ranks apart
_DEAD = (
    "iteration %d: the attention's rectifier is closed for every snippet of the batch, so the network averages and its "
    "attention learns nothing; if positive_energies in history.jsonl stays 0, raise model.attention_bias, lower "
    "train.learning_rate or take another model.attention_activation"
)


@dataclass(frozen=True)
class Task:
    """One stream to train.

    Args:
        settings: what the result depends on.
        compute: what the job may use.
        split: the split's lists.
        shard_paths: absolute paths of the shards of its videos.
        weights: absolute path of the ImageNet weights, if any.
    """

    settings: TrainSettings
    compute: Compute
    split: Split
    shard_paths: list[Path]
    weights: Path | None


def build_network(task: Task) -> VideoNetwork:
    """The network at its initial weights, the same on every worker."""
    settings, model = task.settings, task.settings.model
    torch.manual_seed(settings.seed)
    return VideoNetwork(
        backbone=model.backbone,
        stream=settings.stream,
        classes=len(task.split.classes),
        stack=settings.stack,
        dropout=model.dropout,
        weights=task.weights,
        consensus=model.consensus,
        segments=settings.sampling.segments,
        attention=AttentionOptions(
            on=model.attention_on,
            activation=model.attention_activation,
            init=model.attention_init,
            std=model.attention_std,
            bias=model.attention_bias,
        ),
        partial_bn=model.partial_bn,
    )


def held_out_videos(split: Split, settings: TrainSettings) -> tuple[ListedVideo, ...]:
    """The training videos of a split that a training by these settings, a model file's too, leaves out."""
    return split.held_out(settings.train.held_out, seed=settings.seed)


def attention_is_dead(row: dict[str, float | None], model: Model) -> bool:
    """Whether the rectifier closed for every snippet of an update: all weights were 1/N, and attention learnt nothing.

    `row` is what `update` gave.
    """
    rectified = model.consensus == "attention" and model.attention_activation == "relu"
    return rectified and row["positive_energies"] == 0


class Training:
    """All that an update changes, and that a checkpoint therefore holds: weights, their average, optimiser, scaling.

    Args:
        task: what to train.
        device: of this worker.
    """

    def __init__(self, task: Task, device: torch.device) -> None:
        settings, compute, train = task.settings, task.compute, task.settings.train
        autocast(compute.precision, device)  # refuses what the device cannot do
        allow_tf32(compute.tf32)
        self.network = build_network(task).to(device)
        self.network.to(memory_format=memory_format(channels_last=compute.channels_last))
        self.average: AveragedModel | None = None
        if train.ema is not None:
            average = get_ema_multi_avg_fn(train.ema)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(self.network, multi_avg_fn=average, use_buffers=True)
        side, self._asked = settings.augment.input_size, compute.microbatch
        self.video = settings.sampling.segments, self.network.channels, side, side
        self.microbatch = memory.micro_batch(
            self._asked,
            self.network,
            video=self.video,
            precision=compute.precision,
            device=device,
            least=2 if train.mixup else 1,
        )
        if compute.compile:
            compile_network(self.network, device)
        self.optimizer = build_optimizer(
            self.network,
            stream=settings.stream,
            learning_rate=train.learning_rate,
            momentum=train.momentum,
            weight_decay=train.weight_decay,
            lr_multipliers=train.lr_multipliers,
        )
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.scaler = scaler_of(compute.precision, device)

    @property
    def result(self) -> VideoNetwork:
        """The network that will be scored, at its present weights: the moving average where there is one."""
        return cast(VideoNetwork, self.average.module) if self.average else self.network

    def state(self, iteration: int) -> dict[str, Any]:
        """What `resume` continues from after so many updates; `final_parameters` finds the result in it."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "microbatch": self.microbatch,
            "iteration": iteration,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave. The scale of fp16 starts anew where the checkpoint was of another precision.

        What `compute.microbatch: auto` chose stays: how dropout falls hangs on it.
        """
        self.network.load_state_dict(state["network"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        if self._asked == "auto":
            self.microbatch = state["microbatch"]

    def agree(self, start: int) -> None:
        """Take the least number of videos at once that any worker has chosen.

        Raises:
            RuntimeError: another worker starts from another iteration: a shared disk shows it an older state.
        """
        found = torch.tensor([self.microbatch, start, -start], device=self.network.backbone.mean.device)
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MIN)
        self.microbatch, first, last = (int(number) for number in found)
        if first != -last:
            raise RuntimeError(f"workers read states of iteration {first} and {-last}")

    def set_learning_rate(self, factor: float) -> None:
        """Move every group to `factor` times its base rate."""
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * factor


def final_parameters(state: dict[str, Any]) -> dict[str, Tensor]:
    """The state dictionary that a model file holds and that is scored: of the moving average where there is one."""
    if state["average"] is None:
        network: dict[str, Tensor] = state["network"]
        return network
    prefix = "module."
    return {name.removeprefix(prefix): value for name, value in state["average"].items() if name.startswith(prefix)}


def run(
    task: Task,
    *,
    device: torch.device,
    rank: int,
    world: int,
    state: dict[str, Any] | None,
    history_path: Path,
    save: Callable[[dict[str, Any]], None],
    stop: Callable[[], bool] = lambda: False,
    board: Path | None = None,
) -> None:
    """Train to the last iteration, or until asked to stop.

    Args:
        task: what to train.
        device: of this worker.
        rank: number of this worker among `world`.
        world: number of workers.
        state: of an interrupted run, as `save` got it; None starts anew.
        history_path: written by rank 0.
        save: called by every worker in the same iterations, as `Checkpoints` says, with the state to resume from.
        stop: asked by rank 0 before each iteration; where it says so, that one is the last, and its state is kept.
        board: folder of files for TensorBoard, written by rank 0; None for none.

    Raises:
        InputError: unusable shards, weights or settings; or the loss became NaN.
    """
    settings, compute, train = task.settings, task.compute, task.settings.train
    training = Training(task, device)
    start = 0
    if state:
        training.resume(state)
        start = state["iteration"]
        log.info("resumed at iteration %d of %d", start, train.iterations)
    if world > 1:
        training.agree(start)
    if rank == 0:
        _report_late_steps(train)
    model: nn.Module = DistributedDataParallel(training.network) if world > 1 else training.network
    cut = cut_batch(batch=train.batch, rank=rank, world=world, micro=training.microbatch)
    pieces = micro_batches(
        start=start,
        stop=train.iterations,
        batch=train.batch,
        rank=rank,
        world=world,
        micro=training.microbatch,
    )
    memory.check_shared(compute.loaders, training.microbatch * math.prod(training.video), processes=world)
    with unheard():
        feed = iter(build_loader(task, pieces, device))
        validation = _validation(task, batch=training.microbatch, device=device, rank=rank, world=world)
    checkpoints = Checkpoints(
        every=compute.checkpoint_every,
        minutes=compute.checkpoint_minutes,
        last=train.iterations,
        world=world,
        device=device,
        stop=stop,
    )
    told = False
    begun, waited = time.monotonic(), 0.0
    training.network.train()
    with (
        memory.explained("training", training.microbatch),
        closing(History(history_path, board, start)) if rank == 0 else nullcontext() as history,
        meter(f"training {settings.stream}", "videos", train.iterations, done=start) as progress,
    ):
        for iteration in range(start, train.iterations):
            checkpoints.begin_iteration()
            factor = learning_rate_factor(
                iteration, schedule=train.schedule, steps=train.steps, iterations=train.iterations, warmup=train.warmup
            )
            training.set_learning_rate(factor)
            torch.manual_seed(((settings.seed * _SEED_STRIDE + iteration) * _SEED_STRIDE + rank) % 2**63)
            row = update(
                model,
                training.optimizer,
                training.scaler,
                feed,
                train=train,
                cut=cut,
                share=mixup_share(train.mixup, seed=settings.seed, iteration=iteration),
                precision=compute.precision,
                device=device,
            )
            if training.average:
                training.average.update_parameters(training.network)
            done = iteration + 1
            if validation and (done % validation.every == 0 or done == train.iterations):
                row |= validation.measure(training.result)
            if history:
                history.add({"iteration": done, **row, "learning_rate": train.learning_rate * factor})
                if not told and attention_is_dead(row, settings.model):
                    told = True
                    log.warning(_DEAD, done)
            waited += row["data_wait_seconds"] or 0.0
            waiting = waited / max(time.monotonic() - begun, 1e-9)
            progress.advance(
                train.batch,
                f"loss {row['loss']:.3f} accuracy {row['accuracy']:.2f} waiting for data {waiting:.0%}",
            )
            if checkpoints.are_due(done):
                save(training.state(done))
            if checkpoints.end:
                break


def _report_late_steps(train: Train) -> None:
    late = [] if isinstance(train.steps, int) else [step for step in train.steps if step >= train.iterations]
    if late and train.schedule == "step":
        log.warning("learning rate steps at %s lie beyond the %d iterations", late, train.iterations)


def _validation(task: Task, *, batch: int, device: torch.device, rank: int, world: int) -> Validation | None:
    settings, compute = task.settings, task.compute
    if not compute.validate_every:
        return None
    shards = Shards(task.shard_paths, settings.shards)
    labels = {listed.video: task.split.classes.index(listed.label) for listed in held_out_videos(task.split, settings)}
    videos, _ = shards.find(list(labels))
    if len(videos) < world:
        raise InputError(
            f"compute.validate_every is {compute.validate_every}, but {len(videos)} held-out videos can be decoded, "
            f"for {world} workers: raise train.held_out, or leave validate_every out"
        )
    snippets = CentreSnippets(shards, videos, [labels[video] for video in videos], settings)
    return Validation(
        snippets,
        every=compute.validate_every,
        batch=batch,
        loaders=compute.loaders,
        device=device,
        rank=rank,
        world=world,
    )


def build_loader(task: Task, pieces: Iterable[list[int]], device: torch.device) -> DataLoader[tuple[Tensor, int]]:
    """Micro-batches of the task's training videos, uint8 [B, N, C, S, S] and labels, at the places that `pieces` name.

    Raises:
        InputError: unusable shards, or a class of which no video is left.
    """
    settings, split = task.settings, task.split
    shards = Shards(task.shard_paths, settings.shards)
    held_out = set(held_out_videos(split, settings))
    labels = {listed.video: split.classes.index(listed.label) for listed in split.train if listed not in held_out}
    videos, quarantined = shards.find(list(labels))
    for video, reason in quarantined:
        log.warning("not trained on %s: %s", video, reason)
    left = {labels[video] for video in videos}
    empty = [name for number, name in enumerate(split.classes) if number not in left and number in labels.values()]
    if empty:
        raise InputError(f"every training video of class {', '.join(empty)} is quarantined; see the log of its shards")
    report_repeats(shards, videos, settings.stack)
    snippets = TrainingSnippets(shards, videos, [labels[video] for video in videos], settings)
    loaders = task.compute.loaders
    return DataLoader(
        snippets,
        batch_sampler=pieces,
        num_workers=loaders,
        multiprocessing_context=forkserver() if loaders else None,
        persistent_workers=False,
        pin_memory=device.type == "cuda",
    )
