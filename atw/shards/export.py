"""Frames and flow fields of shards as files of their own, for other tools: `atw shards export`."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from atw.files import InputError, atomic_folder
from atw.shards.inspect import find
from atw.shards.layout import Entry, dequantise
from atw.shards.reader import Shard
from atw.terminal import meter

FORMATS = {"rgb": ("jpg", "png"), "flow": ("flo", "png-flow"), "warped": ("flo", "png-flow")}
_SUFFIXES = {"jpg": (".jpg",), "png": (".png",), "flo": (".flo",), "png-flow": ("_x.png", "_y.png")}
_EXPORTED = re.compile(r"\d{5,}(_[xy])?\.(jpg|png|flo)")
_FLO_TAG = np.float32(202021.25)  # of a Middlebury file; its bytes spell PIEH
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f%/\\:*?"<>|]')


class Exported(NamedTuple):
    """Folders of an export, one a video."""

    written: list[Path]
    kept: list[Path]


@dataclass(frozen=True)
class _Target:
    """Where a video of a shard goes."""

    shard: Path
    video: str
    folder: Path
    form: str
    items: int

    def names(self) -> set[str]:
        """Of its files."""
        return {f"{number:05d}{suffix}" for number in range(self.items) for suffix in _SUFFIXES[self.form]}


def export(
    paths: Sequence[Path],
    out: Path,
    *,
    videos: Sequence[str] = (),
    form: str | None = None,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> Exported:
    """Write the items of videos below `out`/<dataset>/<stream>/<video id>/, from 00000 on.

    All shards, ids and folders are looked at before anything is written, and a folder appears when it is whole. The
    ids' parts become folders; what is unsafe in a file name is percent-encoded, so no id leads out of `out`.

    Args:
        paths: shards, or folders of shards.
        out: the folder.
        videos: ids of those to export, all unless given; quarantined ones have nothing to export.
        form: jpg (the stored bytes) or png of frames; of fields flo, Middlebury files in px, or png-flow, the stored
            levels of x and y as grey images. The first of each unless given.
        overwrite: replace folders of an earlier export.
        skip_existing: keep folders of an earlier export in this format, and go on with the others.

    Raises:
        InputError: a damaged shard, an unknown or quarantined video, a format that a stream has not, two videos for
            one folder, or a folder that exists and is neither to be replaced nor kept.
    """
    if overwrite and skip_existing:
        raise InputError("--overwrite and --skip-existing contradict each other; give one of them")
    targets = _plan(find(paths), out, videos, form)
    _require_own_folders(targets)
    kept = _existing(targets, overwrite=overwrite, skip_existing=skip_existing)
    there = set(kept)
    waiting = [target for target in targets if target.folder not in there]
    for path, group in groupby(waiting, key=lambda target: target.shard):
        chosen = {target.video: target for target in group}
        with Shard(path) as shard, meter(f"exporting {path}", "items", len(chosen)) as progress:
            for entry in shard.entries:
                if entry.video in chosen:
                    target = chosen[entry.video]
                    _write_video(shard, entry, target.folder, form=target.form, overwrite=overwrite)
                    progress.advance(entry.count)
    return Exported([target.folder for target in waiting], kept)


def _plan(paths: Sequence[Path], out: Path, videos: Sequence[str], form: str | None) -> list[_Target]:
    """What goes where, shard by shard."""
    wanted = set(videos)
    missing = set(videos)
    targets = []
    for path in paths:
        with Shard(path) as shard:
            entries = [entry for entry in shard.entries if entry.video in wanted or not wanted]
            _require_usable(shard, entries, named=bool(wanted))
            missing -= {entry.video for entry in entries}
            place = out / _safe_part(str(shard.attributes["dataset"])) / shard.stream
            for entry in entries:
                if entry.count:
                    folder = place / safe_path(entry.video)
                    targets.append(_Target(path, entry.video, folder, _form(shard, form), entry.count))
    if missing:
        raise InputError(f"no such video in these shards: {', '.join(sorted(missing))}; `atw shards info --json` helps")
    return targets


def _form(shard: Shard, form: str | None) -> str:
    known = FORMATS[shard.stream]
    if form and form not in known:
        remedy = f"export it as {' or '.join(known)}"
        raise InputError(f"shard {shard.path} is of stream {shard.stream} and has no {form}; {remedy}")
    return form or known[0]


def _require_own_folders(targets: Sequence[_Target]) -> None:
    folders: dict[Path, _Target] = {}
    for target in targets:
        other = folders.setdefault(target.folder, target)
        if other is not target:
            reason = f"of shard {other.shard} and of shard {target.shard}"
            raise InputError(f"{target.video} {reason} would both go to {target.folder}; export one of them")
    for target in targets:
        for parent in target.folder.parents:
            if parent in folders:
                raise InputError(f"{target.video} would go into the folder of {folders[parent].video}; export one only")


def _existing(targets: Sequence[_Target], *, overwrite: bool, skip_existing: bool) -> list[Path]:
    """The folders that are there and stay."""
    kept = []
    for target in targets:
        folder = target.folder
        if not (folder.exists() or folder.is_symlink()):
            continue
        if overwrite:
            _require_export(folder)
        elif not skip_existing:
            remedy = "go on with that export by --skip-existing, replace it by --overwrite, or choose another --out"
            raise InputError(f"{folder} exists already; {remedy}")
        elif not folder.is_dir() or {path.name for path in folder.iterdir()} != target.names():
            remedy = "replace it by --overwrite, or choose another --out"
            raise InputError(f"{folder} is not an export of this video in this format; {remedy}")
        else:
            kept.append(folder)
    return kept


def _require_export(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; choose another --out")
    for path in folder.iterdir():
        if path.is_dir() or not _EXPORTED.fullmatch(path.name):
            raise InputError(f"folder {folder} holds {path.name}, which is no export; choose another --out")


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
    safe = _UNSAFE.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), part)
    # Names with a dot in front are for temporary files and locks, and two of them lead elsewhere.
    return f"%2E{safe[1:]}" if part[0] == "." else safe


def _write_video(shard: Shard, entry: Entry, folder: Path, *, form: str, overwrite: bool) -> None:
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
        field = dequantise(shard.fields(entry, [number])[0], shard.attributes["bound"])
        size = np.array(field.shape[:0:-1], "<i4")
        yield ".flo", _FLO_TAG.astype("<f4").tobytes() + size.tobytes() + _interleaved(field).tobytes()
    else:
        for axis, levels in zip("xy", shard.fields(entry, [number])[0], strict=True):
            yield f"_{axis}.png", _png(levels)


def _interleaved(field: NDArray[np.float32]) -> NDArray[np.float32]:
    """[2, H, W] as little-endian [H, W, 2], in order."""
    return np.ascontiguousarray(field.transpose(1, 2, 0), "<f4")


def _png(image: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()
