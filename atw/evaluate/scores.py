"""The score format, version 3: one HDF5 file of a stream's scores, readable with plain h5py.

    videos            string [V]                    ids of the scored videos: those that could be decoded
    labels            int64 [V]                     index into classes, of a video with several labels the first one;
                                                    -1 for a background video, which shows no class
    more_labels       int32 [P, 2]                  row and class of each further label; row V + q is the quarantined
                                                    video q; missing where no video has several
    classes           string [K]
    video_logits      float32 [V, K]                after the consensus, averaged over the crops
    snippets          int32 [V]                     how many snippets a video has; M is the most
    snippet_logits    float32 [V, crops, M, K]      before the consensus
    attention         float32 [V, crops, M]         how much each snippet counted, sums to 1 over M
    attention_logits  float32 [V, crops, M]         what those weights are the softmax of
    probability       float32 [V, M]                that a snippet gives to the class of the highest video_logits: its
                                                    softmax over the classes, averaged over the crops
    positions         int32 [V, M]                  first frame (rgb) or flow field of each snippet
    seconds           float64 [V, M, 2]             start and end of each snippet, from the video's first frame on
    actions/*         video int64 [A], label int64 [A], seconds float64 [A, 2]: what the dataset says of when a video
                      shows an action: row of the video, class, start and end; -1 for a stretch to be ignored
    quarantined/*     video string, label int64 as above, reason string [Q]: videos that could not be decoded
    attributes        format, stream, dataset, split, experiment ("" for none), subset, provenance (JSON)

Behind the snippets of a video that has fewer than M, positions are -1 and all other numbers 0.

The subset is `test`, or `held_out` for the training videos that the network was not trained on. `read_scores` reads
`test` unless it is asked for another, so that neither passes for the other.

Text is UTF-8 of fixed length. Numbers carry HDF5's Fletcher-32 checksum, so damage is an error when they are read.
A file may come from anyone: `read_scores` takes only data that lie in the file itself, in these types and shapes, with
each video named once and numbers that a network can give.

The scores of all snippets can be gigabytes. They are written as they come, one chunk per video, and `read_scores`
leaves them in the file: `h5py.File(path)["snippet_logits"][video]`.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import h5py
import numpy as np
from numpy.typing import NDArray

from atw.config import LABEL_SEPARATOR, STREAMS
from atw.data.actions import Actions
from atw.files import InputError, atomic_path, read_json
from atw.hdf5 import DAMAGE, dataset, describe, find_whole, new_file, open_file, read_attribute, read_whole, texts

FORMAT = 3
Subset = Literal["test", "held_out"]
_NAMES = ("stream", "dataset", "split", "experiment")
_ARRAYS: dict[str, Any] = {
    "labels": np.int64,
    "video_logits": np.float32,
    "snippets": np.int32,
    "attention": np.float32,
    "attention_logits": np.float32,
    "probability": np.float32,
    "positions": np.int32,
    "seconds": np.float64,
}
_ACTIONS: dict[str, Any] = {"video": np.int64, "label": np.int64, "seconds": np.float64}
_RECORDED: dict[str, type] = {"train_videos": int, "train_quarantined": list}
Recorded = TypeVar("Recorded")
_SUM_TOLERANCE = 1e-2  # a sum of many weights in half precision


Curve = tuple[NDArray[np.floating], NDArray[np.floating]]
"""Seconds [M] in rising order, and the attention weights [M] there, which sum to 1."""


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of V videos of a split by one stream's network, from up to M snippets of each crop, over K classes.

    The fields are those of the file, with their shapes, see above. `quarantined` has the id, the class index (-1 for
    none) and the reason of each of the Q videos that could not be decoded; `provenance` is JSON.
    """

    stream: str
    dataset: str
    split: str
    experiment: str
    classes: tuple[str, ...]
    videos: tuple[str, ...]
    labels: NDArray[np.int64]
    video_logits: NDArray[np.float32]
    snippets: NDArray[np.int32]
    attention: NDArray[np.float32]
    attention_logits: NDArray[np.float32]
    probability: NDArray[np.float32]
    positions: NDArray[np.int32]
    seconds: NDArray[np.float64]
    quarantined: list[tuple[str, int, str]]
    provenance: dict[str, Any]
    subset: Subset = "test"
    actions: Actions = field(default_factory=lambda: Actions.of([]))
    more_labels: NDArray[np.int32] = field(default_factory=lambda: np.empty((0, 2), np.int32))

    @property
    def listed_labels(self) -> NDArray[np.int64]:
        """The first label of each listed video, [V + Q]: of the scored ones, then of the quarantined ones."""
        return np.concatenate([self.labels, np.array([label for _, label, _ in self.quarantined], np.int64)])

    @property
    def listed_truth(self) -> NDArray[np.bool_]:
        """Which classes each listed video shows, [V + Q, K], in the order of `listed_labels`."""
        labels = self.listed_labels
        truth: NDArray[np.bool_] = labels[:, None] == np.arange(len(self.classes))
        truth[tuple(self.more_labels.T)] = True
        return truth

    @property
    def truth(self) -> NDArray[np.bool_]:
        """Which classes each scored video shows, [V, K]."""
        return self.listed_truth[: len(self.labels)]

    def label(self, row: int) -> str:
        """Return the labels of a scored video as a list of videos has them: joined by `|`, "" for none."""
        further = self.more_labels[self.more_labels[:, 0] == row, 1].tolist()
        return LABEL_SEPARATOR.join(self.classes[label] for label in (self.labels[row], *further) if label >= 0)

    @property
    def own(self) -> NDArray[np.bool_]:
        """Which places hold snippets of their video, [V, M]; the others are padding."""
        own: NDArray[np.bool_] = np.arange(self.positions.shape[1]) < self.snippets[:, None]
        return own

    @property
    def flat(self) -> NDArray[np.bool_]:
        """Whether all snippets of a video weigh the same, [V]: with ReLU, if all energies are 0."""
        least = np.where(self.own[:, None], self.attention, np.inf).min(axis=2)
        flat: NDArray[np.bool_] = (least == self.attention.max(axis=2)).all(axis=1)
        return flat

    @property
    def knows_actions(self) -> bool:
        """Whether it is known of any video when it shows an action."""
        return bool((self.actions.label >= 0).any())

    def curve(self, row: int) -> Curve:
        """Return the attention of a video over time, averaged over the crops; a snippet stands at its middle."""
        count = self.snippets[row]
        return self.seconds[row, :count].mean(axis=1), self.attention[row, :, :count].mean(axis=0)

    def recorded(self, kind: type[Recorded], *keys: str) -> Recorded:
        """The value of the provenance under `keys`, each of which is within the one before.

        Raises:
            InputError: there is none of that kind, as may be in a file of somebody else.
        """
        value: Any = self.provenance
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if not isinstance(value, kind):
            raise InputError(
                f"the score file of {self.stream}, {self.split} of {self.dataset}, does not say in its provenance what "
                f"{'.'.join(keys)} is; score the videos again"
            )
        return value


