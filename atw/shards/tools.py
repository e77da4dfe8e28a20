"""The commands `atw shards info`, `verify` and `export`."""

import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from atw.files import InputError, atomic_folder, json_text
from atw.hdf5 import DAMAGE, open_file
from atw.shards.format import SINGLE, Entry, dequantise, differing, index_bytes
from atw.shards.reading import REMEDY, Shard
from atw.terminal import console, meter

log = logging.getLogger("atw")
_GIVE_SHARDS = "give shards, or folders that hold some"
_MARK = "shard"  # the attribute that every version of the format has, and score files have not
_COLUMNS = ("stream", "dataset", "shard", "videos", "items", "quarantined", "settings", "size")
_NUMBERS = ("videos", "items", "quarantined", "size")
_TABLE_WIDTH = 120  # if the output is no terminal

FORMATS = {"rgb": ("jpg", "png"), "flow": ("flo", "png-flow"), "warped": ("flo", "png-flow")}
_SUFFIXES = {"jpg": (".jpg",), "png": (".png",), "flo": (".flo",), "png-flow": ("_x.png", "_y.png")}
_EXPORTED = re.compile(r"\d{5,}(_[xy])?\.(jpg|png|flo)")
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f%/\\:*?"<>|]')


def find(paths: Sequence[Path]) -> list[Path]:
    """Find the shards that files and folders stand for, those of a folder sorted by path; each is named once.

    Links to folders are followed, and each folder is searched once. HDF5 files that are not shards are left out, and
    the first of them is named. A .h5 file that cannot be opened is kept, because it may be a damaged shard.

    Raises:
        InputError: a path does not exist or is another file, or a folder cannot be read or holds no shard.
    """
    found: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist; {_GIVE_SHARDS}")
        if not path.is_dir() and (kind := _foreign_kind(path)):
            raise InputError(f"{path} is {kind} and not a shard; {_GIVE_SHARDS}")
        for shard in _in_folder(path) if path.is_dir() else [path]:
            found.setdefault(os.path.realpath(shard), shard)
    return list(found.values())


def _foreign_kind(path: Path) -> str | None:
    """Name the kind of a file that is not a shard; None for a shard, and for an .h5 file that cannot be opened."""
    try:
        with open_file(path) as file:
            names = set(file.attrs)
    except DAMAGE:
        return None if path.is_file() and path.suffix.lower() in (".h5", ".hdf5") else "a file of another kind"
    if _MARK in names:
        return None
    return "a score file" if "subset" in names else "an HDF5 file of another kind"


def _in_folder(folder: Path) -> list[Path]:
    kinds = {path: _foreign_kind(path) for path in sorted(_walk(folder))}
    foreign = [f"{path} is {kind}" for path, kind in kinds.items() if kind]
    if len(foreign) == len(kinds):
        there = f"; {foreign[0]}" if foreign else ", that is, no .h5 file"
        raise InputError(f"folder {folder} holds no shard{there}; give another one")
    if foreign:
        log.info("in %s, %d HDF5 files are not shards and are left out, first %s", folder, len(foreign), foreign[0])
    return [path for path, kind in kinds.items() if not kind]


def _walk(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise InputError(f"folder {error.filename} cannot be read: {error.strerror}; look at its permissions")

    seen = set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        if os.path.realpath(place) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(place))
        folders.sort()
        yield from (Path(place, name) for name in files if name.endswith(".h5"))


def info(paths: Sequence[Path], *, as_json: bool) -> list[str]:
    """Describe shards in a table or a JSON list on stdout; return a message for each shard that cannot be read."""
    described, messages = [], []
    for path in find(paths):
        try:
            described.append(_describe(path))
        except InputError as error:
            messages.append(str(error))
    if as_json:
        print(json_text(described))
    else:
        _print_table(described)
    return messages


def _describe(path: Path) -> dict[str, Any]:
    """Return what `atw shards info --json` prints of a shard."""
    with Shard(path) as shard:
        entries = shard.entries
        return {
            "path": str(path),
            **vars(shard.header),
            "items": sum(entry.count for entry in entries),
            "digest": shard.digest,
            "videos": len(entries),
            "bytes": path.stat().st_size,
            "quarantined": {entry.video: entry.quarantined for entry in entries if entry.quarantined},
            "repaired": {entry.video: entry.repaired for entry in entries if entry.repaired},
            "notes": {entry.video: entry.notes for entry in entries if entry.notes},
            "times": Counter(shard.times(entry).source for entry in entries if entry.count),
        }


