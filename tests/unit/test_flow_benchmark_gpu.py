"""The flow benchmark's part for GPUs, with stand-ins for what needs one."""

import dataclasses
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atw.files import InputError
from atw.flow import cpu, engine, parameters
from benchmarks.flow import gpu, opencv_cuda, pages
from benchmarks.flow.roofline import Peaks
from tests.unit.waves import small_pairs


def test_batches_go_round_the_pairs() -> None:
    pairs = small_pairs(3)
    assert [len(first) for first, _ in gpu.batches(pairs, 1)] == [1, 1, 1]
    assert [len(first) for first, _ in gpu.batches(pairs, 2)] == [2, 2]
    ((first, second),) = gpu.batches(pairs, 7)
    np.testing.assert_array_equal(first, pairs.first[[0, 1, 2, 0, 1, 2, 0]])
    np.testing.assert_array_equal(second, pairs.second[[0, 1, 2, 0, 1, 2, 0]])


def test_without_a_gpu_everything_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(engine.BACKENDS, "cuda", engine.Backend("", lambda: "no device here", cpu.solve))
    monkeypatch.setitem(sys.modules, "cupy", None)
    found = gpu.measure(small_pairs(1, 16, 16), tmp_path)
    assert found["cuda"] == {"reason": "no device here"}
    assert "without CUDA" in found["opencv"]["reason"]
    assert "cupy" in found["cucim"]["reason"]
    assert "--opencv-cuda" in gpu.measure_opencv(small_pairs(1, 16, 16), {}, None)["reason"]
    by_batch, others = pages.gpu_tables(found)
    assert {row[2] for row in (*by_batch.rows, *others.rows)} == {"not measured"}
    assert by_batch.notes == ["Not measured: no device here."]
    assert len(others.notes) == 2


def test_cuda_against_its_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the CPU's backend in place of `cuda`: rates, agreement and floors are what they are called."""
    monkeypatch.setitem(engine.BACKENDS, "cuda", engine.Backend("", lambda: None, cpu.solve))
    monkeypatch.setattr(gpu, "work", lambda height, width, settings: (height * width * settings.iterations, 1))
    peaks = types.ModuleType("benchmarks.flow.gpu_peaks")
    vars(peaks)["measure_peaks"] = lambda: Peaks(operations_s=1e5, bytes_s=1e12)
    monkeypatch.setitem(sys.modules, "benchmarks.flow.gpu_peaks", peaks)
    monkeypatch.setattr("benchmarks.flow.gpu_peaks", peaks, raising=False)
    monkeypatch.setattr(gpu, "BATCHES", (1, 4))
    monkeypatch.setattr(gpu, "ROUNDS", 1)
    video = small_pairs(2, 16, 20)
    found = gpu.measure_ours(
        video, {name: gpu.flow(video, settings, "numba") for name, settings in gpu.SCHEDULES.items()}
    )
    fast, stopping = found["schedules"]["fast"], found["schedules"]["opencv4"]
    assert fast["levels"] == 0
    assert fast["floor_s"] == pytest.approx(1e-5)  # one operation at 1e5 a second; the bytes take less
    assert fast["share"] == pytest.approx(1e-5 * max(fast["pairs_s"].values()))
    assert stopping["floor_s"] is None
    assert found["iteration_share"] == 0  # the operations do not grow with the iterations
    nobody = {"reason": "none"}
    by_batch, others = pages.gpu_tables({"cuda": found, "opencv": nobody, "cucim": nobody})
    assert [row[1] for row in by_batch.rows] == list(gpu.SCHEDULES)
    assert all(float(row[2]) > 0 for row in by_batch.rows)
    assert len(others.rows) == 2
    vars(peaks)["measure_peaks"] = lambda: Peaks(operations_s=1e-3, bytes_s=1e12)
    with pytest.raises(InputError, match=r"fast on the GPU: .* of what the device can do at most"):
        gpu.measure_ours(video, {name: np.zeros((2, 2, 16, 20), np.float32) for name in gpu.SCHEDULES})


