"""What a training trains: its settings, videos, shards and first weights."""

import logging
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from atw.config import Compute, Interval, ListedVideo, TrainSettings
from atw.data.reader import Shards, Target, TrainingSnippets, report_repeats
from atw.datasets import Dataset, Split
from atw.files import InputError

log = logging.getLogger("atw")


@dataclass(frozen=True)
class TrainingTask:
    """One stream to train.

    Args:
        settings: the result depends on these.
        compute: resources of the job.
        split: the split's lists.
        shard_paths: absolute paths of the shards of its videos.
        weights: absolute path of the ImageNet weights, if any.
        intervals: known actions of the videos, for the validation.
    """

    settings: TrainSettings
    compute: Compute
    split: Split
    shard_paths: list[Path]
    weights: Path | None
    intervals: Mapping[str, Sequence[Interval]] = field(default_factory=dict)

    @cached_property
    def shards(self) -> Shards:
        """The shards, whose indices are read and checked once; a copy shares that, but no open file."""
        return Shards(self.shard_paths, self.settings.shards)

    def targets(self, *, held_out: bool) -> dict[str, Target]:
        """What to learn of the training videos that are held out or of those that are not.

        The index of the class where each training video has one label. Else float32 [K], the probabilities that the
        network should give: the L labels of a video share 1 equally, as in UntrimmedNet (Wang et al. 2017).
        """
        left_out = held_out_videos(self.split, self.settings)
        unused, place = set(left_out), {name: number for number, name in enumerate(self.split.classes)}
        listed = left_out if held_out else [row for row in self.split.train if row not in unused]
        if all(len(row.labels) == 1 for row in self.split.train):
            return {row.video: place[row.label] for row in listed}
        indices = {row.video: torch.tensor([place[label] for label in row.labels]) for row in listed}
        return {video: torch.zeros(len(place)).index_fill(0, own, 1 / len(own)) for video, own in indices.items()}

    def snippets(self) -> TrainingSnippets:
        """The samples of the training videos.

        Raises:
            InputError: unusable shards, or a class without any usable video.
        """
        shards = copy(self.shards)  # another try opens the files anew
        targets = self.targets(held_out=False)
        videos, quarantined = shards.find(list(targets))
        for video, reason in quarantined:
            log.warning("not trained on %s: %s", video, reason)
        labels = {row.video: row.labels for row in self.split.train}
        listed, left = ({label for video in some for label in labels[video]} for some in (targets, videos))
        empty = ", ".join(name for name in self.split.classes if name in listed - left)
        if empty:
            raise InputError(f"every training video of class {empty} is quarantined; see the log of its shards")
        report_repeats(shards, videos, self.settings.stack)
        return TrainingSnippets(shards, videos, [targets[video] for video in videos], self.settings)


def held_out_videos(split: Split, settings: TrainSettings) -> tuple[ListedVideo, ...]:
    """The training videos of a split that a training with these settings leaves out."""
    return split.held_out(settings.train.held_out, seed=settings.seed)


def task_of(settings: TrainSettings, dataset: Dataset, shard_paths: Sequence[Path], compute: Compute) -> TrainingTask:
    """Return the task of a training as the workflow planned it.

    Raises:
        InputError: the lists of the dataset have changed since.
    """
    split = dataset.split(settings.split)
    if split.digest != settings.videos:
        raise InputError(f"the lists of dataset {dataset.name} changed since this job was planned; start again")
    if held_out := held_out_videos(split, settings):
        log.info("%d of %d training videos are held out", len(held_out), len(split.train))
    weights = Path(settings.model.weights).absolute() if settings.model.weights else None
    paths = [path.absolute() for path in shard_paths]
    return TrainingTask(settings, compute, split, paths, weights, _known_actions(dataset, split.name, compute))


def _known_actions(dataset: Dataset, split: str, compute: Compute) -> Mapping[str, Sequence[Interval]]:
    """The actions of the videos, for the validation alone: without them, a training goes on."""
    if not compute.validate_every:
        return {}
    try:
        return dataset.intervals(split)
    except InputError as error:
        log.warning("the validation does not know the actions: %s", error)
        return {}
