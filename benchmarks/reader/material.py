"""What the readers read: real videos, their shards, the same frames and fields as JPEG images, and samples."""

import csv
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from atw import config
from atw.data import augment, sampling
from atw.data.augment import Crop
from atw.data.reader import Shards
from atw.datasets import Dataset
from atw.preprocess.shard import make
from atw.shards import Shard
from benchmarks.material import find_videos, folders_in_turn

STREAMS = ("rgb", "flow")
SEGMENTS, STACK, SIZE_PX = 4, 5, 224
JPEG_QUALITY = 95


class Sample(NamedTuple):
    """What one training sample asks for: first positions [N] of its snippets, and their common crop."""

    video: str
    starts: NDArray[np.int64]
    crop: Crop


class Material(NamedTuple):
    """Videos below `root`, a folder of JPEG images for each below `images`, shard and crop scales of each stream."""

    root: Path
    images: Path
    shards: dict[str, Shards]
    shard_paths: dict[str, Path]
    scales: dict[str, tuple[float, ...]]


def prepare(folder: Path, out: Path, *, videos: int, threads: int) -> Material:
    """Shards of `videos` clips of `folder`, by the pipeline's own code, and their images, written below `out`."""
    chosen = folders_in_turn(find_videos(folder))[:videos]
    lists = out / "split1.csv"
    with lists.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "label", "subset"))
        rows.writerows((path.relative_to(folder), path.parent.name, "train") for path in chosen)
    mine = {"kind": "folder", "root": str(folder), "lists": str(lists), "preprocess": {"shards": 1}}
    settings = config.load({"datasets": {"mine": mine | {"flow": {"preset": "fast"}}}})
    dataset = Dataset(config.location(settings, "mine"))
    own = {"shard": "00000", "members": dataset.members_digest("00000", 1)}
    shards, paths, scales = {}, {}, {}
    for stream in STREAMS:
        paths[stream] = out / f"{stream}.h5"
        of_stream = config.shard_settings(settings, "mine", stream)
        make(paths[stream], of_stream | own, dataset, flow_path=None, threads=threads)
        shards[stream] = Shards([paths[stream]], of_stream)
        scales[stream] = tuple(config.effective(settings, "mine", stream).augment.scales)
        write_images(paths[stream], out / "images")
    return Material(folder, out / "images", shards, paths, scales)


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
    shards, scales = material.shards[stream], material.scales[stream]
    usable = [video for video in sorted(shards.places) if shards.positions(video) >= SEGMENTS * STACK]
    preprocess = shards.settings["preprocess"]
    samples = []
    for _ in range(count):
        video = usable[rng.integers(len(usable))]
        starts = sampling.training_starts(
            shards.positions(video), segments=SEGMENTS, stack=1 if stream == "rgb" else STACK, rng=rng
        )
        box = augment.crop_box(preprocess["height"], preprocess["width"], scales=scales, size=SIZE_PX, rng=rng)
        samples.append(Sample(video, starts, Crop(box, bool(rng.random() < 0.5))))
    return samples