class ScoreWriter:
    """Writes an empty score file: first the snippets' scores, in any order, then all the rest; see `score_writer`."""

    def __init__(self, file: h5py.File, shape: tuple[int, int, int, int]) -> None:
        self._file = file
        early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        self._snippet_logits = file.create_dataset(
            "snippet_logits", shape, np.float32, chunks=(1, *shape[1:]), fletcher32=True, dcpl=early
        )
        self._added = np.zeros(shape[0], np.bool_)

    def add(self, videos: Sequence[int], snippet_logits: NDArray[np.float32]) -> None:
        """Write the scores [G, crops, snippets, K] of G videos, by number in rising order."""
        missing = self._snippet_logits.shape[2] - snippet_logits.shape[2]
        padded = np.pad(snippet_logits, ((0, 0), (0, 0), (0, missing), (0, 0)))
        self._snippet_logits[videos] = padded
        self._added[videos] = True

    def finish(self, scores: Scores) -> None:
        """Write everything else, once every video was added.

        Raises:
            InputError: a video's scores are not finite, which would count as some class or other.
            RuntimeError: a video was not added.
        """
        if not self._added.all():
            raise RuntimeError(f"{scores.videos[int(self._added.argmin())]} has not been scored")
        finite = np.isfinite(scores.video_logits).all(axis=1)
        if not finite.all():
            raise InputError(
                f"the {scores.stream} scores of {scores.videos[int(finite.argmin())]} are not finite, so the training "
                "diverged; lower train.learning_rate and train the stream again"
            )
        file = self._file
        provenance = json.dumps(scores.provenance, allow_nan=False)
        describe(file, {name: getattr(scores, name) for name in _NAMES})
        describe(file, {"format": FORMAT, "subset": scores.subset, "provenance": provenance})
        file["classes"] = texts(scores.classes)
        file["videos"] = texts(scores.videos)
        actions, quarantined = map(file.create_group, ("actions", "quarantined"))  # else they would carry the time
        for group, values, types in ((file, scores, _ARRAYS), (actions, scores.actions, _ACTIONS)):
            for name, dtype in types.items():
                group.create_dataset(name, data=getattr(values, name), dtype=dtype, fletcher32=True)
        if len(scores.more_labels):
            file.create_dataset("more_labels", data=scores.more_labels, dtype=np.int32, fletcher32=True)
        quarantined["video"] = texts([video for video, _, _ in scores.quarantined])
        quarantined["label"] = np.array([label for _, label, _ in scores.quarantined], np.int64)
        quarantined["reason"] = texts([reason for _, _, reason in scores.quarantined])


