"""The training of one stream in one process, alone or as one of several under torch.distributed, without Ray.

An iteration is one update on `batch` videos over all workers. Everything random follows from the seed and the
iteration, so a run that was interrupted and resumed gives the same losses as one that was not.
"""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, nullcontext
from copy import copy
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from atw.data.reader import Target, micro_batches
from atw.data.snippets import plan_snippets
from atw.files import InputError
from atw.model.network import VideoNetwork
from atw.terminal import Meter, meter
from atw.train import devices
from atw.train.checkpoints import Checkpoints, State
from atw.train.devices import Worker
from atw.train.history import History, Row
from atw.train.optim import build_optimizer, learning_rate_factor
from atw.train.ray.sockets import forkserver
from atw.train.stopping import ignored_by_children
from atw.train.task import TrainingTask
from atw.train.update import cut_batch, mixup_share, update
from atw.train.validate import CentreSnippets, Validation

log = logging.getLogger("atw")
Feed = Iterator[tuple[Tensor, Tensor]]
_SEED_STRIDE = 1_000_003  # keeps the dropout of neighbouring seeds, iterations and ranks apart
_DEAD = (
    "iteration %d: the attention's rectifier is closed for every snippet of the batch, so the network averages and its "
    "attention learns nothing; if positive_energies in history.jsonl stays 0, raise model.attention_bias, lower "
    "train.learning_rate or take another model.attention_activation"
)


def build_network(task: TrainingTask) -> VideoNetwork:
    """Build the network at its initial weights, the same on every worker."""
    settings = task.settings
    torch.manual_seed(settings.seed)
    return VideoNetwork(
        settings.model,
        settings.sampling,
        stream=settings.stream,
        classes=len(task.split.classes),
        weights=task.weights,
    )


class Training:
    """Everything that an update changes and a checkpoint holds: weights, their average, optimiser, loss scaling.

    Args:
        task: the stream.
        worker: this process.
        network: at its initial weights; None builds it.
    """

    def __init__(self, task: TrainingTask, worker: Worker, network: VideoNetwork | None = None) -> None:
        settings, compute, train = task.settings, task.compute, task.settings.train
        self._task, self._worker, device = task, worker, worker.device
        self.settled = devices.settle(compute, worker)
        devices.autocast(self.settled.precision, device)  # refuses what the device cannot do
        devices.allow_tf32(self.settled.precision == "tf32")
        torch.backends.cudnn.benchmark = True  # every batch has the same shape, so looking for the best kernel pays
        self.network = (network or build_network(task)).to(device)
        self.network.to(memory_format=devices.memory_format(channels_last=compute.channels_last))
        self.average: AveragedModel | None = None
        if train.ema is not None:
            average = get_ema_multi_avg_fn(train.ema)  # type: ignore[no-untyped-call]
            self.average = AveragedModel(self.network, multi_avg_fn=average, use_buffers=True)
        side = settings.augment.input_size
        self.video = settings.sampling.segments, self.network.channels, side, side
        self.microbatch = devices.choose_microbatch(
            compute.microbatch,
            self.network,
            video=self.video,
            precision=self.settled.precision,
            device=device,
            least=2 if train.mixup else 1,
        )
        if compute.compile:
            devices.compile_network(self.network, device)
        self.optimizer = build_optimizer(self.network, settings)
        self._base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.scaler = devices.loss_scaler(self.settled.precision, device)
        self._model: nn.Module = self.network

    @property
    def result(self) -> VideoNetwork:
        """The network that will be scored, at its present weights: the moving average if there is one."""
        return cast(VideoNetwork, self.average.module) if self.average else self.network

    def state(self, iteration: int) -> State:
        """What `resume` continues from after so many updates; `final_parameters` finds the result in it."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "microbatch": self.microbatch,
            "settled": self.settled._asdict(),
            "iteration": iteration,
        }

    def resume(self, state: State) -> None:
        """Continue from a `state`. The scale of fp16 starts anew if the state is of another precision.

        The choice of `compute.microbatch: auto` stays, because the draws of dropout depend on it.
        """
        self.network.load_state_dict(state["network"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        if self._task.compute.microbatch == "auto":
            self.microbatch = state["microbatch"]

    def join(self, start: int) -> None:
        """Train together with the other workers, with the least number of videos at once that any of them has chosen.

        Raises:
            RuntimeError: another worker starts from another iteration: a shared disk shows it an older state.
        """
        least = torch.tensor([self.microbatch, start, -start], device=self._worker.device)
        torch.distributed.all_reduce(least, torch.distributed.ReduceOp.MIN)
        self.microbatch, first, last = (int(number) for number in least)
        if first != -last:
            raise RuntimeError(f"workers read states of iteration {first} and {-last}")
        self._model = DistributedDataParallel(self.network)

    def update(self, feed: Feed, iteration: int) -> Row:
        """Make one update, number `iteration` from 0, and return the history's row of it."""
        settings, train, worker = self._task.settings, self._task.settings.train, self._worker
        factor = learning_rate_factor(iteration, train)
        for group, rate in zip(self.optimizer.param_groups, self._base_rates, strict=True):
            group["lr"] = rate * factor
        torch.manual_seed(((settings.seed * _SEED_STRIDE + iteration) * _SEED_STRIDE + worker.rank) % 2**63)
        row = update(
            self._model,
            self.optimizer,
            self.scaler,
            feed,
            train=train,
            cut=cut_batch(batch=train.batch, rank=worker.rank, world=worker.world, micro=self.microbatch),
            share=mixup_share(train.mixup, seed=settings.seed, iteration=iteration),
            average=iteration < train.average_first * train.iterations,
            precision=self.settled.precision,
            device=worker.device,
        )
        if self.average:
            self.average.update_parameters(self.network)
        return row


