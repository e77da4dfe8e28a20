"""What the GPU can do at most, measured: floating-point operations a second, and bytes a second of its memory."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda

from benchmarks.flow.roofline import Peaks

_THREADS = 256
_ROUNDS = 4096
# Eight chains a thread hide the latency; a multiply-add is two operations.
_OPERATIONS = 2 * 8
_COPIED_FLOATS = 1 << 28


def measure_peaks() -> Peaks:
    """Measure both, in about a second."""
    blocks = 32 * int(cuda.get_current_device().MULTIPROCESSOR_COUNT)
    out = cuda.device_array(blocks * _THREADS, np.float32)
    multiply = cuda.jit(fastmath=True)(multiply_add)[blocks, _THREADS]
    operations = float(_OPERATIONS) * blocks * _THREADS * _ROUNDS
    operations_s = operations / _best_seconds(lambda: multiply(out, _ROUNDS, np.float32(0.5), np.float32(1)))
    source, target = (cuda.device_array(_COPIED_FLOATS, np.float32) for _ in range(2))
    copy = cuda.jit(copy_all)[blocks, _THREADS]
    return Peaks(operations_s, 8.0 * _COPIED_FLOATS / _best_seconds(lambda: copy(source, target)))


def multiply_add(out: Any, rounds: int, factor: float, addend: float) -> None:
    """Kernel: eight independent chains of fused multiply-adds a thread."""
    # Different values, so that no compiler makes one chain of them.
    one = np.float32(1)
    a = np.float32(cuda.grid(1))
    b, c, d, e = a + one, a - one, a * a, -a
    f, g, h = b * b, c * c, -b
    for _ in range(rounds):
        a, b = cuda.fma(a, factor, addend), cuda.fma(b, factor, addend)
        c, d = cuda.fma(c, factor, addend), cuda.fma(d, factor, addend)
        e, f = cuda.fma(e, factor, addend), cuda.fma(f, factor, addend)
        g, h = cuda.fma(g, factor, addend), cuda.fma(h, factor, addend)
    out[cuda.grid(1)] = a + b + c + d + e + f + g + h


def copy_all(source: Any, target: Any) -> None:
    """Kernel: copy an array."""
    for i in range(cuda.grid(1), source.size, cuda.gridsize(1)):
        target[i] = source[i]


def _best_seconds(launch: Callable[[], None]) -> float:
    """Shortest time of a launch by the device's own clock, of five after a first one that compiles."""
    launch()
    taken: list[float] = []
    for _ in range(5):
        start, end = cuda.event(), cuda.event()
        start.record()
        launch()
        end.record()
        end.synchronize()
        taken.append(start.elapsed_time(end) / 1000)
    return min(taken)
