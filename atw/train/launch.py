"""Train through Ray: one worker in this process, several on the cluster at RAY_ADDRESS or on a private one.

Ray brings workers, devices and new starts after failures. The state of a training is kept in a folder whose name is a
digest of everything the result depends on: an interrupted training goes on from there, a changed one starts anew.
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
from atw.data.reader import sources
from atw.datasets import Dataset
from atw.files import InputError, atomic_path, digest
from atw.locks import locked
from atw.machine import processor
from atw.model.modelfile import Provenance, TrainedModel, save_model, software, training_record
from atw.model.network import VideoNetwork
from atw.train.checkpoints import State, read_state, write_state
from atw.train.devices import Worker, own_gpus, use_gpu
from atw.train.ray.rendezvous import LoopbackTorchConfig
from atw.train.stopping import StoppedError, finish_or_stop, stop_file
from atw.train.task import TrainingTask, task_of

log = logging.getLogger("atw")


@dataclass(frozen=True)
class Run:
    """What every worker of a training is told.

    Args:
        task: the stream.
        folder: of its state and its history.
        flag: a file whose existence asks the training to end.
        board: folder of files for TensorBoard; None for none.
        threads: CPU threads of each worker.
    """

    task: TrainingTask
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
        settings: the network depends on these.
        dataset: its lists name the videos of the split.
        shard_paths: shards of the split's videos.
        compute: the `compute` section.
        threads: CPU threads of all workers together.
        gpus: GPUs that were reserved.

    Raises:
        InputError: the user can correct it: lists, shards, weights, settings, GPUs.
    """
    task = task_of(settings, dataset, shard_paths, compute)
    on_gpu = use_gpu(compute, reserved=gpus, available=available_gpus(compute, threads))
    network = loop.build_network(task)  # wrong weights fail here, before Ray takes its time to start
    shards = task.shards
    sources(task.shard_paths, task.split, dataset)
    inputs = [settings.to_dict(), shards.digests, network.backbone.weights_sha256, str(out.absolute())]
    place = Path(dataset.name, settings.split, settings.stream)
    folder = Path("checkpoints").absolute() / place / digest(inputs)[:16]
    folder.mkdir(parents=True, exist_ok=True)
    board = Path("logs/tensorboard").absolute() / place / folder.name if compute.tensorboard else None
    run = Run(task, folder, folder.with_suffix(".stop"), board, max(threads // compute.workers, 1))
    # What a killed workflow left running must not use the same files as its successor.
    with locked(folder, "still running this training, left over from an earlier start"):
        state = _train_to_the_end(run, network, threads=threads, gpus=gpus if on_gpu else 0)
        provenance = Provenance(
            shards=shards.digests,
            shard_settings=shards.settings.to_dict(),
            hardware=state["hardware"],
            # The state of a version before `settled` may be the last one.
            compute=compute.model_dump() | {"microbatch": state["microbatch"]} | state.get("settled", {}),
            software=software(),
        )
        training = training_record(folder / "history.jsonl")
        model = TrainedModel(network, task.split.classes, settings, training, provenance)
        save_model(out, model, loop.final_parameters(state))
        with atomic_path(out.parent / "history.jsonl") as temporary:
            shutil.copyfile(folder / "history.jsonl", temporary)
        shutil.rmtree(folder)


def _train_to_the_end(run: Run, network: VideoNetwork, *, threads: int, gpus: int) -> State:
    """Train, and return the last state; end this process if a signal stopped the training before."""
    try:
        if run.task.compute.workers == 1 and not cluster.joined_address():
            signals = train_here(run, network, on_gpu=gpus > 0)
        else:
            signals = _train_on_ray(run, threads=threads, gpus=gpus)
    except StoppedError as error:
        _end(error.number, "start again: training goes on from its last checkpoint, if it has one")
    state = read_state(run.folder)
    if state is None:
        raise InputError(f"training ended without a checkpoint in {run.folder}; delete that folder and start again")
    if state["iteration"] < run.task.settings.train.iterations:
        _end(signals[0], f"start again: training goes on from iteration {state['iteration']}")
    return state


def _end(number: int, remedy: str) -> NoReturn:
    log.info("stopped by %s; %s", signal.Signals(number).name, remedy)
    raise SystemExit(128 + number)


def train_here(run: Run, network: VideoNetwork | None, *, on_gpu: bool) -> list[int]:
    """Train in this process, which Ray Train calls its local mode, and return the signals that came.

    Args:
        run: the training.
        network: at its initial weights, for the first try.
        on_gpu: whether to take a GPU.

    Raises:
        InputError: the user can correct it.
        StoppedError: a signal ended it without a state.
    """
    logging.getLogger("ray.train").setLevel(logging.WARNING)  # at INFO it says that the mode is young
    first = [network]
    with own_gpus(int(on_gpu)) as gpus, stop_file(run.flag, here=True) as caught:
        device = torch.device("cuda", gpus[0]) if gpus else torch.device("cpu")
        trainer = TorchTrainer(
            lambda: _train(run, device, first.pop() if first else None),
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
    """Train by the workers of a Ray, and return the signals that came."""
    compute, folder = run.task.compute, run.folder
    with _ray(threads, gpus):
        trainer = TorchTrainer(
            _worker,
            train_loop_config={"run": run},
            torch_config=LoopbackTorchConfig(backend="nccl" if gpus else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=compute.workers if compute.min_workers is None else (compute.min_workers, compute.workers),
                use_gpu=gpus > 0,
                resources_per_worker=_resources(compute.workers, threads, gpus),
            ),
            run_config=RunConfig(
                name=folder.name,
                storage_path=str(folder.parent),
                failure_config=FailureConfig(max_failures=compute.retries),
                callbacks=[_EndAtInputError()],
            ),
        )
        with stop_file(run.flag) as caught:
            finish_or_stop(lambda: _fit(trainer), caught)
    return caught


def _resources(workers: int, threads: int, gpus: int) -> dict[str, float]:
    # More workers than threads share them; Ray takes fractions of a CPU only below 1.
    share: dict[str, float] = {"CPU": threads // workers if threads >= workers else threads / workers}
    return share | ({"GPU": gpus // workers} if gpus else {})


@contextmanager
def _ray(threads: int, gpus: int) -> Iterator[None]:
    """Join the cluster at RAY_ADDRESS, else a private one with so many threads and GPUs."""
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
            # Ray's helper actors look for their cluster by themselves, and fail if they find several.
            runtime_env={"env_vars": {"RAY_ADDRESS": address}},
        )
    except (ConnectionError, ray.exceptions.AuthenticationError) as error:
        raise InputError(
            f"cannot join the Ray cluster at {address}: {error}; look whether this machine is one of its nodes, and "
            "RAY_AUTH_MODE and the token are those that it was started with"
        ) from None


def available_gpus(compute: Compute, threads: int) -> int:
    """Count the GPUs of this machine, or of the cluster that the training joins.

    Raises:
        InputError: the cluster cannot be joined, or has fewer CPUs than the training's `threads`.
    """
    if not cluster.joined_address():
        return torch.cuda.device_count()
    # The GPUs are those of the cluster's nodes. Ray would wait for ever for missing CPUs.
    with _ray(0, 0):
        resources = ray.cluster_resources()
    cpus = resources.get("CPU", 0)
    needed = threads if compute.min_workers is None else threads * compute.min_workers / compute.workers
    if cpus < needed:
        raise InputError(
            f"the Ray cluster at {cluster.joined_address()} has {cpus:g} CPUs, but this training needs {needed:g}: "
            "lower compute.train_threads, or start again when more nodes have joined"
        )
    return int(resources.get("GPU", 0))


def _fit(trainer: TorchTrainer) -> Any:
    try:
        return trainer.fit()
    except ray.train.TrainingFailedError as error:
        failures = [*getattr(error, "worker_failures", {}).values(), getattr(error, "controller_failure", None)]
        for cause in filter(None, map(_input_error, failures)):
            raise cause from None
        raise


class _EndAtInputError(ray.train.UserCallback):  # type: ignore[misc]  # Ray has no types
    """Ends a training at its first InputError, which another try would meet again."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Raise the InputError, after which Ray does not try again."""
        for cause in filter(None, map(_input_error, worker_exceptions.values())):
            raise cause


def _input_error(failure: BaseException | None) -> InputError | None:
    """Find the InputError that Ray has wrapped, if there is one."""
    while failure is not None and not isinstance(failure, InputError):
        failure = getattr(failure, "_base_exc", None) or getattr(failure, "cause", None) or failure.__cause__
    return failure


def _worker(config: dict[str, Run]) -> None:
    """Train in one of Ray's workers."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    _train(config["run"], get_device(), None)


def _train(run: Run, device: torch.device, network: VideoNetwork | None) -> None:
    """Train from the last state on; every worker reads it, and the first one writes the next."""
    torch.set_num_threads(run.threads)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # else operations without a device take memory on the first GPU
    context = ray.train.get_context()
    worker = Worker(device, context.get_world_rank(), context.get_world_size())

    def save(state: State) -> None:
        if worker.rank == 0:
            write_state(run.folder, state | {"hardware": _hardware(device)})

    loop.run(
        run.task,
        worker,
        network=network,
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
