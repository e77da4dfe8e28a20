"""Which flow backends run here, and how many pairs of 340 x 256 px they do a second, by a short timed run."""

import sys
import time
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from atw.config import ON_GPU, Flow
from atw.flow import estimate
from atw.flow.engine import BACKENDS

WIDTH, HEIGHT = 340, 256
PRESETS = ("opencv4", "fast")
_MOTION_PX = (3.4, -1.7)
_TOLERANCE_PX = 0.25
_LEAST_SECONDS = 0.5
_MOST_PAIRS = 128

Images = NDArray[np.uint8]


def backends(*, cores: int, measure: bool) -> dict[str, Any]:
    """Which backend `auto` takes, and for each why it cannot run or its pairs a second by preset and threads.

    A backend whose flow of a known motion is wrong counts as one that cannot run.
    """
    report = {}
    for name, backend in BACKENDS.items():
        unusable = backend.unusable()
        speed = None
        if unusable is None and measure:
            print(f"timing {name} ...", file=sys.stderr)
            try:
                unusable = fault(name)
                speed = None if unusable else _speed(name, cores)
            except Exception as error:  # what a broken driver or build raises is its own
                unusable = f"fails: {type(error).__name__}: {error}"
        report[name] = {"what": backend.what, "unusable": unusable, "pairs_per_second": speed}
    usable = [name for name, entry in report.items() if entry["unusable"] is None]
    return {"auto": usable[0] if usable else None, "backends": report}


def fault(name: str) -> str | None:
    """What is wrong with the flow that a backend finds between two rendered pictures, None if nothing."""
    flow = estimate(*texture(1), _flow(name, "fast"))[0]
    found = np.median(flow[:, 32:-32, 32:-32], axis=(1, 2))
    if np.all(np.abs(found - _MOTION_PX) <= _TOLERANCE_PX):
        return None
    return f"gives wrong flow: {found.round(2).tolist()} px for a motion of {list(_MOTION_PX)} px"


def _speed(name: str, cores: int) -> dict[str, dict[int, float]]:
    # A GPU works on whole batches, whatever the number of threads.
    counts = [1] if name in ON_GPU else sorted({1, cores})
    return {preset: {threads: pairs_per_second(name, preset, threads) for threads in counts} for preset in PRESETS}


def pairs_per_second(name: str, preset: str, threads: int) -> float:
    """Wall-clock rate over a batch that doubles until it takes half a second."""
    pairs = 1 if threads == 1 else 2 * threads
    while True:
        prev, following = texture(pairs)
        start = time.perf_counter()
        estimate(prev, following, _flow(name, preset), threads=threads)
        seconds = time.perf_counter() - start
        if seconds >= _LEAST_SECONDS or pairs >= _MOST_PAIRS:
            return round(pairs / seconds, 1)
        pairs *= 2


def _flow(backend: str, preset: str) -> Flow:
    return Flow.model_validate({"backend": backend, "preset": preset})


def texture(pairs: int) -> tuple[Images, Images]:
    """Rendered pairs [pairs, HEIGHT, WIDTH] of smooth noise that moves by `_MOTION_PX`."""
    rng = np.random.default_rng(0)
    room = 16
    noise = rng.standard_normal((HEIGHT + room, WIDTH + room)).astype(np.float32)
    layers = [cv2.GaussianBlur(noise, (0, 0), sigma) * sigma for sigma in (1.5, 4.0, 12.0)]
    whole = cv2.normalize(np.sum(layers, axis=0), None, 0, 255, cv2.NORM_MINMAX)
    images = []
    for x, y in ((0.0, 0.0), _MOTION_PX):
        matrix = np.array([[1, 0, x - room / 2], [0, 1, y - room / 2]])
        image = cv2.warpAffine(whole, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC)
        images.append(image.clip(0, 255).astype(np.uint8))
    prev, following = (np.ascontiguousarray(np.broadcast_to(image, (pairs, HEIGHT, WIDTH))) for image in images)
    return prev, following
