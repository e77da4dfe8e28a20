"""The measures of the flow benchmark against values by hand, its material, and the command as a whole."""

import ctypes
import dataclasses
import json
import os
import struct
import subprocess
import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atw.files import InputError
from atw.flow import cpu, engine, estimate, parameters
from atw.shards import quantise
from benchmarks import material, report
from benchmarks.flow import __main__ as flow
from benchmarks.flow import gpu, opencv_cuda, pages, quality, roofline, timing
from benchmarks.flow.roofline import Peaks
from benchmarks.material import Pairs, TruthPair


def waves(height: int, width: int, x: Any = 0.0, y: Any = 0.0) -> np.ndarray:
    """A smooth image in 5..251, displaced by a field."""
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    return np.asarray(128 + 80 * np.sin((columns + x) / 5 + 1) + 43 * np.cos((rows + y) / 4 + (columns + x) / 9))


def grey(image: np.ndarray) -> np.ndarray:
    return np.asarray(np.rint(image), np.uint8)


def small_pairs(count: int, height: int = 32, width: int = 40) -> Pairs:
    first = np.stack([grey(waves(height, width, 3 * i)) for i in range(count)])
    second = np.stack([grey(waves(height, width, 3 * i - 1.5, 0.5)) for i in range(count)])
    return Pairs([f"clip {i}" for i in range(count)], first, second)


# Quality


def test_endpoint_error_counts_valid_pixels_only() -> None:
    found = np.zeros((2, 2, 2), np.float32)
    truth = np.array([[[3, 0], [6, 100]], [[4, 0], [8, 100]]], np.float32)
    valid = np.array([[True, True], [True, False]])
    assert quality.endpoint_error(found, truth, valid) == pytest.approx((5 + 0 + 10) / 3)


def test_energy_of_an_affine_flow_by_hand() -> None:
    first, second = np.zeros((4, 6), np.uint8), np.tile(np.arange(0, 60, 10, dtype=np.uint8), (4, 1))
    rows, columns = np.mgrid[:4, :6]
    field = np.stack([np.full((4, 6), 1.0), 0.25 * columns + 0.5 * rows]).astype(np.float32)
    total = 0.0
    for y in range(4):
        for x in range(6):
            total += 0.15 * second[y, min(x + 1, 5)]  # rows of the second image are equal: only x moves it
            total += np.hypot(0.25 if x < 5 else 0, 0.5 if y < 3 else 0)
    assert quality.energy(first, second, field) == pytest.approx(total / 24, rel=1e-6)


def test_energy_samples_between_pixels() -> None:
    second = grey(waves(40, 50))
    field = np.stack([np.full((40, 50), 0.37), np.full((40, 50), -0.81)]).astype(np.float32)
    # Positions 1/32 px apart and bicubic kernels leave a little; a field that is 1 px off gives 20 times as much.
    assert quality.energy(grey(waves(40, 50, 0.37, -0.81)), second, field) < 0.25
    assert quality.energy(grey(waves(40, 50, 0.37, -0.81)), second, field + 1) > 1.0


def test_levels_are_of_clipped_flow() -> None:
    a = np.array([0.0, 19.0, 25.0, -30.0], np.float32)
    b = np.array([0.0, 19.5, 90.0, 30.0], np.float32)
    assert quality.levels_apart(a, b) == pytest.approx((0 + 0.5 + 0 + 40) * 255 / 40 / 4)


def test_stored_levels_are_those_of_a_shard() -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.normal(0, 15, (2, 30, 40)).astype(np.float32) for _ in range(2))
    stored = np.abs(quantise(a, 20.0).astype(int) - quantise(b, 20.0)).mean()
    assert quality.stored_levels_apart(a, b) == pytest.approx(stored)


# Timing


