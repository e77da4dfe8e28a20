"""The scored videos that a picture shows: which ones, where their shards are, and when each snippet is seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from atw.evaluate.scores import Scores
from atw.files import InputError
from atw.shards import Entry, Shard
from atw.videos.times import Times

Curve = tuple[NDArray[np.floating], NDArray[np.floating]]
"""Seconds [M] in rising order, and the attention weights [M] there, which sum to 1."""


class StoredVideo(NamedTuple):
    """The shard of a video, and the video's row in the index of the shard."""

    path: Path
    entry: Entry


@dataclass(frozen=True, kw_only=True)
class VideoSelection:
    """Which videos a picture shows, and which stream's weights stand above their frames.

    Args:
        videos: ids; if empty, `count` correctly classified videos are drawn with `seed`.
        stream: rgb, flow or warped; if empty, the first stream with scores.
        weights: by stream; with `on`, the fusion that decides which videos are classified correctly.
    """

    videos: Sequence[str] = ()
    count: int = 4
    seed: int = 0
    stream: str = ""
    weights: Mapping[str, float] = field(default_factory=lambda: {"rgb": 1.0, "flow": 1.0, "warped": 0.5})
    on: Literal["logits", "probabilities"] = "logits"


def select_rows(scores: Scores, predicted: NDArray[np.integer], selection: VideoSelection) -> list[int]:
    """Return the row numbers of the videos to show; if too few are classified correctly, others fill up.

    Args:
        scores: of any stream.
        predicted: [V] the class index that the fusion gives each video.
        selection: the videos to show.

    Raises:
        InputError: a video of the selection was not scored.
    """
    missing = sorted(set(selection.videos) - set(scores.videos))
    if missing:
        raise InputError(f"{missing[0]} is not among the {len(scores.videos)} scored test videos of {scores.split}")
    if selection.videos:
        return [scores.videos.index(video) for video in selection.videos]
    drawn = np.random.default_rng(selection.seed).permutation(len(scores.videos))
    wrong = predicted[drawn] != scores.labels[drawn]
    best = drawn[np.argsort(wrong, kind="stable")][: selection.count]
    return sorted(best.tolist())


def stored_videos(folder: Path, scores: Mapping[str, Scores], stream: str) -> dict[str, StoredVideo]:
    """Find every video of the shards that the scores name, by id.

    Args:
        folder: the shards of `stream`.
        scores: by stream.
        stream: rgb, flow or warped; it need not have scores.

    Raises:
        InputError: a shard is not the one that was scored, or no shard holds a scored video.
    """
    scored = scores.get(stream)
    first = scored or next(iter(scores.values()))
    digests = first.recorded(dict, "shards")
    stored: dict[str, StoredVideo] = {}
    for name in sorted(digests):
        with Shard(folder / f"{Path(name).name}.h5") as shard:
            if scored and digests[name] != shard.digest:
                raise InputError(
                    f"{shard.path} is not the shard that was scored; run the workflow for the scores again"
                )
            stored |= {entry.video: StoredVideo(shard.path, entry) for entry in shard.entries if entry.count}
    for video in first.videos:
        if video not in stored:
            raise InputError(
                f"{video} is in none of the shards {', '.join(sorted(digests))} of {folder}; give the folder of its "
                f"{'frames' if stream == 'rgb' else stream}"
            )
    return stored


def snippet_frames(scores: Scores, counts: Mapping[str, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first and the last frame of each snippet, each [V, M].

    A stack of 5 fields from frame p on ends with frame p + 5. If a video has fewer fields than a stack, its last field
    is repeated.

    Args:
        scores: of a stream.
        counts: number of frames by video.

    Raises:
        InputError: a snippet goes beyond the end of its video.
    """
    frames = np.array([counts[video] for video in scores.videos])[:, None]  # [V, 1]
    first = scores.positions.astype(np.int64)
    last = first
    if scores.stream != "rgb":
        stack = scores.recorded(int, "settings", "train", "sampling", "stack")
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
    """Return the middle frame of each snippet, [V, M]; see `snippet_frames`."""
    first, last = snippet_frames(scores, counts)
    middles: NDArray[np.int64] = (first + last) // 2
    return middles


def attention_curves(
    scores: Mapping[str, Scores], row: int, counts: Mapping[str, int], times: Times
) -> dict[str, Curve]:
    """Return a video's attention over time by stream, averaged over the crops.

    A snippet stands at the middle of the time from the start of its first frame to the end of its last one.

    Args:
        scores: by stream.
        row: number of the video.
        counts: number of frames by video.
        times: of the video.
    """
    curves: dict[str, Curve] = {}
    for stream, one in scores.items():
        first, last = snippet_frames(one, counts)
        curves[stream] = (times.middle(first[row], last[row]), one.attention[row].mean(axis=0))
    return curves
