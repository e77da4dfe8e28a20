"""Training through Ray: in this process where one worker does, else on the cluster at RAY_ADDRESS or a private one.

Ray brings workers, devices and new starts after failures; a training's state is kept in a folder of its own, whose name
is a digest of everything the result depends on: an interrupted training goes on from there, a changed one starts anew.
"""

import logging
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from atw.train import loop
from atw.train.ray import cluster

os.environ.update(cluster.environment())  # Ray reads it when it is imported

import ray
import ray.exceptions
import ray.train
import torch
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device

from atw.config import Compute, TrainSettings
from atw.data.reader import Shards
from atw.data.sources import sources
from atw.datasets import Dataset
from atw.files import InputError, atomic_path, digest
from atw.locks import locked
from atw.machine import processor
from atw.train.checkpoints import read_state, write_state
from atw.train.devices import own_gpus, use_gpu
from atw.train.modelfile import save_model
from atw.train.ray.meeting import Meeting
from atw.train.stopping import StoppedError, attended, heeded

log = logging.getLogger("atw")


@dataclass(frozen=True)
class Run:
    """What every worker of a training is told.

    Args:
        task: what to train.
        folder: of its state and its history.
        flag: a file that is there once the training is to end.
        board: folder of files for TensorBoard; None for none.
        threads: CPU threads of each worker.
    """

    task: loop.Task
    folder: Path
    flag: Path
    board: Path | None
    threads: int


