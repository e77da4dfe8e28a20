"""What the readers read: real videos, their shards, the same frames and fields as JPEG images, and samples."""

from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from atw.data import augment, sampling
from atw.data.augment import Crop
from atw.data.reader import Shards
from atw.shards import Shard
from benchmarks.stored import Stored, store

SEGMENTS, STACK, SIZE_PX = 4, 5, 224
JPEG_QUALITY = 95


class Sample(NamedTuple):
    """What one training sample asks for: first positions [N] of its snippets, and their common crop."""

    video: str
    starts: NDArray[np.int64]
    crop: Crop


class Material(NamedTuple):
    """Videos below `root`, a folder of JPEG images for each below `images`, and their shards."""

    root: Path
    images: Path
    stored: Stored
    shards: dict[str, Shards]


def prepare(folder: Path, out: Path, *, videos: int, threads: int) -> Material:
    """Shards of `videos` clips of `folder`, and their images, written below `out`."""
    stored = store(folder, out, videos=videos, threads=threads)
    shards = {stream: Shards([path], stored.train_settings(stream).shards) for stream, path in stored.shards.items()}
    for path in stored.shards.values():
        write_images(path, out / "images")
    return Material(folder, out / "images", stored, shards)


def image_path(images: Path, video: str, kind: str, number: int) -> Path:
    """As dense_flow names them: img, flow_x or flow_y, numbered from 1."""
    return images / video / f"{kind}_{number + 1:05d}.jpg"


def write_images(shard_path: Path, images: Path) -> None:
    """The items of a shard as JPEG images: a frame each, or two grey ones for a field."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    with Shard(shard_path) as shard:
        for entry in shard.entries:
            (images / entry.video).mkdir(parents=True, exist_ok=True)
            for (number,), item in shard.items(entry, range(entry.count)):
                planes: dict[str, Any] = {"img": item[..., ::-1]}
                if shard.stream != "rgb":
                    planes = {"flow_x": item[0], "flow_y": item[1]}
                for kind, image in planes.items():
                    cv2.imwrite(str(image_path(images, entry.video, kind, number)), image, quality)


def draw_samples(material: Material, stream: str, count: int, *, seed: int) -> list[Sample]:
    """Samples as the training draws them by its default settings."""
    rng = np.random.default_rng(seed)
    shards = material.shards[stream]
    scales = material.stored.train_settings(stream).augment.scales
    usable = [video for video in sorted(shards.places) if shards.positions(video) >= SEGMENTS * STACK]
    preprocess = shards.settings.preprocess
    samples = []
    for _ in range(count):
        video = usable[rng.integers(len(usable))]
        starts = sampling.training_starts(
            shards.positions(video), segments=SEGMENTS, stack=1 if stream == "rgb" else STACK, rng=rng
        )
        box = augment.crop_box(preprocess.height, preprocess.width, scales=scales, size=SIZE_PX, rng=rng)
        samples.append(Sample(video, starts, Crop(box, bool(rng.random() < 0.5))))
    return samples
