"""The vector code of the CPU kernels: on which machines it is vector code, that it is right there, and its cache."""

import concurrent.futures
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from llvmlite import binding

from atw import jit
from atw.flow import cpu, estimate
from atw.flow.cpu.iteration import iterate
from atw.flow.cpu.layout import empty_image, empty_state, row_stride
from atw.flow.cpu.linearise import empty_packed, linearise, pack
from atw.jit import compiled
from tests.conftest import OtherUser
from tests.unit.test_flow import footage, levels

INTEL = platform.machine() in ("x86_64", "AMD64")


def kernels() -> dict[str, tuple[object, tuple[object, ...]]]:
    """Each kernel with arguments to compile it for."""
    state, image, packed = empty_state(16, 16), empty_image(16, 16), empty_packed(16, 16)
    return {
        "iterate": (iterate, (state, 16, 16, row_stride(16), 2, 0.25, 0.3)),
        "linearise": (linearise, (image, packed, state, 16, row_stride(16), 0.045)),
        "pack": (pack, (image, 16, packed)),
    }


def assembly(kernel: str, triple: str, processor: str) -> str:
    """What LLVM makes of a kernel on another machine."""
    dispatcher, arguments = kernels()[kernel]
    fresh = numba.njit(fastmath=True, error_model="numpy")(dispatcher.py_func)  # type: ignore[attr-defined]
    fresh(*arguments)
    (text,) = fresh.inspect_llvm().values()
    # numba's own reference counting is in there, in the form of this machine.
    text = re.sub(
        r"^define [^\n]*@NRT_(\w+)\(.*?^}", r"declare void @NRT_\1(ptr)", text, flags=re.MULTILINE | re.DOTALL
    )
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = binding.Target.from_triple(triple).create_target_machine(cpu=processor, opt=3)
    module = binding.parse_assembly(re.sub(r"target (triple|datalayout) = .*", "", text))
    module.triple = triple
    module.data_layout = str(machine.target_data)
    emitted: str = machine.emit_assembly(module)
    return emitted


MACHINES = {
    "AVX2": ("x86_64-unknown-linux-gnu", "haswell", r"vfn?m(add|sub)\d+ps\s.*%ymm", r"vfn?m(add|sub)\d+ss"),
    "AVX-512": ("x86_64-unknown-linux-gnu", "skylake-avx512", r"vfn?m(add|sub)\d+ps\s.*%zmm", r"vfn?m(add|sub)\d+ss"),
    "Arm": ("aarch64-unknown-linux-gnu", "neoverse-n1", r"fml[as]\s+v\d+\.4s", r"fmn?(add|sub)\s+s\d+"),
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("kernel", ["iterate", "linearise"])
def test_kernels_are_vector_code(machine: str, kernel: str) -> None:
    triple, processor, vector, scalar = MACHINES[machine]
    text = assembly(kernel, triple, processor)
    assert len(re.findall(vector, text)) >= 20
    assert not re.findall(scalar, text)
    assert re.findall(r"rsqrt(14)?ps|frsqrte", text)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_dual_update_neither_divides_nor_takes_roots(machine: str) -> None:
    triple, processor, *_ = MACHINES[machine]
    text = assembly("iterate", triple, processor)
    assert not re.findall(r"\sv?(sqrt|div)ps\s|fsqrt\s+v|fdiv\s+v", text)


ELSEWHERE = """
import sys, numpy as np
from atw.flow import estimate
pairs = np.load(sys.argv[1])
np.save(sys.argv[2], estimate(pairs[0], pairs[1], preset="opencv24", backend="numba"))
"""


def run(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )


@pytest.mark.skipif(not INTEL, reason="another processor's names")
@pytest.mark.parametrize(("processor", "features"), [("haswell", "+avx2,+fma"), ("x86-64", "")])
def test_older_processors_find_the_same_flow(processor: str, features: str, tmp_path: Path) -> None:
    pairs = np.stack(footage()).swapaxes(0, 1)
    np.save(tmp_path / "pairs.npy", pairs)
    paths = str(tmp_path / "pairs.npy"), str(tmp_path / "flow.npy")
    cache = str(tmp_path / "cache")
    run(ELSEWHERE, *paths, NUMBA_CPU_NAME=processor, NUMBA_CPU_FEATURES=features, NUMBA_CACHE_DIR=cache)
    here = estimate(*(np.ascontiguousarray(side) for side in pairs), preset="opencv24", backend="numba")
    there = np.load(tmp_path / "flow.npy")
    assert np.abs(here).max() > 1
    assert np.abs(levels(here) - levels(there)).mean() < 0.1


COMPILE = """
import numpy as np
from atw.flow import estimate
from atw.flow.cpu.linearise import linearise
image = np.random.default_rng(0).integers(0, 256, (2, 32, 32), np.uint8)
flow = estimate(image[:1], image[1:], preset="fast", backend="numba")
print(float(np.abs(flow).sum()), sum(linearise.stats.cache_hits.values()), sum(linearise.stats.cache_misses.values()))
"""


def test_processes_that_start_at_once_share_one_cache(tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        outputs = [process.stdout for process in pool.map(lambda _: run(COMPILE, NUMBA_CACHE_DIR=cache), range(4))]
    sums = {output.split()[0] for output in outputs}
    assert len(sums) == 1
    total, hits, misses = run(COMPILE, NUMBA_CACHE_DIR=cache).stdout.split()
    assert total in sums
    assert (int(hits) > 0, int(misses)) == (True, 0)


def test_a_kernel_without_a_writable_cache_is_compiled_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **settings: object) -> object:
        if settings.get("cache"):
            raise RuntimeError("no locator available")
        return numba.njit

    def double(value: float) -> float:
        return 2 * value

    monkeypatch.setattr(jit.numba, "njit", refuse)
    compiled(double)
    assert "NUMBA_CACHE_DIR" in caplog.text


def test_a_cache_that_others_can_write_to_is_not_used(
    other_user: OtherUser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def halve(value: float) -> float:
        return value / 2

    other_user.run("mkdir theirs")
    for name in ("", "theirs"):
        monkeypatch.setattr("numba.core.config.CACHE_DIR", str(other_user.folder / name))
        caplog.clear()
        assert compiled(halve)(3.0) == 1.5
        assert f"others can write to {other_user.folder / name}" in caplog.text
        assert not list(other_user.folder.rglob("*.nb*"))


def test_the_cache_depends_on_all_kernel_files(monkeypatch: pytest.MonkeyPatch) -> None:
    assert iterate.py_func.__qualname__ == f"iterate-{jit._sources(Path(cpu.__file__).parent)}"  # type: ignore[attr-defined]
    monkeypatch.setattr(jit, "_sources", lambda _: "other")

    def triple(value: float) -> float:
        return 3 * value

    assert compiled(triple).py_func.__qualname__.endswith("triple-other")  # type: ignore[attr-defined]