@contextlib.contextmanager
def score_writer(path: Path, shape: tuple[int, int, int, int]) -> Iterator[ScoreWriter]:
    """Write a score file of V videos, `shape` being V, crops, M and K; it appears, whole, when the block ends.

    Room for all snippets is taken on the disk at once. So a full disk is known before anything is scored, and equal
    scores are equal bytes, in whatever order they come.

    Raises:
        InputError: the disk is full, or the folder cannot be written to.
    """
    with atomic_path(path) as temporary, new_file(temporary) as file:
        yield ScoreWriter(file, shape)


def read_scores(path: Path, *, subset: Subset | None = "test") -> Scores:
    """Read a score file of that subset's videos, or of any subset if `subset` is None.

    Raises:
        InputError: the file is missing, damaged, no score file, of another format version or of other videos; or it
            says what cannot be true.
    """
    with _opened(path) as file:
        stored = read_attribute(file, "subset")
        if subset and stored != subset:
            raise InputError(f"{path} has scores of {stored} videos, not of {subset} ones; give the other file")
        scores = _read(file)
        _check(scores)
        return scores


@contextlib.contextmanager
def snippet_reader(path: Path) -> Iterator[Callable[[int], NDArray[np.float32]]]:
    """A function that reads the scores of the snippets of a video, [crops, M, K], by the video's row.

    Raises:
        InputError: here or in the block, the file is missing, damaged or of another format version.
    """
    with _opened(path) as file:
        shape = (*dataset(file, "attention").shape, *dataset(file, "classes").shape)
        stored = find_whole(file, "snippet_logits", np.float32, shape, summed=True)

        def read(row: int) -> NDArray[np.float32]:
            scores: NDArray[np.float32] = stored[row]
            if not np.isfinite(scores).all():
                raise ValueError(f"snippet_logits of row {row} are not all finite")
            return scores

        yield read


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """The file, with every reason why it cannot be read made one message."""
    try:
        with open_file(path) as file:
            version = read_attribute(file, "format") if "format" in file.attrs else None
            if version != FORMAT or "video_logits" not in file:
                raise InputError(
                    f"{path} is not a score file of format {FORMAT} (its format is {version}); "
                    "delete it and run the workflow, which scores the stream again"
                )
            yield file
    except DAMAGE as error:
        raise InputError(
            f"{path} cannot be read as a score file ({str(error).strip() or type(error).__name__}); "
            "delete it if it exists and run the workflow, which scores the stream again"
        ) from None


def _names(file: h5py.File) -> dict[str, Any]:
    names = {name: read_attribute(file, name) for name in (*_NAMES, "subset")}
    if not all(isinstance(name, str) for name in names.values()):
        raise ValueError("one of its names is a number")
    if names["stream"] not in STREAMS or names["subset"] not in get_args(Subset):
        raise ValueError(f"its stream is {names['stream']!r}, its subset {names['subset']!r}")
    return names


def _read(file: h5py.File) -> Scores:
    columns = {name: _texts(file, name) for name in ("classes", "videos", "quarantined/video", "quarantined/reason")}
    K, V, Q = (len(columns[name]) for name in ("classes", "videos", "quarantined/video"))
    # Crops and snippets may be any number, but all arrays have to agree about it.
    _, crops, M = read_whole(file, "attention", np.float32, (V, None, None), summed=True).shape
    shapes = {
        "labels": (V,),
        "video_logits": (V, K),
        "snippets": (V,),
        "attention": (V, crops, M),
        "attention_logits": (V, crops, M),
        "probability": (V, M),
        "positions": (V, M),
        "seconds": (V, M, 2),
    }
    numbers: dict[str, Any] = {
        name: read_whole(file, name, dtype, shapes[name], summed=True) for name, dtype in _ARRAYS.items()
    }
    if "more_labels" in file:
        numbers["more_labels"] = read_whole(file, "more_labels", np.int32, (None, 2), summed=True)
    labels = read_whole(file, "quarantined/label", np.int64, (Q,)).tolist()
    A = len(dataset(file, "actions/video"))
    actions = {
        name: read_whole(file, f"actions/{name}", dtype, (A, 2) if name == "seconds" else (A,), summed=True)
        for name, dtype in _ACTIONS.items()
    }
    return Scores(
        **_names(file),
        **numbers,
        classes=columns["classes"],
        videos=columns["videos"],
        quarantined=list(zip(columns["quarantined/video"], labels, columns["quarantined/reason"], strict=True)),
        provenance=read_json(str(read_attribute(file, "provenance"))),
        actions=Actions(**actions),
    )


