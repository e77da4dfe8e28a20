"""Speed and quality of every flow backend that runs here, beside OpenCV's, as one table.

    python -m benchmarks.flow --videos data --truth data/flow_truth --write

Takes about five minutes on two cores, and longer where OpenCV is slower. `--write` replaces docs/benchmarks/flow.md, or
the page that it names, and the JSON file beside it that has every measured value. On a machine with a GPU add
`--opencv-cuda FOLDER` with a build of OpenCV that has CUDA, and name another page.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from atw.config import Flow
from atw.files import InputError, write_json, write_text
from atw.flow import estimate, parameters
from atw.flow.engine import one_opencv_thread
from atw.machine import usable_cores
from benchmarks import machine, report
from benchmarks.flow import gpu, pages, quality, roofline, timing
from benchmarks.flow.contestants import REFERENCE, Contestant, contestants, unusable
from benchmarks.material import Pairs, TruthPair, moved_pairs, truth_pairs, video_pairs

PAGE = Path("docs/benchmarks/flow.md")
LEAST_PAIRS = 10
ROUNDS = 3
# Seconds for the all-cores timing of one row, once it has been done once.
BUDGET_S = 8.0
MOVED_FRAMES = 6
# The iterations are timed as the difference of two runs, on a few pairs: with epsilon 0 all pairs cost the same.
FEW_ITERATIONS, MANY_ITERATIONS, ROOFLINE_PAIRS = 30, 150, 3


def main(arguments: Sequence[str]) -> int:
    """Run the command line; returns the exit status, 2 for input that cannot be used."""
    try:
        options = parse(arguments)
        began = time.perf_counter()
        video, truth = video_pairs(options.videos, options.pairs), truth_pairs(options.truth)
        with one_opencv_thread():
            results = measure(video, truth, opencv_cuda=options.opencv_cuda)
        results["minutes"] = (time.perf_counter() - began) / 60
    except InputError as error:
        print(f"benchmarks.flow: {error}", file=sys.stderr)
        return 2
    tables = pages.tables(results)
    console = Console()
    report.show(console if console.is_terminal else Console(width=200), tables)
    if options.write is not None:
        write_json(options.write.with_suffix(".json"), results)
        write_text(options.write, pages.page(results))
        print(f"wrote {options.write} and {options.write.with_suffix('.json')}", file=sys.stderr)
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; InputError for folders that do not exist and for too few pairs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flow", description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=Path, default=Path("data"), help="folder with videos in it (data)")
    parser.add_argument("--truth", type=Path, default=Path("data/flow_truth"), help="folder with NAME-gt.flo files")
    parser.add_argument("--pairs", type=int, default=12, help="pairs of real video (12)")
    parser.add_argument("--opencv-cuda", type=Path, help="folder with a cv2 package that has CUDA")
    parser.add_argument("--write", type=Path, nargs="?", const=PAGE, help=f"write this page ({PAGE}) and its JSON")
    options = parser.parse_args(arguments)
    for option in ("videos", "truth", "opencv_cuda"):
        folder = getattr(options, option)
        if folder is not None and not folder.is_dir():
            raise InputError(f"there is no folder {folder}; give one with --{option.replace('_', '-')}")
    if options.pairs < LEAST_PAIRS:
        raise InputError(f"--pairs is {options.pairs}; the medians need at least {LEAST_PAIRS}")
    return options


def measure(video: Pairs, truth: list[TruthPair], *, opencv_cuda: Path | None) -> dict[str, Any]:
    """Measure everything; what comes back is JSON. To be called with OpenCV kept to one thread."""
    everybody = contestants()
    results: dict[str, Any] = {"facts": machine.describe(), "pairs": video.names, "unusable": unusable()}
    results["size_px"] = list(video.first.shape[:0:-1])
    results["cores"] = usable_cores()
    seconds = one_core_seconds(everybody, video)
    results["peaks"], iterations = roofline_shares(everybody, video)
    moved = moved_pairs(video.second[:MOVED_FRAMES])
    flows: dict[str, Any] = {}
    results["rows"] = []
    for one in everybody:
        note(f"{one.key}: all cores, quality")
        row: dict[str, Any] = {"name": one.name, "preset": one.preset, "kind": one.kind}
        flows[one.key] = one.solve(video.first, video.second, results["cores"])
        row |= speed(one, video, seconds, results["cores"])
        row |= distances(one, video, flows) | {"roofline": iterations.get(one.key)}
        row["truth_px"] = endpoint_errors(one, truth, results["cores"])
        row["moved_px"] = endpoint_errors(one, moved, results["cores"])
        results["rows"].append(row)
    results["truth"] = [pair.name for pair in truth]
    note("GPU")
    results["gpu"] = gpu.measure(video, opencv_cuda)
    return results


def note(text: str) -> None:
    """Say on standard error what is being measured."""
    print(text, file=sys.stderr, flush=True)


def one_core_seconds(everybody: list[Contestant], video: Pairs) -> dict[str, timing.Seconds]:
    """CPU seconds for each pair of each contestant that runs on the CPU."""
    note("one core")
    runs = {}
    for one in everybody:
        if one.kind != "gpu":
            runs[one.key] = lambda i, one=one: one.solve(video.first[i : i + 1], video.second[i : i + 1], 1)
    return timing.in_turn(runs, len(video.names), ROUNDS)


def speed(one: Contestant, video: Pairs, seconds: dict[str, timing.Seconds], cores: int) -> dict[str, Any]:
    """Pairs a second on one core and on all, and the ratios to OpenCV's code."""
    row: dict[str, Any] = {}
    if one.key in seconds:
        own = seconds[one.key]
        row["pair_s"] = own.tolist()
        row["one_core_pairs_s"] = 1 / float(np.median(own))
        for name, preset in (("times_same", one.preset), ("times_opencv4", "opencv4")):
            reference = seconds.get(f"{REFERENCE} {preset}")
            row[name] = None if reference is None else timing.ratio(reference, own)
    if one.kind == "other":
        return row

    def run(times: int, threads: int) -> None:
        one.solve(np.tile(video.first, (times, 1, 1)), np.tile(video.second, (times, 1, 1)), threads)

    pair_s = float(np.mean(seconds[one.key])) if one.key in seconds else timing.wall_seconds(lambda: run(1, 1))
    timed = timing.all_cores(run, pair_s=pair_s, pairs=len(video.names), cores=cores, budget_s=BUDGET_S)
    return row | {"all_cores_pairs_s": timed.pairs_s, "scaling": timed.scaling if one.kind == "cpu" else None}


