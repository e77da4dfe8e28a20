"""Finding the camera's motion: what to match, how to fit, what it costs beside TV-L1, what rounded flow costs.

    python -m benchmarks.camera FOLDER_OF_VIDEOS [--videos 16] [--write]

Prints tables; --write writes them to docs/benchmarks/camera.md. A few minutes on one core.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
from rich.console import Console

from atw.config import Flow, Warp
from atw.files import InputError
from atw.flow import estimate
from atw.flow.camera import (
    METHODS,
    Homography,
    distances,
    find_corners,
    fit_homography,
    only_near,
    plausible,
    track_matches,
    warp_back,
)
from atw.flow.pairs import FloatArray
from atw.shards import dequantise, quantise
from benchmarks.camera.matches import descriptors, displaced, mutual, tracked
from benchmarks.camera.scenes import MOTIONS, Scene, make_scenes, miss_px
from benchmarks.report import Table, number, show, write_page

PAGE = Path("docs/benchmarks/camera.md")
LOST_PX = 0.5
BOUND_PX = 20.0
DENSE = Warp(distance=3.0)
SPARSE = Warp()
OPENCV4 = Flow(preset="opencv4")
Result = TypeVar("Result")

METHOD = (
    "A scene is a frame of a real video, enlarged to 436 x 352 px. A camera sees it in 340 x 256 px and moves by a "
    "known homography to the second image. A rectangle of a quarter of the image shows another video and moves by "
    "another 5 and 3 px. Each image has its own noise of 1.5 levels (noisy: 8). Blurred: the second image is averaged "
    "over 9 px. Dark: a quarter of the light.",
    "Miss: median over the background of the distance between the points where the fitted and the true homography "
    "take a point; the table has the median over the scenes. Lost: share of scenes that are missed by more than .5 px, "
    "or have no homography with more than 25 inliers.",
    "Times are CPU time of one thread, with one thread for OpenCV, and means over the scenes. `find` is the cost of a "
    "pair in a video, where the features of an image are found once: features of one image and their matching, or "
    "corners and their tracking. It does not include the flow itself.",
    "Right: share of the matches within 1 px of the true motion of the background (matches on the object are never "
    "right).",
    "The package's own code fits every homography and refines it on the matches within half the threshold. It uses "
    "USAC_FAST unless the table says otherwise. Matches more than 50 px apart are dropped.",
    "Flow corners: up to 1000, 3 px apart, displaced by TV-L1 flow of the preset opencv4. Tracks: 12 px apart, "
    "pyramidal Lucas-Kanade.",
)


class Outcome(NamedTuple):
    """What became of one scene: milliseconds, matches, share of them right, and the miss (px, infinite if lost)."""

    find_ms: float
    fit_ms: float
    matches: int
    right: float
    miss: float


def timed(work: Callable[..., Result], *given: Any) -> tuple[float, Result]:
    """CPU milliseconds of the calling thread, and the result."""
    start = time.thread_time()
    result = work(*given)
    return 1000 * (time.thread_time() - start), result


def judge(scene: Scene, matches: FloatArray, find_ms: float, settings: Warp) -> Outcome:
    """Fit a homography to matches [2, M, 2] of a scene and compare it with the truth."""
    matches = only_near(matches, settings.max_displacement)
    count = matches.shape[1]
    right = float((distances(matches, scene.homography) < 1).mean()) if count else 0.0
    fit_ms, fitted = timed(fit_homography, matches, settings) if count > settings.min_matches else (0.0, None)
    miss = math.inf
    if fitted is not None and believed(scene, matches, fitted, settings):
        miss = miss_px(scene, fitted)
    return Outcome(find_ms, fit_ms, count, right, miss)


def believed(scene: Scene, matches: FloatArray, fitted: Homography, settings: Warp) -> bool:
    inliers = int((distances(matches, fitted) <= settings.threshold).sum())
    return inliers > settings.min_inliers and plausible(fitted, *scene.first.shape)


def compare_matches(scenes: Sequence[Scene], flows: FloatArray) -> dict[str, list[Outcome]]:
    """Outcomes of every way to find matches, alone and together with corners displaced by the flow."""
    found: dict[str, list[Outcome]] = {}
    ways = descriptors()
    for scene, flow in zip(scenes, flows, strict=True):
        flow_ms, corners = timed(displaced, scene.first, flow, DENSE)
        found.setdefault("flow corners", []).append(judge(scene, corners, flow_ms, DENSE))
        sparse_ms, sparse = timed(displaced, scene.first, flow, SPARSE)
        found.setdefault("flow corners, 12 px apart", []).append(judge(scene, sparse, sparse_ms, SPARSE))
        alone = {"tracks": timed(tracked, scene.first, scene.second, SPARSE)}
        alone["tracks, 3 px apart"] = timed(tracked, scene.first, scene.second, DENSE)
        for name, way in ways.items():
            before = way.describe(scene.first)
            describe_ms, after = timed(way.describe, scene.second)
            match_ms, matches = timed(mutual, way.norm, before, after)
            alone[name] = (describe_ms + match_ms, matches)
        for name, (find_ms, matches) in alone.items():
            found.setdefault(name, []).append(judge(scene, matches, find_ms, SPARSE))
            both = np.concatenate([matches, corners], axis=1)
            found.setdefault(f"{name} + flow corners", []).append(judge(scene, both, find_ms + flow_ms, SPARSE))
    return found


def compare_fits(scenes: Sequence[Scene], flows: FloatArray) -> dict[str, list[Outcome]]:
    """Outcomes of every robust fit on the same matches: tracks, and corners displaced by the flow."""
    found: dict[str, list[Outcome]] = {}
    for scene, flow in zip(scenes, flows, strict=True):
        kinds = {"tracks": tracked(scene.first, scene.second, SPARSE), "flow": displaced(scene.first, flow, DENSE)}
        for kind, matches in kinds.items():
            for method in METHODS:
                settings = Warp(method=method)
                found.setdefault(f"{method}, {kind}", []).append(judge(scene, matches, 0.0, settings))
    return found


def compare_rounding(scenes: Sequence[Scene], flows: FloatArray) -> dict[str, list[Outcome]]:
    """Outcomes with the flow as computed and as a shard has it."""
    found: dict[str, list[Outcome]] = {}
    stored = dequantise(quantise(flows, BOUND_PX), BOUND_PX)
    for scene, exact, rounded in zip(scenes, flows, stored, strict=True):
        for name, flow in (("exact", exact), ("as stored", rounded)):
            for distance, settings in (("3", DENSE), ("12", SPARSE)):
                matches = displaced(scene.first, flow, settings)
                outcome = judge(scene, matches, 0.0, settings)
                found.setdefault(f"{name}, corners {distance} px apart", []).append(outcome)
    return found


def costs(scenes: Sequence[Scene]) -> list[Sequence[str]]:
    """Rows: each part of a pair at the defaults and its share of a TV-L1 pair in the same run."""
    parts: dict[str, list[float]] = {}
    for scene in scenes:
        corners_ms, corners = timed(find_corners, scene.first, None, SPARSE)
        track_ms, matches = timed(track_matches, scene.first, scene.second, corners)
        fit_ms, _ = timed(fit_homography, matches, SPARSE)
        warp_ms, _ = timed(warp_back, scene.first, scene.second, scene.homography, SPARSE.border)
        flow_ms, _ = timed(estimate, scene.first[None], scene.second[None], OPENCV4)
        for name, taken in (("corners", corners_ms), ("tracks", track_ms), ("fit", fit_ms), ("warp", warp_ms)):
            parts.setdefault(name, []).append(taken)
        parts.setdefault("all of it", []).append(corners_ms + track_ms + fit_ms + warp_ms)
        parts.setdefault("TV-L1, opencv4", []).append(flow_ms)
    flow_ms = float(np.median(parts["TV-L1, opencv4"]))
    medians = {name: float(np.median(taken)) for name, taken in parts.items()}
    return [(name, number(taken, 2), number(taken / flow_ms, 2)) for name, taken in medians.items()]


def outcome_table(title: str, first: str, found: Mapping[str, list[Outcome]], scenes: Sequence[Scene]) -> Table:
    """A row for each name: times, matches, and the misses by motion and altogether."""
    columns = (first, "find, ms", "fit, ms", "matches", "right", *MOTIONS, "miss, px", "lost")
    rows = []
    for name, outcomes in found.items():
        misses = np.array([outcome.miss for outcome in outcomes])
        by_motion = [misses[[scene.motion == motion for scene in scenes]] for motion in MOTIONS]
        means = np.mean([outcome[:4] for outcome in outcomes], axis=0)
        lost = f"{100 * np.mean(misses > LOST_PX):.0f}%"
        row = [name, *(number(value, 2) for value in means[:2]), f"{means[2]:.0f}", number(means[3], 2)]
        rows.append([*row, *(_miss(some) for some in by_motion), _miss(misses), lost])
    return Table(title, columns, rows)


def _miss(misses: np.ndarray) -> str:
    median = float(np.median(misses))
    return number(median) if math.isfinite(median) else "none"


def measure(folder: Path, videos: int) -> list[Table]:
    scenes = make_scenes(folder, videos)
    estimate(scenes[0].first[None], scenes[0].second[None], OPENCV4)  # compiles
    flows = np.concatenate([estimate(scene.first[None], scene.second[None], OPENCV4) for scene in scenes])
    return [
        Table("What a pair costs", ("part", "ms", "of TV-L1"), costs(scenes)),
        outcome_table("What to match", "matches", compare_matches(scenes, flows), scenes),
        outcome_table("How to fit", "fit", compare_fits(scenes, flows), scenes),
        outcome_table("Rounded flow", "flow", compare_rounding(scenes, flows), scenes),
    ]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.camera", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of videos")
    parser.add_argument("--videos", type=int, default=16, help="how many of them at most")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks/camera.md")
    given = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    try:
        tables = measure(given.folder, given.videos)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    show(Console(width=220), tables)
    if given.write:
        command = f"python -m benchmarks.camera FOLDER_OF_VIDEOS --videos {given.videos} --write"
        write_page(PAGE, "The camera's motion", command, tables, METHOD)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
