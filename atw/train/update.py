"""One update of a network: micro-batches forward and backward, their gradients summed, clipped and applied.

The loss is the cross-entropy of the videos' scores, averaged over the whole batch. However the batch is cut into
workers and micro-batches, the gradient is the same, as far as no layer looks at several videos at a time.

Mixup mixes two videos of a micro-batch, snippet by snippet, with one share for the whole update. It mixes levels
0..255 in float32: normalisation is an affine function, so this is the mixture of the normalised inputs.

Shapes: B videos of a micro-batch, N snippets, K classes.
"""

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from atw.config import Train
from atw.files import InputError
from atw.model.network import Output
from atw.train.devices import autocast

_MIXUP = 0x6D69787570
"""Keeps the draws of shares apart from those of samples, which follow from the seed and small numbers too."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How the batch of an update is cut: `batch` videos over `world` workers, and a worker's into `pieces`."""

    batch: int
    world: int
    pieces: int


def cut_batch(*, batch: int, rank: int, world: int, micro: int) -> Cut:
    """Cut a batch as `atw.data.reader.micro_batches` does, into pieces of at most `micro` videos."""
    return Cut(batch=batch, world=world, pieces=-(-len(range(rank, batch, world)) // micro))


def mixup_share(alpha: float | None, *, seed: int, iteration: int) -> float:
    """Draw the share of the first video in an update's mixtures, Beta(alpha, alpha); 1 without mixing.

    It follows from seed and iteration alone, so workers agree on it and a resumed run draws it again.
    """
    return 1.0 if alpha is None else float(np.random.default_rng([seed, iteration, _MIXUP]).beta(alpha, alpha))


def mix(snippets: Tensor, share: float) -> Tensor:
    """Mix each video [N, C, S, S] of a micro-batch with the one at the mirrored place: float32 [B, N, C, S, S]."""
    levels = snippets.float()
    return torch.lerp(levels.flip(0), levels, share)


def update(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    feed: Iterator[tuple[Tensor, Tensor]],
    *,
    train: Train,
    cut: Cut,
    share: float,
    average: bool = False,
    precision: str,
    device: torch.device,
) -> dict[str, float | None]:
    """Make one update and give what history records of it.

    Args:
        model: the network, or the network under DistributedDataParallel.
        optimizer: whose learning rates are those of this iteration.
        scaler: from `loss_scaler`.
        feed: micro-batches, snippets uint8 [B, N, C, S, S] and targets, int64 [B] or float32 [B, K]; `cut.pieces` are
            taken.
        train: label smoothing and the norm at which gradients are clipped.
        cut: of the batch.
        share: what `mixup_share` drew.
        average: whether the snippets are averaged, whatever the consensus is.
        precision: of the forward pass.
        device: of the model.

    Raises:
        InputError: the loss became infinite or NaN.
    """
    optimizer.zero_grad(set_to_none=True)
    totals = torch.zeros(6, device=device)
    waited = 0.0
    for piece in range(cut.pieces):
        asked = time.perf_counter()
        snippets, targets = next(feed)
        waited += time.perf_counter() - asked
        snippets, targets = snippets.to(device, non_blocking=True), targets.to(device, non_blocking=True)
        last = piece == cut.pieces - 1
        sync = model.no_sync() if isinstance(model, DistributedDataParallel) and not last else nullcontext()
        with sync:
            with autocast(precision, device):
                output: Output = model(snippets if share == 1 else mix(snippets, share))
            # Times 0, the consensus gets gradients of 0: DistributedDataParallel waits for those of every parameter.
            logits = output.snippet_logits.float().mean(1) + 0 * output.logits if average else output.logits
            loss, right = _compare(logits, targets, share=share, smoothing=train.label_smoothing)
            # The workers' gradients are averaged; times `world` this is the gradient of the mean over the whole batch.
            scaler.scale(loss * (cut.world / cut.batch)).backward()  # type: ignore[no-untyped-call]
        totals += torch.stack([loss.detach(), right, *_state_of_attention(output)])
    if cut.world > 1:
        torch.distributed.all_reduce(totals)
    mean = (totals / cut.batch).tolist()
    if not torch.isfinite(totals[0]):
        raise InputError("the loss is not finite any more: lower train.learning_rate or train.clip in config.yaml")
    return {
        "loss": mean[0],
        "accuracy": mean[1],
        "gradient_norm": _apply(model, optimizer, scaler, train.clip),
        "flat_attention": mean[2],
        "positive_energies": mean[3],
        "attention_entropy": mean[4],
        "attention_peak": mean[5],
        "data_wait_seconds": waited,
    }


def _compare(logits: Tensor, targets: Tensor, *, share: float, smoothing: float) -> tuple[Tensor, Tensor]:
    """Loss and right answers, summed over videos; in a mixture both targets count, each with its share."""
    loss = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
    right = hits(logits, targets).float().sum()
    if share == 1:
        return loss, right
    others = targets.flip(0)
    loss_of_others = F.cross_entropy(logits, others, reduction="sum", label_smoothing=smoothing)
    return torch.lerp(loss_of_others, loss, share), torch.lerp(hits(logits, others).float().sum(), right, share)


def hits(logits: Tensor, targets: Tensor) -> Tensor:
    """Whether the class with the highest of the logits [B, K] is one of the video's, bool [B].

    Targets are class indices [B], or probabilities [B, K], above 0 for each class of a video.
    """
    found = logits.argmax(1, keepdim=True)
    own = targets[:, None] == found if targets.ndim == 1 else targets.gather(1, found) > 0
    return own.squeeze(1)


def _state_of_attention(output: Output) -> tuple[Tensor, ...]:
    """What the history records of the attention, summed over videos.

    Whether all snippets of a video have the same energy; the share of energies above 0; the entropy of the weights; the
    largest weight as a multiple of their mean 1/N.
    """
    energies, weights = output.energies.detach(), output.weights.detach()
    flat = energies.amax(1) == energies.amin(1)
    peak = weights.amax(1).sum() * weights.shape[1]
    return flat.sum(), (energies > 0).float().mean(1).sum(), entropy_share(weights).sum(), peak


def entropy_share(weights: Tensor) -> Tensor:
    """Entropy of the weights [B, N] of each video as a share of log N: [B]; 1 if all are equal, or N is 1."""
    N = weights.shape[1]
    return torch.special.entr(weights).sum(1) / math.log(N) if N > 1 else torch.ones_like(weights[:, 0])


def _apply(
    model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, clip: float
) -> float | None:
    """Clip the summed gradients and step; their norm before, or None where fp16 overflowed and nothing was done."""
    scaler.unscale_(optimizer)
    norm = float(nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], clip))
    scaler.step(optimizer)
    scaler.update()
    return None if scaler.is_enabled() and not np.isfinite(norm) else norm