def test_in_turn_takes_everybody_through_some_pairs_before_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int]] = []
    clock = [0.0]
    cost = {("a", 0): [1.0, 9.0, 2.0], ("a", 1): [4.0, 4.0, 4.0], ("b", 0): [6.0, 5.0, 7.0], ("b", 1): [3.0, 1.0, 2.0]}
    cost |= {("a", 2): [8.0, 8.0, 8.0], ("b", 2): [5.0, 5.0, 5.0]}
    monkeypatch.setattr(timing, "time", types.SimpleNamespace(thread_time=lambda: clock[0]))
    monkeypatch.setattr(timing, "PAIRS_A_TURN", 2)

    def run(name: str, pair: int) -> None:
        done = calls[2:].count((name, pair))
        calls.append((name, pair))
        clock[0] += cost[name, pair][done] if len(calls) > 2 else 100.0

    found = timing.in_turn({name: partial(run, name) for name in "ab"}, pairs=3, rounds=3)
    turn = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("a", 2), ("b", 2)]
    assert calls == [("a", 0), ("b", 0)] + 3 * turn
    assert {name: seconds.tolist() for name, seconds in found.items()} == {"a": [2.0, 4.0, 8.0], "b": [6.0, 2.0, 5.0]}


def test_ratio_is_the_median_of_ratios() -> None:
    assert timing.ratio(np.array([10.0, 8.0, 100.0]), np.array([1.0, 4.0, 10.0])) == 10.0


@pytest.mark.parametrize(
    ("pair_s", "pairs", "threads", "expected"),
    [(0.02, 12, 1, 5), (0.02, 12, 2, 9), (1.0, 12, 1, 1), (1.0, 12, 2, 1), (1.0, 12, 16, 6)],
)
def test_batches_last_a_second_and_give_every_thread_four_pairs(
    pair_s: float, pairs: int, threads: int, expected: int
) -> None:
    assert timing.repeats(pair_s, pairs, threads) == expected


def test_all_cores_compares_equal_work(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(timing, "time", types.SimpleNamespace(perf_counter=lambda: clock[0]))

    def run(times: int, threads: int) -> None:
        clock[0] += times * 10 * 0.05 / {1: 1, 4: 3.2}[threads]

    timed = timing.all_cores(run, pair_s=0.05, pairs=10, cores=4, budget_s=1000.0)
    assert timed.scaling == pytest.approx(3.2)
    assert timed.pairs_s == pytest.approx(3.2 / 0.05)


# Roofline


def test_pixel_iterations_of_the_fast_schedule() -> None:
    pixels = 340 * 256 + 170 * 128 + 85 * 64 + 42 * 32 + 21 * 16
    assert roofline.pixel_iterations(256, 340, parameters("fast")) == pixels * 3 * 30


def test_the_roofline_is_the_dearer_of_operations_and_bytes() -> None:
    found = roofline.shares(1e9, Peaks(operations_s=102e9, bytes_s=256e9))
    assert found == {"operations": 0.5, "bytes": 0.25, "roofline": 0.5}


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_the_multiply_adds_are_done(lanes: int) -> None:
    engine_ = roofline._compile(roofline._multiply_add_code(lanes))
    run = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_int64)(engine_.get_function_address("peak"))
    assert run(3) == 12 * (1 + 0.5 + 0.25)  # twelve chains of a <- a / 2 + 1 from 0


def test_peaks_are_those_of_a_processor() -> None:
    peaks = roofline.measure_peaks()
    assert 1e9 < peaks.operations_s < 1e12
    assert 1e9 < peaks.bytes_s < 2e12


# Material


def test_flo_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.flo"
    path.write_bytes(b"PIEH" + struct.pack("<2i", 3, 2) + struct.pack("<12f", *range(12)))
    field = material.read_flo(path)
    assert field.dtype == np.float32
    assert field.tolist() == [[[0, 2, 4], [6, 8, 10]], [[1, 3, 5], [7, 9, 11]]]


def test_flo_as_opencv_writes_it(tmp_path: Path) -> None:
    field = np.random.default_rng(0).normal(size=(5, 7, 2)).astype(np.float32)
    cv2.writeOpticalFlow(str(tmp_path / "a.flo"), field)
    np.testing.assert_array_equal(material.read_flo(tmp_path / "a.flo"), field.transpose(2, 0, 1))


@pytest.mark.parametrize("content", [b"", b"PIEH", b"RIFF" + bytes(40), b"PIEH" + struct.pack("<2i", 3, 2) + bytes(47)])
def test_what_is_no_flo_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.flo").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.flo"):
        material.read_flo(tmp_path / "a.flo")


def write_truth(folder: Path, name: str, height: int, width: int) -> None:
    cv2.writeOpticalFlow(str(folder / f"{name}-gt.flo"), np.full((height, width, 2), [1.5, -0.5], np.float32))
    for index, shift in enumerate((0.0, -1.5)):
        cv2.imwrite(str(folder / f"{name}-img{index}.png"), grey(waves(height, width, shift, -shift / 3)))


