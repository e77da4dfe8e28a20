"""The first contact with a GPU: does everything work on it, and how fast is it?

    make gpu-check

Runs one step after the other in ten minutes, each with a limit of its own; none stops the next. At its end it prints a
table, and writes it to build/gpu-check/gpu_check.md and .json, beside what each step printed. What cannot be done here
is left out, and the table says why. The exit status is 1 if a step failed.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from atw.files import write_json
from atw.flow import cuda
from benchmarks import machine
from benchmarks.report import Table, show, write_page

TOTAL_S = 600
LEAST_S = 10  # a step is not begun with less time left
MATERIAL = 24  # rendered clips to measure on
STEPS = (sys.executable, "-m", "benchmarks.gpu_check.steps")
ON_CPU = ("fp32", "bf16")  # precisions that need no GPU
SMALL_FLOW = (*STEPS, "small_flow")
# The kernel that relaxes the flow, once it is warm.
NCU = ("ncu", "--clock-control", "none", "-k", "regex:iterate", "-s", "3", "-c", "2")
SECTIONS = ("SpeedOfLight", "Occupancy", "WarpStateStats", "SchedulerStats", "MemoryWorkloadAnalysis", "LaunchStats")
# What programs of others say at their end, in a line or a few.
SUMMARIES = (
    r"^=+ (.*(?:passed|failed|skipped|error).*?) =+$",
    r"^(\d+ (?:passed|failed|skipped).*)$",
    r"((?:ERROR|RACECHECK) SUMMARY: .*)",
    r"^\s+((?:Compute|Memory) \(?S?M?\)? ?Throughput .*)$",
    r"^\s+(Achieved Occupancy .*)$",
)


class Step(NamedTuple):
    """A program of the check.

    Args:
        name: in the table.
        limit_s: after which it is ended.
        command: to run.
        without_gpu: whether it tells something without a GPU as well.
    """

    name: str
    limit_s: float
    command: Sequence[str]
    without_gpu: bool = False


class Outcome(NamedTuple):
    """What became of a step: `status` is passed, failed or left out, `said` what it found out or why it was not run."""

    step: str
    status: str
    seconds: float
    said: str


def steps(folder: Path, opencv_cuda: Path | None) -> list[Step]:
    """The steps in their order; `folder` has the clips that the first of them renders."""
    clips = str(folder / "clips")
    trainings = [
        Step(f"training, {precision}", 75, (*STEPS, "training", clips, precision), without_gpu=precision in ON_CPU)
        for precision in ("fp32", "tf32", "bf16", "fp16")
    ]
    # The first of the two compiles, whatever was compiled on this machine before.
    first_flow = ("env", f"NUMBA_CACHE_DIR={(folder / 'kernels').resolve()}", *STEPS, "first_flow")
    opencv = [str(opencv_cuda)] if opencv_cuda else []
    tests = (sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "tests/unit/test_flow_cuda.py")
    return [
        Step("driver and packages", 40, (*STEPS, "environment"), without_gpu=True),
        Step("clips to measure on", 40, (*STEPS, "clips", clips, str(MATERIAL)), without_gpu=True),
        Step("flow, first process", 60, first_flow),
        Step("flow, second process", 40, first_flow),
        Step("tests of the GPU", 150, (*tests, "-k", "gpu or single_precision or registers"), without_gpu=True),
        *(
            Step(f"flow under {tool}", 40, ("compute-sanitizer", "--error-exitcode", "9", "--tool", tool, *SMALL_FLOW))
            for tool in ("memcheck", "racecheck", "initcheck", "synccheck")
        ),
        Step("speed of flow", 120, (*STEPS, "flow_speed", clips, *opencv)),
        Step("what bounds the flow", 60, (*NCU, *(f"--section={name}" for name in SECTIONS), *SMALL_FLOW)),
        *trainings,
        Step("scoring", 40, (*STEPS, "scoring"), without_gpu=True),
        Step("an epoch on GPU and CPU", 60, (*STEPS, "epoch", clips)),
    ]


def run(step: Step, log: Path, *, left_s: float, with_gpu: bool) -> Outcome:
    """Run a step within its limit and the time that is left.

    Args:
        step: what to run.
        log: gets all that it prints.
        left_s: of the whole check.
        with_gpu: whether there is one.
    """
    if not with_gpu and not step.without_gpu:
        return Outcome(step.name, "left out", 0, "needs a GPU")
    if not shutil.which(step.command[0]):
        return Outcome(step.name, "left out", 0, f"{step.command[0]} is not installed")
    if left_s < LEAST_S:
        return Outcome(step.name, "left out", 0, f"no time left of {TOTAL_S} s")
    began, limit = time.monotonic(), min(step.limit_s, left_s)
    with log.open("w", encoding="utf-8") as stream:
        # In a session of its own, so that nothing of it lives on.
        process = subprocess.Popen(step.command, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            end(process)
    printed = log.read_text(encoding="utf-8", errors="replace").strip()
    said = [summary(printed)]
    if status is None:
        said.append(f"ended after its limit of {limit:.0f} s")
    elif status:
        said.append(f"{printed.splitlines()[-1] if printed else 'it printed nothing'} (exit status {status})")
    elif with_gpu and "skipped" in said[0]:
        status = 1
        said.append("a GPU is there, so nothing may be skipped")
    shown = "; ".join(filter(None, said))
    return Outcome(step.name, "passed" if status == 0 else "failed", time.monotonic() - began, shown)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a step."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def summary(printed: str) -> str:
    """What a step found out: the JSON object in its last line, or what programs of others say at their end."""
    lines = printed.strip().splitlines()
    if lines and lines[-1].startswith("{"):
        return "; ".join(f"{name} {value}" for name, value in json.loads(lines[-1]).items())
    found = [match[1] for line in lines for pattern in SUMMARIES if (match := re.search(pattern, line))]
    return "; ".join(" ".join(each.split()) for each in found[-6:])


def main(given: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/gpu-check"), help="folder of the table and the logs")
    parser.add_argument("--opencv-cuda", type=Path, help="folder with a cv2 package that has CUDA, to compare with")
    asked = parser.parse_args(given)
    shutil.rmtree(asked.out, ignore_errors=True)
    asked.out.mkdir(parents=True)
    with_gpu, began, console = cuda.unusable() is None, time.monotonic(), Console()
    outcomes: list[Outcome] = []
    todo = steps(asked.out, asked.opencv_cuda)
    for number, step in enumerate(todo, start=1):
        left_s = TOTAL_S - (time.monotonic() - began)
        console.print(f"{number} of {len(todo)}: {step.name}, at most {min(step.limit_s, left_s):.0f} s", style="dim")
        log = asked.out / f"{number:02d}_{re.sub(r'[^a-z0-9]+', '_', step.name.lower())}.log"
        outcomes.append(run(step, log, left_s=left_s, with_gpu=with_gpu))
    facts = machine.describe()
    rows = [[one.step, one.status, f"{one.seconds:.0f}", one.said.replace("|", "/")] for one in outcomes]
    table = Table(f"first contact: {facts['GPU']}", ("step", "status", "s", "what it showed"), rows)
    show(console, [table])
    write_json(asked.out / "gpu_check.json", {"facts": facts, "steps": [one._asdict() for one in outcomes]})
    write_page(asked.out / "gpu_check.md", "First contact with a GPU", "make gpu-check", [table], ())
    console.print(f"the table: {asked.out / 'gpu_check.md'}; what each step printed: {asked.out}")
    return int(any(one.status == "failed" for one in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
