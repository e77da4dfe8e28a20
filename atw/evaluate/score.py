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
from atw.evaluate.scores import Scores, Subset, flat_attention, write_scores
from atw.files import InputError, file_digest
from atw.model.network import Output, VideoNetwork
from atw.progress import meter
from atw.train.arithmetic import memory_format
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
    torch.set_num_threads(threads)
    network, model = load_model(model_path)
    trained = model["settings"]
    split = dataset.split(settings["split"])
    shards = Shards(shard_paths, settings["shards"])
    _check(model_path, model, settings, list(split.classes), shards)
    device = torch.device("cuda" if use_gpu(compute, reserved=gpus, available=torch.cuda.device_count()) else "cpu")
    network.to(device).to(memory_format=memory_format(channels_last=compute.channels_last))
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
    outputs, positions = [], []
    with torch.inference_mode(), meter(f"scoring {settings['stream']}", "videos", len(videos)) as progress:
        for video in videos:
            starts = sampling.test_starts(
                shards.positions(video), snippets=settings["evaluate"]["snippets"], stack=stack
            )
            outputs.append(_score(network, shards, video, starts, settings["evaluate"], trained, compute))
            positions.append(starts)
            progress.advance(1)
    weights = np.stack([output.weights.cpu().numpy() for output in outputs])
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
            video_logits=np.stack([output.logits.cpu().numpy().mean(axis=0) for output in outputs]),
            snippet_logits=np.stack([output.snippet_logits.cpu().numpy() for output in outputs]),
            attention=weights,
            attention_logits=np.stack([output.energies.cpu().numpy() for output in outputs]),
            positions=np.stack(positions),
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


def _score(
    network: VideoNetwork,
    shards: Shards,
    video: str,
    starts: np.ndarray,
    evaluate: dict[str, Any],
    trained: dict[str, Any],
    compute: Compute,
) -> Output:
    """All crops of one video at once: logits [crops, K], weights and energies [crops, M], snippets [crops, M, K]."""
    preprocess = shards.settings["preprocess"]
    crops = augment.test_boxes(
        preprocess["height"], preprocess["width"], crop=evaluate["crop"], crops=evaluate["crops"]
    )
    size = trained["augment"]["input_size"]
    snippets = shards.snippets(video, starts, stack_of(trained), crops, size)  # [crops, M, C, S, S]
    return network.score(torch.from_numpy(snippets), chunk=compute.microbatch * trained["sampling"]["segments"])
