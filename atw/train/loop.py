"""The training of one stream in one process, alone or as one of several under torch.distributed. No Ray here.

An iteration is one update on `batch` videos over all workers. Everything random follows from the seed and the
iteration, so a run that was interrupted and resumed gives the same losses as one that was not.
"""

import json
import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from atw.data.reader import Shards, TrainingSnippets, micro_batches, report_repeats
from atw.datasets import Split
from atw.files import InputError
from atw.model.consensus import AttentionOptions
from atw.model.network import VideoNetwork
from atw.progress import meter
from atw.train.optim import build_optimizer, learning_rate_factor

log = logging.getLogger("atw")
_SEED_STRIDE = 1_000_003  # keeps the dropout of neighbouring seeds, iterations and ranks apart


@dataclass(frozen=True)
class Task:
    """One stream to train.

    Args:
        settings: what `atw.config.train_settings` gives, with the split's name and digest.
        compute: the `compute` section.
        split: the split's lists.
        shard_paths: absolute paths of the shards of its videos.
        weights: absolute path of the ImageNet weights, if any.
    """

    settings: dict[str, Any]
    compute: dict[str, Any]
    split: Split
    shard_paths: list[Path]
    weights: Path | None


class History:
    """history.jsonl: one line an iteration, cut back to the iteration that a resumed run starts from."""

    def __init__(self, path: Path, iteration: int) -> None:
        kept = [] if not path.exists() else path.read_text(encoding="utf-8").splitlines()[:iteration]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self._stream = path.open("a", encoding="utf-8")

    def add(self, row: dict[str, float]) -> None:
        """Append a line, readable at once by whoever follows the file."""
        self._stream.write(json.dumps(row) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def build_network(task: Task) -> VideoNetwork:
    """The network at its initial weights, the same on every worker."""
    settings = task.settings
    model = settings["model"]
    torch.manual_seed(settings["seed"])
    return VideoNetwork(
        backbone=model["backbone"],
        stream=settings["stream"],
        classes=len(task.split.classes),
        stack=stack_of(settings),
        dropout=model["dropout"],
        weights=task.weights,
        consensus=model["consensus"],
        segments=settings["sampling"]["segments"],
        attention=AttentionOptions(
            on=model["attention_on"],
            activation=model["attention_activation"],
            init=model["attention_init"],
            std=model["attention_std"],
            bias=model["attention_bias"],
        ),
        partial_bn=model["partial_bn"],
    )


def stack_of(settings: dict[str, Any]) -> int:
    """Positions in a snippet: one frame of rgb, `sampling.stack` fields of flow and warped."""
    return 1 if settings["stream"] == "rgb" else int(settings["sampling"]["stack"])


def run(
    task: Task,
    *,
    device: torch.device,
    rank: int,
    world: int,
    state: dict[str, Any] | None,
    history_path: Path,
    save: Callable[[dict[str, Any]], None],
) -> VideoNetwork:
    """Train to the last iteration and return the network.

    Args:
        task: what to train.
        device: of this worker.
        rank: number of this worker among `world`.
        world: number of workers.
        state: of an interrupted run, as `save` got it; None starts anew.
        history_path: written by rank 0.
        save: called by every worker every `checkpoint_every` iterations and at the end, with the state to resume from.

    Raises:
        InputError: unusable shards, weights or settings; or the loss became NaN.
    """
    settings, compute, train = task.settings, task.compute, task.settings["train"]
    network = build_network(task).to(device)
    optimizer = build_optimizer(
        network,
        stream=settings["stream"],
        learning_rate=train["learning_rate"],
        momentum=train["momentum"],
        weight_decay=train["weight_decay"],
        lr_multipliers=train["lr_multipliers"],
    )
    late = [step for step in train["steps"] if step >= train["iterations"]]
    if late and rank == 0:
        log.warning("learning rate steps at %s lie beyond the %d iterations", late, train["iterations"])
    base_rates = [group["lr"] for group in optimizer.param_groups]
    start = 0
    if state:
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["iteration"]
        log.info("resumed at iteration %d of %d", start, train["iterations"])
    model: nn.Module = DistributedDataParallel(network) if world > 1 else network
    pieces = micro_batches(
        start=start,
        stop=train["iterations"],
        batch=train["batch"],
        rank=rank,
        world=world,
        micro=compute["microbatch"],
    )
    feed = iter(_loader(task, pieces, device))
    history = History(history_path, start) if rank == 0 else None
    network.train()
    with meter(f"training {settings['stream']}", "videos", train["iterations"], done=start) as progress:
        for iteration in range(start, train["iterations"]):
            factor = learning_rate_factor(iteration, steps=tuple(train["steps"]), warmup=train["warmup"])
            for group, rate in zip(optimizer.param_groups, base_rates, strict=True):
                group["lr"] = rate * factor
            torch.manual_seed((settings["seed"] * _SEED_STRIDE + iteration) * _SEED_STRIDE + rank)
            row = _update(model, optimizer, feed, train, compute["microbatch"], rank, world, device)
            row = {"iteration": iteration + 1, **row, "learning_rate": train["learning_rate"] * factor}
            if history:
                history.add(row)
            progress.advance(train["batch"], f"loss {row['loss']:.3f} accuracy {row['accuracy']:.2f}")
            done = iteration + 1
            if done % compute["checkpoint_every"] == 0 or done == train["iterations"]:
                save({"network": network.state_dict(), "optimizer": optimizer.state_dict(), "iteration": done})
    if history:
        history.close()
    return network


def _loader(task: Task, pieces: list[list[int]], device: torch.device) -> DataLoader[tuple[Tensor, int]]:
    settings, split = task.settings, task.split
    shards = Shards(task.shard_paths, settings["shards"])
    labels = {listed.video: split.classes.index(listed.label) for listed in split.train}
    videos, quarantined = shards.find(list(labels))
    for video, reason in quarantined:
        log.warning("not trained on %s: %s", video, reason)
    left = {labels[video] for video in videos}
    empty = [name for number, name in enumerate(split.classes) if number not in left and number in labels.values()]
    if empty:
        raise InputError(f"every training video of class {', '.join(empty)} is quarantined; see the log of its shards")
    report_repeats(shards, videos, stack_of(settings))
    snippets = TrainingSnippets(shards, videos, [labels[video] for video in videos], settings, stack_of(settings))
    loaders = task.compute["loaders"]
    return DataLoader(
        snippets,
        batch_sampler=pieces,
        num_workers=loaders,
        # Forking a process that runs Ray's threads can deadlock; a fresh process costs its imports once.
        multiprocessing_context="forkserver" if loaders else None,
        persistent_workers=False,
        pin_memory=device.type == "cuda",
    )


def _update(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    feed: Any,
    train: dict[str, Any],
    micro: int,
    rank: int,
    world: int,
    device: torch.device,
) -> dict[str, float]:
    """One update from as many micro-batches as the worker's share of the batch needs; returns what history records."""
    share = len(range(rank, train["batch"], world))
    steps = -(-share // micro)
    optimizer.zero_grad(set_to_none=True)
    # summed over videos: loss, right answers, flat attention (all energies equal), share of energies above zero
    totals = torch.zeros(4, device=device)
    waited = 0.0
    for step in range(steps):
        asked = time.perf_counter()
        snippets, labels = next(feed)
        waited += time.perf_counter() - asked
        snippets, labels = snippets.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        last = step == steps - 1
        sync = model.no_sync() if isinstance(model, DistributedDataParallel) and not last else nullcontext()
        with sync:
            output = model(snippets)
            loss = F.cross_entropy(output.logits, labels, reduction="sum")
            # The workers' gradients are averaged; times `world` this is the gradient of the mean over the whole batch.
            (loss * (world / train["batch"])).backward()
        flat = (output.energies.amax(1) - output.energies.amin(1)) == 0
        right = output.logits.argmax(1) == labels
        positive = (output.energies > 0).float().mean(1)
        totals += torch.stack([loss.detach(), right.sum(), flat.sum(), positive.sum()])
    if world > 1:
        torch.distributed.all_reduce(totals)
    mean = (totals / train["batch"]).tolist()
    if not torch.isfinite(totals[0]):
        raise InputError("the loss is not finite any more: lower train.learning_rate or train.clip in config.yaml")
    norm = nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], train["clip"])
    optimizer.step()
    return {
        "loss": mean[0],
        "accuracy": mean[1],
        "gradient_norm": float(norm),
        "flat_attention": mean[2],
        "positive_energies": mean[3],
        "data_wait_seconds": waited,
    }
