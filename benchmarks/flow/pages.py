"""What was measured, as tables and as a page."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.flow import gpu
from benchmarks.flow.contestants import REFERENCE
from benchmarks.report import Table, markdown, number

Results = Mapping[str, Any]

METHOD = (
    "Video pairs are consecutive grey frames, resized to the working size. Clips are taken from their folders in turn; "
    "the pairs of a clip are evenly spread over it.",
    "One core: CPU time of the one thread that computes a pair, median of three rounds. In a round, every method "
    "computes four pairs before any computes the next four. Pairs/s is one over the median over the pairs.",
    "Times OpenCV: the median over the pairs of the ratio within a pair. OpenCV's CPU code is its "
    "DualTVL1OpticalFlow with the same schedule: no median filter, one outer loop, the preset's iterations as inner "
    "ones.",
    "All cores: wall clock of one batch with as many threads as cores; pairs are repeated until the batch takes at "
    "least a second. All cores / one core is by wall clock, too, with one thread and all threads in turn. Backends on "
    "the GPU have this batch only.",
    "Energy: mean over the pixels of 0.15 |I1(x + u) - I0(x)| + |grad u_x| + |grad u_y|, with images in 0..255, I1 "
    "sampled by OpenCV's bicubic remap, border pixels repeated, forward differences. The table has the ratio of the "
    "means over the video pairs.",
    "Levels are the steps of stored flow, 40/255 px. Displacements are clipped at 20 px, and rounded only if the "
    "column says so. Figures are means over all pixels of the video pairs.",
    "Endpoint error: mean length of the difference from the true flow. For moved frames, a video frame is the second "
    "image; a cubic spline samples the first image from it along a known smooth field (affine plus a sine wave, "
    "longest vector 2 to 8 px). Pixels from outside the frame do not count.",
    "Roofline: one iteration of one pixel is 51 floating-point operations and 64 bytes. The core's peaks are measured "
    "in the same run: independent fused multiply-adds on the best vector length, and scaling 256 KiB in the "
    "second-level cache. The rate of the iterations comes from the difference between 150 and 30 iterations per warp "
    "of `fast`, which never stops early. The share is that of the more expensive of the two.",
    "GPU: wall clock from images in the host's memory to flow in the host's memory, median of five rounds. OpenCV's "
    "CUDA code and cuCIM start and end with data on the device, which favours them; OpenCV's has a stream of its own. "
    "The floor is the larger of two times: the bytes that must move and the operations that must be done, each over "
    "the device's peak, measured by a copy and by a multiply-add kernel. A schedule that stops early has no floor.",
)


def page(results: Results) -> str:
    """The page in Markdown."""
    facts = dict(results["facts"])
    width, height = results["size_px"]
    facts["measured on"] = (
        f"{len(results['pairs'])} video pairs of {width} x {height} px and {len(results['truth'])} pairs with ground "
        f"truth, in {results['minutes']:.0f} minutes"
    )
    command = "python -m benchmarks.flow --write"
    return markdown("Speed and quality of optical flow", command, facts, tables(results), METHOD)


def tables(results: Results) -> list[Table]:
    """All tables, the most important one first."""
    return [main_table(results), truth_table(results), roofline_table(results), *gpu_tables(results["gpu"])]


def main_table(results: Results) -> Table:
    """A row for everybody who runs here."""
    cores = results["cores"]
    columns = ["flow", "schedule", "pairs/s, one core", "times OpenCV, same schedule", "times OpenCV, opencv4"]
    columns += (f"pairs/s, {cores} cores", f"{cores} cores / one", "energy / OpenCV's, opencv4", "levels from OpenCV")
    columns += ("as stored", "endpoint error, truth (px)", "endpoint error, moved frames (px)", "roofline")
    energies = {(row["name"], row["preset"]): float(np.mean(row["energy"])) for row in results["rows"]}
    reference = energies.get((REFERENCE, "opencv4"))
    lines = []
    for row in results["rows"]:
        energy = energies[row["name"], row["preset"]] / reference if reference else None
        share = None if row["roofline"] is None else row["roofline"]["roofline"]
        values = [row.get(name) for name in ("one_core_pairs_s", "times_same", "times_opencv4", "all_cores_pairs_s")]
        values += [row.get("scaling"), energy, row.get("levels"), row.get("stored_levels")]
        values += [float(np.mean(row["truth_px"])), float(np.mean(row["moved_px"]))]
        schedule = row["preset"] or "its own"
        lines.append((row["name"], schedule, *map(number, values), "-" if share is None else f"{share:.0%}"))
    notes = [f"Not measured: {name}, {reason}." for name, reason in results["unusable"].items()]
    notes.append("Rows whose schedule is their own are other algorithms, or other schedules, for orientation.")
    return Table("Backends and schedules", columns, lines, notes)


def truth_table(results: Results) -> Table:
    """Endpoint error on every pair with ground truth."""
    rows = [
        (
            row["name"],
            row["preset"] or "its own",
            *map(number, row["truth_px"]),
            number(float(np.mean(row["truth_px"]))),
        )
        for row in results["rows"]
    ]
    return Table("Endpoint error on ground truth (px)", ("flow", "schedule", *results["truth"], "mean"), rows)


def roofline_table(results: Results) -> Table:
    """The iterations' rate and their shares of the core's peaks."""
    columns = ("flow", "schedule", "million pixel-iterations/s", "share of operations", "share of bandwidth")
    rows = []
    for row in results["rows"]:
        share = row["roofline"]
        if share is not None:
            rate = number(share["pixel_iterations_s"] / 1e6)
            rows.append((row["name"], row["preset"], rate, f"{share['operations']:.0%}", f"{share['bytes']:.0%}"))
    peaks = results["peaks"]
    note = f"Peaks of one core: {number(peaks['operations_s'] / 1e9)} Gflop/s, {number(peaks['bytes_s'] / 1e9)} GB/s."
    return Table("Iterations against the peaks of one core", columns, rows, [note])


def gpu_tables(results: Results) -> list[Table]:
    """The backend `cuda` by batch, and others on the same GPU; what was not measured says why."""
    ours = results["cuda"]
    columns = ("flow", "schedule", *(f"pairs/s, batch {size}" for size in gpu.BATCHES))
    columns += ("levels from the CPU", "floor (pairs/s)", "share of the floor")
    rows, notes = [], []
    for name in gpu.SCHEDULES:
        if ours["reason"] is not None:
            rows.append(("cuda", name, *["not measured"] * len(gpu.BATCHES), "-", "-", "-"))
            continue
        found = ours["schedules"][name]
        rates = [found["pairs_s"][str(size)] for size in gpu.BATCHES]
        floor = None if found["floor_s"] is None else 1 / found["floor_s"]
        share = "-" if found["share"] is None else f"{found['share']:.0%}"
        rows.append(("cuda", name, *map(number, rates), number(found["levels"]), number(floor), share))
    if ours["reason"] is not None:
        notes.append(f"Not measured: {ours['reason']}.")
    else:
        peaks, share = ours["peaks"], ours["iteration_share"]
        flops, moved = number(peaks["operations_s"] / 1e12), number(peaks["bytes_s"] / 1e12)
        notes.append(f"Peaks of the device: {flops} Tflop/s, {moved} TB/s.")
        notes.append(f"The iterations alone, without transfers and warps, reach {share:.0%} of their floor.")
    return [Table("GPU, by batch", columns, rows, notes), peer_table(results)]


def peer_table(results: Results) -> Table:
    """Others on the same GPU and how many times faster `cuda` is at its best batch."""
    ours = results["cuda"]
    rows, notes = [], []
    for key, peer in (("opencv", "cv2.cuda.OpticalFlowDual_TVL1"), ("cucim", "cuCIM optical_flow_tvl1")):
        if results[key]["reason"] is not None:
            rows.append((peer, "-", "not measured", "-", "-"))
            notes.append(f"Not measured: {peer}, {results[key]['reason']}.")
            continue
        for name, found in results[key]["schedules"].items():
            best = None if ours["reason"] else max(ours["schedules"][name]["pairs_s"].values()) / found["pairs_s"]
            rows.append((peer, name, number(found["pairs_s"]), number(best), number(found["levels"])))
    columns = ("flow", "schedule", "pairs/s", "cuda is times faster", "levels from the CPU")
    return Table("GPU, others", columns, rows, notes)
