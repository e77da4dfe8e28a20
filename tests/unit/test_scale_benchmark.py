"""The benchmark of scale: fitted growth, and measured processes."""

from pathlib import Path

import pytest

from atw.data import reader
from atw.files import InputError
from atw.shards import Shard
from benchmarks.report import markdown
from benchmarks.scale import plans, reading, stages, synthetic, tables, watched
from benchmarks.scale.growth import exponent, slope
from benchmarks.scale.reading import Opened
from benchmarks.scale.stages import Peaks
from benchmarks.scale.watched import Taken
from tests.conftest import _moving_frames, _write_mjpeg

MIB = 1 << 20


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 1.3])
def test_a_power_law_is_found_again(power: float) -> None:
    costs = {size: 5.0 + 0.02 * size**power for size in (100, 400, 1600, 6400)}
    assert exponent(costs, fixed=5.0) == pytest.approx(power, abs=1e-9)


def test_the_line_is_that_of_least_squares_on_logarithms() -> None:
    # Logarithms to the base 10: costs 0, 1 and 1 over sizes 0, 1 and 2 rise by 1/2 a decade.
    assert exponent({1: 1.0, 10: 10.0, 100: 10.0}) == pytest.approx(0.5)


def test_costs_that_do_not_rise_above_the_fixed_one_cannot_be_fitted() -> None:
    with pytest.raises(InputError, match="do not rise above 3"):
        exponent({10: 2.0, 20: 3.0, 40: 4.0}, fixed=3.0)


def test_the_slope_is_the_cost_of_one_more() -> None:
    assert slope({10: 130.0, 20: 160.0, 40: 220.0}) == pytest.approx(3.0)


def test_peaks_say_what_one_more_takes_at_the_end() -> None:
    assert Peaks("training", "videos", {100: 5_000, 200: 9_000, 600: 9_800}).bytes_each == 2.0


def test_videos_lie_in_whole_shards() -> None:
    assert [plans.shards_of(videos) for videos in (1, 256, 257, 306_245)] == [1, 1, 2, 1197]


def found() -> tables.Measured:
    sizes = (1000, 10_000, 100_000)
    opened = {
        size: Opened(size * 2e-5, size * 200, edge_seconds=0.001 + size * 1e-8, sample_seconds=0.001, files=4)
        for size in sizes
    }
    by_shards = {
        4: Opened(0.1, 0, 0.0, sample_seconds=0.001, files=4),
        2048: Opened(0.8, 0, 0.0, sample_seconds=0.004, files=reader.MOST_OPEN),
    }
    return tables.Measured(
        nothing=24,
        plan={24: Taken(2.0, 100 * MIB)} | {size: Taken(2 + size * 1e-4, 100 * MIB + 1000 * size) for size in sizes},
        drawn={size: size * 1e-5 for size in sizes},
        of_videos=opened,
        videos=16_384,
        of_shards=by_shards,
        rates={"rgb": {0: 100.0, 1: 90.0, 2: 171.0}},
        peaks=[
            Peaks("shard of rgb, one video", "frames", {60: 100 * MIB, 240: 105 * MIB}),
            Peaks("training", "videos", {1000: 900 * MIB, 10_000: 1800 * MIB}),
        ],
    )


def test_the_page_says_what_was_measured() -> None:
    page = markdown("Scale", "python -m benchmarks.scale", {}, tables.measured(found()), tables.METHOD)
    for words in (
        "| growth |  | 1.00 | 1.00 |",
        "| 10,000 | 40 | 0.200 | 200 | 1.10 | 1.00 |",
        "The permutation of an epoch takes 10 ns per video",
        "| 2,048 | 0.800 | 4.00 | 512 |",
        "Of 2,048 shards, 75% of samples open one again, for 4.0 ms each.",
        "| rgb | 2 | 171 | 1.90 |",
        "| training | videos | 1,000, 10,000 | 900, 1800 | 104.86 |",
        "Memory grows by less than a tenth: shard of rgb, one video by frames.",
        "Memory grows with the size: training by videos (2.00 times, 10 times the size).",
    ):
        assert words in page


