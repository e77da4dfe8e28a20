"""Smooth images whose displacement is known exactly, for the tests of the benchmarks."""

from typing import Any

import numpy as np

from benchmarks.material import Pairs


def waves(height: int, width: int, x: Any = 0.0, y: Any = 0.0) -> np.ndarray:
    """A smooth image in 5..251, displaced by a field."""
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    return np.asarray(128 + 80 * np.sin((columns + x) / 5 + 1) + 43 * np.cos((rows + y) / 4 + (columns + x) / 9))


def grey(image: np.ndarray) -> np.ndarray:
    return np.asarray(np.rint(image), np.uint8)


def small_pairs(count: int, height: int = 32, width: int = 40) -> Pairs:
    first = np.stack([grey(waves(height, width, 3 * i)) for i in range(count)])
    second = np.stack([grey(waves(height, width, 3 * i - 1.5, 0.5)) for i in range(count)])
    return Pairs([f"clip {i}" for i in range(count)], first, second)
