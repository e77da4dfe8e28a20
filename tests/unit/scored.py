"""Scores that are right about the videos a test names, and results with their score files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atw.config import ConsensusTableSettings, FuseSettings
from atw.evaluate.result import write_result
from atw.evaluate.scores import Scores, score_writer

CLASSES = ("run", "jump")
VIDEOS = tuple(f"video {number}" for number in range(12))
LABELS = np.array([0, 1] * 6)


def scored(
    right: list[int],
    *,
    stream: str = "rgb",
    experiment: str = "",
    split: str = "split1",
    flat_attention: float = 1,
    **other: Any,
) -> Scores:
    """Scores that are right about the videos of these numbers, by a margin of 1; this share has flat attention."""
    is_right = np.isin(np.arange(len(VIDEOS)), right)
    logits = np.where(is_right, LABELS, 1 - LABELS)[:, None] == np.arange(2)  # [V, 2]
    V, crops, M = len(VIDEOS), 1, 3
    attention = np.full((V, crops, M), 1 / M, np.float32)
    attention[round(flat_attention * V) :] = [0.5, 0.25, 0.25]
    provenance = {
        "settings": {"train": {"model": {"backbone": "tiny", "consensus": "attention"}}, "score": {"stream": stream}},
        "train_videos": 9,
        "train_quarantined": [],
        "model": {"sha256": "f00d", "weights": None},
        "seed": 5,
    }
    arguments: dict[str, Any] = {
        "stream": stream,
        "dataset": "mine",
        "split": split,
        "experiment": experiment,
        "classes": CLASSES,
        "videos": VIDEOS,
        "labels": LABELS,
        "video_logits": logits.astype(np.float32),
        "attention": attention,
        "attention_logits": np.zeros((V, crops, M), np.float32),
        "snippets": np.full(V, M, np.int32),
        "probability": np.zeros((V, M), np.float32),
        "positions": np.zeros((V, M), np.int32),
        "seconds": np.zeros((V, M, 2)),
        "quarantined": [("lost", 1, "empty file")],
        "provenance": provenance,
    }
    return Scores(**arguments | other)


def write_scores(path: Path, scores: Scores, snippets: NDArray[np.float32] | None = None) -> None:
    """A score file whose snippets score `snippets` [V, crops, M, K], or all 0."""
    shape = (*scores.attention.shape, len(scores.classes))
    with score_writer(path, shape) as writer:
        writer.add(range(len(scores.videos)), np.zeros(shape, np.float32) if snippets is None else snippets)
        writer.finish(scores)


def table_settings(*, rows: Sequence[str] | dict[str, list[str]], **changes: Any) -> ConsensusTableSettings:
    """Of a consensus table over two splits; the rows by name have two seeds, the second one `+seed1`."""
    given = {
        "recipe": 1,
        "dataset": "mine",
        "kind": "demo",
        "seed": 5,
        "add": "logits",
        "splits": ["split1", "split2"],
        "rows": rows if isinstance(rows, dict) else {name: [name, f"{name}+seed1"] for name in rows},
    }
    return ConsensusTableSettings.from_json(json.dumps(given | changes))


FUSE = {"recipe": 2, "weights": {"rgb": 1.0, "flow": 2.0, "warped": 0.0}, "on": "logits", "seed": 3}


def result(folder: Path, rgb: list[int], flow: list[int], **names: Any) -> Path:
    """A fused.json with its score files; flow, of twice the weight, decides."""
    for stream, right in (("rgb", rgb), ("flow", flow)):
        write_scores(folder / stream / "scores.h5", scored(right, stream=stream, **names))
    write_result(
        folder / "fused.json",
        [folder / stream / "scores.h5" for stream in ("rgb", "flow")],
        FuseSettings.model_validate(FUSE),
    )
    return folder / "fused.json"