def launch(
    out: Path,
    settings: TrainSettings,
    dataset: Dataset,
    shard_paths: list[Path],
    compute: Compute,
    *,
    threads: int,
    gpus: int,
) -> None:
    """Train one stream and write model.pt at `out`, with history.jsonl beside it.

    Args:
        out: path of the model.
        settings: what the network depends on.
        dataset: whose lists say what the split trains on.
        shard_paths: shards of the split's videos.
        compute: the `compute` section.
        threads: CPU threads of all workers together.
        gpus: GPUs that were reserved.

    Raises:
        InputError: whatever the user can mend: lists, shards, weights, settings, GPUs.
    """
    split = dataset.split(settings.split)
    if split.digest() != settings.videos:
        raise InputError(f"the lists of dataset {dataset.name} changed since this job was planned; start again")
    held_out = loop.held_out_videos(split, settings)
    if held_out:
        log.info("%d of %d training videos are held out", len(held_out), len(split.train))
    weights = settings.model.weights
    task = loop.Task(
        settings,
        compute,
        split,
        [path.absolute() for path in shard_paths],
        Path(weights).absolute() if weights else None,
    )
    on_gpu = use_gpu(compute, reserved=gpus, available=_cluster_has(compute, threads))
    network = loop.build_network(task)  # wrong weights fail here, before Ray takes its time to start
    shards = Shards(task.shard_paths, settings.shards)
    sources(task.shard_paths, split, dataset)
    weights_sha256 = network.backbone.weights_sha256
    run_name = digest([settings.to_dict(), shards.digests, weights_sha256, str(out.absolute())])[:16]
    storage = Path("checkpoints").absolute() / dataset.name / settings.split / settings.stream
    folder = storage / run_name
    board = Path("logs/tensorboard").absolute() / dataset.name / settings.split / settings.stream / run_name
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(
        task,
        folder,
        flag=folder.with_suffix(".stop"),
        board=board if compute.tensorboard else None,
        threads=max(threads // compute.workers, 1),
    )
    # What a killed workflow left running must not meet its successor in the same files.
    with locked(folder, "still running this training, left over from an earlier start"):
        try:
            if compute.workers == 1 and not cluster.joined_address():
                stopped = train_here(run, on_gpu=on_gpu)
            else:
                stopped = _train_on_ray(run, threads=threads, gpus=gpus if on_gpu else 0)
        except StoppedError as error:
            _end(error.number, "start again: training goes on from its last checkpoint, if it has one")
        state = read_state(folder)
        if state is None:
            raise InputError(f"training ended without a checkpoint in {folder}; delete that folder and start again")
        if state["iteration"] < settings.train.iterations:
            _end(stopped[0], f"start again: training goes on from iteration {state['iteration']}")
        provenance = {
            "shards": shards.digests,
            "shard_settings": shards.settings.to_dict(),
            "hardware": state["hardware"],
            "compute": compute.model_dump() | {"microbatch": state["microbatch"]},
        }
        save_model(out, task, network.to_record(), loop.final_parameters(state), provenance, folder / "history.jsonl")
        with atomic_path(out.parent / "history.jsonl") as temporary:
            shutil.copyfile(folder / "history.jsonl", temporary)
        shutil.rmtree(folder)


def _end(number: int, remedy: str) -> NoReturn:
    log.info("stopped by %s; %s", signal.Signals(number).name, remedy)
    raise SystemExit(128 + number)


def train_here(run: Run, *, on_gpu: bool) -> list[int]:
    """Train in this process, which Ray Train calls its local mode; gives the signals that came.

    Raises:
        InputError: whatever the user can mend.
        StoppedError: a signal ended it without a state.
    """
    logging.getLogger("ray.train").setLevel(logging.WARNING)  # it says at INFO that the mode is young
    with own_gpus(int(on_gpu)) as gpus, heeded(run.flag, here=True) as caught:
        device = torch.device("cuda", gpus[0]) if gpus else torch.device("cpu")
        trainer = TorchTrainer(
            lambda: _train(run, device),
            scaling_config=ScalingConfig(num_workers=0, use_gpu=on_gpu),
        )
        for tries_left in range(run.task.compute.retries, -1, -1):
            try:
                trainer.fit()
                break
            except InputError:
                raise
            except Exception as error:
                if caught or not tries_left:
                    raise
                log.warning("RETRY: the training failed, and goes on from its last checkpoint: %s", error)
    return caught


def _train_on_ray(run: Run, *, threads: int, gpus: int) -> list[int]:
    """Train by the workers of a Ray; gives the signals that came."""
    compute, folder = run.task.compute, run.folder
    with _ray(threads, gpus):
        trainer = TorchTrainer(
            _worker,
            train_loop_config={"run": run},
            torch_config=Meeting(backend="nccl" if gpus else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=compute.workers if compute.min_workers is None else (compute.min_workers, compute.workers),
                use_gpu=gpus > 0,
                resources_per_worker=_resources(compute.workers, threads, gpus),
            ),
            run_config=RunConfig(
                name=folder.name,
                storage_path=str(folder.parent),
                failure_config=FailureConfig(max_failures=compute.retries),
                callbacks=[_Refusal()],
            ),
        )
        with heeded(run.flag) as caught:
            attended(lambda: _fit(trainer), caught)
    return caught


def _resources(workers: int, threads: int, gpus: int) -> dict[str, float]:
    # More workers than threads share them; Ray takes fractions of a CPU only below 1.
    share: dict[str, float] = {"CPU": threads // workers if threads >= workers else threads / workers}
    return share | ({"GPU": gpus // workers} if gpus else {})


@contextmanager
def _ray(threads: int, gpus: int) -> Iterator[None]:
    """Join the cluster at RAY_ADDRESS, else one of our own with so many threads and GPUs."""
    address = cluster.joined_address()
    with nullcontext(address) if address else cluster.own_ray(cpus=threads, gpus=gpus) as address:
        _join(address)
        try:
            yield
        finally:
            ray.shutdown()


def _join(address: str) -> None:
    cluster.check_reachable(address)
    try:
        ray.init(
            address=address,
            log_to_driver=True,
            logging_level=logging.WARNING,
            # Ray's helper actors look for their cluster by themselves, and give up where they find several.
            runtime_env={"env_vars": {"RAY_ADDRESS": address}},
        )
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        raise InputError(
            f"cannot join the Ray cluster at {address}: {error}; look whether this machine is one of its nodes, and "
            "RAY_AUTH_MODE and the token are those that it was started with"
        ) from None


def _cluster_has(compute: Compute, threads: int) -> int:
    """GPUs that the training can get, of this machine or of the cluster that it joins; the CPUs must be there."""
    if not cluster.joined_address():
        return torch.cuda.device_count()
    # They are on the cluster's nodes, which need not be this one; Ray would wait for ever for what it lacks.
    with _ray(0, 0):
        there = ray.cluster_resources()
    cpus = there.get("CPU", 0)
    wanted = threads if compute.min_workers is None else threads * compute.min_workers / compute.workers
    if cpus < wanted:
        raise InputError(
            f"the Ray cluster at {cluster.joined_address()} has {cpus:g} CPUs, but this training needs {wanted:g}: "
            "lower compute.train_threads, or start again when more nodes have joined"
        )
    return int(there.get("GPU", 0))


def _fit(trainer: TorchTrainer) -> Any:
    try:
        return trainer.fit()
    except ray.train.TrainingFailedError as error:
        failures = [*getattr(error, "worker_failures", {}).values(), getattr(error, "controller_failure", None)]
        for cause in filter(None, map(_wrong_input, failures)):
            raise cause from None
        raise


class _Refusal(ray.train.UserCallback):  # type: ignore[misc]  # Ray has no types
    """Ends a training whose input is wrong at the first try: another one would say the same."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Raise the wrong input, which Ray does not try again."""
        for cause in filter(None, map(_wrong_input, worker_exceptions.values())):
            raise cause


def _wrong_input(failure: BaseException | None) -> InputError | None:
    """The one message that Ray has wrapped, if there is one."""
    while failure is not None and not isinstance(failure, InputError):
        failure = getattr(failure, "_base_exc", None) or getattr(failure, "cause", None) or failure.__cause__
    return failure


def _worker(config: dict[str, Run]) -> None:
    """What each Ray worker runs."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    _train(config["run"], get_device())


def _train(run: Run, device: torch.device) -> None:
    """Train from the last state on; every worker reads it, the first one writes the next."""
    torch.set_num_threads(run.threads)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # what names no device would be computed on the first, and take memory there
    context = ray.train.get_context()
    rank = context.get_world_rank()

    def save(state: dict[str, Any]) -> None:
        if rank == 0:
            write_state(run.folder, state | {"hardware": _hardware(device)})

    loop.run(
        run.task,
        device=device,
        rank=rank,
        world=context.get_world_size(),
        state=read_state(run.folder),
        history_path=run.folder / "history.jsonl",
        save=save,
        stop=run.flag.exists,
        board=run.board,
    )


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return processor()
