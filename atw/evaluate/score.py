"""Scoring: every test video of a split, or every held-out one, through the trained network of one stream.

TSN's own test code builds the network for one snippet and averages afterwards; with attention that would make every
weight 1. Here the softmax of the attention sees all snippets of a crop together, and crops are averaged after it.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from atw.config import Compute, Interval, ScoreSettings
from atw.data import augment, sampling
from atw.data.reader import Shards, report_repeats, sources
from atw.datasets import Dataset, Split
from atw.evaluate import forward
from atw.evaluate.scores import Actions, Scores, ScoreWriter, Subset, score_writer
from atw.files import InputError, file_digest
from atw.model.modelfile import TrainedModel, load_model
from atw.model.network import VideoNetwork
from atw.shards import Shard
from atw.terminal import meter
from atw.train.devices import explain_out_of_memory, own_gpus, use_gpu
from atw.train.loop import held_out_videos
from atw.videos.times import Times

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
    chunk = at_once * model.settings.sampling.segments
    run = _scoring_run(model_path, model, settings, shards, videos, compute, chunk=chunk, threads=threads)
    seconds, actions = _in_seconds(shard_paths, run, dataset.intervals(split.name), split.classes)
    snippets = run.starts.shape[1]
    with score_writer(out, (len(videos), len(run.crops), snippets, len(split.classes))) as writer:
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
            snippets=np.full(len(videos), snippets, np.int32),
            **outputs,
            positions=run.starts.astype(np.int32),
            seconds=seconds,
            quarantined=[(video, _first(labels[video]), reason) for video, reason in quarantined],
            provenance=_provenance(model_path, model, settings, split, shards) | {"files": files},
            subset=subset,
            actions=actions,
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


def _scoring_run(
    model_path: Path,
    model: TrainedModel,
    settings: ScoreSettings,
    shards: Shards,
    videos: list[str],
    compute: Compute,
    *,
    chunk: int,
    threads: int,
) -> forward.ScoringRun:
    evaluate, preprocess, stack = settings.evaluate, settings.shards.preprocess, model.settings.stack
    return forward.ScoringRun(
        model_path=model_path,
        shards=shards,
        videos=videos,
        starts=np.stack(
            [sampling.test_starts(shards.positions(video), snippets=evaluate.snippets, stack=stack) for video in videos]
        ),
        stack=stack,
        crops=augment.test_boxes(preprocess.height, preprocess.width, crop=evaluate.crop, crops=evaluate.crops),
        size=model.settings.augment.input_size,
        chunk=chunk,
        compute=compute,
        threads=threads,
        gpus=(),
    )


def _in_seconds(
    shard_paths: Sequence[Path],
    run: forward.ScoringRun,
    listed: Mapping[str, Sequence[Interval]],
    classes: tuple[str, ...],
) -> tuple[NDArray[np.float64], Actions]:
    """Return start and end of each snippet, [V, M, 2], and the listed actions of the videos."""
    rows = {video: row for row, video in enumerate(run.videos)}
    seconds = np.zeros((*run.starts.shape, 2))
    actions = []
    for path in shard_paths:
        with Shard(path) as shard:
            for entry in shard.entries:
                if entry.video not in rows:
                    continue
                row, times = rows[entry.video], shard.times(entry)
                spans = sampling.frame_spans(
                    run.starts[row], stack=run.stack, positions=entry.count, fields=shard.stream != "rgb"
                )
                seconds[row] = times.edges[spans]
                for action in listed.get(entry.video, ()):
                    label = classes.index(action.label) if action.label else -1
                    actions += [(row, label, *bounds) for bounds in _bounds(entry.video, action, times)]
    return seconds, Actions.of(actions)


def _bounds(video: str, action: Interval, times: Times) -> list[tuple[float, float]]:
    """Return start and end of an action in seconds; nothing, with a warning, if the video ends before it."""
    if action.unit == "frames" and action.last < times.frames:
        return [times.stretch(int(action.first), int(action.last))]
    if action.unit == "seconds" and action.first < times.seconds:
        return [(action.first, action.last)]
    log.warning(
        "%s has an action from %g to %g %s, and ends after %d frames and %g seconds; the action is left out",
        *(video, action.first, action.last, action.unit, times.frames, times.seconds),
    )
    return []


def _score(
    run: forward.ScoringRun, network: VideoNetwork, writer: ScoreWriter, split: Split
) -> dict[str, NDArray[np.float32]]:
    """Write the snippets' scores; return what `Scores` has of the network's outputs, by name."""
    V, M, crops = *run.starts.shape, len(run.crops)
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
                outputs[name][group.videos.start : group.videos.stop, ..., : values.shape[-1]] = values
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