def distances(one: Contestant, video: Pairs, flows: dict[str, Any]) -> dict[str, Any]:
    """Energy on each pair of video, and mean distance from OpenCV at the same schedule, in levels."""
    own = flows[one.key]
    values = [quality.energy(*pair) for pair in zip(video.first, video.second, own, strict=True)]
    row: dict[str, Any] = {"energy": values}
    reference = flows.get(f"{REFERENCE} {one.preset}")
    if reference is not None and one.name != REFERENCE:
        row["levels"] = quality.levels_apart(own, reference)
        row["stored_levels"] = quality.stored_levels_apart(own, reference)
    return row


def endpoint_errors(one: Contestant, pairs: list[TruthPair], cores: int) -> list[float]:
    """Endpoint error (px) on each pair, all of which are of one size."""
    flow = one.solve(np.stack([pair.first for pair in pairs]), np.stack([pair.second for pair in pairs]), cores)
    found = zip(flow, pairs, strict=True)
    return [quality.endpoint_error(field, pair.flow, pair.valid) for field, pair in found]


def roofline_shares(everybody: list[Contestant], video: Pairs) -> tuple[dict[str, float], dict[str, Any]]:
    """The core's peaks, and for `fast` on each CPU backend what its iterations reach of them."""
    note("roofline")
    names = [one.name for one in everybody if one.kind == "cpu" and one.preset == "fast"]
    runs = {}
    for name in names:
        for count in (FEW_ITERATIONS, MANY_ITERATIONS):
            runs[f"{name} {count}"] = lambda i, name=name, count=count: estimate(
                video.first[i : i + 1], video.second[i : i + 1], Flow(preset="fast", backend=name, iterations=count)
            )
    before = roofline.measure_peaks()
    seconds = timing.in_turn(runs, min(ROOFLINE_PAIRS, len(video.names)), ROUNDS)
    after = roofline.measure_peaks()
    peaks = roofline.Peaks(*np.maximum(before, after).tolist())
    height, width = video.first.shape[1:]
    few, many = (
        roofline.pixel_iterations(height, width, parameters(Flow(preset="fast", iterations=count)))
        for count in (FEW_ITERATIONS, MANY_ITERATIONS)
    )
    found = {}
    for name in names:
        taken = float(np.median(seconds[f"{name} {MANY_ITERATIONS}"] - seconds[f"{name} {FEW_ITERATIONS}"]))
        rate = (many - few) / taken
        found[f"{name} fast"] = {"pixel_iterations_s": rate, **roofline.shares(rate, peaks)}
    return peaks._asdict(), found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
