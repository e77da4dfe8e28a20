"""What jobs say they took, and what the report reads of it."""

import logging
from pathlib import Path

import pytest

from atw import measured
from atw.extras.report.origin import times
from atw.measured import Taken, read_energy, read_taken
from tests.unit.reported import gathered


def write_counters(folder: Path, energies: dict[str, int], largest: int = 999) -> None:
    for name, energy in energies.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "energy_uj").write_text(f"{energy}\n")
        (folder / name / "max_energy_range_uj").write_text(f"{largest}\n")


def run(caplog: pytest.LogCaptureFixture, tmp_path: Path, *, monkeypatch: pytest.MonkeyPatch, seconds: float) -> Path:
    """The log of a job of that length."""
    clock = iter((5.0, 5.0 + seconds))
    monkeypatch.setattr(measured, "monotonic", lambda: next(clock))
    with caplog.at_level(logging.INFO, "atw"), measured.measured():
        logging.getLogger("atw").info("at work")
    path = tmp_path / "job.log"
    path.write_text("".join(f"12:00:00 {record.getMessage()}\n" for record in caplog.records), encoding="utf-8")
    return path


def test_a_job_says_what_it_took(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured, "POWERCAP", tmp_path / "none")
    assert read_taken(run(caplog, tmp_path, monkeypatch=monkeypatch, seconds=83.04)) == Taken(83.0, None)


def test_energy_is_that_of_all_packages_and_follows_a_counter_round(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters = tmp_path / "powercap"
    readings = iter(
        ({"intel-rapl:0": 7_000_000, "intel-rapl:1": 1}, {"intel-rapl:0": 2_000_000, "intel-rapl:1": 3_000_001})
    )

    def read(folder: Path) -> dict[str, tuple[int, int]]:
        write_counters(folder, next(readings), largest=9_999_999)
        write_counters(folder, {"intel-rapl:0:0": 5, "dtpm": 5})  # a part of a package, and something else
        return read_energy(folder)

    monkeypatch.setattr(measured, "POWERCAP", counters)
    monkeypatch.setattr(measured, "read_energy", read)
    assert read_taken(run(caplog, tmp_path, monkeypatch=monkeypatch, seconds=1)) == Taken(1.0, 8.0)


def test_unreadable_counters_are_none(tmp_path: Path) -> None:
    assert read_energy(tmp_path) == {}
    write_counters(tmp_path, {"intel-rapl:0": 5})
    (tmp_path / "intel-rapl:0/energy_uj").write_text("")
    assert read_energy(tmp_path) == {}


def test_a_failed_job_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "atw"), pytest.raises(ValueError, match="bad"), measured.measured():
        raise ValueError("bad")
    assert caplog.records == []


def test_the_last_word_of_a_log_counts(tmp_path: Path) -> None:
    assert read_taken(tmp_path / "none.log") is None
    (tmp_path / "job.log").write_text(
        "finished after 1.0 s\nerror\n12:00:00 finished after 2.0 s and 40 J of the CPUs\n"
    )
    assert read_taken(tmp_path / "job.log") == Taken(2.0, 40.0)
    (tmp_path / "job.log").write_text("finished after all\n")
    assert read_taken(tmp_path / "job.log") is None


def test_stages_add_up_and_cached_shards_have_no_time(tmp_path: Path) -> None:
    one = gathered(tmp_path, [0], [0], stored={"rgb": {}, "flow": {}})
    for scores in one.scores.values():
        scores.provenance["shards"] = {"00000": "f00d", "00001": "beef"}
    for log, text in (
        ("frames/mine/00000", "finished after 1.5 s and 10 J of the CPUs"),
        ("frames/mine/00001", "finished after 2.0 s and 20 J of the CPUs"),
        ("flow/mine/00001", "finished after 9.0 s"),
        ("train/mine/split1/rgb", "finished after 60.0 s"),
    ):
        path = tmp_path / f"logs/{log}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    said = {row.pop("stage"): row for row in times(one, tmp_path / "logs")}
    assert said["frames"] == {"jobs": 2, "measured": 2, "seconds": 3.5, "joules": 30.0}
    assert said["flow"] == {"jobs": 2, "measured": 1, "seconds": 9.0, "joules": None}
    assert said["train rgb"] == {"jobs": 1, "measured": 1, "seconds": 60.0, "joules": None}
    assert said["train flow"] == {"jobs": 1, "measured": 0, "seconds": None, "joules": None}
    assert list(said) == ["frames", "flow", "train rgb", "train flow", "score rgb", "score flow", "fuse"]


def test_an_experiment_has_logs_of_its_own(tmp_path: Path) -> None:
    one = gathered(tmp_path, [0], [0], stored={})
    one.result["experiment"] = "average"
    object.__setattr__(one.scores["rgb"], "experiment", "average")
    path = tmp_path / "logs/fuse/mine/experiments/average/split1.log"
    path.parent.mkdir(parents=True)
    path.write_text("finished after 1.0 s\n")
    for scores in one.scores.values():
        scores.provenance["shards"] = {}
    assert times(one, tmp_path / "logs")[-1] == {
        "stage": "fuse",
        "jobs": 1,
        "measured": 1,
        "seconds": 1.0,
        "joules": None,
    }
