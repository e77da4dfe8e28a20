"""One shard from its videos: decoding, computing and encoding in threads over videos, one writer in order of ids.

The threads work on videos; if fewer videos are left than threads, on several pairs of frames of each.
"""

import importlib.metadata
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from atw import flow as tvl1
from atw.config import UNREAD, FrameShards, ListedVideo, ShardSettings
from atw.datasets import Dataset
from atw.files import InputError
from atw.preprocess.resources import Cores, Resources, Spool, job_backend
from atw.preprocess.streams import Items, StoredFlow, add_figures, fill_in, to_items
from atw.shards import ZERO, Encoded, Entry, Header, Shard, create
from atw.shards.reading import REMEDY
from atw.terminal import meter
from atw.videos.decode import Audit, BadVideoError, Frame, read_as_configured
from atw.videos.times import NO_TIMES

log = logging.getLogger("atw")
_Done = tuple[Entry, Encoded, NDArray[np.float64]]  # row of the index, items, and when frames are shown
_AHEAD = 2  # finished videos that may wait for the writer, per thread
_SOFTWARE = ("atw", "av", "numba", "numpy", "opencv-contrib-python-headless")


def make(
    out: Path, settings: ShardSettings, dataset: Dataset, *, flow_path: Path | None, threads: int, gpus: int = 0
) -> None:
    """Write one shard of one stream.

    Args:
        out: path of the shard.
        settings: of one shard, with its name and the digest of its members.
        dataset: where the videos are.
        flow_path: the flow shard of the same videos, for the stream `warped`.
        threads: videos worked on at the same time.
        gpus: reserved for this job.

    Raises:
        InputError: the dataset's lists or files are not those that the settings were made for, or the flow backend
            cannot run.
    """
    members = dataset.members_digest(_name(settings), settings.preprocess.shards)
    if settings.members == UNREAD:
        settings = settings.model_copy(update={"members": members})
    _require_planned(dataset, settings, members)
    cv2.setNumThreads(1)  # videos are the unit of parallel work
    if isinstance(settings, FrameShards):
        _write(out, settings, dataset, _Sources(dataset.root), threads)
        return
    with job_backend(settings.flow.backend, gpus) as backend, ExitStack() as stack:
        flow = _Made(stack.enter_context(Shard(flow_path))) if flow_path else None
        frames = None
        if settings.frames:
            # Where the workflow has it: no option names it, since a new one would make all flow again.
            shard = stack.enter_context(Shard(out.parent.parent / "rgb" / out.name))
            if shard.header.settings != settings.frames.to_dict():
                raise InputError(f"shard {shard.path} is of other videos or settings; {REMEDY}")
            frames = _Made(shard)
        _write(out, settings, dataset, _Sources(dataset.root, flow, frames), threads, backend)