def _print_table(described: Sequence[dict[str, Any]]) -> None:
    table = Table(*_COLUMNS)
    for column in table.columns:
        column.justify = "right" if column.header in _NUMBERS else "left"
    for shard in described:
        row = shard | {
            "quarantined": len(shard["quarantined"]),
            "settings": _in_short(shard),
            "size": f"{shard['bytes'] / 1e6:.1f} MB",
        }
        table.add_row(*(str(row.get(name, "")) for name in _COLUMNS))
    videos, items, size = (sum(shard[name] for shard in described) for name in ("videos", "items", "bytes"))
    terminal = console()
    if not terminal.is_terminal:
        terminal = console(width=_TABLE_WIDTH)
    terminal.print(table)
    total = f"{len(described)} shards, {videos} videos, {items} items, {size / 1e6:.1f} MB"
    terminal.print(total, highlight=False)


def _in_short(shard: dict[str, Any]) -> str:
    """Say how a shard was made; the settings of somebody else's may have anything in the place of a section."""
    sections = [shard["settings"].get(name) for name in ("preprocess", "flow", "warp")] + [shard.get("flow")]
    preprocess, flow, warp, used = (section if isinstance(section, dict) else {} for section in sections)
    words = [f"{shard['width']} x {shard['height']} px"]
    if shard["stream"] == "rgb":
        words.append(f"JPEG {preprocess.get('jpeg_quality', '')}")
    else:
        words += [f"bound {shard['bound']:g} px", str(flow.get("preset", "")), str(used.get("backend", ""))]
        words += ["from stored frames"] if preprocess.get("flow_from") == "frames" else []
    if shard["stream"] == "warped":
        words.append(str(warp.get("matches", "")))
    return ", ".join(filter(None, words))


def verify(paths: Sequence[Path]) -> tuple[int, list[str]]:
    """Read every byte of the shards; return how many there are, and a message for each damage.

    It checks the attributes and the index, the checksum and the declared size of every item, whether the item can be
    decoded, the digest over all items, and whether the streams were made from the same files.
    """
    shards = find(paths)
    messages: list[str] = []
    streams: dict[tuple[str, ...], dict[str, Path]] = {}
    with meter("verifying", "items", len(shards)) as progress:
        for path in shards:
            items = 0
            try:
                with Shard(path) as shard:
                    items = sum(entry.count for entry in shard.entries)
                    messages += _damage(shard)
                    messages += _differences(streams.setdefault(_same_videos(shard), {}), shard)
            except InputError as error:
                messages.append(str(error))
            progress.advance(items)
    return len(shards), messages


def _damage(shard: Shard) -> Iterator[str]:
    """Yield a message for each video with damaged items, which names the first of them."""
    sha256 = hashlib.sha256()
    whole = True
    for entry in shard.entries:
        found = []
        for number in range(entry.count):
            try:
                sha256.update(shard.stored(entry, number))
                for _ in shard.items(entry, [number]):
                    pass  # it can be decoded
            except InputError as error:
                found.append(str(error))
        if found:
            whole = False
            yield found[0] + (f" ({len(found) - 1} more items of this video are damaged)" if found[1:] else "")
    try:
        for entry in shard.entries:
            shard.times(entry)
    except InputError as error:
        whole = False
        yield str(error)
    sha256.update(index_bytes(shard.entries, shard.times_digest))
    if whole and sha256.hexdigest() != shard.digest:
        yield f"shard {shard.path} is damaged or no shard (the digest of index and items differs); {REMEDY}"


def _same_videos(shard: Shard) -> tuple[str, ...]:
    """Return what shards of the same videos have in common; somebody else's may have been made from other copies."""
    dataset, number = str(shard.header.dataset), str(shard.header.shard)
    alone = (str(shard.path),) if dataset == SINGLE else ()
    return (os.path.realpath(shard.path.parent.parent), dataset, number, *alone)


def _differences(others: dict[str, Path], shard: Shard) -> Iterator[str]:
    """Yield a message if another stream's shard of the same videos, one of `others`, was made from another file."""
    for stream, path in others.items():
        if stream == shard.stream:
            continue
        with Shard(path) as other:
            videos = differing(other.files, shard.files)
        if videos:
            more = f" and {len(videos) - 1} more videos" if videos[1:] else ""
            yield (
                f"shards {path} and {shard.path} were made from different files of {videos[0]}{more}; delete the "
                "outdated one, and the workflow makes it again"
            )
            break
    others.setdefault(shard.stream, shard.path)


