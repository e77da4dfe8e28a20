"""Results as the page of a result reads them: of two streams, with shards of random pictures."""

import dataclasses
from pathlib import Path
from typing import Any

from atw.evaluate.compare import result_outcomes
from atw.evaluate.fuse import fuse
from atw.evaluate.result import read_result
from atw.evaluate.scores import read_scores
from atw.report.gathered import Gathered
from atw.shards import Shard
from tests.unit.scored import VIDEOS, result
from tests.unit.stored import WriteShard

FRAMES = 6


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
