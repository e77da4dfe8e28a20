"""The scored videos that a picture shows: which ones, where their shards are, and the frames of their snippets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from atw.config import LABEL_SEPARATOR, AttentionSettings
from atw.data import sampling
from atw.evaluate.attention import StreamAttention
from atw.evaluate.detection_files import Detection
from atw.evaluate.fuse import fuse
from atw.evaluate.scores import Scores
from atw.files import InputError
from atw.shards import Entry, Shard

_DETECTIONS = 5  # of a video


class StoredVideo(NamedTuple):
    """The shard of a video, and the video's row in the index of the shard."""

    path: Path
    entry: Entry


@dataclass(frozen=True, kw_only=True)
class VideoSelection:
    """Which videos a picture shows, and which stream's weights stand above their frames.

    Args:
        videos: ids; if empty, `count` correctly classified videos are drawn with `seed`.
        stream: rgb, flow or warped; if empty, `looking_stream`.
        weights: by stream; with `on`, the fusion that decides which videos are classified correctly.
    """

    videos: Sequence[str] = ()
    count: int = 4
    seed: int = 0
    stream: str = ""
    weights: Mapping[str, float] = field(default_factory=lambda: {"rgb": 1.0, "flow": 1.0, "warped": 0.5})
    on: Literal["logits", "probabilities"] = "logits"

    @classmethod
    def of(cls, settings: AttentionSettings) -> Self:
        """The videos that pictures of a result show."""
        weights = {str(stream): weight for stream, weight in settings.weights.items()}
        return cls(seed=settings.seed, weights=weights, on=settings.add)


def looking_stream(attention: Mapping[str, StreamAttention]) -> str:
    """Return the stream whose weights are the least uniform over all videos, the first of equals."""
    return min(attention, key=lambda stream: attention[stream].entropy)


def choose_videos(scores: Mapping[str, Scores], selection: VideoSelection) -> tuple[NDArray[np.integer], list[int]]:
    """Return the class that the fusion of a selection gives each video, [V], and the rows of the videos to show."""
    weights = {stream: weight for stream, weight in selection.weights.items() if weight and stream in scores}
    predicted = fuse(scores, weights=weights, on=selection.on).argmax(axis=1)
    return predicted, select_rows(next(iter(scores.values())), predicted, selection)


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
    wrong = ~scores.truth[drawn, predicted[drawn]]
    best = drawn[np.argsort(wrong, kind="stable")][: selection.count]
    return sorted(best.tolist())


def best_detections(found: Sequence[Detection]) -> list[Detection]:
    """Return the detections of a video that are drawn, from the highest score down."""
    return sorted(found, key=lambda one: -one.score)[:_DETECTIONS]


def lanes(segments: Sequence[tuple[float, float]]) -> list[int]:
    """Return a lane for each segment (start, end), from 0, so that no two in a lane overlap; as few lanes as can be."""
    ends: list[float] = []
    lane_of = [0] * len(segments)
    for number in sorted(range(len(segments)), key=segments.__getitem__):
        start, end = segments[number]
        lane = next((lane for lane, last in enumerate(ends) if last <= start), len(ends))
        ends[lane : lane + 1] = [end]
        lane_of[number] = lane
    return lane_of


def heading(label: str, predicted: str) -> str:
    """Return the labels of a video, given as `Scores.label` does, and what it was taken for if that is none of them."""
    labels = label.split(LABEL_SEPARATOR)
    return (", ".join(labels) or "background") + ("" if predicted in labels else f", taken for {predicted}")


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


def middle_frames(scores: Scores, row: int, frames: int) -> NDArray[np.int64]:
    """Return the middle frame of each snippet of a video that has `frames` frames, [snippets].

    Raises:
        InputError: a snippet goes beyond the end of its video.
    """
    fields = scores.stream != "rgb"
    stack = scores.recorded(int, "settings", "train", "sampling", "stack") if fields else 1
    starts = scores.positions[row, : scores.snippets[row]].astype(np.int64)
    spans = sampling.frame_spans(starts, stack=stack, positions=frames - fields, fields=fields)
    if spans.max() > frames:
        raise InputError(
            f"the {scores.stream} scores have snippets of {scores.videos[row]} up to frame {spans.max() - 1}, and its "
            f"shard has {frames} frames; run the workflow for the scores again"
        )
    middles: NDArray[np.int64] = (spans.sum(axis=1) - 1) // 2
    return middles
