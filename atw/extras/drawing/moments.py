"""Which videos are shown, where their frames and fields are, and when each snippet of them is seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atw.evaluate.scores import Scores
from atw.files import InputError
from atw.shards import Entry, Shard
from atw.videos.times import Times

Curve = tuple[NDArray[np.floating], NDArray[np.floating]]
"""Seconds [M] in rising order, and the attention weights [M] there, which sum to 1."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which videos are shown, and whose weights stand above their frames.

    Args:
        videos: ids; none for some that are classified correctly, drawn by `seed`.
        count: how many are drawn.
        seed: of the draw.
        stream: rgb, flow or warped; "" is the first there is.
        weights: of the streams in the fusion that decides what is correct.
        on: what the fusion adds.
    """

    videos: Sequence[str] = ()
    count: int = 4
    seed: int = 0
    stream: str = ""
    weights: Mapping[str, float] = field(default_factory=lambda: {"rgb": 1.0, "flow": 1.0, "warped": 0.5})
    on: Any = "logits"


def draw_rows(scores: Scores, predicted: NDArray[np.integer], choice: Choice) -> list[int]:
    """Numbers of the videos to show; where too few are classified correctly, others fill up.

    Args:
        scores: of any stream.
        predicted: [V] the class that the fused streams give each video.
        choice: which ones.

    Raises:
        InputError: a video is asked for that was not scored.
    """
    missing = sorted(set(choice.videos) - set(scores.videos))
    if missing:
        raise InputError(f"{missing[0]} is not among the {len(scores.videos)} scored test videos of {scores.split}")
    if choice.videos:
        return [scores.videos.index(video) for video in choice.videos]
    drawn = np.random.default_rng(choice.seed).permutation(len(scores.videos))
    wrong = predicted[drawn] != scores.labels[drawn]
    best = drawn[np.argsort(wrong, kind="stable")][: choice.count]
    return sorted(best.tolist())


def stored_videos(folder: Path, scores: Mapping[str, Scores], stream: str) -> dict[str, tuple[Path, Entry]]:
    """The shard and the row of every scored video, in the shards whose names the scores hold.

    Args:
        folder: of the shards of `stream`.
        scores: by stream.
        stream: rgb, flow or warped, scored or not.

    Raises:
        InputError: shards that are not those that were scored, or that lack a scored video.
    """
    scored = scores.get(stream)
    first = scored or next(iter(scores.values()))
    digests = first.told(dict, "shards")
    stored: dict[str, tuple[Path, Entry]] = {}
    for name in sorted(digests):
        with Shard(folder / f"{Path(name).name}.h5") as shard:
            if scored and digests[name] != shard.digest:
                raise InputError(
                    f"{shard.path} is not the shard that was scored; run the workflow for the scores again"
                )
            stored |= {entry.video: (shard.path, entry) for entry in shard.entries if entry.count}
    for video in first.videos:
        if video not in stored:
            raise InputError(
                f"{video} is in none of the shards {', '.join(sorted(digests))} of {folder}; give the folder of its "
                f"{'frames' if stream == 'rgb' else stream}"
            )
    return stored


def snippet_frames(scores: Scores, counts: Mapping[str, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last frame of each snippet, each [V, M]: a stack of 5 fields from frame p on ends with frame p + 5.

    `counts` has the frames of each video: in one with fewer fields than a stack, the last field is repeated.

    Raises:
        InputError: snippets beyond the end of a video.
    """
    frames = np.array([counts[video] for video in scores.videos])[:, None]  # [V, 1]
    first = scores.positions.astype(np.int64)
    last = first
    if scores.stream != "rgb":
        stack = scores.told(int, "settings", "train", "sampling", "stack")
        last = first + np.minimum(stack, frames - 1)
    beyond = ((first < 0) | (last >= frames)).any(axis=1)
    if beyond.any():
        row = int(beyond.argmax())
        raise InputError(
            f"the {scores.stream} scores have snippets of {scores.videos[row]} up to frame {last[row].max()}, and its "
            f"shard has {frames[row, 0]} frames; run the workflow for the scores again"
        )
    return first, last


def middle_frames(scores: Scores, counts: Mapping[str, int]) -> NDArray[np.int64]:
    """The middle frame of each snippet, [V, M]: a stack of 5 fields from frame p to p + 5 has p + 2."""
    first, last = snippet_frames(scores, counts)
    middles: NDArray[np.int64] = (first + last) // 2
    return middles


def attention_curves(
    scores: Mapping[str, Scores], row: int, counts: Mapping[str, int], times: Times
) -> dict[str, Curve]:
    """Attention over time of a video by number, averaged over the crops, by stream; `counts` as in `snippet_frames`.

    A snippet stands at the middle of the time from its first frame to the end of its last.
    """
    curves: dict[str, Curve] = {}
    for name, each in scores.items():
        first, last = snippet_frames(each, counts)
        curves[name] = (times.middle(first[row], last[row]), each.attention[row].mean(axis=0))
    return curves
