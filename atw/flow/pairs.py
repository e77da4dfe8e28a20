"""What every flow backend works on: batches of image pairs, TV-L1's parameters and the sizes of the pyramid."""

import dataclasses
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from atw.config import Flow
from atw.errors import InputError

Images = NDArray[np.uint8]
FloatArray = NDArray[np.float32]
SMALLEST_SIDE_PX = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters:
    """Every parameter of TV-L1 for images in 0..255; `atw.config.Flow` explains them and has their limits.

    Iterations stop once the sum over the image of the squared update (px^2) is at most `epsilon`^2 times the number of
    pixels; with `epsilon` 0 they never stop early. `finest_warps` are those of the finest level, None is `warps`.
    """

    tau: float
    lambda_: float
    theta: float
    levels: int
    scale_step: float
    warps: int
    iterations: int
    epsilon: float
    finest_warps: int | None = None

    def warps_of(self, level: int) -> int:
        """Return the warps of a pyramid level, the finest being 0."""
        return self.warps if level or self.finest_warps is None else self.finest_warps

    def to_dict(self) -> dict[str, float]:
        """Return them by name as shards have them; without `finest_warps` where all levels have as many."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


_OPENCV4 = Parameters(
    tau=0.25, lambda_=0.15, theta=0.3, levels=5, scale_step=0.8, warps=5, iterations=300, epsilon=0.01
)
_OPENCV24 = dataclasses.replace(_OPENCV4, scale_step=0.5)
PRESETS: Mapping[str, Parameters] = MappingProxyType(
    {
        "opencv4": _OPENCV4,
        "opencv24": _OPENCV24,
        "fast": dataclasses.replace(_OPENCV24, warps=3, iterations=30, theta=0.2, epsilon=0.0),
        "faster": dataclasses.replace(_OPENCV24, warps=4, finest_warps=1, iterations=16, theta=0.5, epsilon=0.0),
    }
)
_NAMES = {field.name for field in dataclasses.fields(Parameters)}


class StoredFlow(NamedTuple):
    """Flow as a shard stores it: uint8 [B, 2, H, W] as `atw.shards.quantise` makes it; how many values it clipped."""

    levels: NDArray[np.uint8]
    clipped: int


def parameters(flow: Flow) -> Parameters:
    """Return the preset's parameters with those that are set explicitly in their place."""
    return dataclasses.replace(PRESETS[flow.preset], **flow.model_dump(include=_NAMES, exclude_none=True))


def pyramid_sizes(height: int, width: int, settings: Parameters) -> list[tuple[int, int]]:
    """Return height and width (px) of each level, finest first; levels with a side under 16 px are left out."""
    sizes = [(height, width)]
    while len(sizes) < settings.levels:
        # Python and OpenCV both round halves to even, so the sizes are those of cv2.resize(fx=scale_step).
        height, width = (round(side * settings.scale_step) for side in sizes[-1])
        if min(height, width) < SMALLEST_SIDE_PX:
            break
        sizes.append((height, width))
    return sizes


def check_pairs(first: Images, second: Images) -> None:
    """Raise InputError unless both are C-contiguous uint8 [B, H, W] of one shape and of at least 16 x 16 px."""
    for name, images in (("first", first), ("second", second)):
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 3:
            found = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
            raise InputError(f"flow: {name} is {found}; give grey images as a uint8 array [pairs, height, width]")
        if not images.flags.c_contiguous:
            raise InputError(f"flow: {name} is not C-contiguous; pass it through numpy.ascontiguousarray")
    if first.shape != second.shape:
        raise InputError(f"flow: first is {first.shape} but second is {second.shape}; give two batches of one shape")
    if min(first.shape[1:]) < SMALLEST_SIDE_PX:
        height, width = first.shape[1:]
        raise InputError(
            f"flow: images are {width} x {height} px; give at least {SMALLEST_SIDE_PX} x {SMALLEST_SIDE_PX} px"
        )


def each_pair(work: Callable[[int], None], pairs: int, threads: int) -> None:
    """Call `work` with 0 .. pairs - 1, `threads` calls at a time, and raise the first error."""
    if threads == 1 or pairs < 2:
        for index in range(pairs):
            work(index)
        return
    with ThreadPoolExecutor(min(threads, pairs)) as pool:
        for _ in pool.map(work, range(pairs)):
            pass
