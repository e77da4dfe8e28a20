"""Where the time of our reader goes: each of its steps repeated alone on what the samples ask for."""

import time
import zlib
from collections.abc import Callable, Iterable

import numpy as np

from atw.data import augment, sampling
from atw.shards import Entry, Shard, decode_field, decode_frame
from benchmarks.reader.material import SIZE_PX, STACK, Material, Sample


def cpu_seconds(work: Callable[[], object], *, repeats: int) -> float:
    """The least CPU time of this process over `repeats` runs."""
    taken = []
    for _ in range(repeats):
        begin = time.process_time()
        work()
        taken.append(time.process_time() - begin)
    return min(taken)


def measure(material: Material, stream: str, samples: list[Sample], *, repeats: int) -> dict[str, float]:
    """CPU seconds of all samples by step: HDF5, checksums, decoding, crop with resize and mirroring."""
    shards = material.shards[stream]
    stack = 1 if stream == "rgb" else STACK
    wanted: list[tuple[Sample, Entry, list[int]]] = []
    for sample in samples:
        entry = shards.entry(sample.video)
        stacks = sampling.stack_indices(sample.starts, stack=stack, positions=entry.count)
        wanted.append((sample, entry, sorted({int(number) for number in stacks.ravel()})))
    with Shard(material.stored.shards[stream]) as shard:
        stored = {
            (entry.video, number): shard.stored(entry, number) for _, entry, numbers in wanted for number in numbers
        }
        shape = shard.header.item_shape
        items = {key: decoded(stream, content, shape) for key, content in stored.items()}
        keys = [(entry.video, number) for _, entry, numbers in wanted for number in numbers]

        def fetch() -> None:
            for _, entry, numbers in wanted:
                for number in numbers:
                    shard.stored(entry, number)

        def cut() -> None:
            for sample, entry, numbers in wanted:
                placed = (([place], items[entry.video, number]) for place, number in enumerate(numbers))
                stacks = (len(numbers), 1) if stream == "rgb" else (1, len(numbers))
                augment.cut_snippets(placed, [sample.crop], shape=stacks, size=SIZE_PX, stream=stream)

        checksums = cpu_seconds(lambda: run(zlib.crc32, (stored[key] for key in keys)), repeats=repeats)
        return {
            "HDF5": cpu_seconds(fetch, repeats=repeats) - checksums,
            "checksum": checksums,
            "decoding": cpu_seconds(
                lambda: run(lambda content: decoded(stream, content, shape), (stored[key] for key in keys)),
                repeats=repeats,
            ),
            "crop, resize, mirror": cpu_seconds(cut, repeats=repeats),
        }


def run(function: Callable[[bytes], object], contents: Iterable[bytes]) -> None:
    for content in contents:
        function(content)


def decoded(stream: str, content: bytes, shape: tuple[int, ...]) -> np.ndarray:
    return decode_frame(content) if stream == "rgb" else decode_field(content, shape)