def test_truth_pairs(tmp_path: Path) -> None:
    write_truth(tmp_path, "b", 20, 30)
    write_truth(tmp_path, "a", 20, 30)
    pairs = material.truth_pairs(tmp_path)
    assert [pair.name for pair in pairs] == ["a", "b"]
    np.testing.assert_array_equal(pairs[0].second, grey(waves(20, 30, -1.5, 0.5)))
    assert pairs[0].flow[:, 3, 4].tolist() == [1.5, -0.5]
    assert pairs[0].valid.all()


def test_incomplete_truth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no ground truth"):
        material.truth_pairs(tmp_path)
    write_truth(tmp_path, "a", 20, 30)
    write_truth(tmp_path, "b", 20, 32)
    with pytest.raises(InputError, match="one size"):
        material.truth_pairs(tmp_path)
    (tmp_path / "b-img1.png").unlink()
    with pytest.raises(InputError, match=r"b-img1\.png"):
        material.truth_pairs(tmp_path)


@given(st.floats(0.5, 12), st.integers(0, 100))
def test_smooth_fields_reach_their_peak_and_do_not_fold(peak_px: float, seed: int) -> None:
    field = material.smooth_field(48, 64, peak_px=peak_px * 64 / 340, seed=seed)
    assert np.hypot(*field).max() == pytest.approx(peak_px * 64 / 340)
    along = 1 + np.diff(field[0], axis=1)[:-1]
    across = 1 + np.diff(field[1], axis=0)[:, :-1]
    turned = np.diff(field[0], axis=0)[:, :-1] * np.diff(field[1], axis=1)[:-1]
    assert (along * across - turned > 0).all()


def test_moved_frames_have_exactly_the_known_flow() -> None:
    frames = np.stack([grey(waves(60, 90))] * 3)
    pairs = material.moved_pairs(frames)
    assert [float(np.hypot(*pair.flow).max()) for pair in pairs] == pytest.approx([2, 5, 8])
    for pair in pairs:
        assert 0.5 < pair.valid.mean() < 1
        x, y = pair.flow
        apart = np.abs(pair.first - waves(60, 90, x, y))[pair.valid]
        assert apart.mean() < 0.4  # two roundings to grey levels leave 0.33
        assert np.abs(pair.first - waves(60, 90, x + 0.1, y))[pair.valid].mean() > 1.5 * apart.mean()


def test_clips_come_from_their_folders_in_turn() -> None:
    names = ["a/1", "a/2", "a/3", "b/1", "c/d/1", "c/d/2"]
    turns = material.folders_in_turn([Path(name) for name in names])
    assert [str(path) for path in turns] == ["a/1", "b/1", "c/d/1", "a/2", "c/d/2", "a/3"]


def test_video_pairs_are_consecutive_and_spread(
    tmp_path: Path,
    moving_frames: Callable[..., list[np.ndarray]],
    write_mjpeg: Callable[[Path, Any], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(material, "WIDTH_PX", 64)
    monkeypatch.setattr(material, "HEIGHT_PX", 48)
    paths = [write_mjpeg(tmp_path / name, moving_frames(9, seed=i)) for i, name in enumerate(("a/x.avi", "b/y.avi"))]
    (tmp_path / "a" / "bad.avi").write_bytes(b"no video")
    (tmp_path / "a" / "notes.txt").write_text("no video")
    pairs = material.video_pairs(tmp_path, 5)
    assert pairs.names == ["y.avi 2", "x.avi 2", "y.avi 4", "x.avi 5", "y.avi 6"]
    assert pairs.first.shape == pairs.second.shape == (5, 48, 64)
    clips = [material.grey_frames(path) for path in paths]
    np.testing.assert_array_equal(pairs.first[3], clips[0][5])
    np.testing.assert_array_equal(pairs.second[3], clips[0][6])


def test_folders_without_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no videos"):
        material.video_pairs(tmp_path, 3)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match="can be decoded"):
        material.video_pairs(tmp_path, 3)


# Report


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0, "0"), (0.0123, "0.012"), (0.9987, "0.999"), (1.234, "1.23"), (45.67, "45.7"), (1234.5, "1234")],
)
def test_numbers(value: float | None, text: str) -> None:
    assert report.number(value) == text


