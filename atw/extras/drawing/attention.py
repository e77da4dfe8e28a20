"""Attention seen: the paper's figure 3, and how well attention finds the action where that is known."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atw.datasets.intervals import read_intervals
from atw.datasets.names import path_key
from atw.evaluate.fuse import fuse
from atw.evaluate.metrics import interval_auc
from atw.evaluate.scores import Scores, flat_attention, read_scores
from atw.extras.drawing.moments import Choice, attention_curves, draw_rows, middle_frames, stored_videos
from atw.extras.drawing.plate import Picked, Plate, write_plate
from atw.files import InputError, write_json
from atw.shards import Entry, Shard

log = logging.getLogger("atw")
FORMAT = 1
SHOWN = 4  # frames with the highest weight, and as many with the lowest, as in the paper


def write_attention(
    out: Path, score_paths: Sequence[Path], frames: Path, choice: Choice, *, intervals: Path | None = None
) -> None:
    """Draw the attention of a split as `out`, a .png, and write its numbers beside it as .json.

    Args:
        out: path of the picture.
        score_paths: of the streams.
        frames: folder of the rgb shards of the split's videos.
        choice: of videos.
        intervals: list with the columns path, action_first and action_last, frames from 0.

    Raises:
        InputError: score files that do not belong together, a video that is not in them, or other shards.
    """
    scores = {one.stream: one for one in map(read_scores, score_paths)}
    shown = choice.stream or next(iter(scores))
    if shown not in scores:
        raise InputError(f"there are no scores of the stream {shown!r}, only of {', '.join(scores)}")
    weights = {stream: weight for stream, weight in choice.weights.items() if weight and stream in scores}
    predicted = fuse(scores, weights=weights, on=choice.on).argmax(axis=1)
    rows = draw_rows(scores[shown], predicted, choice)
    given = read_intervals(intervals) if intervals else {}
    known = {video: given[path_key(video)] for video in scores[shown].videos if path_key(video) in given}
    stored = stored_videos(frames, scores, "rgb")
    counts = {video: entry.count for video, (_, entry) in stored.items()}
    known = _inside(known, counts)
    plates = [_plate(scores, row, shown, int(predicted[row]), stored, known, counts) for row in rows]
    write_plate(plates, shown, out)
    write_json(out.with_suffix(".json"), _numbers(scores, shown, choice, plates, known, counts))


def _inside(known: Mapping[str, tuple[int, int]], counts: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """The actions that end with their videos at the latest; a warning names the others."""
    for video, (_, last) in known.items():
        if last >= counts[video]:
            log.warning(
                "the action of %s ends with frame %d, and it has %d frames; it is left out", video, last, counts[video]
            )
    return {video: bounds for video, bounds in known.items() if bounds[1] < counts[video]}


def _plate(
    scores: Mapping[str, Scores],
    row: int,
    shown: str,
    predicted: int,
    stored: Mapping[str, tuple[Path, Entry]],
    known: Mapping[str, tuple[int, int]],
    counts: Mapping[str, int],
) -> Plate:
    one = scores[shown]
    path, entry = stored[one.videos[row]]
    frames = middle_frames(one, counts)[row]
    weights = one.attention[row].mean(axis=0)
    # Snippets of a short video share frames, and such have equal weights.
    first_of_frame = np.unique(frames, return_index=True)[1]
    flat = bool(flat_attention(one.attention[[row]])[0])
    if flat:  # no frame is above another: a walk through the video
        walk = first_of_frame[np.linspace(0, len(first_of_frame) - 1, 2 * SHOWN).round().astype(int)]
        above, below = walk[:SHOWN], walk[SHOWN:]
    else:
        rising = first_of_frame[np.argsort(weights[first_of_frame], kind="stable")]
        above, below = rising[::-1][:SHOWN], rising[:SHOWN]

    def picked(shard: Shard, places: NDArray[np.integer]) -> list[Picked]:
        images = shard.frames(entry, frames[places].tolist())
        return [
            Picked(int(frames[place]), times.of_frame(frames[place]), float(weights[place]), image)
            for place, image in zip(places, images, strict=True)
        ]

    with Shard(path) as shard:
        times = shard.times(entry)
        highest, lowest = picked(shard, above), picked(shard, below)
    action = known.get(one.videos[row])
    return Plate(
        video=one.videos[row],
        label=one.classes[int(one.labels[row])],
        predicted=one.classes[predicted],
        seconds=times.seconds,
        times=times.source,
        flat=flat,
        highest=highest,
        lowest=lowest,
        curves=attention_curves(scores, row, counts, times),
        action_seconds=None if action is None else times.stretch(*action),
    )


def _numbers(
    scores: Mapping[str, Scores],
    shown: str,
    choice: Choice,
    plates: Sequence[Plate],
    known: Mapping[str, tuple[int, int]],
    counts: Mapping[str, int],
) -> dict[str, Any]:
    """The content of attention.json."""
    first = scores[shown]
    return {
        "format": FORMAT,
        "dataset": first.dataset,
        "split": first.split,
        "experiment": first.experiment or None,
        "seed": choice.seed,
        "frames_by": shown,
        "streams": {
            name: {
                "videos": len(one.videos),
                "flat": float(flat_attention(one.attention).mean()),
                "interval_auc": _auc(one, known, counts),
            }
            for name, one in scores.items()
        },
        "videos": [plate.to_json() for plate in plates],
    }


def _auc(scores: Scores, known: Mapping[str, tuple[int, int]], counts: Mapping[str, int]) -> float | None:
    """Area under the ROC curve of attention against the action's interval; None where no interval is known."""
    rows = [row for row, video in enumerate(scores.videos) if video in known]
    if not rows:
        return None
    bounds = np.array([known[scores.videos[row]] for row in rows])  # [V, 2]
    middles = middle_frames(scores, counts)[rows]
    inside = (middles >= bounds[:, :1]) & (middles <= bounds[:, 1:])
    return interval_auc(scores.attention[rows].mean(axis=1), inside)
