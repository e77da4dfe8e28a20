"""What this machine's core can do at most, measured, and the share of it that the iterations of TV-L1 reach.

One iteration of one pixel costs 51 floating-point operations (a square root or a division counts as one) and moves 64
bytes (ten values read, six written). Whichever of the two takes longer at the measured peaks is the floor.
"""

import ctypes
import time
from collections.abc import Callable
from typing import NamedTuple

import numba
import numpy as np
from llvmlite import binding

from atw.flow.pairs import FloatArray, Parameters, pyramid_sizes
from benchmarks.report import share_of

OPERATIONS, BYTES = 51, 64

# Twelve chains hide the latency of two units; more would not fit into 16 registers.
_CHAINS = 12
_PEAK_ROUNDS = 100_000_000
# Larger than any first-level cache, smaller than any second-level one.
_CACHED_BYTES = 256 * 1024


class Peaks(NamedTuple):
    """Of one core: floating-point operations a second (a fused multiply-add is two), and bytes a second."""

    operations_s: float
    bytes_s: float


def warped_pixels(height: int, width: int, settings: Parameters) -> int:
    """Pixels times warps of one pair, over all levels of its pyramid."""
    sizes = pyramid_sizes(height, width, settings)
    return sum(h * w * settings.warps_of(level) for level, (h, w) in enumerate(sizes))


def pixel_iterations(height: int, width: int, settings: Parameters) -> int:
    """Pixels times iterations of one pair when no warp stops early (`epsilon` 0)."""
    return settings.iterations * warped_pixels(height, width, settings)


def shares(pixel_iterations_s: float, peaks: Peaks) -> dict[str, float]:
    """Share of the peak operations, of the peak bandwidth, and of the roofline, which is the larger of the two."""
    operations = pixel_iterations_s * OPERATIONS / peaks.operations_s
    moved = pixel_iterations_s * BYTES / peaks.bytes_s
    return {"operations": operations, "bytes": moved, "roofline": share_of(max(operations, moved), "iterations")}


def measure_peaks() -> Peaks:
    """Measure both on the calling thread, in about two seconds."""
    return Peaks(max(_multiply_add_peak(lanes) for lanes in (4, 8, 16)), _cache_peak())


def _best_rate(work: Callable[[], float], times: int) -> float:
    """Largest of `work`'s amounts per second of this thread's CPU time."""
    rates = []
    for _ in range(times):
        start = time.thread_time()
        amount = work()
        rates.append(amount / (time.thread_time() - start))
    return max(rates)


def _multiply_add_peak(lanes: int) -> float:
    """Operations a second of independent fused multiply-adds on vectors of `lanes` floats."""
    rounds = _PEAK_ROUNDS // lanes
    engine = _compile(_multiply_add_code(lanes))
    run = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_int64)(engine.get_function_address("peak"))

    def work() -> float:
        run(rounds)
        return 2.0 * lanes * _CHAINS * rounds

    return _best_rate(work, 5)


def _multiply_add_code(lanes: int) -> str:
    """LLVM code of `float peak(i64 rounds)`: numba's plain loops would be bound by loads and stores."""
    vector = f"<{lanes} x float>"
    fused = f"@llvm.fma.v{lanes}f32"
    chains = range(_CHAINS)
    ones = f"<{', '.join(['float 1.0'] * lanes)}>"
    halves = f"<{', '.join(['float 0.5'] * lanes)}>"
    lines = [
        f"declare {vector} {fused}({vector}, {vector}, {vector})",
        "define float @peak(i64 %rounds) {",
        "entry:\n  br label %loop\nloop:",
        "  %i = phi i64 [0, %entry], [%next, %loop]",
        *(f"  %a{k} = phi {vector} [zeroinitializer, %entry], [%b{k}, %loop]" for k in chains),
        *(f"  %b{k} = call {vector} {fused}({vector} %a{k}, {vector} {halves}, {vector} {ones})" for k in chains),
        "  %next = add i64 %i, 1\n  %more = icmp slt i64 %next, %rounds",
        "  br i1 %more, label %loop, label %done\ndone:",
        f"  %s0 = fadd {vector} %b0, zeroinitializer",
        *(f"  %s{k} = fadd {vector} %s{k - 1}, %b{k}" for k in chains[1:]),
        f"  %result = extractelement {vector} %s{_CHAINS - 1}, i32 0\n  ret float %result\n}}",
    ]
    return "\n".join(lines)


def _compile(code: str) -> binding.ExecutionEngine:
    """Compile LLVM code for this machine."""
    target = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=binding.get_host_cpu_features().flatten(), opt=2
    )
    engine = binding.create_mcjit_compiler(binding.parse_assembly(code), target)
    engine.finalize_object()
    return engine


def _cache_peak() -> float:
    """Bytes a second, read and written together, of scaling an array that lies in the second-level cache."""
    values = _aligned(_CACHED_BYTES // 4)
    sweeps = 4000
    scale = numba.njit(fastmath=True)(_scale_often)
    scale(values, np.float32(1), 1)

    def work() -> float:
        scale(values, np.float32(1), sweeps)
        return 2.0 * values.nbytes * sweeps

    return _best_rate(work, 5)


def _aligned(count: int) -> FloatArray:
    """Ones that begin with a cache line: vectors that straddle two would halve the rate."""
    memory = np.ones(count + 16, np.float32)
    skipped = -memory.ctypes.data % 64 // 4
    return memory[skipped : skipped + count]


def _scale_often(values: FloatArray, factor: float, sweeps: int) -> None:
    for _ in range(sweeps):
        for i in range(len(values)):
            values[i] *= factor
