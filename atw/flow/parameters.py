"""The settings of TV-L1, its named presets, and the sizes of the image pyramid that follow from them."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from atw.files import InputError

SMALLEST_SIDE_PX = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters:
    """Settings of TV-L1 for images in 0..255.

    `lambda_` weighs the data term, `theta` couples it to the smoothness term, `tau` is the step of the dual update.
    `levels` pyramid levels shrink by `scale_step` each; on each level the second image is warped `warps` times, with up
    to `iterations` iterations a warp, fewer once the sum over the image of the squared update (px^2) is at most
    `epsilon`^2 times the number of pixels. With `epsilon` 0 there is no such test.
    """

    tau: float = 0.25
    lambda_: float = 0.15
    theta: float = 0.3
    levels: int = 5
    scale_step: float = 0.8
    warps: int = 5
    iterations: int = 300
    epsilon: float = 0.01

    def __post_init__(self) -> None:
        check_ranges(self, _RANGES, "flow")


def check_ranges(settings: object, ranges: Mapping[str, tuple[float, float]], what: str) -> None:
    """Raise InputError unless the named attributes lie in their ranges; a lower limit that is an int asks for one."""
    for name, (lowest, highest) in ranges.items():
        value = getattr(settings, name)
        whole = isinstance(lowest, int)
        number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if not number or not lowest <= value <= highest:
            kind = "a whole number" if whole else "a number"
            raise InputError(f"{what} parameter {name} is {value!r}; it must be {kind} from {lowest} to {highest}")


# These only keep nonsense out: within them the flow stays finite, as the dual variable cannot exceed 1.
_RANGES: Mapping[str, tuple[float, float]] = {
    "tau": (1e-3, 0.5),
    "lambda_": (1e-4, 100.0),
    "theta": (1e-3, 100.0),
    "levels": (1, 32),
    "scale_step": (0.2, 0.95),
    "warps": (1, 1000),
    "iterations": (1, 100_000),
    "epsilon": (0.0, 10.0),
}

PRESETS: Mapping[str, Parameters] = MappingProxyType(
    {
        "opencv4": Parameters(),
        "opencv24": Parameters(scale_step=0.5),
        "fast": Parameters(scale_step=0.5, warps=3, iterations=30, theta=0.2, epsilon=0.0),
    }
)


def parameters(preset: str, **overrides: Any) -> Parameters:
    """Settings of `preset` with `overrides` in place; these are what a stored flow field was computed with."""
    if preset not in PRESETS:
        raise InputError(f"unknown flow preset {preset!r}; choose one of {', '.join(PRESETS)}")
    names = [field.name for field in dataclasses.fields(Parameters)]
    unknown = [name for name in overrides if name not in names]
    if unknown:
        raise InputError(f"unknown flow parameter {unknown[0]!r}; choose from {', '.join(names)}")
    return dataclasses.replace(PRESETS[preset], **overrides)


def pyramid_sizes(height: int, width: int, settings: Parameters) -> list[tuple[int, int]]:
    """Height and width (px) of each level, finest first; levels with a side under 16 px are dropped."""
    sizes = [(height, width)]
    while len(sizes) < settings.levels:
        # Python and OpenCV both round halves to even, so the sizes are those of cv2.resize(fx=scale_step).
        height, width = (round(side * settings.scale_step) for side in sizes[-1])
        if min(height, width) < SMALLEST_SIDE_PX:
            break
        sizes.append((height, width))
    return sizes
