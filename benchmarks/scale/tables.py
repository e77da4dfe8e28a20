"""What was measured as tables, with the growth of each cost."""

from collections.abc import Mapping
from typing import NamedTuple

from atw.data.reader import MOST_OPEN
from benchmarks.report import Table, number
from benchmarks.scale.growth import exponent, slope
from benchmarks.scale.plans import VIDEOS_A_SHARD, shards_of
from benchmarks.scale.reading import Opened
from benchmarks.scale.stages import Peaks
from benchmarks.scale.synthetic import FRAMES as FRAMES_STORED
from benchmarks.scale.synthetic import SIDE_PX
from benchmarks.scale.watched import Taken

_MIB = 1 << 20

METHOD = (
    "Growth is the exponent of a least-squares line of the logarithm of the cost over that of the size: 1 is "
    "proportional, 0 is constant. The cost of the smallest plan, which is the cost of starting, is first subtracted "
    "from the dry run. Each figure is from one run, in CPU time, with files in the page cache; reading processes are "
    "timed by the clock.",
    f"Plans are for lists in the form of Kinetics', in shards of {VIDEOS_A_SHARD} videos, from three streams to "
    "fused.json. Only one of the videos exists, as after a download that has just begun.",
    f"Opening and sampling: the project's own writer makes the shards. Their videos have {FRAMES_STORED} frames of "
    f"{SIDE_PX} x {SIDE_PX} px, so almost all cost comes from the number of videos. A sample is one of the training's: "
    "one frame from each of four segments, at a place of a shuffled epoch. Bytes are those of Python's objects.",
    "Reading processes: the training's own loaders read shards of real clips at the default size (340 x 256 px), in "
    "batches of 8 videos of 4 snippets, measured once all processes are working. The main process does nothing else.",
    "Memory: each stage runs as a process of its own, mostly by the command that the workflow runs. The figure is the "
    "sum of the highest resident memory of the process and of each process it started, as the kernel recorded it; "
    "shared memory counts twice, and processes of at most half a second are left out. One more: the slope "
    "between the two largest sizes. Clips are real frames, played back and forth to a given length; flow uses the "
    "preset fast. The training is one of Ray's workers with a loader and without Ray. Audit, training, scoring and "
    "fusion use the synthetic shards with the network tiny, 10 classes, a quarter of the videos for testing and 10 "
    "snippets per video.",
)


class Measured(NamedTuple):
    """Costs by size.

    Args:
        nothing: videos of the smallest plan.
        plan: of the dry run by videos.
        drawn: seconds by videos.
        of_videos: shards of a fixed number of videos, by videos.
        videos: of the following.
        of_shards: those videos, by the number of their shards.
        rates: videos a second by stream and loader processes.
        peaks: of the stages.
    """

    nothing: int
    plan: dict[int, Taken]
    drawn: dict[int, float]
    of_videos: dict[int, Opened]
    videos: int
    of_shards: dict[int, Opened]
    rates: dict[str, dict[int, float]]
    peaks: list[Peaks]


def measured(found: Measured) -> list[Table]:
    """A table for each kind of size, and the memory of the stages."""
    return [_plans(found), _drawn(found), _videos(found), _shards(found), _loaders(found), _memory(found)]


def _plans(found: Measured) -> Table:
    start = found.plan[found.nothing]
    larger = {size: taken for size, taken in found.plan.items() if size != found.nothing}
    seconds = exponent({size: taken.cpu_seconds for size, taken in larger.items()}, fixed=start.cpu_seconds)
    peak = exponent({size: taken.peak_bytes for size, taken in larger.items()}, fixed=start.peak_bytes)
    rows = [
        [f"{size:,}", f"{shards_of(size):,}", number(taken.cpu_seconds), number(taken.peak_bytes / _MIB)]
        for size, taken in found.plan.items()
    ]
    rows.append(["growth", "", f"{seconds:.2f}", f"{peak:.2f}"])
    each = slope({size: taken.peak_bytes for size, taken in larger.items()})
    notes = [f"A video takes {each:.0f} bytes of the plan's memory."]
    return Table("Planning: snakemake --dry-run", ("videos", "shards", "CPU s", "peak memory, MiB"), rows, notes)


