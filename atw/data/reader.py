"""The videos of a split in their shards: reading snippets, and which sample stands at which place of the training.

What is drawn for a place (epoch, video, snippets, crop, flip) follows from the seed and the place alone. So the number
of workers, loaders and accumulation steps, and an interruption, change nothing of what the network sees.
"""

import logging
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils import data as torch_data

from atw.config import STREAMS, ShardSettings, TrainSettings
from atw.data import augment, sampling
from atw.data.augment import Crop
from atw.datasets import Dataset, Split
from atw.datasets.contents import file_content
from atw.files import InputError, digest
from atw.shards import Entry, Shard, differing

log = logging.getLogger("atw")
MOST_OPEN = 512
"""Shards that a process has open at the same time."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the items of a video are stored; a process keeps one for each video of a split.

    Args:
        shard: number of its shard.
        first: its first item there.
        count: how many items it has.
        quarantined: why it is left out, "" if it is not.
    """

    shard: int
    first: int
    count: int
    quarantined: str


class Shards:
    """The shards of one stream, opened when read in each process; an HDF5 handle never crosses a fork.

    At most `MOST_OPEN` shards are open, those that were read last: systems allow a process 1024 files.

    Args:
        paths: of the shards.
        expected: the settings that they must have been made with; they may come from another folder or person.

    Raises:
        InputError: a shard is damaged, or made with other settings.
    """

    def __init__(self, paths: Sequence[Path], expected: ShardSettings) -> None:
        self._paths = [path.absolute() for path in paths]
        self._open: OrderedDict[int, Shard] = OrderedDict()
        self._pid = os.getpid()
        self._seals: list[str] = []
        self.digests: dict[str, str] = {}
        self.places: dict[str, Place] = {}
        self.settings = expected
        asked = expected.to_dict()
        for number, path in enumerate(self._paths):
            with Shard(path) as shard:
                made_with = dict(shard.header.settings)
                for name in ("shard", "members"):  # what differs from shard to shard
                    del made_with[name]
                if made_with != asked:
                    raise InputError(
                        f"shard {path} was made with other settings than config.yaml asks for: "
                        f"{_difference(made_with, asked)}; change config.yaml, delete the shard so that the "
                        "workflow makes it again, or take another folder as `shards`"
                    )
                self.digests[path.stem] = shard.digest
                self._seals.append(shard.seal)
                for entry in shard.entries:
                    self.places[entry.video] = Place(number, entry.first, entry.count, entry.quarantined)

    def __getitem__(self, number: int) -> Shard:
        """Return an open shard, to be used before the next one is asked for."""
        if self._pid != os.getpid():
            self._open, self._pid = OrderedDict(), os.getpid()
        if number not in self._open:
            while len(self._open) >= MOST_OPEN:
                self._open.popitem(last=False)[1].close()
            self._open[number] = Shard(self._paths[number], seal=self._seals[number])
        self._open.move_to_end(number)
        return self._open[number]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict()}

    def find(self, videos: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
        """Return the videos that can be used, and (video, reason) of the quarantined ones."""
        usable, quarantined = [], []
        for video in videos:
            if video not in self.places:
                raise InputError(
                    f"{video} is in the list but in none of the shards, {self._paths[0]} and so on; "
                    "run the workflow, which makes the outdated ones again"
                )
            reason = self.places[video].quarantined
            if reason:
                quarantined.append((video, reason))
            else:
                usable.append(video)
        return usable, quarantined

    def positions(self, video: str) -> int:
        """Count the frames of a video in rgb, its fields in flow and warped."""
        return self.places[video].count

    def entry(self, video: str) -> Entry:
        """Return as much of a video's row of the index as reading its items needs."""
        place = self.places[video]
        return Entry(video, label="", first=place.first, count=place.count)

    def snippets(
        self, video: str, starts: NDArray[np.int64], stack: int, crops: Sequence[Crop], size: int
    ) -> NDArray[np.uint8]:
        """Read crops of the snippets of a video, `size` px a side: uint8 [len(crops), N, C, S, S], see `augment`.

        `starts` [N] are the first positions of the snippets. A video with fewer fields than the stack repeats its last.
        """
        shard = self[self.places[video].shard]
        stacks = sampling.stack_indices(starts, stack=stack, positions=self.positions(video))  # [N, stack]
        items = shard.items(self.entry(video), stacks.ravel())
        return augment.cut_snippets(items, crops, shape=stacks.shape, size=size, stream=shard.stream)


def _difference(made_with: Mapping[str, Any], expected: Mapping[str, Any], place: str = "") -> str:
    """Name the first setting that differs, with both values."""
    for name in sorted(made_with.keys() | expected.keys(), key=lambda name: (name != "stream", name)):
        had, has = made_with.get(name), expected.get(name)
        if isinstance(had, dict) and isinstance(has, dict) and had != has:
            return _difference(had, has, f"{place}{name}.")
        if had != has:
            return f"{place}{name} is {had!r}, not {has!r}"
    return "none"


Target = int | Tensor
"""What a network should say of a video: the index of its class, or the probability of each class, float32 [K]."""


class TrainingSnippets(torch_data.Dataset[tuple[Tensor, Target]]):
    """Training samples by place: place p of the training is video p mod n of a permutation drawn for epoch p // n.

    A sample is uint8 [N, C, S, S] with N snippets of the video, and its target.
    """

    def __init__(
        self, shards: Shards, videos: Sequence[str], targets: Sequence[Target], settings: TrainSettings
    ) -> None:
        self._shards = shards
        self._videos = videos
        self._targets = targets
        self._settings = settings
        self._epoch, self._order = -1, np.empty(0, np.int64)
        self._size = (shards.settings.preprocess.height, shards.settings.preprocess.width)

    def __len__(self) -> int:
        return len(self._videos)

    def __getitem__(self, place: int) -> tuple[Tensor, Target]:
        epoch, position = divmod(place, len(self._videos))
        if epoch != self._epoch:
            rng = np.random.default_rng([self._settings.seed, epoch])
            self._epoch, self._order = epoch, rng.permutation(len(self._videos))
        number = int(self._order[position])
        rng = np.random.default_rng([self._settings.seed, epoch, number])
        video = self._videos[number]
        # Drawn in the same order for every stream, so that rgb, flow and warped see the same segments of a video.
        stack, drawn = self._settings.stack, self._settings.augment
        segments = self._settings.sampling.segments
        starts = sampling.training_starts(self._shards.positions(video), segments=segments, stack=stack, rng=rng)
        box = augment.crop_box(*self._size, scales=drawn.scales, size=drawn.input_size, rng=rng)
        flip = bool(rng.random() < drawn.flip)
        images = self._shards.snippets(video, starts, stack, [Crop(box, flip)], drawn.input_size)
        return torch.from_numpy(images[0]), self._targets[number]


def report_repeats(shards: Shards, videos: Sequence[str], stack: int) -> list[str]:
    """Warn of the videos that are too short for one stack, whose last field is repeated, and return them."""
    short = [video for video in videos if shards.positions(video) < stack]
    for video in short:
        log.warning("%s has %d of %d fields: its last is repeated", video, shards.positions(video), stack)
    return short


def micro_batches(*, start: int, stop: int, batch: int, rank: int, world: int, micro: int) -> Iterator[list[int]]:
    """Yield the places of one worker's micro-batches from iteration `start` to `stop`, in order.

    Iteration i covers places i batch .. (i + 1) batch - 1; worker r of w takes every w-th of them from the r-th, in
    pieces of at most `micro`.
    """
    for iteration in range(start, stop):
        places = list(range(iteration * batch + rank, (iteration + 1) * batch, world))
        for first in range(0, len(places), micro):
            yield places[first : first + micro]


def sources(paths: Sequence[Path], split: Split, dataset: Dataset) -> str:
    """Compute the digest of the files, id and SHA-256, that the shards of a stream were made from for a split.

    All streams must have been made from the same ones, or nothing is trained and scored. Snakemake makes shards again
    whose videos changed, but it knows nothing of shards from elsewhere, and a file may be replaced during a run.

    Args:
        paths: shards of one stream; those of the others lie in the folders beside.
        split: whose videos count.
        dataset: where the videos are.

    Raises:
        InputError: a shard of another stream was made from another file of a video, and it is not just outdated: the
            file that these shards were made from is gone.
    """
    listed = {row.video for row in (*split.train, *split.test)}
    files: dict[str, str] = {}
    for path in paths:
        with Shard(path) as shard:
            own = {video: content for video, content in shard.files.items() if video in listed}
        for other in _of_other_streams(path):
            _require_same(path, own, other, dataset)
        files |= own
    return digest(sorted(files.items()))


def _of_other_streams(path: Path) -> list[Path]:
    folder = path.absolute().parent
    others = (folder.parent / stream / path.name for stream in STREAMS if stream != folder.name)
    return [other for other in others if other.is_file()]


def _require_same(path: Path, own: Mapping[str, str], other: Path, dataset: Dataset) -> None:
    try:
        with Shard(other) as shard:
            theirs = shard.files
    except InputError:
        return  # damaged or old: its own reader reports that
    video = next(iter(differing(own, theirs)), None)
    if video is None:
        return
    now = file_content(dataset.root / video)
    if now == own[video]:
        log.warning("shard %s is outdated: it was made from another file of %s than there is now", other, video)
        return
    outdated = f"{path}, and the workflow makes it" if now == theirs[video] else "both, and the workflow makes them"
    raise InputError(
        f"shards {path} and {other} were made from different files of {video}, so the streams would show different "
        f"videos; delete {outdated} again from the file that is there now"
    )
