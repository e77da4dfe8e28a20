"""Scoring: every test video of a split, or every held-out one, through the trained network of one stream.

TSN's own test code builds the network for one snippet and averages afterwards; with attention that would make every
weight 1. Here the softmax of the attention sees all snippets of a crop together, and crops are averaged after it.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from atw.config import Compute, ScoreSettings
from atw.data import augment
from atw.data.reader import Shards, report_repeats, sources
from atw.data.snippets import plan_snippets
from atw.datasets import Dataset, Split
from atw.evaluate import forward
from atw.evaluate.forward import ScoringRun
from atw.evaluate.scores import Scores, ScoreWriter, Subset, score_writer
from atw.files import InputError, file_digest
from atw.model.modelfile import TrainedModel, load_model
from atw.model.network import VideoNetwork
from atw.terminal import meter
from atw.train.devices import explain_out_of_memory, own_gpus, use_gpu
from atw.train.task import held_out_videos

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
    split = dataset.split(settings.split)
    shards = Shards(shard_paths, settings.shards)
    files = sources(shard_paths, split, dataset)
    _require_trained_for(model_path, model, settings, split, shards)
    on_gpu = use_gpu(compute, reserved=gpus, available=torch.cuda.device_count())
    labels = _labels(model_path, split, model, subset)
    videos, quarantined = shards.find(list(labels))
    if not videos:
        raise InputError(f"every {subset} video of {settings.split} is quarantined; see the logs of the shards")
    report_repeats(shards, videos, model.settings.stack)
    at_once = model.microbatch if compute.microbatch == "auto" else compute.microbatch
    intervals = dataset.intervals(split.name)
    planned = plan_snippets(
        shard_paths, videos, model.settings, settings.evaluate.snippets, intervals=intervals, classes=split.classes
    )
    run = ScoringRun(
        model_path=model_path,
        shards=shards,
        videos=videos,
        starts=planned.starts,
        stack=model.settings.stack,
        crops=_crops(settings),
        size=model.settings.augment.input_size,
        chunk=at_once * model.settings.sampling.segments,
        compute=compute,
        threads=threads,
        gpus=(),
    )
    with score_writer(out, (len(videos), len(run.crops), planned.positions.shape[1], len(split.classes))) as writer:
        with explain_out_of_memory("scoring", at_once), own_gpus(compute.workers if on_gpu else 0) as numbers:
            outputs = _score(replace(run, gpus=numbers), model.network, writer, split)
        scores = Scores(
            stream=settings.stream,
            dataset=dataset.name,
            split=settings.split,
            experiment=settings.experiment,
            classes=split.classes,
            videos=tuple(videos),
            labels=np.array([_first(labels[video]) for video in videos], np.int64),
            more_labels=_more_labels([labels[video] for video in (*videos, *dict(quarantined))]),
            snippets=np.array([len(starts) for starts in planned.starts], np.int32),
            **outputs,
            positions=planned.positions,
            seconds=planned.seconds,
            quarantined=[(video, _first(labels[video]), reason) for video, reason in quarantined],
            provenance=_provenance(model_path, model, settings, split, shards) | {"files": files},
            subset=subset,
            actions=planned.actions,
        )
        writer.finish(scores)
    log.info(
        "%d videos scored, %d quarantined, attention flat in %.0f%%",
        *(len(videos), len(quarantined), 100 * scores.flat.mean()),
    )


def _require_trained_for(
    path: Path, model: TrainedModel, settings: ScoreSettings, split: Split, shards: Shards
) -> None:
    trained = model.settings
    for what, had, has in (
        ("stream", trained.stream, settings.stream),
        ("class list", list(model.classes), list(split.classes)),
        ("list of videos", trained.videos, settings.videos),
        ("preprocessing", model.provenance.shard_settings, shards.settings.to_dict()),
    ):
        if had != has:
            raise InputError(
                f"the network {path} was trained on another {what}: {had} instead of {has}; train it again"
            )


def _labels(model_path: Path, split: Split, model: TrainedModel, subset: Subset) -> dict[str, list[int]]:
    """The videos to be scored, with the indices of their classes, none for a background video."""
    videos = split.test if subset == "test" else held_out_videos(split, model.settings)
    if subset == "held_out" and not videos:
        raise InputError(f"the network {model_path} was trained on every video; set train.held_out and train it again")
    return {listed.video: [split.classes.index(label) for label in listed.labels] for listed in videos}


def _first(labels: Sequence[int]) -> int:
    return labels[0] if labels else -1


def _more_labels(labels: Sequence[Sequence[int]]) -> NDArray[np.int32]:
    """Return the row and the class of each label but the first of a video, [P, 2]."""
    pairs = [(row, label) for row, own in enumerate(labels) for label in own[1:]]
    return np.array(pairs, np.int32).reshape(-1, 2)


def _crops(settings: ScoreSettings) -> list[augment.Crop]:
    preprocess, evaluate = settings.shards.preprocess, settings.evaluate
    return augment.test_boxes(preprocess.height, preprocess.width, crop=evaluate.crop, crops=evaluate.crops)


def _score(run: ScoringRun, network: VideoNetwork, writer: ScoreWriter, split: Split) -> dict[str, NDArray[np.float32]]:
    """Write the snippets' scores; return what `Scores` has of the network's outputs, by name."""
    V, M, crops = len(run.videos), max(map(len, run.starts)), len(run.crops)
    shapes = {
        "video_logits": (V, len(split.classes)),
        "attention": (V, crops, M),
        "attention_logits": (V, crops, M),
        "probability": (V, M),
    }
    outputs = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    with meter(f"scoring {run.shards.settings.stream}", "videos", V) as progress:
        for group in forward.forward(run, network):
            writer.add(group.videos, group.snippet_logits)
            logits = group.logits.mean(axis=1)
            predicted = logits.argmax(axis=1)[:, None, None, None]
            probabilities = np.take_along_axis(softmax(group.snippet_logits, axis=3), predicted, axis=3)
            for name, values in (
                ("video_logits", logits),
                ("attention", group.weights),
                ("attention_logits", group.energies),
                ("probability", probabilities[..., 0].mean(axis=1)),
            ):
                outputs[name][group.videos, ..., : values.shape[-1]] = values
            progress.advance(len(group.videos), steps=len(group.videos))
    return outputs


def _provenance(
    model_path: Path, model: TrainedModel, settings: ScoreSettings, split: Split, shards: Shards
) -> dict[str, object]:
    """Where the scores come from, as JSON."""
    held_out = held_out_videos(split, model.settings)
    return {
        "settings": {"train": model.settings.to_dict(), "score": settings.to_dict()},
        "train_videos": len(split.train) - len(held_out),
        **({"held_out_videos": len(held_out)} if held_out else {}),
        "train_quarantined": shards.find([listed.video for listed in split.train])[1],
        "model": {"sha256": file_digest(model_path), "weights": model.network.backbone.weights_sha256},
        "shards": shards.digests,
        "shard_settings": shards.settings.to_dict(),
        "software": model.provenance.software,
        "hardware": model.provenance.hardware,
        "compute": model.provenance.compute,
        "seed": model.settings.seed,
    }
