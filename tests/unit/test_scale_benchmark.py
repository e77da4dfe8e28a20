"""The benchmark of scale: fitted growth, what follows from it on paper, and measured processes."""

import os
import subprocess
from pathlib import Path

import pytest

from atw.data import reader
from atw.extras.cost.rates import Rate
from atw.files import InputError
from atw.shards import Shard
from benchmarks.report import markdown
from benchmarks.scale import plans, projection, reading, stages, synthetic, tables, watched
from benchmarks.scale.amounts import Amounts
from benchmarks.scale.growth import Growth, Limit, fit, in_order, slope
from benchmarks.scale.reading import Opened
from benchmarks.scale.stages import Peaks
from benchmarks.scale.watched import Taken
from tests.conftest import _moving_frames, _write_mjpeg

MIB = 1 << 20


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 1.3])
def test_a_power_law_is_found_again(exponent: float) -> None:
    law = Growth(fixed=5.0, factor=0.02, exponent=exponent)
    found = fit({size: law.at(size) for size in (100, 400, 1600, 6400)}, fixed=5.0)
    assert found.exponent == pytest.approx(exponent, abs=1e-9)
    assert found.factor == pytest.approx(0.02)
    assert found.at(1e8) == pytest.approx(law.at(1e8))


def test_the_line_is_that_of_least_squares_on_logarithms() -> None:
    # Logarithms to the base 10: costs 0, 1 and 1 over sizes 0, 1 and 2 rise by 1/2 a decade.
    assert fit({1: 1.0, 10: 10.0, 100: 10.0}).exponent == pytest.approx(0.5)


def test_costs_that_do_not_rise_above_the_fixed_one_cannot_be_fitted() -> None:
    with pytest.raises(InputError, match="do not rise above 3"):
        fit({10: 2.0, 20: 3.0, 40: 4.0}, fixed=3.0)


def test_the_size_of_a_cost() -> None:
    growth = Growth(fixed=10.0, factor=2.0, exponent=2.0)
    assert growth.size_for(growth.at(7.0)) == pytest.approx(7.0)
    assert growth.size_for(10.0) == 0
    assert Growth(1.0, 0.0, 1.0).size_for(2.0) == float("inf")
    assert Growth(1.0, 3.0, -0.1).size_for(9.0) == float("inf")


def test_the_slope_is_the_cost_of_one_more() -> None:
    assert slope({10: 130.0, 20: 160.0, 40: 220.0}) == pytest.approx(3.0)


def test_peaks_say_what_one_more_takes_at_the_end() -> None:
    assert Peaks("training", "videos", {100: 5_000, 200: 9_000, 600: 9_800}).bytes_each == 2.0


def test_what_breaks_first_comes_first() -> None:
    limits = [Limit(name, "", videos, "") for name, videos in (("b", 20.0), ("never", float("inf")), ("a", 3.0))]
    assert [limit.what for limit in in_order(limits)] == ["a", "b", "never"]


def test_shards_and_what_of_them_is_open() -> None:
    assert [projection.shards_of(videos) for videos in (1, 256, 257, 306_245)] == [1, 1, 2, 1197]
    assert projection.reopened(reader.MOST_OPEN) == projection.reopened(1) == 0
    assert projection.reopened(4 * reader.MOST_OPEN) == 0.75


def test_the_command_line_ends_where_the_projection_says() -> None:
    def run(shards: int) -> None:
        paths = [f"shards/kinetics400/warped/{number % 100_000:05d}.h5" for number in range(shards)]
        assert sum(len(path) + 1 + 8 for path in paths) == projection.argument_bytes(shards)
        subprocess.run(["true", *paths], check=True, env={})

    most = os.sysconf("SC_ARG_MAX") // projection.argument_bytes(1)
    run(int(0.97 * most))
    with pytest.raises(OSError, match="Argument list too long"):
        run(int(1.01 * most))


GROWTHS = projection.Growths(
    plan_seconds=Growth(2.0, 1e-4, 1.0),
    plan_bytes=Growth(1e8, 1000.0, 1.0),
    draw_seconds=Growth(0.0, 1e-5, 1.0),
    open_seconds=Growth(0.0, 3e-5, 1.0),
    index_bytes=Growth(0.0, 200.0, 1.0),
    edge_seconds=Growth(0.0, 2e-8, 1.0),
    training_bytes=Growth(1e9, 4000.0, 1.0),
)
AMOUNTS = Amounts({"rgb": Rate(0.001, 30_000.0), "flow": Rate(0.01, 10_000.0)}, 8)


def test_costs_are_carried_to_larger_datasets() -> None:
    table = projection.projection(GROWTHS, AMOUNTS)
    rows = {row[0]: row[2:] for row in table.rows}
    assert all(row[1] for row in table.rows)
    assert rows["shards, of 256 videos"] == ["1,197", "390,625"]
    assert rows["dry run, time"] == ["33 s", "2.8 h"]
    assert rows["dry run, memory"] == ["406.2 MB", "100.1 GB"]
    assert rows["edge of an epoch"] == ["6.1 ms", "2 s"]
    assert rows["open files of a process"] == ["512", "512"]
    assert rows["samples that open a shard again"] == ["57%", "100%"]
    assert rows["disk, rgb"] == ["2.8 TB", "900.0 TB"]  # 30 kB x 300 frames x videos
    assert rows["time of one core, flow"] == ["10.6 days", "3472.2 days"]


def test_what_breaks_first_follows_from_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = type("Memory", (), {"total": 21_000_000_000})
    monkeypatch.setattr(projection.psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(projection.os, "sysconf", lambda name: 2**21)
    table = projection.breaking_points(GROWTHS)
    assert [(row[0], row[3]) for row in table.rows] == [
        ("memory of a training with one loader", "5,000,000"),
        ("command line of a training", "12,485,000"),
        ("memory of the dry run", "20,900,000"),
        ("time of the dry run", "35,980,000"),
    ]
    assert table.notes[0] == "First, at about 5,000,000 videos: memory of a training with one loader."
    assert "Kinetics-400 stays below all of them." in table.notes
    assert any(note.startswith("100 million breaks at 4 of these limits: ") for note in table.notes)
    slower = projection.breaking_points(GROWTHS._replace(plan_seconds=Growth(2.0, 0.1, 1.0)))
    assert slower.notes[:2] == [
        "First, at about 36,000 videos: time of the dry run.",
        "Kinetics-400 breaks at 1 of these limits: time of the dry run.",
    ]


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
        amounts=AMOUNTS,
    )


def test_the_page_says_what_was_measured() -> None:
    growths = tables.growths(found())
    assert growths.plan_seconds.exponent == pytest.approx(1.0)
    assert growths.plan_bytes.exponent == pytest.approx(1.0)
    assert growths.edge_seconds.at(1_000_000) == pytest.approx(0.01)
    assert growths.training_bytes.at(20_000) == pytest.approx(2800 * MIB)
    made = [*tables.measured(found()), projection.projection(growths, AMOUNTS), projection.breaking_points(growths)]
    page = markdown("Scale", "python -m benchmarks.scale", {}, made, tables.METHOD)
    for words in (
        "| growth |  | 1.00 | 1.00 |",
        "| 10,000 | 40 | 0.200 | 200 | 1.10 | 1.00 |",
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
