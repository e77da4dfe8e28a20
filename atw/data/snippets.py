"""Which snippets of videos are scored, and when they and the known actions happen.

Shapes: V videos; a video has up to M snippets.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from atw.config import Interval, TrainSettings
from atw.data import sampling
from atw.data.actions import Actions
from atw.shards import Shard
from atw.videos.times import Times

log = logging.getLogger("atw")
_BEYOND_SECONDS = 1.0  # that an action may end after its video without a warning: lists are rounded
Number = TypeVar("Number", np.int64, np.float64)


@dataclass(frozen=True, eq=False)
class PlannedSnippets:
    """The snippets of the videos, and their actions.

    Args:
        starts: first position of each snippet, int64 [snippets] for each video.
        positions: the same as int32 [V, M], with -1 behind the last snippet of a video.
        seconds: [V, M, 2] start and end of each snippet, with 0 behind the last one.
        actions: that are known.
    """

    starts: list[NDArray[np.int64]]
    positions: NDArray[np.int32]
    seconds: NDArray[np.float64]
    actions: Actions


def plan_snippets(
    shard_paths: Sequence[Path],
    videos: Sequence[str],
    trained: TrainSettings,
    snippets: int | Literal["auto"],
    *,
    intervals: Mapping[str, Sequence[Interval]],
    classes: Sequence[str],
) -> PlannedSnippets:
    """Choose the snippets of the videos, by the times in their shards.

    Args:
        shard_paths: shards of one stream that hold the videos.
        videos: ids.
        trained: settings of the network.
        snippets: of each video.
        intervals: known actions by video.
        classes: names, in the order of the labels.
    """
    rows = {video: row for row, video in enumerate(videos)}
    found: dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}
    actions: list[tuple[int, int, float, float]] = []
    for path in shard_paths:
        with Shard(path) as shard:
            for entry in shard.entries:
                if entry.video not in rows:
                    continue
                row, times = rows[entry.video], shard.times(entry)
                count = sampling.snippet_count(snippets, seconds=times.seconds, segments=trained.sampling.segments)
                starts = sampling.test_starts(entry.count, snippets=count, stack=trained.stack)
                frames = sampling.frame_spans(
                    starts, stack=trained.stack, positions=entry.count, fields=shard.stream != "rgb"
                )
                found[row] = starts, times.edges[frames]
                for action in intervals.get(entry.video, ()):
                    label = classes.index(action.label) if action.label else -1
                    actions += [(row, label, *bounds) for bounds in _bounds(entry.video, action, times)]
    all_starts, all_seconds = zip(*(found[row] for row in range(len(videos))), strict=True)
    positions = _padded(all_starts, -1).astype(np.int32)
    return PlannedSnippets(list(all_starts), positions, _padded(all_seconds, 0), Actions.of(actions))


def _padded(arrays: Sequence[NDArray[Number]], fill: int) -> NDArray[Number]:
    """Stack arrays whose first dimensions differ, with `fill` behind the shorter ones."""
    most = max(map(len, arrays))
    padded = np.full((len(arrays), most, *arrays[0].shape[1:]), fill, arrays[0].dtype)
    for row, array in enumerate(arrays):
        padded[row, : len(array)] = array
    return padded


def _bounds(video: str, action: Interval, times: Times) -> list[tuple[float, float]]:
    """Return start and end of an action in seconds; nothing, with a warning, if the video ends before it."""
    if action.unit == "frames" and action.last < times.frames:
        return [times.stretch(int(action.first), int(action.last))]
    if action.unit == "seconds" and action.first < times.seconds:
        if action.last > times.seconds + _BEYOND_SECONDS:
            log.warning(
                "%s ends after %g seconds, and its action from %g s on only after %g; look at the list of actions",
                *(video, times.seconds, action.first, action.last),
            )
        return [(action.first, action.last)]
    log.warning(
        "%s has an action from %g to %g %s, and ends after %d frames and %g seconds; the action is left out",
        *(video, action.first, action.last, action.unit, times.frames, times.seconds),
    )
    return []
