"""Attention seen: the paper's figure 3, and how well attention finds the action where that is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atw.datasets.intervals import read_intervals
from atw.evaluate.fuse import fuse
from atw.evaluate.metrics import interval_auc
from atw.evaluate.scores import Scores, flat_attention, read_scores
from atw.figures.plate import Picked, Plate, write_plate
from atw.files import InputError, write_json
from atw.shards import Entry, Shard
from atw.videos import USUAL_FPS

FORMAT = 1
SHOWN = 4  # frames with the highest weight, and as many with the lowest, as in the paper


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
    rows = _rows(scores[shown], predicted, choice)
    known = read_intervals(intervals) if intervals else {}
    stored = _stored(frames, scores)
    counts = {video: entry.count for video, (_, entry) in stored.items()}
    plates = [_plate(scores, row, shown, int(predicted[row]), stored, known, counts) for row in rows]
    write_plate(plates, shown, out)
    write_json(out.with_suffix(".json"), _numbers(scores, shown, choice, plates, known, counts))


def _rows(scores: Scores, predicted: NDArray[np.integer], choice: Choice) -> list[int]:
    """Numbers of the videos to show; where too few are classified correctly, others fill up."""
    missing = sorted(set(choice.videos) - set(scores.videos))
    if missing:
        raise InputError(f"{missing[0]} is not among the {len(scores.videos)} scored test videos of {scores.split}")
    if choice.videos:
        return [scores.videos.index(video) for video in choice.videos]
    drawn = np.random.default_rng(choice.seed).permutation(len(scores.videos))
    wrong = predicted[drawn] != scores.labels[drawn]
    best = drawn[np.argsort(wrong, kind="stable")][: choice.count]
    return sorted(best.tolist())


def _stored(folder: Path, scores: Mapping[str, Scores]) -> dict[str, tuple[Path, Entry]]:
    """The shard and the row of every scored video, in the shards whose names the scores hold."""
    first = next(iter(scores.values()))
    names = sorted(first.provenance["shards"])
    stored: dict[str, tuple[Path, Entry]] = {}
    for name in names:
        with Shard(folder / f"{Path(name).name}.h5") as shard:
            if "rgb" in scores and scores["rgb"].provenance["shards"].get(name) != shard.digest:
                raise InputError(
                    f"{shard.path} is not the shard that was scored; run the workflow for the scores again"
                )
            stored |= {entry.video: (shard.path, entry) for entry in shard.entries if entry.count}
    for video in first.videos:
        if video not in stored:
            raise InputError(
                f"{video} is in none of the shards {', '.join(names)} of {folder}; give the folder of its frames"
            )
    return stored


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
    fps = entry.fps or USUAL_FPS
    frames = _middles(one, counts)[row]
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
            Picked(int(frames[place]), (frames[place] + 0.5) / fps, float(weights[place]), image)
            for place, image in zip(places, images, strict=True)
        ]

    with Shard(path) as shard:
        highest, lowest = picked(shard, above), picked(shard, below)
    action = known.get(one.videos[row])
    return Plate(
        video=one.videos[row],
        label=one.classes[int(one.labels[row])],
        predicted=one.classes[predicted],
        seconds=entry.count / fps,
        flat=flat,
        highest=highest,
        lowest=lowest,
        curves={
            name: ((_middles(each, counts)[row] + 0.5) / fps, each.attention[row].mean(axis=0))
            for name, each in scores.items()
        },
        action_seconds=None if action is None else (action[0] / fps, (action[1] + 1) / fps),
    )


def _middles(scores: Scores, counts: Mapping[str, int]) -> NDArray[np.int32]:
    """The middle frame of each snippet, [V, M]: a stack of 5 fields from frame p to p + 5 has p + 2.

    `counts` has the frames of each video: in one with fewer fields than a stack, the last field is repeated.
    """
    if scores.stream == "rgb":
        return scores.positions
    stack = scores.provenance["settings"]["train"]["sampling"]["stack"]
    fields = np.array([counts[video] - 1 for video in scores.videos], np.int32)[:, None]  # [V, 1]
    middles: NDArray[np.int32] = scores.positions + np.minimum(stack, fields) // 2
    return middles


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
    middles = _middles(scores, counts)[rows]
    inside = (middles >= bounds[:, :1]) & (middles <= bounds[:, 1:])
    return interval_auc(scores.attention[rows].mean(axis=1), inside)
