"""A sample of a dataset's videos: how long they are, and frames to measure on."""

import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atw.config import FieldSettings, FrameSettings, RenderSettings
from atw.datasets import Dataset
from atw.extras.demo.render import write_dataset
from atw.files import InputError
from atw.terminal import meter
from atw.videos.decode import Audit, BadVideoError, Frame, read_as_configured

_SAMPLED = 32
_KEPT_VIDEOS, _KEPT_FRAMES = 4, 24


@dataclass(frozen=True)
class Footage:
    """What a sample of videos says of all.

    Args:
        frames: of each sampled video that can be decoded.
        clips: the first frames of some, at the working size.
        decoding_seconds: of a frame, on one core.
    """

    frames: list[int]
    clips: list[list[Frame]]
    decoding_seconds: float

    @property
    def mean(self) -> float:
        """Frames of a video, on average."""
        return float(np.mean(self.frames))

    @property
    def error(self) -> float:
        """Of the mean, relative: about two of its standard errors."""
        if len(self.frames) < 2:
            return 1.0
        return float(2 * np.std(self.frames, ddof=1) / np.sqrt(len(self.frames)) / self.mean)


def sample(dataset: Dataset, preprocess: FrameSettings | FieldSettings, *, seed: int) -> Footage:
    """Decode some videos of a dataset, drawn by `seed`; of a demo that is not rendered yet, some that are like it.

    Raises:
        InputError: none of them can be decoded.
    """
    videos = sorted({row.video for name in dataset.split_names for row in dataset.rows(name)})
    drawn = np.random.default_rng(seed).permutation(len(videos))[:_SAMPLED]
    paths = [dataset.root / videos[number] for number in drawn]
    if dataset.generated and not all(path.exists() for path in paths):
        with tempfile.TemporaryDirectory() as folder:
            small = RenderSettings(recipe=0, split=1, seed=seed, train_per_class=1, test_per_class=1)
            write_dataset(Path(folder), small, processes=1)
            return _look(sorted(Path(folder).rglob("*.avi")), preprocess, dataset.name)
    return _look(paths, preprocess, dataset.name)


def _look(paths: list[Path], preprocess: FrameSettings | FieldSettings, dataset: str) -> Footage:
    frames: list[int] = []
    clips: list[list[Frame]] = []
    begin = time.perf_counter()
    with meter(f"looking at videos of {dataset}", "videos", len(paths)) as progress:
        for path in paths:
            audit = Audit()
            clip: list[Frame] = []
            with suppress(BadVideoError):
                for frame in read_as_configured(path, audit, preprocess):
                    if len(clip) < _KEPT_FRAMES:
                        clip.append(frame)
                frames.append(audit.decoded)
                if len(clips) < _KEPT_VIDEOS:
                    clips.append(clip)
            progress.advance(1)
    if not frames:
        raise InputError(f"none of {len(paths)} videos of {dataset} that were drawn can be decoded, first {paths[0]}")
    return Footage(frames, clips, (time.perf_counter() - begin) / sum(frames))
