"""Inputs of the report page: small results of two streams, with shards of random pictures."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from atw.config import FuseSettings
from atw.evaluate.compare import result_outcomes
from atw.evaluate.fuse import fuse
from atw.evaluate.result import Result, read_result, result_of
from atw.evaluate.scores import Scores, read_scores
from atw.extras.drawing.scored_videos import StoredVideo
from atw.extras.report.inputs import HistoryRow, ReportInputs
from atw.shards import Shard
from tests.unit.scored import FUSE, VIDEOS, result, scored
from tests.unit.stored import WriteShard

FRAMES = 6
MANY = 400
NAMES = ("<b>bold</b> & co", "pretending to put something next to something else, and back")


def report_inputs(folder: Path, rgb: list[int], flow: list[int], **changes: Any) -> ReportInputs:
    """Return a result that is right about these videos, without shards; flow, with twice the weight, decides."""
    path = result(folder, rgb, flow)
    content = read_result(path)
    scores = {stream: read_scores(folder / stream / "scores.h5") for stream in content.streams}
    return dataclasses.replace(_inputs(path, content, scores), **changes)


def _inputs(path: Path, content: Result, scores: dict[str, Scores]) -> ReportInputs:
    fused = fuse(scores, weights=content.fusion.weights, on=content.fusion.on)
    return ReportInputs(
        result=content,
        scores=scores,
        fused=fused,
        outcomes=result_outcomes(path, content, scores, fused),
        histories={stream: [] for stream in scores},
        stored={},
        findings=[],
        files={},
        compared={},
    )


def stored(folder: Path, write_shard: WriteShard) -> dict[str, dict[str, StoredVideo]]:
    """Write shards of frames and flow with the videos of `tests.unit.scored`."""
    found = {}
    for stream, items in (("rgb", FRAMES), ("flow", FRAMES - 1), ("warped", FRAMES - 1)):
        path = folder / stream / "00000.h5"
        path.parent.mkdir(parents=True)
        write_shard(path, stream, dict.fromkeys(VIDEOS, items))
        with Shard(path) as shard:
            found[stream] = {entry.video: StoredVideo(path, entry) for entry in shard.entries}
    return found


def many_classes(folder: Path, write_shard: WriteShard) -> ReportInputs:
    """Return a result with two videos each of many classes, some with names that are hard to show."""
    names = (*NAMES, *(f"class {number:03}" for number in range(len(NAMES), MANY)))
    videos = tuple(f"{name}/{number}.avi" for name in names for number in (0, 1))
    labels = np.repeat(np.arange(MANY), 2)
    rng = np.random.default_rng(0)
    scores = {}
    for stream in ("rgb", "flow"):
        logits = rng.normal(size=(len(videos), MANY)).astype(np.float32)
        logits[np.arange(len(videos)), labels] += 3
        scores[stream] = scored(
            [],
            stream=stream,
            classes=names,
            videos=videos,
            labels=labels,
            video_logits=logits,
            attention=rng.dirichlet(np.ones(3), (len(videos), 1)).astype(np.float32),
            attention_logits=np.zeros((len(videos), 1, 3), np.float32),
            positions=np.tile(np.arange(3, dtype=np.int32), (len(videos), 1)),
            probability=np.zeros((len(videos), 3), np.float32),
            snippets=np.full(len(videos), 3, np.int32),
            seconds=np.tile(np.array([[0, 1], [1, 2], [2, 3]]) / 25, (len(videos), 1, 1)),
            quarantined=[],
        )
        scores[stream].provenance["settings"]["train"]["sampling"] = {"stack": 2}
        scores[stream].provenance["shards"] = {"00000": "f00d"}
    content = result_of(scores, FuseSettings.model_validate(FUSE))
    rows = [HistoryRow(iteration=number + 1, loss=2 - number / 99, accuracy=number / 99) for number in range(99)]
    shards = stored(folder / "shards", write_shard)
    return dataclasses.replace(
        _inputs(folder, content, scores),
        histories=dict.fromkeys(scores, rows),
        stored={stream: dict.fromkeys(videos, of_stream["video 0"]) for stream, of_stream in shards.items()},
    )
