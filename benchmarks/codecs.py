"""How fast a stored field of flow is decoded, and how large it is: Zstandard beside other codecs, chunks and levels.

    python -m benchmarks.codecs shards/ucf101/flow [--write]

One core, a minute. LZ4 is compared where the package lz4 is installed. --write writes docs/benchmarks/codecs.md.
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zstandard
from numpy.typing import NDArray
from rich.console import Console

from atw.config.sections import Augment
from atw.data.augment import crop_box
from atw.files import InputError
from atw.shards import Shard
from benchmarks.flow import timing
from benchmarks.report import Table, number, show, write_page

PAGE = Path("docs/benchmarks/codecs.md")
STACK, STACKS, ROUNDS = 5, 80, 7
_LEVELS_OF_5_BITS = 8  # of 8 bits that become one
METHOD = (
    f"{STACKS} stacks of {STACK} fields at random places of random videos, as a training reads them. All codecs decode "
    "a field in turn; figures are medians over the fields of the medians of the rounds, by CPU time.",
    "Chunks of rows are decoded only as far as a crop of the training needs them, drawn anew for each stack.",
    "5 bits: eight neighbouring levels of 8 bits are one, stored in bytes. At a bound of 20 px, a displacement is then "
    "wrong by up to .63 px, in place of .08.",
    "A copy is what any codec has to do at least.",
)


class Codec(NamedTuple):
    """Encodes fields, uint8 [2, H, W], and decodes the parts of one that rows from `top` to `end` are in."""

    encode: Callable[[NDArray[np.uint8]], list[bytes]]
    decode: Callable[[list[bytes], int, int], object]


def codecs() -> dict[str, Codec]:
    """The codecs by name; that of the shards comes first."""
    unpack = zstandard.ZstdDecompressor().decompress

    def zstd(level: int) -> Codec:
        pack = zstandard.ZstdCompressor(level=level).compress
        return Codec(lambda field: [pack(field.tobytes())], lambda parts, *_: unpack(parts[0]))

    def in_rows(rows: int) -> Codec:
        pack = zstandard.ZstdCompressor(level=3).compress
        return Codec(
            lambda field: [pack(field[:, first : first + rows].tobytes()) for first in range(0, field.shape[1], rows)],
            lambda parts, top, end: [unpack(part) for part in parts[top // rows : -(-end // rows)]],
        )

    five = zstd(3)
    found = {f"Zstandard, level {level}": zstd(level) for level in (3, 1, -5, 9)}
    found |= {f"Zstandard, level 3, in chunks of {rows} rows": in_rows(rows) for rows in (32, 64, 128)}
    found["Zstandard, level 3, 5 bits"] = Codec(
        lambda field: five.encode(field // _LEVELS_OF_5_BITS * _LEVELS_OF_5_BITS), five.decode
    )
    if importlib.util.find_spec("lz4"):
        import lz4.block

        for name, mode in (("LZ4", "default"), ("LZ4, high compression", "high_compression")):
            found[name] = Codec(
                lambda field, mode=mode: [lz4.block.compress(field.tobytes(), mode=mode)],
                lambda parts, *_: lz4.block.decompress(parts[0]),
            )
    found["a copy"] = Codec(lambda field: [field.tobytes()], lambda parts, *_: bytearray(parts[0]))
    return found


def stacks(folder: Path, rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """Fields [2, H, W] of random stacks of the shards in a folder.

    Raises:
        InputError: no video in them has as many fields.
    """
    fields: list[NDArray[np.uint8]] = []
    paths = sorted(folder.glob("*.h5"))
    for path in paths:
        with Shard(path) as shard:
            long = [entry for entry in shard.entries if entry.count >= STACK] if shard.stream != "rgb" else []
            for entry in (long[place] for place in rng.permutation(len(long))[: -(-STACKS // len(paths))]):
                first = int(rng.integers(entry.count - STACK + 1))
                fields += list(shard.fields(entry, range(first, first + STACK)))
    if not fields:
        raise InputError(f"{folder} has no shards of flow with {STACK} fields of a video; give such a folder")
    return fields


def measure(fields: list[NDArray[np.uint8]], rng: np.random.Generator) -> Table:
    """A row a codec: size and times; the ratio is that of the shards' time of decoding to it."""
    height, width = fields[0].shape[1:]
    drawn = Augment()
    boxes = [
        crop_box(height, width, scales=drawn.scales, size=drawn.input_size, rng=rng)
        for _ in range(0, len(fields), STACK)
    ]
    spans = [(box.top, box.top + box.height) for box in boxes for _ in range(STACK)]
    tried = codecs()
    stored: dict[str, list[list[bytes]]] = {}
    rows = []
    for name, codec in tried.items():
        start = time.thread_time()
        stored[name] = [codec.encode(field) for field in fields]
        encoding = time.thread_time() - start
        kibibytes = float(np.mean([sum(map(len, parts)) for parts in stored[name]])) / 1024
        rows.append([name, number(kibibytes), number(1000 * encoding / len(fields))])
    seconds = timing.in_turn(
        {name: lambda place, name=name: tried[name].decode(stored[name][place], *spans[place]) for name in tried},
        len(fields),
        ROUNDS,
    )
    ours = seconds[next(iter(tried))]
    for row, taken in zip(rows, seconds.values(), strict=True):
        row += [number(1000 * float(np.median(taken))), f"{timing.ratio(ours, taken):.2f}"]
    columns = ("codec", "KiB", "ms to encode", "ms to decode", "decoded as many times as fast as the shards'")
    return Table(f"a field of {width} x {height} px", columns, rows)


def main(given: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.codecs", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of shards of flow")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE}")
    asked = parser.parse_args(given)
    rng = np.random.default_rng(0)
    try:
        tables = [measure(stacks(asked.folder, rng), rng)]
    except InputError as error:
        print(f"benchmarks.codecs: {error}", file=sys.stderr)
        return 2
    show(Console(), tables)
    if asked.write:
        write_page(PAGE, "Codecs for stored flow", "python -m benchmarks.codecs FOLDER_OF_FLOW --write", tables, METHOD)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
