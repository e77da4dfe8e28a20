"""Cost against size: the power law that measurements follow."""

from collections.abc import Mapping

import numpy as np

from atw.files import InputError


def exponent(costs: Mapping[int, float], *, fixed: float = 0.0) -> float:
    """Slope of the least-squares line of the logarithm of costs on that of sizes, without the `fixed` cost of no size.

    Raises:
        InputError: fewer than two sizes cost more than that.
    """
    sizes = [size for size, cost in costs.items() if cost > fixed]
    if len(sizes) < 2:
        raise InputError(f"costs {costs} do not rise above {fixed:g}: nothing can be fitted; measure larger sizes")
    above = [costs[size] - fixed for size in sizes]
    return float(np.polyfit(np.log(sizes), np.log(above), 1)[0])


def slope(costs: Mapping[int, float]) -> float:
    """Cost of one more, by the least-squares line through costs of sizes."""
    return float(np.polyfit(list(costs), list(costs.values()), 1)[0])