def test_all_shards_that_are_read_stay_open_where_they_are_few() -> None:
    few = found()._replace(of_shards={4: Opened(0.1, 0, 0.0, 0.001, 4), 64: Opened(0.1, 0, 0.0, 0.001, 64)})
    assert "No more than 512 shards: all stay open." in [note for table in tables.measured(few) for note in table.notes]


HOG = """
import sys, time
import os
import subprocess
held = b"x" * (int(sys.argv[1]) << 20)
held = held[:1]
if sys.argv[2] != "0":
    subprocess.run([sys.executable, "-m", "hog", sys.argv[2], "0"], check=True)
    raise SystemExit("no more of this")
time.sleep(0.2)
"""


def test_memory_that_was_given_back_counts_and_the_starting_process_does_not(tmp_path: Path) -> None:
    (tmp_path / "hog.py").write_text(HOG)
    held = bytes(1) * (300 * MIB)
    small = watched.run("hog", "1", "0", folder=tmp_path)
    large = watched.run("hog", "200", "0", folder=tmp_path)
    assert small.peak_bytes < 100 * MIB
    assert 190 * MIB < large.peak_bytes - small.peak_bytes < 260 * MIB
    assert 0 < large.cpu_seconds < 5
    del held


FORKS = """
import os, time
held = b"x" * (200 << 20)
for _ in range(8):
    if not os.fork():
        time.sleep(0.1)
        os._exit(0)
    os.wait()
"""


@pytest.mark.parametrize("young_seconds", [3600.0, 0.0])
def test_a_process_that_has_just_been_started_does_not_count_as_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, young_seconds: float
) -> None:
    monkeypatch.setattr(watched, "YOUNG_SECONDS", young_seconds)
    (tmp_path / "forks.py").write_text(FORKS)
    peak = watched.run("forks", "", folder=tmp_path).peak_bytes
    assert 200 * MIB < peak < 300 * MIB if young_seconds else 400 * MIB < peak < 600 * MIB


def test_a_command_that_fails_is_named_with_its_words(tmp_path: Path) -> None:
    (tmp_path / "hog.py").write_text(HOG)
    with pytest.raises(InputError, match=r"hog 1 ended with status 1:\s+no more of this"):
        watched.run("hog", "1", "2", folder=tmp_path)
    assert watched.resident_peak_bytes(2**22 + 1) == 0


def test_synthetic_shards_are_shards_like_others(tmp_path: Path) -> None:
    shards = synthetic.write_shards(tmp_path / "shards", videos=40, a_shard=16)
    assert [len(Shard(path).entries) for path in shards] == [16, 16, 8]
    given = synthetic.describe(tmp_path / "list", shards, 40)
    split = given.dataset.split("split1")
    assert (len(split.train), len(split.test), len(split.classes)) == (30, 10, 10)
    opened = reading.open_and_read(shards, videos=40, samples=30)
    assert opened.files == 3
    assert min(opened) > 0


def test_clips_of_any_length(tmp_path: Path) -> None:
    source = _write_mjpeg(tmp_path / "source.avi", _moving_frames(5))
    stages.write_clip(source, tmp_path / "long.avi", 23)
    peaks = stages.preprocess(tmp_path / "work", [source], videos=2, frames=7)
    assert list(peaks) == ["rgb", "flow", "warped"]
    assert min(peaks.values()) > 30 * MIB
    with Shard(tmp_path / "work/rgb.h5") as shard:
        assert [entry.count for entry in shard.entries] == [7, 7]
    with pytest.raises(InputError, match=r"nothing\.avi cannot be decoded"):
        stages.write_clip(tmp_path / "nothing.avi", tmp_path / "long.avi", 2)


def test_plans_are_made(tmp_path: Path) -> None:
    taken = plans.dry_run(2_400)
    assert taken.peak_bytes > 50 * MIB
    assert plans.draw_seconds(800) > 0