def _texts(file: h5py.File, name: str) -> tuple[str, ...]:
    return tuple(text.decode() for text in read_whole(file, name, bytes, (None,)).tolist())


def _check(scores: Scores) -> None:
    """Refuse with a ValueError what no network says of any videos."""
    for what, names in (
        ("class", scores.classes),
        ("video", (*scores.videos, *(video for video, _, _ in scores.quarantined))),
    ):
        twice = {name for name, times in Counter(names).items() if times > 1}
        if twice or not all(names):
            raise ValueError(f"the {what} {min(twice)!r} is listed twice" if twice else f"a {what} has no name")
    _check_labels(scores)
    _check_snippets(scores)
    _check_actions(scores)
    told: Any = scores.provenance
    for name, kind in _RECORDED.items():
        if not isinstance(told, dict) or not isinstance(told.get(name), kind):
            raise ValueError(f"{name} of its provenance is no {kind.__name__}")
    if not isinstance(told.get("held_out_videos", 0), int):
        raise ValueError("held_out_videos of its provenance is no int")
    if not all(map(_is_reason, scores.provenance["train_quarantined"])):
        raise ValueError("train_quarantined of its provenance is no list of videos with their reasons")


def _check_labels(scores: Scores) -> None:
    labels, K = scores.listed_labels, len(scores.classes)
    if len(labels) and not -1 <= labels.min() <= labels.max() < K:
        raise ValueError(f"labels go from {labels.min()} to {labels.max()}, and there are {K} classes")
    rows, further = scores.more_labels.T
    if (rows < 0).any() or (rows >= len(labels)).any() or (further < 0).any() or (further >= K).any():
        raise ValueError(f"more_labels go beyond {len(labels)} videos or {K} classes")
    given = [*enumerate(labels.tolist()), *scores.more_labels.tolist()]
    if (labels[rows] < 0).any() or len({tuple(pair) for pair in given}) < len(given):
        raise ValueError("more_labels repeat a label, or are of a video without a first one")


def _check_snippets(scores: Scores) -> None:
    for name in ("video_logits", "attention", "attention_logits"):
        if not np.isfinite(getattr(scores, name)).all():
            raise ValueError(f"{name} are not all finite")
    V, M = scores.positions.shape
    if V and not 1 <= scores.snippets.min() <= scores.snippets.max() == M:
        raise ValueError(f"videos have {scores.snippets.min()} to {scores.snippets.max()} snippets, not 1 to {M}")
    weights, own = scores.attention, scores.own
    if (weights < 0).any() or not np.allclose(weights.sum(axis=2, dtype=np.float64), 1, atol=_SUM_TOLERANCE):
        raise ValueError("the attention of a video is negative, or does not sum to 1")
    if (scores.positions[own] < 0).any():
        raise ValueError("a snippet begins before its video")
    if not ((scores.probability >= 0) & (scores.probability <= 1)).all():
        raise ValueError("a probability is not from 0 to 1")
    padding: list[NDArray[Any]] = [part.swapaxes(1, 2)[~own] for part in (weights, scores.attention_logits)]
    padding += [part[~own] for part in (scores.probability, scores.positions + 1, scores.seconds)]
    if any(part.any() for part in padding):
        raise ValueError("a video has something behind its snippets")
    _check_seconds("snippets", scores.seconds)
    if (np.diff(scores.seconds[..., 0], axis=1)[own[:, 1:]] < 0).any():
        raise ValueError("the snippets of a video are not in the order of time")


def _check_actions(scores: Scores) -> None:
    for what, numbers, first, count in (
        ("rows", scores.actions.video, 0, len(scores.videos)),
        ("labels", scores.actions.label, -1, len(scores.classes)),
    ):
        if len(numbers) and not first <= numbers.min() <= numbers.max() < count:
            raise ValueError(f"the {what} of actions go from {numbers.min()} to {numbers.max()}, beyond {count - 1}")
    _check_seconds("actions", scores.actions.seconds)


def _check_seconds(of: str, seconds: NDArray[np.float64]) -> None:
    start, end = seconds[..., 0], seconds[..., 1]
    if not np.isfinite(seconds).all() or (start < 0).any() or (end < start).any():
        raise ValueError(f"the seconds of {of} are not finite, begin before 0 or end before they begin")


def _is_reason(row: Any) -> bool:
    return isinstance(row, list) and len(row) == 2 and all(isinstance(text, str) for text in row)
