"""Measure a network on held-out training videos while it trains. The training does not depend on it."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from atw.config import TrainSettings
from atw.data import augment
from atw.data.actions import interval_auc, mass_inside
from atw.data.reader import Shards, Target
from atw.model.network import Output, VideoNetwork
from atw.train.devices import Worker
from atw.train.history import Row
from atw.train.ray.sockets import forkserver
from atw.train.update import entropy_share, hits


class CentreSnippets(Dataset[tuple[Tensor, Target]]):
    """Centre crops of videos, with N snippets as in training: uint8 [N, C, S, S], and the target.

    Args:
        shards: that hold the videos.
        videos: ids.
        targets: of the videos.
        starts: [N] first position of each snippet, of each video.
        settings: of the training.
    """

    def __init__(
        self,
        shards: Shards,
        videos: Sequence[str],
        targets: Sequence[Target],
        starts: Sequence[NDArray[np.int64]],
        settings: TrainSettings,
    ) -> None:
        self._shards, self._videos, self._targets, self._stack = shards, videos, targets, settings.stack
        self._starts = starts
        self._size = settings.augment.input_size
        height, width = shards.settings.preprocess.height, shards.settings.preprocess.width
        self._crops = augment.test_boxes(height, width, crop=min(height, width), crops=1)

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, number: int) -> tuple[Tensor, Target]:
        video = self._videos[number]
        images = self._shards.snippets(video, self._starts[number], self._stack, self._crops, self._size)
        return torch.from_numpy(images[0]), self._targets[number]


class Validation:
    """Loss, accuracy and attention over all held-out videos; each worker measures its share of them.

    If the training reads by processes of its own, so does this: one reads ahead for the next time.

    Args:
        snippets: of the V videos.
        actions: which of the N snippets of each video lie inside an action, and which count, both bool [V, N].
        every: iterations between two measurements.
        batch: videos at once on the device.
        loaders: processes that read for the training.
        worker: this process.
    """

    def __init__(
        self,
        snippets: CentreSnippets,
        actions: tuple[NDArray[np.bool_], NDArray[np.bool_]],
        *,
        every: int,
        batch: int,
        loaders: int,
        worker: Worker,
    ) -> None:
        self.every = every
        mine = list(range(worker.rank, len(snippets), worker.world))
        self._worker = worker
        self._inside, self._counted = actions
        self._mine = [mine[first : first + batch] for first in range(0, len(mine), batch)]
        self._loader: DataLoader[tuple[Tensor, Target]] = DataLoader(
            snippets,
            batch_sampler=self._mine,
            num_workers=min(loaders, 1),
            multiprocessing_context=forkserver() if loaders else None,
            persistent_workers=loaders > 0,
            generator=torch.Generator(),  # the training's own random numbers stay as they are
        )
        self._batches = iter(self._loader)

    @torch.inference_mode()
    def measure(self, network: VideoNetwork) -> Row:
        """Measure what the history records; every worker has to do so at the same iteration."""
        was_training = network.training
        network.eval()
        # Each worker fills the rows of its videos: loss, hit, and per snippet the weight and the class probability.
        each = torch.zeros(len(self._inside), 2 + 2 * self._inside.shape[1], device=self._worker.device)
        for rows, (snippets, targets) in zip(self._mine, self._batches, strict=True):
            output: Output = network(snippets.to(self._worker.device))
            truth = targets.to(self._worker.device)
            loss = F.cross_entropy(output.logits, truth, reduction="none")
            predicted = output.logits.argmax(1)[:, None, None].expand(-1, output.weights.shape[1], 1)
            probability = output.snippet_logits.softmax(2).gather(2, predicted)[..., 0]  # [B, N]
            each[rows] = torch.cat(
                [loss[:, None], hits(output.logits, truth)[:, None], output.weights, probability], dim=1
            )
        network.train(was_training)
        self._batches = iter(self._loader)
        if self._worker.world > 1:
            torch.distributed.all_reduce(each)
        of_videos, weights, probability = torch.tensor_split(each.cpu(), (2, 2 + self._inside.shape[1]), dim=1)
        loss, accuracy = of_videos.mean(0).tolist()
        return {
            "validation_loss": loss,
            "validation_accuracy": accuracy,
            "validation_entropy": float(entropy_share(weights).mean()),
            **self._found(weights.numpy(), "validation"),
            **self._found(probability.numpy(), "validation_class"),
        }

    def _found(self, values: NDArray[np.float32], name: str) -> Row:
        """How well numbers of the snippets [V, N] find the known actions."""
        known = self._counted.any(axis=1)
        if not known.any():
            return {}
        of_known = values[known], self._inside[known], self._counted[known]
        return {f"{name}_auc": interval_auc(*of_known), f"{name}_mass_inside": float(mass_inside(*of_known).mean())}
