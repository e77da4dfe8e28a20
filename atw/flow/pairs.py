"""Batches of image pairs: what every backend is given, and working on several pairs at a time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from atw.files import InputError
from atw.flow.parameters import SMALLEST_SIDE_PX

Images = NDArray[np.uint8]
FloatArray = NDArray[np.float32]


def check_pairs(prev: Images, next_: Images) -> None:
    """Raise InputError unless both are equal C-contiguous uint8 [B, H, W] of at least 16 x 16 px."""
    for name, images in (("prev", prev), ("next", next_)):
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 3:
            found = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
            raise InputError(f"flow: {name} is {found}; give grey images as a uint8 array [pairs, height, width]")
        if not images.flags.c_contiguous:
            raise InputError(f"flow: {name} is not C-contiguous; pass it through numpy.ascontiguousarray")
    if prev.shape != next_.shape:
        raise InputError(f"flow: prev is {prev.shape} but next is {next_.shape}; give two batches of one shape")
    if min(prev.shape[1:]) < SMALLEST_SIDE_PX:
        height, width = prev.shape[1:]
        raise InputError(
            f"flow: images are {width} x {height} px; give at least {SMALLEST_SIDE_PX} x {SMALLEST_SIDE_PX} px"
        )


def check_threads(threads: int) -> None:
    """Raise InputError unless `threads` is a positive whole number."""
    if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise InputError(f"flow: threads is {threads!r}; it must be a whole number of at least 1")


def each_pair(work: Callable[[int], None], pairs: int, threads: int) -> None:
    """Call `work` with 0 .. pairs - 1, `threads` calls at a time, and raise the first error."""
    if threads == 1 or pairs < 2:
        for index in range(pairs):
            work(index)
        return
    with ThreadPoolExecutor(min(threads, pairs)) as pool:
        for _ in pool.map(work, range(pairs)):
            pass
