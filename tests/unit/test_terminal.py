"""Progress, time and energy that jobs log, and what the live view and the report read of them."""

import io
import logging
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from atw import terminal
from atw.terminal import JobUsage, Meter, console, log_usage, read_energy, read_progress, read_usage


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def write_counters(folder: Path, energies: dict[str, int]) -> None:
    for name, energy in energies.items():
        write(folder / name / "energy_uj", f"{energy}\n")
        write(folder / name / "max_energy_range_uj", "9999999\n")


def test_what_the_meter_logs_is_what_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count(step=10)  # seconds, so that every step is logged
    monkeypatch.setattr(terminal, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with caplog.at_level(logging.INFO, "atw"):
        progress = Meter("flow of shard 00003", "pairs", 8, None, 0)
        progress.count(0)
        progress.advance(30, "loss 0.5 (mean)")
        progress.advance(30, "loss 0.25 (mean)")
    first, *_, last = caplog.messages
    assert read_progress(write(tmp_path / "first.log", f"12:00:00 {first}\n")) == terminal.LoggedProgress(
        None, "0%, 0.0 pairs/s, unknown time left"
    )
    noise = "x" * 20_000
    log = write(tmp_path / "last.log", f"{first}\n{noise}\n(Worker pid=7) 12:00:10 {last}\nend\n")
    assert read_progress(log) == terminal.LoggedProgress(90, "25%, 2.0 pairs/s loss 0.25 (mean), 1:30 left")


@pytest.mark.parametrize("text", ["", "nothing of that kind\n", "flow: 3 of"])
def test_logs_without_progress(tmp_path: Path, text: str) -> None:
    assert read_progress(write(tmp_path / "a.log", text)) is None
    assert read_progress(tmp_path / "none.log") is None


@pytest.mark.parametrize(
    ("before", "after", "joules"),
    [
        ({}, {}, None),
        # Of all packages; a counter starts again after its highest value. The rest is no package.
        (
            {"intel-rapl:0": 7_000_000, "intel-rapl:1": 1, "intel-rapl:0:0": 5, "dtpm": 5},
            {"intel-rapl:0": 2_000_000, "intel-rapl:1": 3_000_001},
            8.0,
        ),
        ({"intel-rapl:0": 1}, {"intel-rapl:0": 1, "intel-rapl:1": 1}, None),
    ],
)
def test_a_job_logs_its_time_and_energy(
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: dict[str, int],
    after: dict[str, int],
    joules: float | None,
) -> None:
    clock = iter((5.0, 88.04))
    monkeypatch.setattr(terminal, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(terminal, "POWERCAP", tmp_path)
    write_counters(tmp_path, before)
    with caplog.at_level(logging.INFO, "atw"), log_usage():
        write_counters(tmp_path, after)
    assert read_usage(write(tmp_path / "job.log", f"12:00:00 {caplog.messages[-1]}\n")) == JobUsage(83.0, joules)


def test_unreadable_counters_are_none(tmp_path: Path) -> None:
    write_counters(tmp_path, {"intel-rapl:0": 5})
    write(tmp_path / "intel-rapl:0/energy_uj", "")
    assert read_energy(tmp_path) == {}


def test_a_failed_job_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "atw"), pytest.raises(ValueError, match="bad"), log_usage():
        raise ValueError("bad")
    assert caplog.records == []


def test_the_last_line_of_a_log_counts(tmp_path: Path) -> None:
    assert read_usage(tmp_path / "none.log") is None
    text = "finished after 1.0 s\nerror\n12:00:00 finished after 2.0 s and 40 J of the CPUs\n"
    assert read_usage(write(tmp_path / "job.log", text)) == JobUsage(2.0, 40.0)
    assert read_usage(write(tmp_path / "job.log", "finished after all\n")) is None


def test_what_an_encoding_lacks_is_a_question_mark() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1", write_through=True)
    console(file=stream, width=30).print("déjà … 手")
    assert stream.buffer.getvalue().decode("latin-1") == "déjà ? ?\n"  # type: ignore[attr-defined]
