"""Scores of a stream on four videos of three classes, right about two of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from atw.evaluate.scores import Scores

CLASSES = ("run", "jump", "wave")

# The highest logit is class 0, 1, 2, 1; the labels are 0, 1, 1, 2: two of four are right.
LOGITS = np.array([[3, 1, 0], [0, 2, 1], [0, 1, 2], [0, 9, 1]], np.float32)
LABELS = np.array([0, 1, 1, 2], np.int64)


def scores(stream: str = "rgb", **changes: Any) -> Scores:
    V, crops, M = 4, 2, 5
    rng = np.random.default_rng(len(stream))
    energies = rng.normal(size=(V, crops, M)).astype(np.float32)
    exponentials = np.exp(energies)
    positions = np.sort(rng.integers(0, 50, (V, M)), axis=1).astype(np.int32)
    arguments: dict[str, Any] = {
        "stream": stream,
        "dataset": "mine",
        "split": "split1",
        "experiment": "",
        "classes": CLASSES,
        "videos": ("run/a.avi", "jump/b.avi", "jump/c.avi", "wave/ü #;.avi"),
        "labels": LABELS,
        "video_logits": LOGITS,
        "attention": exponentials / exponentials.sum(axis=2, keepdims=True),
        "attention_logits": energies,
        "snippets": np.full(V, M, np.int32),
        "probability": rng.random((V, M)).astype(np.float32),
        "positions": positions,
        "seconds": np.stack([positions, positions + 1], axis=2) / 25,
        "quarantined": [("wave/d.avi", 2, "one frame: no motion to see")],
        "provenance": {"train_videos": 9, "train_quarantined": [["run/x.avi", "empty file"]], "seed": 0},
    }
    return Scores(**arguments | changes)


def padded(whole: Scores, counts: Sequence[int]) -> Scores:
    """The same videos with fewer snippets: the first `counts` of each."""
    snippets = np.array(counts, np.int32)
    own = np.arange(whole.positions.shape[1]) < snippets[:, None]
    weights = np.where(own[:, None], whole.attention, 0)
    return replace(
        whole,
        snippets=snippets,
        attention=weights / weights.sum(axis=2, keepdims=True),
        attention_logits=np.where(own[:, None], whole.attention_logits, 0),
        probability=np.where(own, whole.probability, 0),
        positions=np.where(own, whole.positions, -1),
        seconds=np.where(own[..., None], whole.seconds, 0),
    )
