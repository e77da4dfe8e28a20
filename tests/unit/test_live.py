"""The live view of a run: what it says of stages, jobs and the time that is left."""

import os
import re
from pathlib import Path

import pytest
from rich.console import Console

from atw.extras.live import View


class Clock:
    """Seconds that pass when they are told to."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def lines(view: View) -> list[str]:
    console = Console(width=120, height=60, file=None)
    with console.capture() as capture:
        console.print(view)
    return [re.sub(r"\s+", " ", line.replace("━", "")).strip() for line in capture.get().splitlines()]


def write_log(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_stages_jobs_and_time(clock: Clock, tmp_path: Path) -> None:
    view = View(clock)
    view.begin({"flow": 4, "train": 1})
    assert lines(view) == ["flow 0 of 4", "train 0 of 1", "0 of 5 jobs done in 0:00; no time known yet of flow, train"]
    for number in (0, 1):
        view.job_began(number, "flow", ["demo", f"0000{number}"], tmp_path / f"{number}.log")
    clock.now += 60
    view.job_ended(0, well=True)
    assert lines(view) == [
        "flow 1 of 4",
        "train 0 of 1",
        "flow demo 00001 for 1:00",
        "1 of 5 jobs done in 1:00; about 1:00 left of flow; then train",  # 3 of 60 s, less 60 s, halved
    ]
    for number in (1, 2, 3):
        view.job_began(number, "flow", ["demo"], None)
        view.job_ended(number, well=True)
    view.job_began(9, "train", ["demo", "split1", "rgb"], tmp_path / "t.log")
    clock.now += 100
    write_log(tmp_path / "t.log", "12:00:00 training rgb: 80 of 320 (25%), 41.2 videos/s loss 1.25, 5:01 left\n")
    assert lines(view)[2:] == [
        "train demo split1 rgb 25%, 41.2 videos/s loss 1.25, 5:01 left",
        "4 of 5 jobs done in 2:40; about 5:01 left",
    ]
    view.job_ended(9, well=True)
    assert lines(view)[-1] == view.summary == "5 of 5 jobs done in 2:40"


@pytest.mark.parametrize(
    ("worked", "left", "said"),
    [
        (20, "2:41:00", "no time known yet of train"),  # the first step of a training
        (59, "9:51", "no time known yet of train"),
        (59, "9:50", "about 9:50 left"),
        (60, "2:41:00", "about 2:41:00 left"),
    ],
)
def test_the_first_steps_of_a_job_are_not_believed(
    clock: Clock, tmp_path: Path, worked: int, left: str, said: str
) -> None:
    view = View(clock)
    view.begin({"train": 1})
    view.job_began(1, "train", ["rgb"], tmp_path / "t.log")
    hours = f"{60 * int(left[0]) + int(left[2:4])}:{left[-2:]}" if left.count(":") == 2 else left
    write_log(tmp_path / "t.log", f"12:00:00 training rgb: 1 of 320 (0%), 0.3 videos/s, {hours} left\n")
    clock.now += worked
    assert lines(view)[-1] == f"0 of 1 jobs done in {'1:00' if worked == 60 else f'0:{worked}'}; {said}"


def test_failures_are_counted_until_a_job_is_tried_again(clock: Clock) -> None:
    view = View(clock)
    view.begin({"train": 1})
    view.job_began(3, "train", ["rgb"], None)
    view.job_ended(3, well=False)
    assert lines(view)[0] == "train 0 of 1 1 failed"
    assert view.summary == "0 of 1 jobs done in 0:00, 1 failed"
    view.job_began(3, "train", ["rgb"], None)
    view.job_ended(3, well=True)
    view.job_ended(3, well=True)  # heard of twice
    assert view.summary == "1 of 1 jobs done in 0:00"


def test_what_an_earlier_attempt_wrote_is_not_shown(clock: Clock, tmp_path: Path) -> None:
    line = "training rgb: 300 of 320 (93%), 41.2 videos/s, 0:05 left\n"
    log = write_log(tmp_path / "t.log", line)
    os.utime(log, ns=(1, 1))
    view = View(clock)
    view.begin({"train": 1})
    view.job_began(1, "train", ["rgb"], log)
    assert lines(view)[1:] == ["train rgb for 0:00", "0 of 1 jobs done in 0:00; no time known yet of train"]
    write_log(log, line)
    assert lines(view)[1] == "train rgb 93%, 41.2 videos/s, 0:05 left"


def test_many_jobs_and_many_stages_stay_short(clock: Clock) -> None:
    view = View(clock)
    view.begin({f"rule{number}": 20 for number in range(6)})
    for number in range(20):
        view.job_began(number, "rule0", [str(number)], None)
    shown = lines(view)
    assert "and 8 more jobs" in shown
    assert len(shown) == 6 + 12 + 1 + 1
    assert shown[-1].endswith("no time known yet of rule0, rule1, rule2, rule3, ...")
    clock.now += 3723
    assert view.summary == "0 of 120 jobs done in 1:02:03"
