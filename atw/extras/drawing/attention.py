"""The attention of a split as a picture (the paper's figure 3) and as numbers."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atw.datasets.lists import path_key, read_intervals
from atw.evaluate.fuse import fuse
from atw.evaluate.metrics import interval_auc
from atw.evaluate.scores import Scores, flat_attention, read_scores
from atw.extras.drawing.figures import ShownFrame, VideoAttention, write_attention_picture
from atw.extras.drawing.scored_videos import (
    StoredVideo,
    VideoSelection,
    attention_curves,
    middle_frames,
    select_rows,
    stored_videos,
)
from atw.files import InputError, write_json
from atw.shards import Shard

log = logging.getLogger("atw")
FORMAT = 1
SHOWN = 4  # frames with the highest weight, and as many with the lowest, as in the paper
Actions = Mapping[str, tuple[int, int]]  # first and last frame of the action, by video


def write_attention(
    out: Path, score_paths: Sequence[Path], frames: Path, selection: VideoSelection, *, intervals: Path | None = None
) -> None:
    """Draw the attention of a split as `out`, a .png file, and write its numbers beside it as .json.

    Args:
        out: path of the picture.
        score_paths: one per stream.
        frames: folder of the rgb shards with the split's videos.
        selection: the videos to show.
        intervals: list with the columns path, action_first and action_last, in frames from 0.

    Raises:
        InputError: the score files do not belong together, a video is not in them, or the shards are others.
    """
    scores = {one.stream: one for one in map(read_scores, score_paths)}
    shown = selection.stream or next(iter(scores))
    if shown not in scores:
        raise InputError(f"there are no scores of the stream {shown!r}, only of {', '.join(scores)}")
    weights = {stream: weight for stream, weight in selection.weights.items() if weight and stream in scores}
    predicted = fuse(scores, weights=weights, on=selection.on).argmax(axis=1)
    rows = select_rows(scores[shown], predicted, selection)
    stored = stored_videos(frames, scores, "rgb")
    counts = {video: one.entry.count for video, one in stored.items()}
    actions = _read_actions(intervals, scores[shown].videos, counts) if intervals else {}
    videos = [_video(scores, row, shown, int(predicted[row]), stored, actions) for row in rows]
    write_attention_picture(videos, shown, out)
    first = scores[shown]
    content = {
        "format": FORMAT,
        "dataset": first.dataset,
        "split": first.split,
        "experiment": first.experiment or None,
        "seed": selection.seed,
        "frames_by": shown,
        "streams": {
            stream: {
                "videos": len(one.videos),
                "flat": float(flat_attention(one.attention).mean()),
                "interval_auc": _auc(one, actions, counts),
            }
            for stream, one in scores.items()
        },
        "videos": [_as_json(video) for video in videos],
    }
    write_json(out.with_suffix(".json"), content)


def _read_actions(intervals: Path, videos: Sequence[str], counts: Mapping[str, int]) -> Actions:
    """Read the actions of the scored videos, without those that end after their video."""
    listed = read_intervals(intervals)
    actions = {video: listed[path_key(video)] for video in videos if path_key(video) in listed}
    for video, (_, last) in actions.items():
        if last >= counts[video]:
            log.warning(
                "the action of %s ends with frame %d, and it has %d frames; it is left out", video, last, counts[video]
            )
    return {video: frames for video, frames in actions.items() if frames[1] < counts[video]}


def _video(
    scores: Mapping[str, Scores],
    row: int,
    shown: str,
    predicted: int,
    stored: Mapping[str, StoredVideo],
    actions: Actions,
) -> VideoAttention:
    one = scores[shown]
    video = one.videos[row]
    path, entry = stored[video]
    counts = {name: place.entry.count for name, place in stored.items()}
    frames = middle_frames(one, counts)[row]
    weights = one.attention[row].mean(axis=0)
    flat = bool(flat_attention(one.attention[[row]])[0])
    above, below = _snippets_shown(frames, weights, flat=flat)
    with Shard(path) as shard:
        times = shard.times(entry)

        def show(snippets: NDArray[np.integer]) -> list[ShownFrame]:
            images = shard.frames(entry, frames[snippets].tolist())
            return [
                ShownFrame(int(frames[snippet]), float(times.of_frame(frames[snippet])), float(weights[snippet]), image)
                for snippet, image in zip(snippets, images, strict=True)
            ]

        highest, lowest = show(above), show(below)
    return VideoAttention(
        video=video,
        label=one.classes[int(one.labels[row])],
        predicted=one.classes[predicted],
        seconds=times.seconds,
        times=times.source,
        flat=flat,
        highest=highest,
        lowest=lowest,
        curves=attention_curves(scores, row, counts, times),
        action_seconds=times.stretch(*actions[video]) if video in actions else None,
    )


def _snippets_shown(
    frames: NDArray[np.int64], weights: NDArray[np.floating], *, flat: bool
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Return the snippets with the highest and the lowest weights; if flat, snippets spread over the video."""
    # Snippets of a short video share frames, and then have equal weights.
    distinct = np.unique(frames, return_index=True)[1]
    if flat:
        spread = distinct[np.linspace(0, len(distinct) - 1, 2 * SHOWN).round().astype(int)]
        return spread[:SHOWN], spread[SHOWN:]
    rising = distinct[np.argsort(weights[distinct], kind="stable")]
    return rising[::-1][:SHOWN], rising[:SHOWN]


def _as_json(video: VideoAttention) -> dict[str, object]:
    def described(frames: Sequence[ShownFrame]) -> list[dict[str, float]]:
        return [{"frame": one.number, "seconds": one.seconds, "weight": one.weight} for one in frames]

    return {
        "video": video.video,
        "label": video.label,
        "predicted": video.predicted,
        "seconds": video.seconds,
        "times": video.times,
        "action_seconds": video.action_seconds,
        "flat": video.flat,
        "highest": described(video.highest),
        "lowest": described(video.lowest),
        "attention": {
            stream: {"seconds": seconds.tolist(), "weight": weights.tolist()}
            for stream, (seconds, weights) in video.curves.items()
        },
    }


def _auc(scores: Scores, actions: Actions, counts: Mapping[str, int]) -> float | None:
    """Return the area under the ROC curve of attention against the action's interval, None if none is known."""
    rows = [row for row, video in enumerate(scores.videos) if video in actions]
    if not rows:
        return None
    bounds = np.array([actions[scores.videos[row]] for row in rows])  # [V, 2]
    middles = middle_frames(scores, counts)[rows]
    inside = (middles >= bounds[:, :1]) & (middles <= bounds[:, 1:])
    return interval_auc(scores.attention[rows].mean(axis=1), inside)
