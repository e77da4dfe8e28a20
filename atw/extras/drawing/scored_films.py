"""Films of scored videos: the frames above the known actions, the detections, and the attention of each stream."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from atw.evaluate.detection_files import Detection, read_detections
from atw.evaluate.scores import Scores, read_scores
from atw.extras.drawing import films
from atw.extras.drawing.scored_videos import (
    StoredVideo,
    VideoSelection,
    best_detections,
    choose_videos,
    heading,
    stored_videos,
)
from atw.extras.drawing.strip import Bars, Strip
from atw.files import InputError
from atw.shards import Shard

_LEAST_HEIGHT_PX = 288  # smaller frames are enlarged by a whole number
_ACTIONS, _RIGHT, _WRONG = (66, 228, 240), (233, 180, 86), (167, 121, 204)  # BGR


def write_films(
    folder: Path, score_paths: Sequence[Path], frames: Path, detections: Path, selection: VideoSelection
) -> None:
    """Write one film for each video of the selection, those of attention.png, into a folder.

    A film bears the row of its video among the scores and its name: 00012_wave.mp4.

    Args:
        folder: made if it does not exist.
        score_paths: one per stream.
        frames: folder of the rgb shards with the videos.
        detections: detections.json of the same scores.
        selection: the videos to show.

    Raises:
        InputError: the files do not belong together, or the shards are others.
    """
    scores = {one.stream: one for one in map(read_scores, score_paths)}
    first = next(iter(scores.values()))
    predicted, rows = choose_videos(scores, selection)
    stored = stored_videos(frames, scores, "rgb")
    found = read_detections(detections).results
    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        video = first.videos[row]
        if video not in found:
            raise InputError(f"{detections} says nothing of {video}; run the workflow for it again")
        title = heading(first.label(row), first.classes[predicted[row]])
        _write_film(
            folder / f"{row:05d}_{Path(video).stem}.mp4",
            scores,
            row,
            stored[video],
            best_detections(found[video]),
            title,
        )


def _write_film(
    out: Path, scores: Mapping[str, Scores], row: int, stored: StoredVideo, found: Sequence[Detection], title: str
) -> None:
    first = next(iter(scores.values()))
    own = {first.classes[label] for label in np.flatnonzero(first.truth[row])} or {*first.classes}
    rows = [
        Bars("actions", _ACTIONS, [segment for _, segment in first.actions.shown_in(row)]),
        Bars("detected", _RIGHT, [one.segment for one in found if one.segment and one.label in own]),
        Bars("other class", _WRONG, [one.segment for one in found if one.segment and one.label not in own]),
    ]
    with Shard(stored.path) as shard:
        times = shard.times(stored.entry)
        enlarged = -(-_LEAST_HEIGHT_PX // shard.header.item_shape[0])
        strip = Strip(
            {stream: one.curve(row) for stream, one in scores.items()},
            [bars for bars in rows if bars.segments],
            seconds=times.seconds,
            width=2 * (shard.header.item_shape[1] * enlarged // 2),
        )

        def pictures() -> Iterator[NDArray[np.uint8]]:
            for number in range(stored.entry.count):
                image = cv2.cvtColor(shard.frames(stored.entry, [number])[0], cv2.COLOR_RGB2BGR)
                image = cv2.resize(image, None, fx=enlarged, fy=enlarged, interpolation=cv2.INTER_CUBIC)
                image = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
                moment = times.of_frame(number)
                yield strip.below(np.asarray(image, np.uint8), moment, f"{title}{_shown(found, moment)}")

        films.write_film(out, pictures(), times, what="film")


def _shown(found: Sequence[Detection], moment: float) -> str:
    """The best detection at a moment, to be written behind the title; "" if there is none."""
    shown = (one for one in found if one.segment and one.segment[0] <= moment < one.segment[1])
    return next((f"; detected {one.label} {one.score:.2f}" for one in shown), "")
