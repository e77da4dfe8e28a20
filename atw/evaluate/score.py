"""Scoring: every test video of a split, or every held-out one, through the trained network of one stream.

TSN's own test code builds the network for one snippet and averages afterwards; with attention that would make every
weight 1. Here the softmax of the attention sees all snippets of a crop together, and crops are averaged after it.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atw.config import Compute
from atw.data import augment, sampling
from atw.data.reader import Shards, report_repeats
from atw.datasets import Dataset
from atw.evaluate import forward
from atw.evaluate.scores import Scores, Subset, flat_attention, write_scores
from atw.files import InputError, file_digest
from atw.progress import meter
from atw.train.devices import use_gpu
from atw.train.loop import held_out_videos, stack_of
from atw.train.modelfile import load_model

log = logging.getLogger("atw")


def score_videos(
    out: Path,
    model_path: Path,
    settings: dict[str, Any],
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
        settings: what `atw.config.score_settings` gives, with the split's name and digest.
        dataset: whose lists name the videos.
        shard_paths: shards of the split's videos.
        compute: the `compute` section.
        threads: CPU threads.
        gpus: GPUs that were reserved.
        subset: which videos of the split are scored.

    Raises:
        InputError: the network was trained on other classes, another split or another preprocessing; or no video was
            held out.
    """
    _, model = load_model(model_path)
    trained = model["settings"]
    split = dataset.split(settings["split"])
    shards = Shards(shard_paths, settings["shards"])
    _check(model_path, model, settings, list(split.classes), shards)
    on_gpu = use_gpu(compute, reserved=gpus, available=torch.cuda.device_count())
    held_out = held_out_videos(split, trained)
    if subset == "held_out" and not held_out:
        raise InputError(f"the network {model_path} was trained on every video; set train.held_out and train it again")
    listed_videos = split.test if subset == "test" else held_out
    labels = {listed.video: split.classes.index(listed.label) for listed in listed_videos}
    videos, quarantined = shards.find(list(labels))
    if not videos:
        raise InputError(f"every {subset} video of {settings['split']} is quarantined; see the logs of the shards")
    stack = stack_of(trained)
    report_repeats(shards, videos, stack)
    evaluate, preprocess = settings["evaluate"], settings["shards"]["preprocess"]
    snippets = evaluate["snippets"]
    task = forward.Task(
        model_path=model_path,
        shard_paths=shard_paths,
        shard_settings=settings["shards"],
        videos=videos,
        starts=np.stack(
            [sampling.test_starts(shards.positions(video), snippets=snippets, stack=stack) for video in videos]
        ),
        stack=stack,
        crops=augment.test_boxes(
            preprocess["height"], preprocess["width"], crop=evaluate["crop"], crops=evaluate["crops"]
        ),
        size=trained["augment"]["input_size"],
        chunk=compute.microbatch * trained["sampling"]["segments"],
        compute=compute,
        threads=threads,
        on_gpu=on_gpu,
    )
    groups = []
    with meter(f"scoring {settings['stream']}", "videos", len(videos)) as progress:
        for group in forward.forward(task):
            groups.append(group)
            progress.advance(len(group.videos), steps=len(group.videos))
    groups.sort(key=lambda group: group.videos.start)
    weights = np.concatenate([group.weights for group in groups])
    flat = float(flat_attention(weights).mean())
    log.info("%d videos scored, %d quarantined, attention flat in %.0f%%", len(videos), len(quarantined), 100 * flat)
    write_scores(
        out,
        Scores(
            stream=settings["stream"],
            dataset=dataset.name,
            split=settings["split"],
            experiment=settings["experiment"],
            classes=split.classes,
            videos=tuple(videos),
            labels=np.array([labels[video] for video in videos], np.int64),
            video_logits=np.concatenate([group.logits.mean(axis=1) for group in groups]),
            snippet_logits=np.concatenate([group.snippet_logits for group in groups]),
            attention=weights,
            attention_logits=np.concatenate([group.energies for group in groups]),
            positions=task.starts.astype(np.int32),
            quarantined=[(video, labels[video], reason) for video, reason in quarantined],
            provenance={
                "settings": {"train": trained, "score": settings},
                "train_videos": len(split.train) - len(held_out),
                **({"held_out_videos": len(held_out)} if held_out else {}),
                "train_quarantined": shards.find([listed.video for listed in split.train])[1],
                "flat_attention": flat,
                "model": {"sha256": file_digest(model_path), "weights": model["network"]["weights_sha256"]},
                "shards": shards.digests,
                "shard_settings": shards.settings,
                "software": model["provenance"]["software"],
                "hardware": model["provenance"]["hardware"],
                "compute": model["provenance"]["compute"],
                "seed": trained["seed"],
            },
            subset=subset,
        ),
    )


def _check(path: Path, model: dict[str, Any], settings: dict[str, Any], classes: list[str], shards: Shards) -> None:
    trained = model["settings"]
    for what, had, has in (
        ("stream", trained["stream"], settings["stream"]),
        ("class list", model["classes"], classes),
        ("list of videos", trained["videos"], settings["videos"]),
        ("preprocessing", model["provenance"]["shard_settings"], shards.settings),
    ):
        if had != has:
            raise InputError(
                f"the network {path} was trained on another {what}: {had} instead of {has}; train it again"
            )