def _drawn(found: Measured) -> Table:
    rows = [[f"{size:,}", number(seconds), number(1e6 * seconds / size)] for size, seconds in found.drawn.items()]
    rows.append(["growth", f"{exponent(found.drawn):.2f}", ""])
    return Table("Planning: drawing the splits of a folder", ("videos", "CPU s", "µs per video"), rows)


def _videos(found: Measured) -> Table:
    opened = found.of_videos
    rows = [
        [
            f"{size:,}",
            f"{shards_of(size):,}",
            number(one.seconds),
            number(one.bytes / size),
            number(1000 * one.edge_seconds),
            number(1000 * one.sample_seconds),
        ]
        for size, one in opened.items()
    ]
    opening = exponent({size: one.seconds for size, one in opened.items()})
    inside = exponent({size: one.sample_seconds for size, one in opened.items()})
    rows.append(["growth", "", f"{opening:.2f}", "", "", f"{inside:.2f}"])
    columns = ("videos", "shards", "opening, s", "index, bytes per video", "first sample of epoch, ms", "another, ms")
    each = 1e9 * max(slope({size: one.edge_seconds - one.sample_seconds for size, one in opened.items()}), 0.0)
    notes = [f"The permutation of an epoch takes {each:.0f} ns per video, once per epoch in each process."]
    return Table(f"Opening and sampling: videos, {VIDEOS_A_SHARD} per shard", columns, rows, notes)


def _shards(found: Measured) -> Table:
    rows = [
        [f"{shards:,}", number(one.seconds), number(1000 * one.sample_seconds), f"{one.files:,}"]
        for shards, one in found.of_shards.items()
    ]
    growth = [
        exponent({shards: one.seconds for shards, one in found.of_shards.items()}),
        exponent({shards: one.sample_seconds for shards, one in found.of_shards.items()}),
    ]
    rows.append(["growth", *(f"{each:.2f}" for each in growth), ""])
    title = f"Opening and sampling: shards of {found.videos:,} videos in all"
    columns = ("shards", "opening, s", "a random sample, ms", "open files")
    return Table(title, columns, rows, _again(found.of_shards))


def _again(of_shards: Mapping[int, Opened]) -> list[str]:
    """What opening a shard again costs, where there are more shards than stay open."""
    fewest, most = min(of_shards), max(of_shards)
    share = 1 - MOST_OPEN / most
    if share <= 0:
        return [f"No more than {MOST_OPEN} shards: all stay open."]
    extra = (of_shards[most].sample_seconds - of_shards[fewest].sample_seconds) / share
    return [
        f"A process has {MOST_OPEN} shards open at most. Of {most:,} shards, {share:.0%} of samples open one again, "
        f"for {1000 * extra:.1f} ms each."
    ]


def _loaders(found: Measured) -> Table:
    rows = [
        [stream, str(count), number(rate), number(rate / rates[1]) if 1 in rates else "-"]
        for stream, rates in found.rates.items()
        for count, rate in rates.items()
    ]
    notes = ["0 processes: the training itself reads. More processes than cores do not help."]
    return Table("Reading processes", ("stream", "processes", "videos/s", "times one process"), rows, notes)


def _memory(found: Measured) -> Table:
    rows = [
        [
            peaks.stage,
            peaks.unit,
            ", ".join(f"{size:,}" for size in peaks.peaks),
            ", ".join(number(peak / _MIB) for peak in peaks.peaks.values()),
            f"{peaks.bytes_each / 1000:.2f}",
        ]
        for peaks in found.peaks
    ]
    columns = ("stage", "grows with", "sizes", "peak memory, MiB", "kB for one more, at the end")
    return Table("Memory of every stage", columns, rows, _bounds(found.peaks))


def _bounds(found: list[Peaks]) -> list[str]:
    """Which stages stay within a tenth of what they take at the smallest size."""
    flat, rising = [], []
    for peaks in found:
        sizes = list(peaks.peaks)
        more = peaks.peaks[sizes[-1]] / peaks.peaks[sizes[0]]
        said = f"{peaks.stage} by {peaks.unit}"
        if more < 1.1:
            flat.append(said)
        else:
            rising.append(f"{said} ({more:.2f} times, {sizes[-1] / sizes[0]:.0f} times the size)")
    notes = [f"Memory grows by less than a tenth: {'; '.join(flat)}."] if flat else []
    if rising:
        notes.append(f"Memory grows with the size: {'; '.join(rising)}.")
    return notes
