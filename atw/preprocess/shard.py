"""One shard from its videos: decoding, computing and encoding in threads over videos, one writer in order of ids."""

import importlib.metadata
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2

from atw import flow as tvl1
from atw.datasets import Dataset
from atw.datasets.listed import Listed
from atw.files import InputError
from atw.preprocess import streams
from atw.progress import meter
from atw.shards import ZERO, Entry, Shard, create
from atw.videos import Audit, BadVideoError, Frame, read

log = logging.getLogger("atw")
_AHEAD = 2  # finished videos that may wait for the writer, per thread


def make(out: Path, settings: dict[str, Any], dataset: Dataset, *, flow_path: Path | None, threads: int) -> None:
    """Write one shard of one stream.

    Args:
        out: path of the shard.
        settings: what `atw.config.shard_settings` gives, with `shard` and the digest of its `members`.
        dataset: where the videos are.
        flow_path: the flow shard of the same videos, for the stream `warped`.
        threads: videos worked on at the same time.

    Raises:
        InputError: the dataset's lists or files are not those that the settings were made for.
    """
    stream = settings["stream"]
    count = settings["preprocess"]["shards"]
    if dataset.members_digest(settings["shard"], count) != settings["members"]:
        raise InputError(
            f"the videos of dataset {dataset.name} have changed since this job was planned; start the workflow again"
        )
    members = dataset.members(settings["shard"], count)
    cv2.setNumThreads(1)  # videos are the unit of parallel work
    with (
        Shard(flow_path) if flow_path else nullcontext() as flow,
        create(out, _attributes(settings, dataset.name)) as writer,
        meter(f"{stream} of shard {settings['shard']} of {dataset.name}", "frames", len(members)) as progress,
    ):
        for entry, items in _in_order(members, settings, dataset.root, flow, threads):
            writer.add(entry, items)
            progress.advance(len(items))
            if entry.quarantined:
                log.warning("quarantined %s: %s", entry.video, entry.quarantined)
            elif entry.repaired:
                log.info("repaired %s: %s", entry.video, entry.repaired)


def _attributes(settings: dict[str, Any], dataset: str) -> dict[str, Any]:
    preprocess = settings["preprocess"]
    attributes = {
        "stream": settings["stream"],
        "dataset": dataset,
        "shard": settings["shard"],
        "width": preprocess["width"],
        "height": preprocess["height"],
        "settings": settings,
        "software": {name: importlib.metadata.version(name) for name in _SOFTWARE},
    }
    if settings["stream"] != "rgb":
        given = streams.estimator(settings)
        overrides = {name: value for name, value in given.items() if name not in ("preset", "backend", "threads")}
        used = asdict(tvl1.parameters(given["preset"], **overrides))
        attributes |= {"bound": settings["flow"]["bound"], "zero": ZERO}
        attributes["flow"] = used | {"backend": tvl1.resolve_backend(given["backend"])}
    return attributes


_SOFTWARE = ("atw", "av", "numba", "numpy", "opencv-contrib-python-headless")


def _in_order(
    members: Sequence[Listed], settings: dict[str, Any], root: Path, flow: Shard | None, threads: int
) -> Iterator[tuple[Entry, list[bytes]]]:
    """Work on `threads` videos at once, yielding them in order; only a few finished ones wait in memory."""
    known = {entry.video: entry for entry in flow.entries} if flow else {}
    waiting: deque[Future[tuple[Entry, list[bytes]]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for listed in members:
                waiting.append(pool.submit(_one_video, listed, settings, root, flow, known.get(listed.video)))
                if len(waiting) > threads * _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _one_video(
    listed: Listed, settings: dict[str, Any], root: Path, flow: Shard | None, known: Entry | None
) -> tuple[Entry, list[bytes]]:
    if flow and known is None:
        raise InputError(f"shard {flow.path} lacks {listed.video}; delete the file, and the workflow makes it again")
    if known and known.quarantined:
        return replace(known, first=0, count=0), []
    audit = Audit()
    preprocess = settings["preprocess"]
    limits = {name: preprocess[name] for name in ("width", "height", "max_pixels", "max_frames")}
    frames = read(root / listed.video, audit, **limits)
    entry = Entry(video=listed.video, label=listed.label)
    try:
        if flow and known:
            items = streams.warped_to_items(_of_same_file(frames, audit, known, flow), settings, flow, known)
        elif settings["stream"] == "flow":
            items = streams.flow_to_items(frames, settings)
        else:
            items = streams.frames_to_items(frames, settings)
    except BadVideoError as reason:
        if flow and known:
            _require_same_file(audit, known, flow)
        items = streams.Items()
        entry.quarantined = str(reason)
    entry.decoded, entry.declared, entry.fps = audit.decoded, audit.declared or -1, audit.fps
    entry.width, entry.height, entry.sha256 = audit.width, audit.height, audit.sha256
    entry.repaired = "; ".join(audit.repaired)
    entry.clipped, entry.accepted = items.clipped, items.accepted
    entry.inliers, entry.residual = items.inliers, items.residual
    return entry, items.encoded


def _of_same_file(frames: Iterator[Frame], audit: Audit, known: Entry, flow: Shard) -> Iterator[Frame]:
    first = next(frames)  # reading it fills in the digest
    _require_same_file(audit, known, flow)
    yield first
    yield from frames


def _require_same_file(audit: Audit, known: Entry, flow: Shard) -> None:
    if audit.sha256 != known.sha256:
        raise InputError(
            f"{known.video} is not the file that shard {flow.path} was made from; "
            "delete the shard, and the workflow makes it again"
        )
