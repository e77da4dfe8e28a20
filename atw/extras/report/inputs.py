"""The files of a run that the report page is made from, read once and checked to belong together."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from atw.config import LABEL_SEPARATOR, STREAMS, Detect
from atw.evaluate.attention import StreamAttention, stream_attention
from atw.evaluate.compare import Comparison, Outcomes, ReadResults, compare_read, read_compared, result_outcomes
from atw.evaluate.detected import detect_videos
from atw.evaluate.detection_files import Detection
from atw.evaluate.fuse import fuse, probabilities
from atw.evaluate.metrics import in_top
from atw.evaluate.result import Result, read_result
from atw.evaluate.scores import Curve, Scores, read_scores
from atw.extras.drawing.scored_videos import StoredVideo, looking_stream, stored_videos
from atw.files import InputError
from atw.preprocess.audit import Finding, read_findings

NO_OTHERS: Mapping[str, Path] = MappingProxyType({})


class HistoryRow(BaseModel):
    """A line of history.jsonl; a value is None if the iteration has none."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    iteration: int
    loss: float | None = None
    accuracy: float | None = None
    learning_rate: float | None = None
    attention_entropy: float | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None
    validation_entropy: float | None = None
    validation_auc: float | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class ReportInputs:
    """A result and the files it was made from.

    Args:
        result: content of fused.json.
        scores: by stream.
        fused: [V, K] the scores of the fusion, see `atw.evaluate.fuse.fuse`.
        outcomes: of `fused` and of each stream with a weight, over all listed test videos.
        histories: rows of history.jsonl by stream.
        stored: where the shards hold each video, by stream; rgb is there even if it was not scored.
        findings: quarantined and repaired videos.
        files: the score files by stream, for the scores of the snippets.
        compared: this result after others, by the experiment of the other.
    """

    result: Result
    scores: dict[str, Scores]
    fused: NDArray[np.float64]
    outcomes: dict[str, Outcomes]
    histories: dict[str, list[HistoryRow]]
    stored: dict[str, dict[str, StoredVideo]]
    findings: list[Finding]
    files: dict[str, Path]
    compared: dict[str, Comparison]

    @property
    def first(self) -> Scores:
        """Return the scores of the first stream, for what all streams share."""
        return next(iter(self.scores.values()))

    @property
    def weights(self) -> dict[str, float]:
        """Return the weights of the streams that take part in the fusion."""
        return self.result.fusion.weights

    @property
    def seed(self) -> int:
        """Return the seed of intervals and draws."""
        return self.result.seed

    @functools.cached_property
    def shares(self) -> NDArray[np.float64]:
        """Return the probabilities of the fusion, [V, K]."""
        return probabilities(self.fused, weights=self.weights, on=self.result.fusion.on)

    @functools.cached_property
    def right(self) -> NDArray[np.bool_]:
        """Return whether the fusion recognises each decoded video, [V]; never one without a label."""
        return in_top(self.fused, self.first.truth, k=1)

    @functools.cached_property
    def attention(self) -> dict[str, StreamAttention]:
        """Return what the weights of each stream are like."""
        return {stream: stream_attention(one) for stream, one in self.scores.items()}

    @functools.cached_property
    def looking(self) -> str:
        """Return the stream whose weights are the least uniform."""
        return looking_stream(self.attention)

    def curves(self, row: int) -> dict[str, Curve]:
        """Return the attention over time of a decoded video, by stream."""
        return {stream: one.curve(row) for stream, one in self.scores.items()}

    def labels(self, row: int) -> str:
        """Return what a decoded video shows, in words."""
        return ", ".join(self.first.label(row).split(LABEL_SEPARATOR))

    def fuse(self, weights: dict[str, float]) -> NDArray[np.float64]:
        """Fuse the scores with other weights, [V, K]."""
        return fuse(self.scores, weights=weights, on=self.result.fusion.on)

    def detect(self, rows: Sequence[int]) -> dict[str, list[Detection]]:
        """What detections.json of the result says of the videos in some rows, by video."""
        given = Detect.model_validate(self.result.provenance["fuse"].get("detect", {}))
        on = self.result.fusion.on
        return detect_videos(self.files, self.scores, given, weights=self.weights, on=on, rows=rows).fused


def read_inputs(
    result_path: Path, shards: Path, quarantine: Path, compared: Mapping[str, Path] = NO_OTHERS
) -> ReportInputs:
    """Read a result and the files around it.

    Args:
        result_path: fused.json; the folders beside it hold scores.h5 and history.jsonl of each stream.
        shards: folder of the dataset's shards, with one folder per stream.
        quarantine: quarantine.csv of the split.
        compared: fused.json of results to compare with, by name.

    Raises:
        InputError: a file is missing or damaged, or the files do not belong together.
    """
    result = read_result(result_path)
    for stream in result.streams:
        if stream not in STREAMS:
            raise InputError(
                f"{result_path} has the stream {stream!r}, which is none of {', '.join(STREAMS)}; make it again"
            )
    folders = {stream: result_path.parent / stream for stream in result.streams}
    files = {stream: folder / "scores.h5" for stream, folder in folders.items()}
    scores = {stream: read_scores(path) for stream, path in files.items()}
    fused = fuse(scores, weights=result.fusion.weights, on=result.fusion.on)
    outcomes = result_outcomes(result_path, result, scores, fused)
    this = ReadResults(result_path, [result], outcomes)
    return ReportInputs(
        result=result,
        scores=scores,
        fused=fused,
        outcomes=outcomes,
        histories={stream: _read_history(folder / "history.jsonl") for stream, folder in folders.items()},
        stored={stream: stored_videos(shards / stream, scores, stream) for stream in sorted({"rgb", *scores})},
        findings=_read_findings(quarantine),
        files=files,
        compared={name: compare_read(read_compared(path), this).results["fused"] for name, path in compared.items()},
    )


def _read_history(path: Path) -> list[HistoryRow]:
    try:
        return [HistoryRow.model_validate_json(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not the history of a training ({error}); train the stream again") from None


def _read_findings(path: Path) -> list[Finding]:
    try:
        return read_findings(path)
    except (OSError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no list of quarantined videos ({error}); run the workflow for it") from None
