"""The detections of all test videos of a split: detections.json, and how good they are where actions are known."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from atw.config import Detect
from atw.datasets.thumos14 import AMBIGUOUS
from atw.evaluate.detect import Signal, detect, fuse_signals, signal_of
from atw.evaluate.detection_files import AnnotatedVideo, Annotation, Detection, Detections, Truth
from atw.evaluate.detection_score import score
from atw.evaluate.fuse import Addend, fuse, probabilities
from atw.evaluate.kits import RULES
from atw.evaluate.metrics import Record
from atw.evaluate.scores import Scores, read_scores, snippet_reader
from atw.files import write_json

_ByVideo = dict[str, list[Detection]]


@dataclass(frozen=True)
class Detected:
    """The detections of each video, which may be none: of the fusion, and of each stream."""

    fused: _ByVideo = field(default_factory=dict)
    streams: dict[str, _ByVideo] = field(default_factory=dict)


class MapByOverlap(Record):
    """mAP by overlap, as in "0.5", and its mean over the overlaps."""

    map: dict[str, float]
    average_map: float


class RatedDetections(Record):
    """How good detections are by the rules of two kits, at the overlaps that are usual for each.

    Args:
        videos: that are known to show an action; only their detections count.
        fused: by rule, for the fusion.
        streams: by stream and rule.
    """

    videos: int
    fused: dict[str, MapByOverlap]
    streams: dict[str, dict[str, MapByOverlap]]


def detect_videos(
    files: Mapping[str, Path],
    scores: Mapping[str, Scores],
    settings: Detect,
    *,
    weights: Mapping[str, float],
    on: Addend,
    rows: Sequence[int] | None = None,
) -> Detected:
    """Detect the classes of scored videos.

    Args:
        files: by stream, the file of the scores, which has those of the snippets.
        scores: the same files, read.
        settings: which detections there are.
        weights: by stream; one without a weight takes no part.
        on: what the fusion adds.
        rows: of the videos; None for all.

    Raises:
        InputError: a file is damaged, or the streams cannot be fused, see `fuse`.
    """
    shares = probabilities(fuse(scores, weights=weights, on=on), weights=weights, on=on)  # [V, K]
    alone = {stream: softmax(scores[stream].video_logits.astype(np.float64), axis=1) for stream in weights}
    first = next(iter(scores.values()))
    found = Detected(streams={stream: {} for stream in weights})
    with contextlib.ExitStack() as stack:
        readers = {stream: stack.enter_context(snippet_reader(files[stream])) for stream in weights}
        for row in range(len(first.videos)) if rows is None else rows:
            video = first.videos[row]
            signals = {stream: _signal(scores[stream], row, readers[stream](row)) for stream in weights}
            found.fused[video] = detect(fuse_signals(signals, weights), shares[row], first.classes, settings)
            for stream, signal in signals.items():
                of_stream = fuse_signals({stream: signal}, {stream: 1})
                found.streams[stream][video] = detect(of_stream, alone[stream][row], first.classes, settings)
    return found


def _signal(scores: Scores, row: int, snippet_logits: NDArray[np.float32]) -> Signal:
    own = scores.snippets[row]
    return signal_of(scores.seconds[row, :own], scores.attention[row, :, :own], snippet_logits[:, :own])


def rate_detections(found: Detected, scores: Scores) -> RatedDetections:
    """Rate the detections of the videos of which the scores know when they show an action.

    A stretch to be ignored is `Ambiguous`. Quarantined videos have no actions here, so they do not count.

    Args:
        found: the detections.
        scores: of any of the streams; they know some action.
    """
    known = scores.actions
    annotations: dict[str, list[Annotation]] = {scores.videos[row]: [] for row in known.video[known.label >= 0]}
    for row, label, (start, end) in zip(known.video, known.label, known.seconds.tolist(), strict=True):
        name = AMBIGUOUS if label < 0 else scores.classes[label]
        if (video := scores.videos[row]) in annotations:
            annotations[video].append(Annotation(label=name, segment=(start, end)))
    truth = Truth(database={video: AnnotatedVideo(annotations=shown) for video, shown in annotations.items()})

    def rated(detections: _ByVideo) -> dict[str, MapByOverlap]:
        predictions = Detections(results={video: detections[video] for video in annotations})
        by_rule = {rule: score(predictions, truth, rule=rule) for rule in RULES}
        return {rule: MapByOverlap(map=one.map, average_map=one.average_map) for rule, one in by_rule.items()}

    return RatedDetections(
        videos=len(annotations),
        fused=rated(found.fused),
        streams={stream: rated(detections) for stream, detections in found.streams.items()},
    )


def write_detections(
    out: Path, score_paths: Sequence[Path], settings: Detect, *, weights: Mapping[str, float], on: Addend
) -> None:
    """Detect the classes of the test videos and write them in ActivityNet's form; arguments as in `detect_videos`.

    The detections of the streams are under `streams`, beside those of the fusion under `results`.
    """
    read = [read_scores(path) for path in score_paths]
    scores = {one.stream: one for one in read}
    files = {one.stream: path for one, path in zip(read, score_paths, strict=True)}
    found = detect_videos(files, scores, settings, weights=weights, on=on)
    first = read[0]
    pretrained = sorted({str(digest) for one in read if (digest := one.recorded(dict, "model").get("weights"))})
    write_json(
        out,
        {
            "version": " ".join(filter(None, (first.dataset, first.split, first.experiment))),
            "external_data": {
                "used": bool(pretrained),
                "details": f"SHA-256 of the first weights: {', '.join(pretrained)}" if pretrained else "none",
            },
            "results": _plain(found.fused),
            "streams": {stream: _plain(detections) for stream, detections in found.streams.items()},
        },
    )


def _plain(detections: _ByVideo) -> dict[str, list[dict[str, Any]]]:
    return {video: [one.model_dump() for one in found] for video, found in detections.items()}
