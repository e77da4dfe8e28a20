"""Which flow backends run here, and how many pairs of 340 x 256 px each does per second in a short timed run."""

import sys
import time

import cv2
import numpy as np
from numpy.typing import NDArray

from atw.config import ON_GPU, Flow
from atw.extras.doctor.hardware import Part
from atw.flow import estimate
from atw.flow.engine import BACKENDS

WIDTH, HEIGHT = 340, 256
PRESETS = ("opencv4", "fast")
_MOTION_PX = (3.4, -1.7)
_TOLERANCE_PX = 0.25
_MARGIN_PX = 8
LEAST_SECONDS = 0.5
_MOST_PAIRS = 128

Images = NDArray[np.uint8]


def examine_flow(*, cores: int, measure: bool) -> Part:
    """Try all backends, and say which one `auto` takes. A backend whose flow of a known motion is wrong is unusable."""
    backends = {}
    rows = []
    for name, backend in BACKENDS.items():
        unusable = backend.unusable()
        rates: dict[str, dict[int, float]] | None = None
        if unusable is None and measure:
            print(f"timing {name} ...", file=sys.stderr)
            try:
                unusable = fault(name)
                # A GPU works on whole batches, whatever the number of threads.
                counts = [1] if name in ON_GPU else sorted({1, cores})
                rates = (
                    None
                    if unusable
                    else {
                        preset: {threads: pairs_per_second(name, preset, threads) for threads in counts}
                        for preset in PRESETS
                    }
                )
            except Exception as error:  # a broken driver or build may raise anything
                unusable = f"fails: {type(error).__name__}: {error}"
        backends[name] = {"what": backend.what, "unusable": unusable, "pairs_per_second": rates}
        told = [f"; {preset}: {_as_text(by_threads)}" for preset, by_threads in (rates or {}).items()]
        text = f"cannot run: {unusable}" if unusable else backend.what + "".join(told)
        rows.append((f"flow backend {name}", text))
    auto = next((name for name, backend in backends.items() if backend["unusable"] is None), None)
    content = {"auto": auto, "backends": backends}
    return Part(content, [("flow by auto", auto or "no backend can run"), *rows])


def _as_text(rates: dict[int, float]) -> str:
    return ", ".join(f"{rate} pairs/s with {count} thread{'s' * (count != 1)}" for count, rate in rates.items())


def fault(name: str) -> str | None:
    """Return what is wrong with the flow that a backend finds between two rendered pictures, None if it is right."""
    flow = estimate(*texture(1), _flow(name, "fast"))[0]
    found = np.median(flow[:, 32:-32, 32:-32], axis=(1, 2))
    if np.all(np.abs(found - _MOTION_PX) <= _TOLERANCE_PX):
        return None
    return f"gives wrong flow: {found.round(2).tolist()} px for a motion of {list(_MOTION_PX)} px"


def pairs_per_second(name: str, preset: str, threads: int) -> float:
    """Measure the wall-clock rate over a batch that doubles until it takes half a second."""
    pairs = 1 if threads == 1 else 2 * threads
    while True:
        prev, following = texture(pairs)
        start = time.perf_counter()
        estimate(prev, following, _flow(name, preset), threads=threads)
        seconds = time.perf_counter() - start
        if seconds >= LEAST_SECONDS or pairs >= _MOST_PAIRS:
            return round(pairs / seconds, 1)
        pairs *= 2


def _flow(backend: str, preset: str) -> Flow:
    return Flow.model_validate({"backend": backend, "preset": preset})


def texture(pairs: int) -> tuple[Images, Images]:
    """Render pairs [pairs, HEIGHT, WIDTH] of smooth noise that moves by `_MOTION_PX`."""
    size = (HEIGHT + 2 * _MARGIN_PX, WIDTH + 2 * _MARGIN_PX)
    noise = np.random.default_rng(0).standard_normal(size).astype(np.float32)
    layers = [cv2.GaussianBlur(noise, (0, 0), sigma) * sigma for sigma in (1.5, 4.0, 12.0)]
    whole = cv2.normalize(np.sum(layers, axis=0), None, 0, 255, cv2.NORM_MINMAX)

    def shifted(x: float, y: float) -> Images:
        matrix = np.array([[1.0, 0.0, x - _MARGIN_PX], [0.0, 1.0, y - _MARGIN_PX]])
        image = cv2.warpAffine(whole, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
        return np.ascontiguousarray(np.broadcast_to(image, (pairs, HEIGHT, WIDTH)))

    return shifted(0, 0), shifted(*_MOTION_PX)
