"""How far ridge regression on frozen features goes: what the training of a network on few clips has to beat.

    python -m benchmarks.frozen_baseline tennis7 112 224

The working folder's config.yaml has the dataset, the network and its weights, and the shards of frames are there. The
features of a video are the backbone's, of the centre crop of eight frames at so many px, averaged. Printed are for each
size the top-1 accuracy on the test videos of all splits, and on training videos that are held out, three in ten, with
seeds 0 to 2; and what a size gains over the first one, with the 95% interval over videos, each with its mean.
"""

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from atw import config, workflow
from atw.data.augment import test_boxes
from atw.data.reader import Shards
from atw.data.sampling import test_starts
from atw.evaluate.metrics import bootstrap_interval
from atw.model.backbones import build
from atw.plan import Plan

Hits = defaultdict[str, list[bool]]
FRAMES, RIDGE, HELD_OUT, SEEDS = 8, 1000.0, 0.3, (0, 1, 2)


def ridge(x: NDArray[np.float64], labels: NDArray[np.int64], of: NDArray[np.float64]) -> NDArray[np.int64]:
    """Labels [M] of features [M, D], by ridge regression of one-hot labels [V] on features [V, D], standardised."""
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-6
    x, of = (x - mean) / deviation, (of - mean) / deviation
    truth = np.eye(labels.max() + 1)[labels]
    weights = x.T @ np.linalg.solve(x @ x.T + RIDGE * np.eye(len(x)), truth - truth.mean(axis=0))
    found: NDArray[np.int64] = (of @ weights + truth.mean(axis=0)).argmax(axis=1)
    return found


@torch.inference_mode()
def features(plan: Plan, dataset: str, size: int) -> dict[str, NDArray[np.float64]]:
    """Features [D] of each video of a dataset."""
    settings = config.effective(plan.config, dataset, "rgb")
    assert settings.model.weights_path
    network = build(
        settings.model.backbone,
        in_channels=3,
        classes=2,
        dropout=0,
        weights=Path(settings.model.weights_path),
        stream="rgb",
    ).eval()
    splits = plan.dataset(dataset).split_names
    paths = sorted({Path(path) for split in splits for path in plan.shards(dataset, split, "rgb")})
    shards = Shards(paths, config.shard_settings(plan.config, dataset, "rgb"))
    height, width = settings.preprocess.height, settings.preprocess.width
    crops = test_boxes(height, width, crop=min(settings.evaluate.crop, height, width), crops=1)
    found = {}
    for video in sorted({row.video for split in splits for row in plan.dataset(dataset).rows(split)}):
        starts = test_starts(shards.positions(video), snippets=FRAMES, stack=1)
        images = torch.from_numpy(shards.snippets(video, starts, 1, crops, size)[0])
        found[video] = network(network.normalise(images))[0].mean(dim=0).double().numpy()
    return found


def measure(plan: Plan, dataset: str, size: int) -> tuple[Hits, Hits]:
    """How often each video is recognised, of those tested and of those held out."""
    seen, splits = features(plan, dataset, size), plan.dataset(dataset)
    test, held = Hits(list), Hits(list)
    for name in splits.split_names:
        rows = splits.rows(name)
        labels = {row.video: splits.classes.index(row.label) for row in rows}
        train = [row.video for row in rows if row.subset == "train"]
        parts = [(test, [row.video for row in rows if row.subset == "test"])]
        parts += [(held, [row.video for row in splits.split(name).held_out(HELD_OUT, seed=seed)]) for seed in SEEDS]
        for hits, videos in parts:
            kept = [video for video in train if video not in videos]
            x, of = (np.stack([seen[video] for video in those]) for those in (kept, videos))
            found = ridge(x, np.array([labels[video] for video in kept]), of)
            for video, label in zip(videos, found.tolist(), strict=True):
                hits[video].append(label == labels[video])
    return test, held


def main(dataset: str, *sizes: str) -> None:
    plan = Plan(config.read(workflow.CONFIG).content)
    first: Hits | None = None
    for size in sizes:
        test, held = measure(plan, dataset, int(size))
        told = [
            f"{np.mean(np.concatenate(list(hits.values()))):.3f} of {sum(map(len, hits.values()))} {what}"
            for hits, what in ((test, "tested"), (held, "held out"))
        ]
        if first:
            gain = np.array([np.mean(held[video]) - np.mean(first[video]) for video in held])
            low, high = bootstrap_interval(gain, seed=0)
            told.append(f"{gain.mean():+.3f} [{low:+.3f}, {high:+.3f}] over {len(gain)} held-out videos")
        print(f"{dataset}, {size} px: {'; '.join(told)}")
        first = first or held


if __name__ == "__main__":
    main(*sys.argv[1:])
