"""Training through Ray: joins the cluster at RAY_ADDRESS, or brings a private one; the only file that imports Ray.

Ray finds a run again by its name, which therefore holds a digest of everything the result depends on: an interrupted
training goes on from its last checkpoint, a changed one starts anew.
"""

import fcntl
import logging
import os
import platform
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Ray reads these when it is imported: no usage reports, no metrics server, and for a private cluster, whose servers
# listen on every interface whatever they are told, a token that only its own processes know.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_METRICS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
os.environ.setdefault("RAY_COLOR_PREFIX", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
if "RAY_ADDRESS" not in os.environ:
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)

import ray
import ray.train
import torch
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer, get_device

from atw.config import Compute
from atw.data.reader import Shards
from atw.datasets import Dataset
from atw.files import InputError, digest
from atw.train import loop
from atw.train.devices import use_gpu
from atw.train.modelfile import save_model

log = logging.getLogger("atw")
_STATE = "state.pt"
_OBJECT_STORE_BYTES = 100_000_000  # DDP does not use it; the default is a third of the memory


def launch(
    out: Path,
    settings: dict[str, Any],
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
        settings: what `atw.config.train_settings` gives, with the split's name and digest.
        dataset: whose lists say what the split trains on.
        shard_paths: shards of the split's videos.
        compute: the `compute` section.
        threads: CPU threads of all workers together.
        gpus: GPUs that were reserved.

    Raises:
        InputError: whatever the user can mend: lists, shards, weights, settings, GPUs.
    """
    split = dataset.split(settings["split"])
    if split.digest() != settings["videos"]:
        raise InputError(f"the lists of dataset {dataset.name} changed since this job was planned; start again")
    held_out = loop.held_out_videos(split, settings)
    if held_out:
        log.info("%d of %d training videos are held out", len(held_out), len(split.train))
    weights = settings["model"]["weights"]
    task = loop.Task(
        settings,
        compute.model_dump(),
        split,
        [path.absolute() for path in shard_paths],
        weights and Path(weights).absolute(),
    )
    on_gpu = use_gpu(compute, reserved=gpus, available=_available_gpus())
    network = loop.build_network(task)  # wrong weights fail here, before Ray takes its time to start
    shards = Shards(task.shard_paths, settings["shards"])
    weights_sha256 = network.backbone.weights_sha256
    run_name = digest([settings, shards.digests, weights_sha256, str(out.absolute())])[:16]
    storage = Path("checkpoints").absolute() / dataset.name / settings["split"] / settings["stream"]
    folder = storage / run_name
    board = Path("logs/tensorboard").absolute() / dataset.name / settings["split"] / settings["stream"] / run_name
    with _only_one(folder), _cluster(threads, gpus if on_gpu else 0):
        trainer = TorchTrainer(
            _worker,
            train_loop_config={
                "task": task,
                "folder": str(folder),
                "board": str(board) if compute.tensorboard else None,
                "threads": max(threads // compute.workers, 1),
            },
            torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=compute.workers,
                use_gpu=on_gpu,
                resources_per_worker=_resources(compute.workers, threads, gpus if on_gpu else 0),
            ),
            run_config=RunConfig(
                name=run_name,
                storage_path=str(storage),
                failure_config=FailureConfig(max_failures=compute.retries),
                checkpoint_config=CheckpointConfig(num_to_keep=2),
            ),
        )
        result = _fit(trainer)
        if result.checkpoint is None:
            raise InputError(f"training ended without a checkpoint in {folder}; delete that folder and start again")
        with result.checkpoint.as_directory() as checkpoint:
            state = torch.load(Path(checkpoint) / _STATE, map_location="cpu", weights_only=True)
        provenance = {
            "shards": shards.digests,
            "shard_settings": shards.settings,
            "hardware": state["hardware"],
            "compute": compute.model_dump(),
        }
        save_model(out, task, network.to_record(), loop.final_parameters(state), provenance, folder / "history.jsonl")
        shutil.copyfile(folder / "history.jsonl", out.parent / "history.jsonl")
        shutil.rmtree(folder)


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the run's lock: what a killed workflow left running must not meet its successor in the same files."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise InputError(
                f"this training is still running as process {lock.read().strip()}, left over from an earlier start: "
                "wait until it has ended or end it (kill), then start again"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()} on {platform.node()}")
        lock.flush()
        yield


def _available_gpus() -> int:
    if "RAY_ADDRESS" not in os.environ:
        return torch.cuda.device_count()
    # A joined cluster's GPUs are on its nodes, which need not be this one; Ray would wait for ever for one it lacks.
    with _cluster(0, 0):
        return int(ray.cluster_resources().get("GPU", 0))


def _resources(workers: int, threads: int, gpus: int) -> dict[str, float]:
    # More workers than threads share them; Ray takes fractions of a CPU only below 1.
    share: dict[str, float] = {"CPU": threads // workers if threads >= workers else threads / workers}
    return share | ({"GPU": gpus // workers} if gpus else {})


@contextmanager
def _cluster(threads: int, gpus: int) -> Iterator[None]:
    if "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=True, logging_level=logging.WARNING)
        try:
            yield
        finally:
            ray.shutdown()
        return
    # A short path: Ray puts sockets below it, whose names may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="atw-", ignore_cleanup_errors=True) as folder:
        ray.init(
            num_cpus=threads,
            num_gpus=gpus,
            include_dashboard=True,  # without it a cleaner of Ray's logs an error every second
            dashboard_host="127.0.0.1",
            object_store_memory=_OBJECT_STORE_BYTES,
            logging_level=logging.WARNING,
            _temp_dir=folder,
        )
        try:
            yield
        finally:
            ray.shutdown()


def _fit(trainer: TorchTrainer) -> Any:
    try:
        return trainer.fit()
    except ray.train.TrainingFailedError as error:
        # Ray wraps what a worker raised; a wrong input goes on to the user as the one message that it is.
        for failure in getattr(error, "worker_failures", {}).values():
            cause: BaseException | None = failure
            while cause is not None:
                if isinstance(cause, InputError):
                    raise cause from None
                cause = getattr(cause, "_base_exc", None) or getattr(cause, "cause", None) or cause.__cause__
        raise


def _worker(config: dict[str, Any]) -> None:
    """What each Ray worker runs."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    torch.set_num_threads(config["threads"])
    task: loop.Task = config["task"]
    folder = Path(config["folder"])
    context = ray.train.get_context()
    rank = context.get_world_rank()
    device = get_device()
    state = None
    checkpoint = ray.train.get_checkpoint()
    if checkpoint:
        with checkpoint.as_directory() as directory:
            state = torch.load(Path(directory) / _STATE, map_location="cpu", weights_only=True)

    def save(state: dict[str, Any]) -> None:
        metrics = {"iteration": state["iteration"]}
        if rank:
            ray.train.report(metrics)
            return
        try:
            with tempfile.TemporaryDirectory() as directory:
                # An open file raises OSError where torch's own raises whatever it likes.
                with (Path(directory) / _STATE).open("wb") as stream:
                    torch.save(state | {"hardware": _hardware(device)}, stream)
                ray.train.report(metrics, checkpoint=Checkpoint.from_directory(directory))
        except OSError as error:
            raise InputError(
                f"cannot write a checkpoint into {folder}, by way of {tempfile.gettempdir()}: {error}; free some space "
                "there and start again: training goes on from its last checkpoint"
            ) from None

    loop.run(
        task,
        device=device,
        rank=rank,
        world=context.get_world_size(),
        state=state,
        history_path=folder / "history.jsonl",
        save=save,
        board=config["board"] and Path(config["board"]),
    )


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    names = [line for line in _cpu_lines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else "CPU"


def _cpu_lines() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
