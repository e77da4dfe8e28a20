"""Cost against size: videos, shards and processes; the memory of every stage.

    python -m benchmarks.scale FOLDER_OF_VIDEOS [--write]

Prints tables; --write writes them to docs/benchmarks/scale.md. Some ten minutes on two cores.
"""

import argparse
import logging
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console

from atw.files import InputError
from benchmarks.material import find_videos, folders_in_turn
from benchmarks.report import show, write_page
from benchmarks.scale import plans, reading, stages, synthetic, tables
from benchmarks.scale.tables import Measured
from benchmarks.stored import STREAMS, store

PAGE = Path("docs/benchmarks/scale.md")


class Sizes(NamedTuple):
    """What is measured, each growing geometrically; `nothing` is the plan whose cost is that of starting."""

    nothing: int
    planned: tuple[int, ...]
    drawn: tuple[int, ...]
    opened: tuple[int, ...]
    videos_a_shard: tuple[int, ...]
    videos_of_shards: int
    samples: int
    clips: int
    loaders: tuple[int, ...]
    batches: int
    lengths: tuple[int, ...]
    numbers: tuple[int, ...]
    frames: int
    splits: tuple[int, ...]


SIZES = Sizes(
    nothing=24,
    planned=(20_000, 50_000, 125_000, 312_500),
    drawn=(1_600, 6_400, 25_600, 102_400),
    opened=(1_024, 4_096, 16_384, 65_536),
    videos_a_shard=(4_096, 1_024, 256, 64, 16),
    videos_of_shards=16_384,
    samples=2_000,
    clips=16,
    loaders=(0, 1, 2, 4),
    batches=100,
    lengths=(120, 480, 1_920),
    numbers=(4, 16, 64),
    frames=30,
    splits=(1_024, 4_096, 16_384),
)


def measure(videos: Path, folder: Path, sizes: Sizes) -> Measured:
    """Everything, one after the other; `folder` takes what is written meanwhile."""
    plan = {count: plans.dry_run(count) for count in (sizes.nothing, *sizes.planned)}
    drawn = {count: plans.draw_seconds(count) for count in sizes.drawn}
    shards = synthetic.write_shards(folder / "synthetic", videos=max(sizes.opened), a_shard=plans.VIDEOS_A_SHARD)
    of_videos = {
        count: reading.open_and_read(shards[: count // plans.VIDEOS_A_SHARD], videos=count, samples=sizes.samples)
        for count in sizes.opened
    }
    of_shards = {}
    for a_shard in sizes.videos_a_shard:
        cut = synthetic.write_shards(folder / f"of {a_shard}", videos=sizes.videos_of_shards, a_shard=a_shard)
        of_shards[len(cut)] = reading.open_and_read(cut, videos=sizes.videos_of_shards, samples=sizes.samples)
    (folder / "stored").mkdir()
    stored = store(videos, folder / "stored", videos=sizes.clips, threads=2)
    rates = {
        stream: {
            count: reading.loader_rate(stored, stream, loaders=count, batches=sizes.batches) for count in sizes.loaders
        }
        for stream in STREAMS
    }
    sources = folders_in_turn(find_videos(videos))[: sizes.clips]
    of_splits = {
        count: synthetic.describe(folder / f"list of {count}", shards[: count // plans.VIDEOS_A_SHARD], count)
        for count in sizes.splits
    }
    peaks = [
        *stages.of_lengths(folder, sources, sizes.lengths),
        *stages.of_numbers(folder, sources, sizes.numbers, frames=sizes.frames),
        *stages.of_splits(folder, of_splits),
    ]
    return Measured(sizes.nothing, plan, drawn, of_videos, sizes.videos_of_shards, of_shards, rates, peaks)


def main(given: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of videos, a subfolder a class")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE}")
    asked = parser.parse_args(given)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(asked.folder.absolute(), Path(folder), SIZES)
    made = tables.measured(found)
    show(Console(), made)
    if asked.write:
        write_page(PAGE, "Scale", "python -m benchmarks.scale FOLDER_OF_VIDEOS --write", made, tables.METHOD)
    return 0


if __name__ == "__main__":
    logging.getLogger("atw").setLevel(logging.WARNING)
    try:
        sys.exit(main(sys.argv[1:]))
    except InputError as error:
        sys.exit(f"error: {error}")
