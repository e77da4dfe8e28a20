"""Frames and flow fields of shards as files of their own, for other tools: `atw shards export`."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from atw.files import InputError, atomic_folder
from atw.progress import meter
from atw.shards.inspect import find
from atw.shards.layout import Entry, dequantise
from atw.shards.reader import Shard

FORMATS = {"rgb": ("jpg", "png"), "flow": ("flo", "png-flow"), "warped": ("flo", "png-flow")}
_EXPORTED = re.compile(r"\d{5,}(_[xy])?\.(jpg|png|flo)")
_FLO_TAG = np.float32(202021.25)  # of a Middlebury file; its bytes spell PIEH
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f%\\:*?"<>|]')


def export(
    paths: Sequence[Path], out: Path, *, videos: Sequence[str] = (), form: str | None = None, overwrite: bool = False
) -> list[Path]:
    """Write the items of videos below `out`/<stream>/<video id>/, from 00000 on; returns the folders written.

    A folder appears when it is whole. The ids' parts become folders; what is unsafe in a file name is percent-encoded,
    so no id leads out of `out`.

    Args:
        paths: shards, or folders of shards.
        out: the folder.
        videos: ids of those to export, all unless given; quarantined ones have nothing to export.
        form: jpg (the stored bytes) or png of frames; of fields flo, Middlebury files in px, or png-flow, the stored
            levels of x and y as grey images. The first of each unless given.
        overwrite: replace folders of an earlier export.

    Raises:
        InputError: a damaged shard, an unknown or quarantined video, a format that a stream has not, or a folder that
            exists.
    """
    missing = set(videos)
    written = []
    for path in find(paths):
        with Shard(path) as shard:
            chosen = form or FORMATS[shard.stream][0]
            if chosen not in FORMATS[shard.stream]:
                known = " or ".join(FORMATS[shard.stream])
                raise InputError(f"shard {path} is of stream {shard.stream} and has no {chosen}; export it as {known}")
            entries = [entry for entry in shard.entries if entry.video in videos or not videos]
            _require_usable(shard, entries, named=bool(videos))
            missing -= {entry.video for entry in entries}
            with meter(f"exporting {path}", "items", len(entries)) as progress:
                for entry in entries:
                    if entry.count:
                        folder = out / shard.stream / safe_path(entry.video)
                        _write_video(shard, entry, folder, form=chosen, overwrite=overwrite)
                        written.append(folder)
                    progress.advance(entry.count)
    if missing:
        raise InputError(f"no such video in these shards: {', '.join(sorted(missing))}; `atw shards info --json` helps")
    return written


def _require_usable(shard: Shard, entries: Sequence[Entry], *, named: bool) -> None:
    for entry in entries:
        if named and entry.quarantined:
            raise InputError(f"{entry.video} is quarantined in shard {shard.path}: {entry.quarantined}; leave it out")


def safe_path(video: str) -> Path:
    """A relative path for a video id, another one for each id, which stays below the folder it is joined to."""
    return Path(*(_safe_part(part) for part in video.split("/")))


def _safe_part(part: str) -> str:
    if not part:
        return "%2F"
    if set(part) == {"."}:
        return part.replace(".", "%2E")
    return _UNSAFE.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), part)


def _write_video(shard: Shard, entry: Entry, folder: Path, *, form: str, overwrite: bool) -> None:
    if overwrite and folder.is_dir():
        foreign = [path.name for path in folder.iterdir() if path.is_dir() or not _EXPORTED.fullmatch(path.name)]
        if foreign:
            raise InputError(f"folder {folder} holds {foreign[0]}, which is no export; choose another --out")
    with atomic_folder(folder, replace=overwrite) as temporary:
        for number in range(entry.count):
            for suffix, content in _files(shard, entry, number, form):
                (temporary / f"{number:05d}{suffix}").write_bytes(content)


def _files(shard: Shard, entry: Entry, number: int, form: str) -> Iterator[tuple[str, bytes]]:
    """What follows the number in the name of each file of an item, and the content."""
    if form == "jpg":
        yield ".jpg", shard.stored(entry, number)
    elif form == "png":
        yield ".png", _png(shard.frames(entry, [number])[0][..., ::-1])
    elif form == "flo":
        field = dequantise(shard.fields(entry, number, 1)[0], shard.attributes["bound"])
        size = np.array(field.shape[:0:-1], "<i4")
        yield ".flo", _FLO_TAG.astype("<f4").tobytes() + size.tobytes() + _interleaved(field).tobytes()
    else:
        for axis, levels in zip("xy", shard.fields(entry, number, 1)[0], strict=True):
            yield f"_{axis}.png", _png(levels)


def _interleaved(field: NDArray[np.float32]) -> NDArray[np.float32]:
    """[2, H, W] as little-endian [H, W, 2], in order."""
    return np.ascontiguousarray(field.transpose(1, 2, 0), "<f4")


def _png(image: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()
