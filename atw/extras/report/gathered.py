"""All that a run left, read once and checked to belong together."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atw.config import STREAMS
from atw.evaluate.compare import Outcomes, result_outcomes
from atw.evaluate.fuse import fuse
from atw.evaluate.result import read_result
from atw.evaluate.scores import Scores, read_scores
from atw.extras.drawing.moments import stored_videos
from atw.files import InputError, read_json
from atw.preprocess.audit import Finding, read_findings
from atw.shards import Entry

Stored = dict[str, tuple[Path, Entry]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Gathered:
    """A result and what it came from.

    Args:
        result: content of fused.json.
        scores: by stream.
        fused: [V, K] what `atw.evaluate.fuse.fuse` gives.
        outcomes: of the streams with a weight and of `fused`, over all listed test videos.
        histories: rows of history.jsonl by stream.
        stored: of every stream, and of rgb in any case, the shard and the row of each video in the shards.
        findings: quarantined and repaired videos.
    """

    result: dict[str, Any]
    scores: dict[str, Scores]
    fused: NDArray[np.float64]
    outcomes: dict[str, Outcomes]
    histories: dict[str, list[dict[str, float | None]]]
    stored: dict[str, Stored]
    findings: list[Finding]

    @property
    def first(self) -> Scores:
        """The scores of some stream, for what all streams share."""
        return next(iter(self.scores.values()))

    @property
    def weights(self) -> dict[str, float]:
        """Of the streams that take part in the fusion."""
        return dict(self.result["fusion"]["weights"])

    @property
    def on(self) -> Any:
        """What the fusion adds: logits or probabilities."""
        return self.result["fusion"]["on"]

    @property
    def seed(self) -> int:
        """Of intervals and draws."""
        return int(self.result["provenance"]["fuse"]["seed"])


def gather(result_path: Path, shards: Path, quarantine: Path) -> Gathered:
    """Read a result, and what lies beside it.

    Args:
        result_path: fused.json; each stream's scores.h5 and history.jsonl are in a folder beside it.
        shards: folder of the dataset's shards, one folder a stream.
        quarantine: quarantine.csv of the split.

    Raises:
        InputError: a file is missing or damaged, or they do not belong together.
    """
    result = read_result(result_path)
    for stream in result["streams"]:
        if stream not in STREAMS:
            raise InputError(
                f"{result_path} has the stream {stream!r}, which is none of {', '.join(STREAMS)}; make it again"
            )
    scores = {stream: read_scores(result_path.parent / stream / "scores.h5") for stream in result["streams"]}
    return Gathered(
        result=result,
        scores=scores,
        fused=fuse(scores, weights=result["fusion"]["weights"], on=result["fusion"]["on"]),
        outcomes=result_outcomes(result_path, result, scores),
        histories={stream: _read_history(result_path.parent / stream / "history.jsonl") for stream in scores},
        stored={stream: stored_videos(shards / stream, scores, stream) for stream in sorted({"rgb", *scores})},
        findings=_read_findings(quarantine),
    )


def _read_history(path: Path) -> list[dict[str, float | None]]:
    try:
        rows = [read_json(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if not all(isinstance(row, dict) and isinstance(row.get("iteration"), int) for row in rows):
            raise ValueError("a row without an iteration")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not the history of a training ({error}); train the stream again") from None
    return rows


def _read_findings(path: Path) -> list[Finding]:
    try:
        return read_findings(path)
    except (OSError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no list of quarantined videos ({error}); run the workflow for it") from None