def final_parameters(state: State) -> dict[str, Tensor]:
    """The state dictionary that a model file holds and that is scored: of the moving average if there is one."""
    if state["average"] is None:
        network: dict[str, Tensor] = state["network"]
        return network
    prefix = "module."
    return {name.removeprefix(prefix): value for name, value in state["average"].items() if name.startswith(prefix)}


def run(
    task: TrainingTask,
    worker: Worker,
    *,
    network: VideoNetwork | None = None,
    state: State | None,
    history_path: Path,
    save: Callable[[State], None],
    stop: Callable[[], bool] = lambda: False,
    board: Path | None = None,
) -> None:
    """Train to the last iteration, or until asked to stop.

    Args:
        task: the stream.
        worker: this process.
        network: at its initial weights; None builds it.
        state: of an interrupted run, as `save` got it; None starts anew.
        history_path: written by rank 0.
        save: called by every worker in the same iterations, see `Checkpoints`, with the state to resume from.
        stop: asked by rank 0 before each iteration; True makes that one the last, and its state is kept.
        board: folder of files for TensorBoard, written by rank 0; None for none.

    Raises:
        InputError: unusable shards, weights or settings; or the loss became NaN.
    """
    train = task.settings.train
    training = Training(task, worker, network)
    start = _start(training, task, worker, state)
    feed, validation = _open_videos(task, training, worker, start)
    checkpoints = Checkpoints(task.compute, last=train.iterations, worker=worker, stop=stop)
    training.network.train()
    with (
        devices.explain_out_of_memory("training", training.microbatch),
        closing(History(history_path, board, start)) if worker.rank == 0 else nullcontext() as history,
        meter(f"training {task.settings.stream}", "videos", train.iterations, done=start) as progress,
    ):
        report = _Report(task, history, progress)
        for iteration in range(start, train.iterations):
            checkpoints.begin_iteration()
            row = training.update(feed, iteration)
            done = iteration + 1
            if validation and (done % validation.every == 0 or done == train.iterations):
                row |= validation.measure(training.result)
            report.add(row, iteration)
            if checkpoints.are_due(done):
                save(training.state(done))
            if checkpoints.end:
                break


