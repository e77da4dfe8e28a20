"""Measure a network on held-out training videos while it trains. The training does not depend on it."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from atw.config import Compute, TrainSettings
from atw.data import augment, sampling
from atw.data.reader import Shards, Target
from atw.model.network import Output, VideoNetwork
from atw.train.devices import Worker
from atw.train.history import Row
from atw.train.ray.sockets import forkserver
from atw.train.update import hits


class CentreSnippets(Dataset[tuple[Tensor, Target]]):
    """Centre crops of videos, with N snippets as in training: uint8 [N, C, S, S], and the target."""

    def __init__(
        self, shards: Shards, videos: Sequence[str], targets: Sequence[Target], settings: TrainSettings
    ) -> None:
        self._shards, self._videos, self._targets, self._stack = shards, videos, targets, settings.stack
        self._snippets = settings.sampling.segments
        self._size = settings.augment.input_size
        height, width = shards.settings.preprocess.height, shards.settings.preprocess.width
        self._crops = augment.test_boxes(height, width, crop=min(height, width), crops=1)

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, number: int) -> tuple[Tensor, Target]:
        video = self._videos[number]
        starts = sampling.test_starts(self._shards.positions(video), snippets=self._snippets, stack=self._stack)
        images = self._shards.snippets(video, starts, self._stack, self._crops, self._size)
        return torch.from_numpy(images[0]), self._targets[number]


class Validation:
    """Loss and accuracy over all held-out videos; each worker measures its share of them.

    If the training reads by processes of its own, so does this: one reads ahead for the next time.

    Args:
        snippets: of the videos.
        compute: the `compute` section.
        batch: videos at once on the device.
        worker: this process.
    """

    def __init__(self, snippets: CentreSnippets, compute: Compute, *, batch: int, worker: Worker) -> None:
        self.every = compute.validate_every or 0
        mine = list(range(worker.rank, len(snippets), worker.world))
        self._worker = worker
        self._loader: DataLoader[tuple[Tensor, Target]] = DataLoader(
            snippets,
            batch_sampler=[mine[first : first + batch] for first in range(0, len(mine), batch)],
            num_workers=min(compute.loaders, 1),
            multiprocessing_context=forkserver() if compute.loaders else None,
            persistent_workers=compute.loaders > 0,
            generator=torch.Generator(),  # the training's own random numbers stay as they are
        )
        self._batches = iter(self._loader)

    @torch.inference_mode()
    def measure(self, network: VideoNetwork) -> Row:
        """Measure what the history records; every worker has to do so at the same iteration."""
        was_training = network.training
        network.eval()
        totals = torch.zeros(3, device=self._worker.device)
        for snippets, targets in self._batches:
            output: Output = network(snippets.to(self._worker.device))
            truth = targets.to(self._worker.device)
            loss = F.cross_entropy(output.logits, truth, reduction="sum")
            right = hits(output.logits, truth).sum()
            totals += torch.stack([loss, right, torch.full_like(loss, len(truth))])
        network.train(was_training)
        self._batches = iter(self._loader)
        if self._worker.world > 1:
            torch.distributed.all_reduce(totals)
        mean = (totals[:2] / totals[2]).tolist()
        return {"validation_loss": mean[0], "validation_accuracy": mean[1]}
