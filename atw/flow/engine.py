"""Optical flow of a batch of image pairs, by whichever backend."""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from atw.files import InputError
from atw.flow import cpu, cuda, opencv
from atw.flow.pairs import FloatArray, Images, check_pairs, check_threads
from atw.flow.parameters import Parameters, parameters


class Backend(NamedTuple):
    """One way to compute flow; `unusable` says why it cannot run on this machine, None where it can."""

    what: str
    unusable: Callable[[], str | None]
    solve: Callable[[Images, Images, Parameters, int], FloatArray]


# Fastest first; `auto` takes the first that is usable.
BACKENDS = {
    "cuda": Backend("on the GPU", cuda.unusable, cuda.solve),
    "numba": Backend("on the CPU", cpu.unusable, cpu.solve),
    "opencv-cuda": Backend("OpenCV's code on the GPU", opencv.cuda_unusable, opencv.solve_on_cuda),
    "opencv": Backend("OpenCV's code on the CPU", opencv.unusable, opencv.solve),
}

_log = logging.getLogger(__name__)
_auto: list[str] = []


def estimate(
    prev: Images,
    next: Images,  # noqa: A002 - the field's name for it
    *,
    preset: str = "opencv4",
    backend: str = "auto",
    threads: int = 1,
    **overrides: Any,
) -> FloatArray:
    """TV-L1 optical flow from `prev` to `next`, both uint8 [B, H, W]: float32 [B, 2, H, W] in px, x before y.

    Pairs are independent of each other: neither the rest of the batch nor `threads`, the number of pairs in work at a
    time on the CPU, changes a bit of the result. `overrides` replace single settings of the preset, see `Parameters`.
    The backends are `BACKENDS`, or "auto" for the fastest that this machine can run. All of them follow the same
    schedule; between them results differ by rounding, and by where OpenCV's code looks at the stopping rule.

    Raises InputError for images other than two equal C-contiguous uint8 batches of at least 16 x 16 px, for unknown or
    impossible settings, and for a backend that cannot run here.
    """
    settings = parameters(preset, **overrides)
    check_pairs(prev, next)
    check_threads(threads)
    return BACKENDS[resolve_backend(backend)].solve(prev, next, settings, threads)


def resolve_backend(name: str) -> str:
    """The backend that a name stands for; logs once a process what "auto" has chosen.

    Raises InputError for an unknown name, and for a backend that this machine cannot run, with the reason.
    """
    if name == "auto":
        if not _auto:
            _auto.append(next(name for name, backend in BACKENDS.items() if backend.unusable() is None))
            _log.info("flow backend: %s, %s", _auto[0], BACKENDS[_auto[0]].what)
        return _auto[0]
    if name not in BACKENDS:
        raise InputError(f"unknown flow backend {name!r}; choose one of auto, {', '.join(BACKENDS)}")
    reason = BACKENDS[name].unusable()
    if reason is not None:
        raise InputError(f"flow backend {name} cannot run here: {reason}")
    return name
