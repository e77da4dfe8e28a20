"""On paper: what was measured, carried to Kinetics-400 and to a hundred million videos."""

import os
from typing import NamedTuple

import psutil
from rich.filesize import decimal

from atw.data.reader import MOST_OPEN
from atw.extras.cost.estimate import duration
from benchmarks.report import Table
from benchmarks.scale.amounts import Amounts
from benchmarks.scale.growth import Growth, Limit, in_order
from benchmarks.scale.plans import VIDEOS_A_SHARD, shards_of

TARGETS = {"Kinetics-400": 306_245, "100 million": 100_000_000}
SECONDS, FPS = 10, 30
FRAMES = SECONDS * FPS
_PATH = "shards/kinetics400/warped/00000.h5"
_POINTER_BYTES = 8  # that the system counts with each argument
_PLAN_SECONDS = 3600.0


class Growths(NamedTuple):
    """Costs by the number of videos: seconds, and bytes of memory.

    Args:
        plan_seconds: of `snakemake --dry-run`.
        plan_bytes: of it.
        draw_seconds: of drawing the splits of a folder.
        open_seconds: of the shards.
        index_bytes: of their index in a process.
        edge_seconds: that the first sample of an epoch takes longer.
        training_bytes: of a training with one loader.
    """

    plan_seconds: Growth
    plan_bytes: Growth
    draw_seconds: Growth
    open_seconds: Growth
    index_bytes: Growth
    edge_seconds: Growth
    training_bytes: Growth


def argument_bytes(shards: int) -> int:
    """What the paths of so many shards take of a command line."""
    return shards * (len(_PATH) + 1 + _POINTER_BYTES)


def reopened(shards: int) -> float:
    """Share of random samples whose shard is not among those that are open."""
    return max(0.0, 1 - MOST_OPEN / shards)


def time_text(seconds: float) -> str:
    """Milliseconds below a second, else as `atw plan` says it."""
    return f"{1000 * seconds:.1f} ms" if seconds < 1 else duration(seconds / 3600)


def size_text(size: float) -> str:
    """Bytes in decimal units."""
    return decimal(round(max(size, 0.0)))


def projection(found: Growths, amounts: Amounts) -> Table:
    """A row a cost, with what the design does about it."""
    columns = [_costs(found, amounts, videos) for videos in TARGETS.values()]
    rows = [[what, _ANSWERS[what.partition(",")[0]], *(column[what] for column in columns)] for what in columns[0]]
    names = [f"{name}, {videos:,} videos" for name, videos in TARGETS.items()]
    return Table("Projection, on paper", ("cost", "what the design does", *names), rows)


def _costs(found: Growths, amounts: Amounts, videos: int) -> dict[str, str]:
    shards = shards_of(videos)
    costs = {
        f"shards, of {VIDEOS_A_SHARD} videos": f"{shards:,}",
        "dry run, time": time_text(found.plan_seconds.at(videos)),
        "dry run, memory": size_text(found.plan_bytes.at(videos)),
        "drawing the splits of a folder": time_text(found.draw_seconds.at(videos)),
        "command line of a training": size_text(argument_bytes(shards)),
        "opening the shards, in each process": time_text(found.open_seconds.at(videos)),
        "index in memory, in each process": size_text(found.index_bytes.at(videos)),
        "edge of an epoch": time_text(found.edge_seconds.at(videos)),
        "memory of a training with one loader": size_text(found.training_bytes.at(videos)),
        "open files of a process": f"{min(shards, MOST_OPEN):,}",
        "samples that open a shard again": f"{reopened(shards):.0%}",
    }
    for stream, rate in amounts.rates.items():
        costs[f"disk, {stream}"] = size_text(rate.bytes * videos * FRAMES)
    for stream, rate in amounts.rates.items():
        costs[f"time of one core, {stream}"] = duration(rate.seconds * videos * FRAMES / 3600)
    return costs


_ANSWERS = {
    "shards": "their number is a setting (`preprocess.shards`); a video's shard is a hash of its id, known beforehand",
    "dry run": "videos are not inputs of jobs, a shard has one digest; all data from a list is cached",
    "drawing the splits of a folder": "once; then they are lists",
    "command line of a training": "names every shard: fewer and larger ones keep it short",
    "opening the shards": "each process reads and checks the index of every shard once, the data never",
    "index in memory": "place and number of items per video, and its id; processes share nothing",
    "edge of an epoch": "one permutation of all videos, eight bytes per video; it depends only on seed and epoch",
    "memory of a training with one loader": "lists and index are in memory, frames and fields never",
    "open files of a process": f"{MOST_OPEN} at most, the one read longest ago is closed",
    "samples that open a shard again": "an index that was checked once is not read again",
    "disk": "shards are shared by all splits, experiments and colleagues",
    "time of one core": "each shard is a job of its own, on any free core or node",
}


def breaking_points(found: Growths) -> Table:
    """At how many videos each limit of this machine is reached, the first first."""
    memory = psutil.virtual_memory().total
    most_arguments = os.sysconf("SC_ARG_MAX")
    limits = in_order(
        [
            Limit(
                "memory of the dry run",
                f"{size_text(memory)} here",
                found.plan_bytes.size_for(memory),
                "nothing: one process holds all lists and all jobs",
            ),
            Limit(
                "time of the dry run",
                f"{_PLAN_SECONDS / 60:.0f} min, the longest that anyone waits",
                found.plan_seconds.size_for(_PLAN_SECONDS),
                "nothing: one process reads the lists and plans the jobs",
            ),
            Limit(
                "command line of a training",
                f"{size_text(most_arguments)}",
                most_arguments / argument_bytes(1) * VIDEOS_A_SHARD,
                f"shards larger than the {VIDEOS_A_SHARD} videos assumed here",
            ),
            Limit(
                "memory of a training with one loader",
                f"{size_text(memory)} here",
                found.training_bytes.size_for(memory),
                "nothing: each process holds all lists and places; the index would have to be mapped from a file",
            ),
        ]
    )
    rows = [[limit.what, limit.answer, limit.has, f"{round(limit.videos, -3):,.0f}"] for limit in limits]
    return Table(
        "What breaks first",
        ("limit", "what the design does", "value", "reached at videos"),
        rows,
        _verdict(limits),
    )


def _verdict(limits: list[Limit]) -> list[str]:
    first = limits[0]
    notes = [f"First, at about {round(first.videos, -3):,.0f} videos: {first.what}."]
    for name, videos in TARGETS.items():
        reached = [limit.what for limit in limits if limit.videos < videos]
        said = (
            f"breaks at {len(reached)} of these limits: {', '.join(reached)}" if reached else "stays below all of them"
        )
        notes.append(f"{name} {said}.")
    notes.append(
        f"Open files break nothing: a process has {MOST_OPEN} shards open at most, and systems usually allow 1024. "
        f"Beyond {MOST_OPEN * VIDEOS_A_SHARD:,} videos in shards of {VIDEOS_A_SHARD}, shards are opened again."
    )
    notes.append("Disks, networks and file systems were not measured, and nothing of this size was ever run.")
    return notes