def test_cucim_is_given_the_same_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """With NumPy in place of CuPy and our flow, rows first, as its answer."""
    video = small_pairs(2, 16, 20)
    flows = {name: gpu.flow(video, settings, "numba") for name, settings in gpu.SCHEDULES.items()}
    calls: list[dict[str, float]] = []

    def answer(first: np.ndarray, second: np.ndarray, **options: float) -> np.ndarray:
        assert second.max() <= 1
        calls.append(options)
        name = "fast" if options["num_warp"] == 3 else "opencv24, all iterations"
        index = next(i for i in range(2) if np.allclose(video.first[i] / 255, first))
        return np.asarray(flows[name][index][::-1])

    cupy = types.ModuleType("cupy")
    stream = types.SimpleNamespace(synchronize=lambda: None)
    cuda = types.SimpleNamespace(is_available=lambda: True, get_current_stream=lambda: stream)
    vars(cupy).update(asarray=np.asarray, asnumpy=np.asarray, float32=np.float32, cuda=cuda)
    registration = types.ModuleType("cucim.skimage.registration")
    vars(registration)["optical_flow_tvl1"] = answer
    for name, module in (("cupy", cupy), ("cucim", cupy), ("cucim.skimage", cupy)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "cucim.skimage.registration", registration)
    found = gpu.measure_cucim(video, flows)
    assert {name: peer["levels"] for name, peer in found["schedules"].items()} == {
        "fast": 0.0,
        "opencv24, all iterations": 0.0,
    }
    fast = {"attachment": 38.25, "tightness": 0.2, "tol": 0.0, "num_warp": 3, "num_iter": 30}
    assert calls[1] == pytest.approx(fast)
    assert calls[-1]["num_iter"] == 300


def test_opencv_keeps_to_the_device_and_to_a_stream_of_its_own() -> None:
    """With a stand-in for cv2.cuda: parameters arrive, flow comes back [N, 2, H, W], the first call is not timed."""
    calls: list[tuple[Any, ...]] = []

    class Matrix:
        def __init__(self, content: Any = None) -> None:
            self.content = content

        def upload(self, image: np.ndarray) -> None:
            self.content = image

        def download(self) -> Any:
            return self.content

    class Stream:
        def waitForCompletion(self) -> None:  # noqa: N802 - OpenCV's name
            calls.append(("wait",))

    def calc(first: Matrix, second: Matrix, found: Matrix, stream: Stream) -> Matrix:
        calls.append((first.content[0, 0], second.content[0, 0]))
        assert isinstance(stream, Stream)
        return Matrix(np.dstack([first.content, second.content]).astype(np.float32))

    def create(**options: float) -> Any:
        assert options == {
            **{name: value for name, value in dataclasses.asdict(parameters("fast")).items() if name in options},
            "nscales": 5,
            "scaleStep": 0.5,
        }
        return types.SimpleNamespace(calc=calc)

    cuda = types.SimpleNamespace(
        GpuMat=Matrix, Stream=Stream, OpticalFlowDual_TVL1=types.SimpleNamespace(create=create)
    )
    video = small_pairs(2, 16, 20)
    seconds, flows = opencv_cuda.measure(cuda, video.first, video.second, dataclasses.asdict(parameters("fast")))
    assert len(seconds) == 2
    assert len(calls) == 2 * 2 * (opencv_cuda.ROUNDS + 1)
    np.testing.assert_array_equal(flows[:, 0], video.first)
    np.testing.assert_array_equal(flows[:, 1], video.second)


SIMULATED = """
import numpy as np
from numba import cuda
from benchmarks.flow import gpu_peaks
source, target = np.arange(50, dtype=np.float32), np.zeros(50, np.float32)
cuda.jit(gpu_peaks.copy_all)[2, 8](source, target)
assert (source == target).all()
out = np.zeros(16, np.float32)
cuda.jit(gpu_peaks.multiply_add)[2, 8](out, 2, np.float32(0.5), np.float32(1))
i = np.arange(16)
start = i + (i + 1) + (i - 1) + i**2 - i + (i + 1)**2 + (i - 1)**2 - (i + 1)
assert np.allclose(out, start / 4 + 8 * 1.5)
"""


def test_gpu_kernels_in_the_simulator() -> None:
    pytest.importorskip("numba_cuda")
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}
    run = subprocess.run(
        [sys.executable, "-c", SIMULATED],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
