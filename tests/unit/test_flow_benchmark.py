"""The measures of the flow benchmark against values by hand, and the command as a whole."""

import json
import types
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from atw.config import Flow
from atw.flow import PRESETS, estimate, parameters
from atw.shards import quantise
from benchmarks.flow import __main__ as flow
from benchmarks.flow import gpu, quality, roofline, timing
from benchmarks.flow.roofline import Peaks
from benchmarks.material import TruthPair
from tests.unit.waves import grey, small_pairs, waves


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


def test_levels_are_of_clipped_flow_and_stored_ones_are_those_of_a_shard() -> None:
    a = np.array([0.0, 19.0, 25.0, -30.0], np.float32)
    b = np.array([0.0, 19.5, 90.0, 30.0], np.float32)
    assert quality.levels_apart(a, b) == pytest.approx((0 + 0.5 + 0 + 40) * 255 / 40 / 4)
    a, b = np.random.default_rng(1).normal(0, 15, (2, 2, 30, 40)).astype(np.float32)
    stored = np.abs(quantise(a, 20.0).astype(int) - quantise(b, 20.0)).mean()
    assert quality.stored_levels_apart(a, b) == pytest.approx(stored)


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


def test_all_cores_compares_equal_work(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(timing, "time", types.SimpleNamespace(perf_counter=lambda: clock[0]))

    def run(times: int, threads: int) -> None:
        clock[0] += times * 10 * 0.05 / {1: 1, 4: 3.2}[threads]

    timed = timing.all_cores(run, pair_s=0.05, pairs=10, cores=4, budget_s=1000.0)
    assert timed.scaling == pytest.approx(3.2)
    assert timed.pairs_s == pytest.approx(3.2 / 0.05)


def test_work_and_roofline_by_hand() -> None:
    pixels = 340 * 256 + 170 * 128 + 85 * 64 + 42 * 32 + 21 * 16
    assert roofline.pixel_iterations(256, 340, PRESETS["fast"]) == pixels * 3 * 30
    found = roofline.shares(1e9, Peaks(operations_s=102e9, bytes_s=256e9))
    assert found == {"operations": 0.5, "bytes": 0.25, "roofline": 0.5}
    pytest.importorskip("numba_cuda")
    # Two launches a warp, each reads ten floats a pixel and writes six; linearising reads and writes ten.
    moved, operations = gpu.work(52, 53, parameters(Flow(levels=1, warps=2, iterations=12)))
    assert moved == 2 * (2 * 64 + 40) * 52 * 53
    assert operations == 2 * (12 * 51 + 150) * 52 * 53


def test_batches_go_round_the_pairs() -> None:
    pairs = small_pairs(3)
    assert [len(first) for first, _ in gpu.batches(pairs, 2)] == [2, 2]
    ((first, second),) = gpu.batches(pairs, 7)
    np.testing.assert_array_equal(first, pairs.first[[0, 1, 2, 0, 1, 2, 0]])
    np.testing.assert_array_equal(second, pairs.second[[0, 1, 2, 0, 1, 2, 0]])


def test_the_whole_command_on_small_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = grey(waves(24, 32)), grey(waves(24, 32, -1, 0))
    truth = TruthPair("one", first, second, np.zeros((2, 24, 32), np.float32), np.ones((24, 32), bool))
    monkeypatch.setattr(flow, "video_pairs", lambda folder, count: small_pairs(count, 24, 32))
    monkeypatch.setattr(flow, "truth_pairs", lambda folder: [truth])
    monkeypatch.setattr(flow, "ROUNDS", 1)
    monkeypatch.setattr(flow, "BUDGET_S", 0.0)
    monkeypatch.setattr(timing, "BATCH_S", 0.01)
    monkeypatch.setattr(timing, "PAIRS_A_THREAD", 1)
    page = tmp_path / "new" / "flow.md"
    folders = ["--videos", str(tmp_path), "--truth", str(tmp_path), "--opencv-cuda", str(tmp_path)]
    assert flow.main([*folders, "--pairs", "10", "--write", str(page)]) == 0
    results = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    rows = {(row["name"], row["preset"]): row for row in results["rows"]}
    assert {(name, preset) for name in ("opencv", "numba") for preset in PRESETS} <= set(rows)
    assert rows["opencv", "fast"]["times_same"] == 1
    ours, reference = rows["numba", "fast"], rows["opencv", "opencv4"]
    assert ours["times_opencv4"] == pytest.approx(np.median(np.divide(reference["pair_s"], ours["pair_s"])))
    own = estimate(first[None], second[None], Flow(preset="fast", backend="numba"))[0]
    assert ours["truth_px"] == [pytest.approx(float(np.hypot(*own).mean()), rel=1e-5)]
    assert ours["roofline"]["pixel_iterations_s"] > 0
    assert len(ours["energy"]) == 10
    assert "without CUDA" in results["gpu"]["opencv"]["reason"]
    text = page.read_text(encoding="utf-8")
    assert "| numba | opencv4 |" in text
    assert "nan" not in text
    assert str(tmp_path) not in text


def test_wrong_options_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = ["--videos", str(tmp_path), "--truth", str(tmp_path)]
    for options, words in (
        (["--videos", str(tmp_path / "none")], "give one with --videos"),
        (["--opencv-cuda", "none"], "--opencv-cuda"),
        (["--pairs", "9"], "at least 10"),
        ([], "no videos"),
    ):
        assert flow.main([*folders, *options]) == 2
        assert words in capsys.readouterr().err
