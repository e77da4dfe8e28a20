"""The first contact with a GPU, on a machine that may have none: its steps, their limits and its table."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from atw.config import Flow
from atw.flow import cpu, parameters
from benchmarks.gpu_check import __main__ as check
from benchmarks.gpu_check import steps
from benchmarks.gpu_check.__main__ import Step, run, summary

SANITIZER = "========= COMPUTE-SANITIZER\n{}\n========= ERROR SUMMARY: 2 errors\n"
NCU = """  iterate (32, 4, 64)x(32, 8, 1), Context 1
    Compute (SM) Throughput           %        71.20
    Memory Throughput                 %        55.01
    Achieved Occupancy                %        24.50
"""


def outcome(code: str, tmp_path: Path, *, limit_s: float = 60, with_gpu: bool = True) -> check.Outcome:
    step = Step("a step", limit_s, (sys.executable, "-c", code), without_gpu=True)
    return run(step, tmp_path / "step.log", left_s=600, with_gpu=with_gpu)


def test_a_step_says_what_it_found(tmp_path: Path) -> None:
    one = outcome('print(\'on the way\'); print(\'{"pairs/s": 12, "levels": "none"}\')', tmp_path)
    assert (one.status, one.said) == ("passed", "pairs/s 12; levels none")
    assert "on the way" in (tmp_path / "step.log").read_text()


def test_a_failure_says_its_last_line_and_status(tmp_path: Path) -> None:
    one = outcome("import sys; print('began'); sys.exit('error: no such folder')", tmp_path)
    assert (one.status, one.said) == ("failed", "error: no such folder (exit status 1)")
    assert outcome("raise SystemExit(3)", tmp_path).said == "it printed nothing (exit status 3)"


def test_a_step_ends_at_its_limit_and_leaves_no_process(tmp_path: Path) -> None:
    alone = tmp_path / "child"
    code = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
        f"open({str(alone)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(1000)"
    )
    one = outcome(code, tmp_path, limit_s=5)
    assert (one.status, one.said) == ("failed", "ended after its limit of 5 s")
    child = int(alone.read_text())
    for _ in range(100):
        if not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.1)
    else:
        pytest.fail("the step's child runs on")


def test_what_cannot_run_is_left_out_and_says_why(tmp_path: Path) -> None:
    log = tmp_path / "step.log"
    flow = Step("flow", 60, (sys.executable, "-c", ""))
    assert run(flow, log, left_s=600, with_gpu=False)[1:] == ("left out", 0, "needs a GPU")
    assert run(flow, log, left_s=3, with_gpu=True).said == "no time left of 600 s"
    missing = Step("sanitizer", 60, ("no-such-sanitizer",))
    assert run(missing, log, left_s=600, with_gpu=True).said == "no-such-sanitizer is not installed"
    assert not log.exists()


def test_a_skipped_test_is_a_failure_where_a_gpu_is(tmp_path: Path) -> None:
    code = "print('===== 3 passed, 1 skipped in 2.00s =====')"
    assert outcome(code, tmp_path, with_gpu=False)[1::2] == ("passed", "3 passed, 1 skipped in 2.00s")
    one = outcome(code, tmp_path)
    assert one.status == "failed"
    assert one.said == "3 passed, 1 skipped in 2.00s; a GPU is there, so nothing may be skipped"


def test_summaries_of_other_programs() -> None:
    assert summary("2 passed in 0.12s") == "2 passed in 0.12s"
    assert summary(SANITIZER.format('{"mean px": 0.1}')) == "ERROR SUMMARY: 2 errors"
    assert summary(NCU) == "Compute (SM) Throughput % 71.20; Memory Throughput % 55.01; Achieved Occupancy % 24.50"
    assert summary("") == ""


def test_every_step_is_one_that_there_is(tmp_path: Path) -> None:
    listed = check.steps(tmp_path, tmp_path)
    own = [
        step.command[step.command.index("benchmarks.gpu_check.steps") + 1]
        for step in listed
        if "pytest" not in step.command
    ]
    assert set(own) == set(steps.STEPS)
    assert {step.name for step in listed if step.without_gpu} == {
        "driver and packages",
        "clips to measure on",
        "tests of the GPU",
        "training, fp32",
        "training, bf16",
        "scoring",
    }


def test_small_pairs_move() -> None:
    first, second = steps.small_pairs()
    flow = cpu.solve(first, second, parameters(Flow(preset="fast")), 1)
    assert first.shape == second.shape == (3, 90, 120)
    np.testing.assert_allclose(np.median(flow, axis=(2, 3)), [[3.4, -1.7]] * 3, atol=0.1)


def test_the_check_writes_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = ((sys.executable, "-c", code) for code in ('print(\'{"cards": "a | b"}\')', "raise SystemExit(1)"))
    monkeypatch.setattr(check, "steps", lambda *_: [Step("one", 60, good, True), Step("two", 60, good)])
    monkeypatch.setattr("atw.flow.cuda.unusable", lambda: "no driver")
    out = tmp_path / "out"
    assert check.main(["--out", str(out)]) == 0
    written = json.loads((out / "gpu_check.json").read_text())
    assert [(one["step"], one["status"]) for one in written["steps"]] == [("one", "passed"), ("two", "left out")]
    assert "| two | left out | 0 | needs a GPU |" in (out / "gpu_check.md").read_text()
    assert "cards a / b" in (out / "gpu_check.md").read_text()
    monkeypatch.setattr(check, "steps", lambda *_: [Step("three", 60, bad, True)])
    assert check.main(["--out", str(out)]) == 1
    assert (out / "01_three.log").exists()
    assert not (out / "01_one.log").exists(), "of the check before"
