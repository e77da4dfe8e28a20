"""What shards hold and whether it is whole: `atw shards info` and `atw shards verify`."""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from atw.files import InputError, json_text
from atw.shards.layout import SINGLE, Entry, differing, index_bytes
from atw.shards.reader import REMEDY, Shard, is_other
from atw.terminal import console, meter

log = logging.getLogger("atw")
_COLUMNS = ("stream", "dataset", "shard", "videos", "items", "quarantined", "settings", "size")
_NUMBERS = ("videos", "items", "quarantined", "size")
_TABLE_WIDTH = 120  # where the output is no terminal


def find(paths: Sequence[Path]) -> list[Path]:
    """The shards that files and folders stand for, those of a folder sorted by path; each is named once.

    Linked folders are looked into, each folder once. HDF5 files in them that are no shards are passed over and named; a
    .h5 file that cannot be opened may be a damaged shard, and stays.

    Raises:
        InputError: a path does not exist or is another HDF5 file, or a folder cannot be read or holds no shard.
    """
    found: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist; give shards, or folders that hold some")
        for shard in _in_folder(path) if path.is_dir() else [_given(path)]:
            found.setdefault(os.path.realpath(shard), shard)
    return list(found.values())


def _given(path: Path) -> Path:
    if other := is_other(path):
        raise InputError(f"{path} is {other}, no shard; give shards, or folders that hold some")
    return path


def _in_folder(folder: Path) -> list[Path]:
    others = {path: is_other(path) for path in sorted(_inside(folder))}
    shards = [path for path, other in others.items() if other is None]
    if not shards:
        there = f"; {next(iter(others))} is {next(iter(others.values()))}" if others else ", that is, no .h5 file"
        raise InputError(f"folder {folder} holds no shard{there}; give another one")
    passed_over = [f"{path} is {other}" for path, other in others.items() if other]
    if passed_over:
        log.info("in %s, passed over as no shard: %d, first %s", folder, len(passed_over), passed_over[0])
    return shards


def _inside(folder: Path) -> Iterator[Path]:
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


def describe(path: Path) -> dict[str, Any]:
    """What a shard says of itself, as `atw shards info --json` gives it."""
    with Shard(path) as shard:
        attributes, entries = shard.attributes, shard.entries
        names = ("stream", "dataset", "shard", "width", "height", "bound", "zero", "items", "digest", "flow")
        known = {name: attributes[name] for name in names if name in attributes}
        return {
            "path": str(path),
            **known,
            "videos": len(entries),
            "bytes": path.stat().st_size,
            "quarantined": {entry.video: entry.quarantined for entry in entries if entry.quarantined},
            "repaired": {entry.video: entry.repaired for entry in entries if entry.repaired},
            "notes": {entry.video: entry.notes for entry in entries if entry.notes},
            "times": Counter(shard.times(entry).source for entry in entries if entry.count),
            "settings": attributes["settings"],
            "software": attributes.get("software", {}),
        }


def info(paths: Sequence[Path], *, as_json: bool) -> list[str]:
    """Print what the shards hold, as a table or as a JSON list; returns a message for each that cannot be read."""
    described, messages = [], []
    for path in find(paths):
        try:
            described.append(describe(path))
        except InputError as error:
            messages.append(str(error))
    if as_json:
        print(json_text(described))
    else:
        _print_table(described)
    return messages


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
    size = sum(shard["bytes"] for shard in described) / 1e6
    counts = [sum(shard["videos"] for shard in described), sum(shard["items"] for shard in described)]
    terminal = console()
    if not terminal.is_terminal:
        terminal = console(width=_TABLE_WIDTH)
    terminal.print(table)
    terminal.print(f"{len(described)} shards, {counts[0]} videos, {counts[1]} items, {size:.1f} MB", highlight=False)


def _in_short(shard: dict[str, Any]) -> str:
    preprocess, flow, warp = (_section(shard["settings"], name) for name in ("preprocess", "flow", "warp"))
    words = [f"{shard['width']} x {shard['height']} px"]
    if shard["stream"] == "rgb":
        words.append(f"JPEG {preprocess.get('jpeg_quality', '')}")
    else:
        words += [
            f"bound {shard['bound']:g} px",
            str(flow.get("preset", "")),
            str(_section(shard, "flow").get("backend", "")),
        ]
    if shard["stream"] == "warped":
        words.append(str(warp.get("matches", "")))
    return ", ".join(filter(None, words))


def _section(settings: dict[str, Any], name: str) -> dict[str, Any]:
    """A section of settings, empty where a shard of somebody else has none, or something else in its place."""
    section = settings.get(name)
    return section if isinstance(section, dict) else {}


def verify(paths: Sequence[Path]) -> tuple[int, list[str]]:
    """Read every byte of the shards; returns how many there are, and a message for each damage.

    Checked are attributes and index, the checksum and the declared size of every item, whether it can be decoded, the
    digest over all, and whether the streams were made from the same files.
    """
    shards = find(paths)
    messages: list[str] = []
    streams: dict[tuple[str, ...], dict[str, Path]] = {}
    with meter("verifying", "items", len(shards)) as progress:
        for path in shards:
            items = 0
            try:
                with Shard(path) as shard:
                    items = int(shard.attributes["items"])
                    messages += _damage(shard)
                    messages += _differences(streams.setdefault(_place(shard), {}), shard)
            except InputError as error:
                messages.append(str(error))
            progress.advance(items)
    return len(shards), messages


def _place(shard: Shard) -> tuple[str, ...]:
    """What shards of the same videos have in common; those of somebody else may have been made from other copies."""
    dataset, number = (str(shard.attributes.get(name, "")) for name in ("dataset", "shard"))
    alone = (str(shard.path),) if dataset == SINGLE else ()
    return (os.path.realpath(shard.path.parent.parent), dataset, number, *alone)


def _differences(others: dict[str, Path], shard: Shard) -> Iterator[str]:
    """A message where another stream's shard of the same videos, one of `others`, was made from another file."""
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


def _damage(shard: Shard) -> Iterator[str]:
    """A message for each video with damaged items, which names the first of them."""
    sha256 = hashlib.sha256()
    whole = True
    for entry in shard.entries:
        found = []
        for number in range(entry.count):
            try:
                sha256.update(shard.stored(entry, number))
                _decode(shard, entry, number)
            except InputError as error:
                found.append(str(error))
        if found:
            whole = False
            yield found[0] + (f" ({len(found) - 1} more items of this video are damaged)" if found[1:] else "")
    try:
        for entry in shard.entries:
            shard.times(entry)
        sha256.update(index_bytes(shard.entries, str(shard.attributes["times"])))
    except InputError as error:
        whole = False
        yield str(error)
    if whole and sha256.hexdigest() != shard.digest:
        yield f"shard {shard.path} is damaged or no shard (the digest of index and items differs); {REMEDY}"


def _decode(shard: Shard, entry: Entry, number: int) -> None:
    if shard.stream == "rgb":
        shard.frames(entry, [number])
    else:
        shard.fields(entry, [number])