def _start(training: Training, task: TrainingTask, worker: Worker, state: State | None) -> int:
    """Resume a training, join the other workers, and return the number of updates that were made already."""
    start, train = 0, task.settings.train
    if state:
        training.resume(state)
        start = state["iteration"]
        log.info("resumed at iteration %d of %d", start, train.iterations)
    if worker.world > 1:
        training.join(start)
    late = [] if isinstance(train.steps, int) else [step for step in train.steps if step >= train.iterations]
    if late and train.schedule == "step" and worker.rank == 0:
        log.warning("learning rate steps at %s lie beyond the %d iterations", late, train.iterations)
    return start


def _open_videos(task: TrainingTask, training: Training, worker: Worker, start: int) -> tuple[Feed, Validation | None]:
    loaders, train = training.settled.loaders, task.settings.train
    pieces = micro_batches(
        start=start,
        stop=train.iterations,
        batch=train.batch,
        rank=worker.rank,
        world=worker.world,
        micro=training.microbatch,
    )
    batch_bytes = training.microbatch * math.prod(training.video)
    devices.check_shared_memory(loaders, batch_bytes, processes=worker.world)
    with ignored_by_children():
        feed = iter(build_loader(task, pieces, worker.device, loaders=loaders))
        return feed, _validation(task, training, worker) if task.compute.validate_every else None


class _Report:
    """Writes the history and shows the progress of a training."""

    def __init__(self, task: TrainingTask, history: History | None, progress: Meter) -> None:
        self._task, self._history, self._progress = task, history, progress
        self._begin, self._waited, self._warned = time.monotonic(), 0.0, False

    def add(self, row: Row, iteration: int) -> None:
        settings, train = self._task.settings, self._task.settings.train
        if self._history:
            rate = train.learning_rate * learning_rate_factor(iteration, train)
            self._history.add({"iteration": iteration + 1, **row, "learning_rate": rate})
            model = settings.model
            rectified = model.consensus == "attention" and model.attention_activation == "relu"
            if rectified and row["positive_energies"] == 0 and not self._warned:
                self._warned = True
                log.warning(_DEAD, iteration + 1)
        self._waited += row["data_wait_seconds"] or 0.0
        waiting = self._waited / max(time.monotonic() - self._begin, 1e-9)
        note = f"loss {row['loss']:.3f} accuracy {row['accuracy']:.2f} waiting for data {waiting:.0%}"
        self._progress.advance(train.batch, note)


def _validation(task: TrainingTask, training: Training, worker: Worker) -> Validation:
    compute, targets = task.compute, task.targets(held_out=True)
    shards = copy(task.shards)
    videos, _ = shards.find(list(targets))
    if len(videos) < worker.world:
        raise InputError(
            f"compute.validate_every is {compute.validate_every}, but {len(videos)} held-out videos can be decoded, "
            f"for {worker.world} workers: raise train.held_out, or leave validate_every out"
        )
    planned = plan_snippets(
        task.shard_paths,
        videos,
        task.settings,
        task.settings.sampling.segments,
        intervals=task.intervals,
        classes=task.split.classes,
    )
    actions = planned.actions.locate(planned.seconds, planned.positions >= 0)
    snippets = CentreSnippets(shards, videos, [targets[video] for video in videos], planned.starts, task.settings)
    return Validation(
        snippets,
        actions,
        every=compute.validate_every or 0,
        batch=training.microbatch,
        loaders=training.settled.loaders,
        worker=worker,
    )


def build_loader(
    task: TrainingTask, pieces: Iterable[list[int]], device: torch.device, *, loaders: int
) -> DataLoader[tuple[Tensor, Target]]:
    """Load micro-batches of the training videos, uint8 [B, N, C, S, S] and targets, see `TrainingTask.snippets`.

    Args:
        task: whose videos.
        pieces: places of each micro-batch.
        device: that they are for.
        loaders: processes that read them; 0: this one does.
    """
    return DataLoader(
        task.snippets(),
        batch_sampler=pieces,
        num_workers=loaders,
        multiprocessing_context=forkserver() if loaders else None,
        persistent_workers=False,
        pin_memory=device.type == "cuda",
    )
