"""Who is measured: every backend with every preset, and other flow algorithms for orientation."""

from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np

from atw.config import ON_GPU, Flow
from atw.flow import PRESETS, estimate
from atw.flow.engine import BACKENDS
from atw.flow.pairs import FloatArray, Images, each_pair

REFERENCE = "opencv"
_opencv: Any = cv2


class Contestant(NamedTuple):
    """`solve` gives the flow [B, 2, H, W] of two batches on a number of threads; `kind` is "cpu", "gpu" or "other".

    Others are different algorithms, or TV-L1 under another schedule.
    """

    name: str
    preset: str
    kind: str
    solve: Callable[[Images, Images, int], FloatArray]

    @property
    def key(self) -> str:
        """Name and preset as one word."""
        return f"{self.name} {self.preset}".rstrip()


def unusable() -> dict[str, str]:
    """The backends that cannot run here, with the reason."""
    reasons = {name: backend.unusable() for name, backend in BACKENDS.items()}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def contestants() -> list[Contestant]:
    """All that can run here; rows of one preset stand together, the reference first."""
    backends = [name for name in BACKENDS if name not in unusable()]
    backends.sort(key=lambda name: name != REFERENCE)
    found = [
        Contestant(name, preset, "gpu" if name in ON_GPU else "cpu", _backend(name, preset))
        for preset in PRESETS
        for name in backends
    ]
    optflow: Any = getattr(_opencv, "optflow", None)
    if optflow is not None:
        found.append(Contestant("OpenCV TV-L1, its defaults", "", "other", _other(optflow.DualTVL1OpticalFlow_create)))
    found.append(Contestant("OpenCV DIS, medium", "", "other", _other(_dis)))
    found.append(Contestant("OpenCV Farneback, its defaults", "", "other", _other(_opencv.FarnebackOpticalFlow_create)))
    return found


def _backend(name: str, preset: str) -> Callable[[Images, Images, int], FloatArray]:
    def solve(first: Images, second: Images, threads: int) -> FloatArray:
        return estimate(first, second, Flow(preset=preset, backend=name), threads=threads)

    return solve


def _dis() -> Any:
    return _opencv.DISOpticalFlow_create(_opencv.DISOPTICAL_FLOW_PRESET_MEDIUM)


def _other(create: Callable[[], Any]) -> Callable[[Images, Images, int], FloatArray]:
    def solve(first: Images, second: Images, threads: int) -> FloatArray:
        flow = np.empty((len(first), 2, *first.shape[1:]), np.float32)

        def fill(index: int) -> None:
            flow[index] = create().calc(first[index], second[index], None).transpose(2, 0, 1)

        each_pair(fill, len(first), threads)
        return flow

    return solve
