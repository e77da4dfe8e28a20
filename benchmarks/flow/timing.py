"""Timing what differs by less than the noise of the machine: everything in turn, medians, ratios within a pair."""

import math
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]

PAIRS_A_TURN = 4
# Of a batch at least, and pairs for each thread in it, so that starting and ending do not count.
BATCH_S, PAIRS_A_THREAD = 1.0, 4
MOST_ROUNDS = 5


class Throughput(NamedTuple):
    """Pairs a second of wall clock on all cores, and how many times one core's."""

    pairs_s: float
    scaling: float


def in_turn(runs: Mapping[str, Callable[[int], object]], pairs: int, rounds: int) -> dict[str, Seconds]:
    """CPU seconds of the calling thread that each of `runs` takes for each of `pairs` indices, median over `rounds`.

    All runs do a few pairs before any does the next ones, so that a slow moment of the machine hits them alike, and so
    that most pairs find the caches as the same run left them, as those of a video do. Each is called once beforehand,
    to compile.
    """
    taken = {name: np.empty((rounds, pairs)) for name in runs}
    for run in runs.values():
        run(0)
    for turn in range(rounds):
        for first in range(0, pairs, PAIRS_A_TURN):
            for name, run in runs.items():
                for pair in range(first, min(first + PAIRS_A_TURN, pairs)):
                    start = time.thread_time()
                    run(pair)
                    taken[name][turn, pair] = time.thread_time() - start
    return {name: np.median(seconds, axis=0) for name, seconds in taken.items()}


def ratio(slow: Seconds, fast: Seconds) -> float:
    """How many times faster: the median over the pairs of the ratio within a pair."""
    return float(np.median(slow / fast))


def wall_seconds(run: Callable[[], object]) -> float:
    """Seconds on the clock of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def repeats(pair_s: float, pairs: int, threads: int) -> int:
    """How often to repeat the pairs for a batch that keeps `threads` threads busy for `BATCH_S`."""
    return math.ceil(threads * max(BATCH_S / pair_s, PAIRS_A_THREAD) / pairs)


def all_cores(
    run: Callable[[int, int], object], *, pair_s: float, pairs: int, cores: int, budget_s: float
) -> Throughput:
    """Time `run(repeats, threads)`, which works through the pairs `repeats` times, on one thread and on all in turn.

    At least once, and again until `budget_s` are spent or `MOST_ROUNDS` are done. `pair_s` is the expected time of one
    pair.
    """
    once, often = repeats(pair_s, pairs, 1), repeats(pair_s, pairs, cores)
    ones: list[float] = []
    alls: list[float] = []
    began = time.perf_counter()
    while not ones or (len(ones) < MOST_ROUNDS and time.perf_counter() - began < budget_s):
        ones.append(wall_seconds(lambda: run(once, 1)) / (once * pairs))
        alls.append(wall_seconds(lambda: run(often, cores)) / (often * pairs))
    return Throughput(1 / float(np.median(alls)), float(np.median(np.divide(ones, alls))))
