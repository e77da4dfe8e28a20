"""Cost against size: the power law that measurements follow, and where it leads."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from atw.files import InputError


class Growth(NamedTuple):
    """cost = fixed + factor x size ** exponent."""

    fixed: float
    factor: float
    exponent: float

    def at(self, size: float) -> float:
        """The cost of a size."""
        return self.fixed + self.factor * size**self.exponent

    def size_for(self, cost: float) -> float:
        """The size that a cost is reached at: 0 where nothing at all costs as much, infinite where it does not grow."""
        if cost <= self.fixed:
            return 0.0
        if self.exponent <= 0 or not self.factor:
            return math.inf
        return float(((cost - self.fixed) / self.factor) ** (1 / self.exponent))


def fit(costs: Mapping[int, float], *, fixed: float = 0.0) -> Growth:
    """The least-squares line of the logarithm of costs on that of sizes, without the `fixed` cost of no size.

    Raises:
        InputError: fewer than two sizes cost more than that.
    """
    sizes = [size for size, cost in costs.items() if cost > fixed]
    if len(sizes) < 2:
        raise InputError(f"costs {costs} do not rise above {fixed:g}: nothing can be fitted; measure larger sizes")
    above = [costs[size] - fixed for size in sizes]
    exponent, logarithm = np.polyfit(np.log(sizes), np.log(above), 1)
    return Growth(fixed, math.exp(logarithm), float(exponent))


def slope(costs: Mapping[int, float]) -> float:
    """Cost of one more, by the least-squares line through costs of sizes."""
    return float(np.polyfit(list(costs), list(costs.values()), 1)[0])


class Limit(NamedTuple):
    """Something that ends: at how many videos, and what is there to do about it."""

    what: str
    has: str
    videos: float
    answer: str


def in_order(limits: Sequence[Limit]) -> list[Limit]:
    """What breaks first, first."""
    return sorted(limits, key=lambda limit: limit.videos)
