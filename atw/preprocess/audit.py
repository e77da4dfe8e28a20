"""List the faults of a split's videos, as its shards recorded them, and refuse to train if too many are bad."""

import csv
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from atw.config import AuditSettings, ListedVideo
from atw.datasets import Dataset
from atw.files import InputError, atomic_path
from atw.shards import Entry, Shard

log = logging.getLogger("atw")
_ROUNDING = 1e-9  # .07 x 100 is 7.000000000000001
_MISSING = "missing file"  # the verdict of atw.videos.decode
_NAMED = 20  # videos in a message; all are in the log
_COPIES_NAMED = 4  # of one file


@dataclass(frozen=True, order=True)
class Finding:
    """A row of quarantine.csv. A video with the verdict `quarantined` is left out; one that was `repaired` is used."""

    video: str
    label: str
    verdict: str
    reason: str


_COLUMNS = [column.name for column in fields(Finding)]


def allowed(videos: int, limit: float) -> int:
    """Return how many of `videos` may be quarantined: the share `limit` rounded down, at least 1 unless it is 0."""
    return max(1, math.floor(videos * limit + _ROUNDING)) if limit else 0


def audit(out: Path, shard_paths: list[Path], settings: AuditSettings, dataset: Dataset) -> None:
    """Write the findings of `judge` as the quarantine.csv of a split."""
    _write(out, judge(shard_paths, settings, dataset))


def judge(shard_paths: list[Path], settings: AuditSettings, dataset: Dataset) -> list[Finding]:
    """Return the quarantined and repaired videos of a split with the reasons, sorted by id.

    Args:
        shard_paths: shards of one stream with all of the split's videos; the decoder's verdict is the same in each.
        settings: the split, and its limits.
        dataset: whose lists name the videos.

    Raises:
        InputError: more videos are quarantined than the limit allows, a video is in none of the shards, or one file is
            in both subsets or in two classes although `identical` refuses that. If the dataset allows videos to be
            missing, the missing ones count neither as quarantined nor as videos of the split.
    """
    entries: dict[str, Entry] = {}
    for path in shard_paths:
        with Shard(path) as shard:
            entries |= {entry.video: entry for entry in shard.entries}
    listed = dataset.rows(settings.split)
    missing = [row.video for row in listed if row.video not in entries]
    if missing:
        raise InputError(
            f"{missing[0]} is in the list but in none of the shards, {shard_paths[0]} and so on; "
            "run the workflow, which makes the outdated ones again"
        )
    findings = sorted(_findings(entries[row.video] for row in listed))
    for finding in findings:
        log.info("%s %s: %s", finding.verdict, finding.video, finding.reason)
    absent = {finding for finding in findings if dataset.allow_missing and finding.reason == _MISSING}
    _check_limit([finding for finding in findings if finding not in absent], len(listed) - len(absent), settings)
    _check_copies([row for row in listed if not entries[row.video].quarantined], entries, settings)
    return findings


def merge(out: Path, paths: list[Path]) -> None:
    """Write quarantine.csv of a dataset from those of its splits, each video once."""
    _write(out, sorted({finding for path in paths for finding in read_findings(path)}))


def _findings(entries: Iterable[Entry]) -> Iterable[Finding]:
    for entry in entries:
        if entry.quarantined:
            yield Finding(entry.video, entry.label, "quarantined", entry.quarantined)
        elif entry.repaired:
            yield Finding(entry.video, entry.label, "repaired", entry.repaired)


def _check_limit(findings: list[Finding], videos: int, settings: AuditSettings) -> None:
    bad = [f"{finding.video}: {finding.reason}" for finding in findings if finding.verdict == "quarantined"]
    most = allowed(videos, settings.quarantine_limit)
    if len(bad) <= most:
        return
    first = (
        f"{len(bad)} of the {videos} videos of {settings.dataset}, {settings.split}, cannot be used, and "
        f"preprocess.quarantine_limit is {settings.quarantine_limit:g}, so {most} may be left out:"
    )
    last = (
        "Replace these files or take them from the lists; to train without them, raise "
        f"datasets.{settings.dataset}.preprocess.quarantine_limit in config.yaml to "
        f"{math.ceil(len(bad) / videos * 1000) / 1000:g} or more"
    )
    raise InputError("\n".join((first, *_named(bad), last)))


def _check_copies(listed: Sequence[ListedVideo], entries: dict[str, Entry], settings: AuditSettings) -> None:
    """Refuse one file under several names if a network would be tested on what it learnt, or taught two classes."""
    by_content: dict[str, list[ListedVideo]] = {}
    for row in listed:
        by_content.setdefault(entries[row.video].sha256, []).append(row)
    wrong = []
    harmless = 0
    for rows in by_content.values():
        if len({(row.subset, row.label) for row in rows}) > 1:
            wrong.append(_same(rows))
        else:
            harmless += len(rows) - 1
    if harmless:
        log.info("%d videos are copies, byte by byte, of others of their class and subset", harmless)
    for names in wrong:
        log.warning("the same file: %s", names)
    if not wrong or settings.identical == "allow":
        return
    first = (
        f"identical files of {settings.dataset}, {settings.split}, {len(wrong)} in all, are both training and test "
        "videos, or videos of several classes:"
    )
    last = (
        "The accuracy on such a split is misleading. Take the copies from the lists, or, if they are "
        f"intended, set datasets.{settings.dataset}.preprocess.identical in config.yaml to allow"
    )
    raise InputError("\n".join((first, *_named(wrong), last)))


def _same(rows: Sequence[ListedVideo]) -> str:
    """Name the copies of one file, those that differ from the first one in subset or class before the others."""
    first, *others = rows
    others.sort(key=lambda row: (row.subset, row.label) == (first.subset, first.label))
    shown = [f"{row.video} ({row.subset}, {row.label})" for row in (first, *others[: _COPIES_NAMED - 1])]
    return " = ".join(shown) + (f" and {len(rows) - len(shown)} more" if len(rows) > len(shown) else "")


def _named(lines: Sequence[str]) -> list[str]:
    more = [f"  and {len(lines) - _NAMED} more, all in the log of this job"] if len(lines) > _NAMED else []
    return [f"  {line}" for line in lines[:_NAMED]] + more


def _write(out: Path, findings: Iterable[Finding]) -> None:
    with atomic_path(out) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([_COLUMNS, *map(astuple, findings)])


def read_findings(path: Path) -> list[Finding]:
    """Read a quarantine.csv."""
    with path.open(newline="", encoding="utf-8") as file:
        return [Finding(**row) for row in csv.DictReader(file)]