class Exported(NamedTuple):
    """Folders of an export, one per video."""

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
    """Write the items of videos as files below `out`/<dataset>/<stream>/<video id>/, from 00000 on.

    All shards, ids and folders are checked before anything is written, and a folder appears when it is whole. The parts
    of an id become folders. Characters that are unsafe in a file name are percent-encoded, so no id leads out of `out`.

    Args:
        paths: shards, or folders of shards.
        out: the folder.
        videos: ids of the videos to export; empty: all that are not quarantined.
        form: jpg (the stored bytes) or png for frames; for fields flo, Middlebury files in px, or png-flow, the stored
            levels of x and y as grey images. The first of each unless given.
        overwrite: replace folders of an earlier export.
        skip_existing: keep folders of an earlier export in this format, and go on with the others.

    Raises:
        InputError: a damaged shard, an unknown or quarantined video, a format that a stream does not have, two videos
            for one folder, or a folder that exists and is neither to be replaced nor kept.
    """
    if overwrite and skip_existing:
        raise InputError("--overwrite and --skip-existing contradict each other; give one of them")
    targets = _targets(find(paths), out, videos, form)
    _require_own_folders(targets)
    kept = [target.folder for target in targets if _stays(target, overwrite=overwrite, skip_existing=skip_existing)]
    waiting = [target for target in targets if target.folder not in set(kept)]
    for path, group in groupby(waiting, key=lambda target: target.shard):
        chosen = {target.video: target for target in group}
        with Shard(path) as shard, meter(f"exporting {path}", "items", len(chosen)) as progress:
            for entry in shard.entries:
                if target := chosen.get(entry.video):
                    with atomic_folder(target.folder, replace=overwrite) as temporary:
                        for number in range(entry.count):
                            for suffix, content in _contents(shard, entry, number, target.form):
                                (temporary / f"{number:05d}{suffix}").write_bytes(content)
                    progress.advance(entry.count)
    return Exported([target.folder for target in waiting], kept)


def _targets(paths: Sequence[Path], out: Path, videos: Sequence[str], form: str | None) -> list[_Target]:
    """Plan what goes where, shard by shard."""
    missing = set(videos)
    targets = []
    for path in paths:
        with Shard(path) as shard:
            known = FORMATS[shard.stream]
            place = out / _safe_part(str(shard.header.dataset)) / shard.stream
            for entry in shard.entries:
                if videos and entry.video not in videos:
                    continue
                missing.discard(entry.video)
                if videos and entry.quarantined:
                    raise InputError(f"{entry.video} is quarantined in shard {path}: {entry.quarantined}; leave it out")
                if entry.count and form and form not in known:
                    remedy = f"export it as {' or '.join(known)}"
                    raise InputError(f"shard {path} is of stream {shard.stream} and has no {form}; {remedy}")
                if entry.count:
                    folder = place / safe_path(entry.video)
                    targets.append(_Target(path, entry.video, folder, form or known[0], entry.count))
    if missing:
        raise InputError(f"no such video in these shards: {', '.join(sorted(missing))}; `atw shards info --json` helps")
    return targets


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


def _stays(target: _Target, *, overwrite: bool, skip_existing: bool) -> bool:
    """Say whether the folder of a video is there and to be kept."""
    folder = target.folder
    if not (folder.exists() or folder.is_symlink()):
        return False
    if not overwrite and not skip_existing:
        remedy = "go on with that export by --skip-existing, replace it by --overwrite, or choose another --out"
        raise InputError(f"{folder} exists already; {remedy}")
    if skip_existing:
        if not folder.is_dir() or {path.name for path in folder.iterdir()} != target.names():
            remedy = "replace it by --overwrite, or choose another --out"
            raise InputError(f"{folder} is not an export of this video in this format; {remedy}")
        return True
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; choose another --out")
    for path in folder.iterdir():
        if path.is_dir() or not _EXPORTED.fullmatch(path.name):
            raise InputError(f"folder {folder} holds {path.name}, which is no export; choose another --out")
    return False


def safe_path(video: str) -> Path:
    """Return a relative path for a video id, unique to that id, which stays below the folder it is joined to."""
    return Path(*(_safe_part(part) for part in video.split("/")))


def _safe_part(part: str) -> str:
    if not part:
        return "%2F"
    safe = _UNSAFE.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), part)
    # Names with a dot in front are for temporary files and locks, and two of them lead elsewhere.
    return f"%2E{safe[1:]}" if part[0] == "." else safe


def _contents(shard: Shard, entry: Entry, number: int, form: str) -> Iterator[tuple[str, bytes]]:
    """Yield the suffix and the content of each file of an item."""
    if form == "jpg":
        yield ".jpg", shard.stored(entry, number)
    elif form == "png":
        yield ".png", _png(shard.frames(entry, [number])[0][..., ::-1])
    elif form == "flo":
        field = dequantise(shard.fields(entry, [number])[0], shard.header.bound)
        size = np.array(field.shape[:0:-1], "<i4")  # width and height
        yield ".flo", b"PIEH" + size.tobytes() + field.transpose(1, 2, 0).astype("<f4").tobytes()
    else:
        for axis, levels in zip("xy", shard.fields(entry, [number])[0], strict=True):
            yield f"_{axis}.png", _png(levels)


def _png(image: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()
