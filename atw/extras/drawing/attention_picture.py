"""The attention of a split as a picture (the paper's figure 3) and as numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from atw.evaluate.attention import stream_attention
from atw.evaluate.scores import Scores, read_scores
from atw.extras.drawing.figures import ShownFrame, VideoAttention, write_attention_picture
from atw.extras.drawing.scored_videos import (
    StoredVideo,
    VideoSelection,
    choose_videos,
    looking_stream,
    middle_frames,
    stored_videos,
)
from atw.files import InputError, write_json
from atw.shards import Shard

FORMAT = 2
SHOWN = 4  # frames with the highest weight, and as many with the lowest, as in the paper


def write_attention(out: Path, score_paths: Sequence[Path], frames: Path, selection: VideoSelection) -> None:
    """Draw the attention of a split as `out`, a .png file, and write its numbers beside it as .json.

    Args:
        out: path of the picture.
        score_paths: one per stream.
        frames: folder of the rgb shards with the split's videos.
        selection: the videos to show.

    Raises:
        InputError: the score files do not belong together, a video is not in them, or the shards are others.
    """
    scores = {one.stream: one for one in map(read_scores, score_paths)}
    attention = {stream: stream_attention(one) for stream, one in scores.items()}
    shown = selection.stream or looking_stream(attention)
    if shown not in scores:
        raise InputError(f"there are no scores of the stream {shown!r}, only of {', '.join(scores)}")
    predicted, rows = choose_videos(scores, selection)
    stored = stored_videos(frames, scores, "rgb")
    videos = [_video(scores, row, shown, int(predicted[row]), stored) for row in rows]
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
            stream: {"videos": len(one.videos), **attention[stream].to_dict()} for stream, one in scores.items()
        },
        "videos": [_as_json(video) for video in videos],
    }
    write_json(out.with_suffix(".json"), content)


def _video(
    scores: Mapping[str, Scores],
    row: int,
    shown: str,
    predicted: int,
    stored: Mapping[str, StoredVideo],
) -> VideoAttention:
    one = scores[shown]
    video = one.videos[row]
    path, entry = stored[video]
    frames, weights = middle_frames(one, row, entry.count), one.curve(row)[1]
    flat = bool(one.flat[row])
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
        label=one.label(row),
        predicted=one.classes[predicted],
        seconds=times.seconds,
        times=times.source,
        flat=flat,
        highest=highest,
        lowest=lowest,
        curves={stream: scored.curve(row) for stream, scored in scores.items()},
        actions=[segment for _, segment in one.actions.shown_in(row)],
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
        "actions": video.actions,
        "flat": video.flat,
        "highest": described(video.highest),
        "lowest": described(video.lowest),
        "attention": {
            stream: {"seconds": seconds.tolist(), "weight": weights.tolist()}
            for stream, (seconds, weights) in video.curves.items()
        },
    }