class _Made:
    """A shard of the same videos, which another shard is computed from."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self._rows = {entry.video: entry for entry in shard.entries}

    def row(self, video: str) -> Entry:
        if video not in self._rows:
            raise InputError(f"shard {self.shard.path} lacks {video}; {REMEDY}")
        return self._rows[video]

    def require(self, video: str, sha256: str) -> None:
        """Raise InputError if the shard was not made from the file of that digest."""
        if self.row(video).sha256 != sha256:
            raise InputError(f"{video} is not the file that shard {self.shard.path} was made from; {REMEDY}")


@dataclass(frozen=True)
class _Sources:
    """The folder of the videos, and what was made of them before."""

    root: Path
    flow: _Made | None = None
    frames: _Made | None = None


def _name(settings: ShardSettings) -> str:
    if settings.shard is None:
        raise InputError("these settings do not name a shard; give its name and the digest of its members")
    return settings.shard


def _require_planned(dataset: Dataset, settings: ShardSettings, members: str) -> None:
    if members != settings.members:
        raise InputError(
            f"the videos of dataset {dataset.name} in {dataset.root} are not those that this job was planned for: they "
            "changed, or their drive is gone. Nothing was written; start the workflow again when they are there"
        )


def header(settings: ShardSettings, dataset: str, backend: str | None) -> Header:
    """Return the header of a shard; `backend` is the flow backend that computes it, None for rgb."""
    found = Header(
        stream=settings.stream,
        dataset=dataset,
        shard=_name(settings),
        width=settings.preprocess.width,
        height=settings.preprocess.height,
        settings=settings.to_dict(),
        software={name: importlib.metadata.version(name) for name in _SOFTWARE},
    )
    if isinstance(settings, FrameShards):
        return found
    flow = tvl1.parameters(settings.flow).to_dict() | {"backend": backend}
    return replace(found, bound=settings.flow.bound, zero=ZERO, flow=flow)


def _write(
    out: Path, settings: ShardSettings, dataset: Dataset, sources: _Sources, threads: int, backend: str | None = None
) -> None:
    members = dataset.members(_name(settings), settings.preprocess.shards)
    used = settings if isinstance(settings, FrameShards) or backend is None else settings.on(backend)
    title = f"{settings.stream} of shard {settings.shard} of {dataset.name}"
    cores = Cores(threads)
    with (
        create(out, header(settings, dataset.name, backend)) as writer,
        meter(title, "pairs" if backend else "frames", len(members)) as progress,
    ):
        resources = Resources(cores.share, progress.count, lambda: Spool(out.parent))

        def work(listed: ListedVideo) -> _Done:
            with cores.one_video():
                return _one_video(listed, used, resources, sources)

        files = []
        noted: dict[str, list[str]] = {}
        for entry, items, edges in _in_order(work, members, threads):
            writer.add(entry, items, edges)
            files.append((entry.video, entry.label, entry.sha256))
            progress.advance()
            if entry.quarantined:
                log.warning("quarantined %s: %s", entry.video, entry.quarantined)
            elif entry.repaired:
                log.info("repaired %s: %s", entry.video, entry.repaired)
            if entry.notes:
                noted.setdefault(entry.notes, []).append(entry.video)
        for note, videos in noted.items():  # each once: a collection has it mostly in many of its videos
            log.info("%s: %d of %d videos, first %s", note, len(videos), len(members), videos[0])
        # A drive that vanished midway makes missing files of good videos; a file may have been replaced meanwhile.
        _require_planned(dataset, settings, dataset.made_from(files))


def _in_order(work: Callable[[ListedVideo], _Done], members: Sequence[ListedVideo], threads: int) -> Iterator[_Done]:
    """Work on several videos at once, yielding them in order; only a few finished ones wait in memory."""
    waiting: deque[Future[_Done]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for listed in members:
                waiting.append(pool.submit(work, listed))
                if len(waiting) > threads * _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _one_video(listed: ListedVideo, settings: ShardSettings, resources: Resources, sources: _Sources) -> _Done:
    flow, frames = sources.flow, sources.frames
    made = frames or flow
    known = made.row(listed.video) if made else Entry(video=listed.video, label=listed.label)
    if known.quarantined:
        return replace(known, first=0, count=0), [], NO_TIMES
    stored = partial(flow.shard.fields, flow.row(listed.video)) if flow else None
    if frames:
        if flow:
            flow.require(listed.video, known.sha256)
        return _of_stored_frames(frames.shard, known, settings, resources, stored)
    audit = Audit()
    decoded = read_as_configured(sources.root / listed.video, audit, settings.preprocess)
    if flow:
        decoded = _of_same_file(decoded, audit, listed.video, flow)
    entry = Entry(video=listed.video, label=listed.label)
    try:
        items = to_items(decoded, settings, resources, known, stored)
    except BadVideoError as reason:
        if flow:
            flow.require(listed.video, audit.sha256)
        items = Items([])
        entry.quarantined = str(reason)
    fill_in(entry, audit, items)
    return entry, items.encoded, audit.edges


def _of_stored_frames(
    frames: Shard, known: Entry, settings: ShardSettings, resources: Resources, stored: StoredFlow | None
) -> _Done:
    """Encode flow of the frames of a shard, in which the video has the row `known`."""
    images = (frames.luma(known, number) for number in range(known.count))
    items = to_items(images, settings, resources, known, stored)
    times = frames.times(known)
    entry = replace(known)
    add_figures(entry, items)
    return entry, items.encoded, times.edges if times.source == "file" else NO_TIMES


def _of_same_file(frames: Iterator[Frame], audit: Audit, video: str, flow: _Made) -> Iterator[Frame]:
    first = next(frames)  # reading it fills in the digest
    flow.require(video, audit.sha256)
    yield first
    yield from frames
