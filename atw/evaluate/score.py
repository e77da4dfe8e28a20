"""Scoring: every test video of a split, or every held-out one, through the trained network of one stream.

TSN's own test code builds the network for one snippet and averages afterwards; with attention that would make every
weight 1. Here the softmax of the attention sees all snippets of a crop together, and crops are averaged after it.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from atw.config import Compute, ScoreSettings, TrainSettings
from atw.data import augment, sampling
from atw.data.reader import Shards, report_repeats
from atw.data.sources import sources
from atw.datasets import Dataset, Split
from atw.evaluate import forward
from atw.evaluate.scores import Scores, ScoreWriter, Subset, flat_attention, score_writer
from atw.files import InputError, file_digest
from atw.terminal import meter
from atw.train.devices import own_gpus, use_gpu
from atw.train.loop import held_out_videos
from atw.train.memory import explained
from atw.train.modelfile import TrainedModel, load_model

log = logging.getLogger("atw")


def score_videos(
    out: Path,
    model_path: Path,
    settings: ScoreSettings,
    dataset: Dataset,
    shard_paths: list[Path],
    compute: Compute,
    *,
    threads: int,
    gpus: int,
    subset: Subset = "test",
) -> None:
    """Write the scores of a split's test videos, or of those that the network's own training held out.

    Args:
        out: path of the score file.
        model_path: the trained network.
        settings: what the scores depend on.
        dataset: whose lists name the videos.
        shard_paths: shards of the split's videos.
        compute: the `compute` section.
        threads: CPU threads.
        gpus: GPUs that were reserved.
        subset: which videos of the split are scored.

    Raises:
        InputError: the network was trained on other classes, another split or another preprocessing; no video was held
            out; or shards of another stream were made from other files.
    """
    model = load_model(model_path)
    trained = model.settings
    split = dataset.split(settings.split)
    shards = Shards(shard_paths, settings.shards)
    files = sources(shard_paths, split, dataset)
    _check(model_path, model, settings, list(split.classes), shards)
    on_gpu = use_gpu(compute, reserved=gpus, available=torch.cuda.device_count())
    labels = _labels(model_path, split, trained, subset)
    videos, quarantined = shards.find(list(labels))
    if not videos:
        raise InputError(f"every {subset} video of {settings.split} is quarantined; see the logs of the shards")
    report_repeats(shards, videos, trained.stack)
    at_once = model.microbatch if compute.microbatch == "auto" else compute.microbatch
    task = _task(
        *(model_path, settings, trained, shard_paths, shards, videos, compute),
        at_once=at_once,
        threads=threads,
        gpus=(),
    )
    shape = (len(videos), len(task.crops), task.starts.shape[1], len(split.classes))
    with score_writer(out, shape) as writer:
        with explained("scoring", at_once), own_gpus(compute.workers if on_gpu else 0) as numbers:
            found = _forward(replace(task, gpus=numbers), writer, shape, settings.stream)
        flat = float(flat_attention(found["attention"]).mean())
        log.info("%d videos scored, %d quarantined, attention flat in %.0f%%", shape[0], len(quarantined), 100 * flat)
        writer.finish(
            Scores(
                stream=settings.stream,
                dataset=dataset.name,
                split=settings.split,
                experiment=settings.experiment,
                classes=split.classes,
                videos=tuple(videos),
                labels=np.array([labels[video] for video in videos], np.int64),
                **found,
                positions=task.starts.astype(np.int32),
                quarantined=[(video, labels[video], reason) for video, reason in quarantined],
                provenance=_provenance(model_path, model, settings, split, shards, flat) | {"files": files},
                subset=subset,
            ),
        )


def _labels(model_path: Path, split: Split, trained: TrainSettings, subset: Subset) -> dict[str, int]:
    """The listed videos to be scored, with their classes' indices."""
    listed_videos = split.test if subset == "test" else held_out_videos(split, trained)
    if subset == "held_out" and not listed_videos:
        raise InputError(f"the network {model_path} was trained on every video; set train.held_out and train it again")
    return {listed.video: split.classes.index(listed.label) for listed in listed_videos}


def _task(
    model_path: Path,
    settings: ScoreSettings,
    trained: TrainSettings,
    shard_paths: list[Path],
    shards: Shards,
    videos: list[str],
    compute: Compute,
    *,
    at_once: int,
    threads: int,
    gpus: tuple[int, ...],
) -> forward.Task:
    evaluate, preprocess, stack = settings.evaluate, settings.shards.preprocess, trained.stack
    return forward.Task(
        model_path=model_path,
        shard_paths=shard_paths,
        shard_settings=settings.shards,
        videos=videos,
        starts=np.stack(
            [sampling.test_starts(shards.positions(video), snippets=evaluate.snippets, stack=stack) for video in videos]
        ),
        stack=stack,
        crops=augment.test_boxes(preprocess.height, preprocess.width, crop=evaluate.crop, crops=evaluate.crops),
        size=trained.augment.input_size,
        chunk=at_once * trained.sampling.segments,
        compute=compute,
        threads=threads,
        gpus=gpus,
    )


def _forward(
    task: forward.Task, writer: ScoreWriter, shape: tuple[int, int, int, int], stream: str
) -> dict[str, NDArray[np.float32]]:
    """Put every video through the network: its snippets' scores go into the file, what is small comes back."""
    videos, crops, snippets, classes = shape
    found = {
        "video_logits": np.empty((videos, classes), np.float32),
        "attention": np.empty((videos, crops, snippets), np.float32),
        "attention_logits": np.empty((videos, crops, snippets), np.float32),
    }
    with meter(f"scoring {stream}", "videos", videos) as progress:
        for group in forward.forward(task):
            writer.add(group.videos, group.snippet_logits)
            rows = slice(group.videos.start, group.videos.stop)
            found["video_logits"][rows] = group.logits.mean(axis=1)
            found["attention"][rows] = group.weights
            found["attention_logits"][rows] = group.energies
            progress.advance(len(group.videos), steps=len(group.videos))
    return found


def _provenance(
    model_path: Path, model: TrainedModel, settings: ScoreSettings, split: Split, shards: Shards, flat: float
) -> dict[str, Any]:
    trained = model.settings
    held_out = held_out_videos(split, trained)
    return {
        "settings": {"train": trained.to_dict(), "score": settings.to_dict()},
        "train_videos": len(split.train) - len(held_out),
        **({"held_out_videos": len(held_out)} if held_out else {}),
        "train_quarantined": shards.find([listed.video for listed in split.train])[1],
        "flat_attention": flat,
        "model": {"sha256": file_digest(model_path), "weights": model.network.backbone.weights_sha256},
        "shards": shards.digests,
        "shard_settings": shards.settings.to_dict(),
        "software": model.provenance["software"],
        "hardware": model.provenance["hardware"],
        "compute": model.provenance["compute"],
        "seed": trained.seed,
    }


def _check(path: Path, model: TrainedModel, settings: ScoreSettings, classes: list[str], shards: Shards) -> None:
    trained = model.settings
    for what, had, has in (
        ("stream", trained.stream, settings.stream),
        ("class list", list(model.classes), classes),
        ("list of videos", trained.videos, settings.videos),
        ("preprocessing", model.provenance["shard_settings"], shards.settings.to_dict()),
    ):
        if had != has:
            raise InputError(
                f"the network {path} was trained on another {what}: {had} instead of {has}; train it again"
            )