def test_markdown_table() -> None:
    text = report.markdown(
        "T", "c", {"CPU": "x"}, [report.Table("A", ("n", "s", "v"), [("a", "b", "1")], ["N."])], ["M."]
    )
    assert "# T\n\nWritten by `c`; not to be edited.\n\n- CPU: x\n" in text
    assert "## A\n\n| n | s | v |\n| --- | --- | ---: |\n| a | b | 1 |\n\nN.\n\n## Method\n\n- M.\n" in text


# GPU


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
    vars(peaks)["measure_peaks"] = lambda: Peaks(operations_s=1e3, bytes_s=1e9)
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
    assert fast["floor_s"] == pytest.approx(1e-3)  # one operation at 1e3 a second; the bytes take 1e-5
    assert fast["share"] == pytest.approx(1e-3 * max(fast["pairs_s"].values()))
    assert stopping["floor_s"] is None
    assert found["iteration_share"] == 0  # the operations do not grow with the iterations
    nobody = {"reason": "none"}
    by_batch, others = pages.gpu_tables({"cuda": found, "opencv": nobody, "cucim": nobody})
    assert [row[1] for row in by_batch.rows] == list(gpu.SCHEDULES)
    assert all(float(row[2]) > 0 for row in by_batch.rows)
    assert len(others.rows) == 2


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


# The command


def test_the_whole_command_on_small_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = grey(waves(24, 32)), grey(waves(24, 32, -1, 0))
    truth = TruthPair("one", first, second, np.zeros((2, 24, 32), np.float32), np.ones((24, 32), bool))
    monkeypatch.setattr(flow, "video_pairs", lambda folder, count: small_pairs(count, 24, 32))
    monkeypatch.setattr(flow, "truth_pairs", lambda folder: [truth])
    monkeypatch.setitem(engine.BACKENDS, "opencv-cuda", engine.Backend("stand-in", lambda: None, cpu.solve))
    monkeypatch.setattr(flow, "ROUNDS", 1)
    monkeypatch.setattr(flow, "BUDGET_S", 0.0)
    monkeypatch.setattr(timing, "BATCH_S", 0.01)
    monkeypatch.setattr(timing, "PAIRS_A_THREAD", 1)
    page = tmp_path / "new" / "flow.md"
    folders = ["--videos", str(tmp_path), "--truth", str(tmp_path)]
    assert flow.main([*folders, "--pairs", "10", "--write", str(page)]) == 0
    results = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    rows = {(row["name"], row["preset"]): row for row in results["rows"]}
    assert {("opencv", "opencv4"), ("numba", "opencv4"), ("numba", "opencv24"), ("numba", "fast")} <= set(rows)
    assert rows["opencv", "fast"]["times_same"] == 1
    ours, reference = rows["numba", "fast"], rows["opencv", "opencv4"]
    expected = np.median(np.divide(reference["pair_s"], ours["pair_s"]))
    assert ours["times_opencv4"] == pytest.approx(expected)
    own = estimate(first[None], second[None], preset="fast", backend="numba")[0]
    assert ours["truth_px"] == [pytest.approx(float(np.hypot(*own).mean()), rel=1e-5)]
    assert ours["roofline"]["pixel_iterations_s"] > 0
    assert len(ours["energy"]) == 10
    on_gpu = rows["opencv-cuda", "fast"]
    assert on_gpu["all_cores_pairs_s"] > 0
    assert "one_core_pairs_s" not in on_gpu
    assert on_gpu["levels"] == ours["levels"]
    text = page.read_text(encoding="utf-8")
    assert "| numba | opencv4 |" in text
    assert "nan" not in text
    assert str(tmp_path) not in text


def test_wrong_options_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert flow.main(["--videos", str(tmp_path / "none"), "--truth", str(tmp_path)]) == 2
    assert "give one with --videos" in capsys.readouterr().err
    assert flow.main(["--videos", str(tmp_path), "--truth", str(tmp_path), "--opencv-cuda", "none"]) == 2
    assert "--opencv-cuda" in capsys.readouterr().err
    assert flow.main(["--videos", str(tmp_path), "--truth", str(tmp_path), "--pairs", "9"]) == 2
    assert "at least 10" in capsys.readouterr().err
    assert flow.main(["--videos", str(tmp_path), "--truth", str(tmp_path)]) == 2
    assert "no videos" in capsys.readouterr().err
