"""Results as the page of a result reads them: of two streams, with shards of random pictures."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from atw.evaluate.compare import result_outcomes
from atw.evaluate.fuse import fuse, report
from atw.evaluate.result import read_result
from atw.evaluate.scores import read_scores
from atw.extras.report.gathered import Gathered
from atw.shards import Shard
from tests.unit.scored import FUSE, VIDEOS, result, scored
from tests.unit.stored import WriteShard

FRAMES = 6
MANY = 400
NAMES = ("<b>bold</b> & co", "pretending to put something next to something else, and back")


def gathered(folder: Path, rgb: list[int], flow: list[int], **changes: Any) -> Gathered:
    """A result that is right about these videos; flow, of twice the weight, decides. Its shards are not read."""
    path = result(folder, rgb, flow)
    content = read_result(path)
    scores = {stream: read_scores(folder / stream / "scores.h5") for stream in content["streams"]}
    fusion = content["fusion"]
    whole = Gathered(
        result=content,
        scores=scores,
        fused=fuse(scores, weights=fusion["weights"], on=fusion["on"]),
        outcomes=result_outcomes(path, content, scores),
        histories={stream: [] for stream in scores},
        stored={},
        findings=[],
    )
    return dataclasses.replace(whole, **changes)


def stored(folder: Path, write_shard: WriteShard) -> dict[str, Any]:
    """Shards of frames and flow of the videos that `tests.unit.scored` knows."""
    found = {}
    for stream, items in (("rgb", FRAMES), ("flow", FRAMES - 1), ("warped", FRAMES - 1)):
        path = folder / stream / "00000.h5"
        path.parent.mkdir(parents=True)
        write_shard(path, stream, dict.fromkeys(VIDEOS, items))
        with Shard(path) as shard:
            found[stream] = {entry.video: (path, entry) for entry in shard.entries}
    return found


def many_classes(folder: Path, write_shard: WriteShard) -> Gathered:
    """A result of two videos each of many classes, some with names that are hard to show."""
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
            quarantined=[],
        )
        scores[stream].provenance["settings"]["train"]["sampling"] = {"stack": 2}
        scores[stream].provenance["shards"] = {"00000": "f00d"}
    weights = {"rgb": 1.0, "flow": 2.0}
    content = report(scores, weights=weights, on="logits", seed=0, train_videos=9, quarantined=[])
    content["provenance"]["fuse"] = FUSE
    rows = [{"iteration": number + 1, "loss": 2 - number / 99, "accuracy": number / 99} for number in range(99)]
    return Gathered(
        result=content,
        scores=scores,
        fused=fuse(scores, weights=weights, on="logits"),
        outcomes=result_outcomes(folder, content, scores),
        histories={stream: list(rows) for stream in scores},
        stored={
            stream: dict.fromkeys(videos, one["video 0"])
            for stream, one in stored(folder / "shards", write_shard).items()
        },
        findings=[],
    )
