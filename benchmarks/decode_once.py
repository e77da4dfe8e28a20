"""What `preprocess.flow_from: frames` saves, and what it costs: time for each frame, and errors of flow.

    python -m benchmarks.decode_once --videos data/ucf101 --truth data/flow_truth [--write]

One core, some five minutes. --write writes docs/benchmarks/decode_once.md.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from atw import config
from atw.config import STREAMS, Flow
from atw.datasets import Dataset
from atw.files import InputError
from atw.flow import estimate
from atw.preprocess.shard import make
from atw.shards import Shard, decode_luma, encode_frame
from benchmarks.flow.quality import endpoint_error, stored_levels_apart
from benchmarks.material import find_videos, folders_in_turn, moved_pairs, truth_pairs, video_pairs
from benchmarks.report import Table, number, show, write_page

PAGE = Path("docs/benchmarks/decode_once.md")
PRESETS = ("opencv4", "opencv24", "fast", "faster")
CLIPS, FRAMES, PAIRS = 4, 50, 40
LARGE_PX = (1920, 1080)
BITS_PER_S = 14_000_000  # of a phone's film in HEVC
GRAIN = 3.0  # grey levels, standard deviation: an enlarged clip has none, and would be easy to decode
METHOD = (
    f"Time: processor time of one core for each frame, of shards of {CLIPS} clips of {FRAMES} frames at most, at the "
    "default working size and with the preset faster; compiled before. The large clips are the small ones enlarged, "
    f"with grain of {GRAIN:g} levels, as HEVC of {BITS_PER_S // 10**6} Mbit/s.",
    "Errors: flow between images as they are, and between the same images after JPEG of quality 95, whose brightness "
    "is what stored frames give. Truth is pairs with published flow; moved frames are real ones moved by a known "
    f"field of 2 to 8 px; the difference is that between the fields of {PAIRS} pairs of the clips, in stored levels of "
    ".16 px.",
)


def written(clips: Sequence[Path], folder: Path, *, large: bool) -> Path:
    """The first frames of some clips as films of a class `a` in `folder`, enlarged or as they are."""
    (folder / "a").mkdir(parents=True)
    for index, clip in enumerate(clips):
        with av.open(str(clip)) as source, av.open(str(folder / f"a/{index}.mp4"), "w") as film:
            frames = list(islice(source.decode(video=0), FRAMES))
            width, height = LARGE_PX if large else (frames[0].width // 2 * 2, frames[0].height // 2 * 2)
            stream: Any = film.add_stream("libx265" if large else "libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            if large:
                stream.bit_rate, stream.options = BITS_PER_S, {"x265-params": "log-level=error"}
            for image in _enlarged(frames, width, height, GRAIN if large else 0.0, seed=index):
                film.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
            film.mux(stream.encode(None))
    return folder


def _enlarged(
    frames: Sequence[av.VideoFrame], width: int, height: int, grain: float, seed: int
) -> Iterator[NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    for frame in frames:
        image = cv2.resize(frame.to_ndarray(format="bgr24"), (width, height), interpolation=cv2.INTER_CUBIC)
        noise = rng.normal(scale=grain, size=image.shape) if grain else 0.0
        yield np.clip(image + noise, 0, 255).astype(np.uint8)


def milliseconds(root: Path, out: Path, flow_from: str) -> dict[str, float]:
    """Processor time for each frame of a job of each stream."""
    lists = root / "split1.csv"
    lists.write_text("path,label,subset\n" + "".join(f"a/{path.name},a,train\n" for path in (root / "a").iterdir()))
    given = {"kind": "folder", "root": str(root), "lists": str(lists), "flow": {"preset": "faster"}}
    given["preprocess"] = {"shards": 1, "flow_from": flow_from}
    loaded = config.load({"datasets": {"films": given}})
    films = Dataset(config.location(loaded, "films"))
    taken: dict[str, float] = {}
    members = films.members_digest("00000", 1)
    for stream in STREAMS:
        settings = config.shard_settings(loaded, "films", stream).of_shard("00000", members)
        path, flow = out / stream / "00000.h5", out / "flow/00000.h5"
        start = time.process_time()
        make(path, settings, films, flow_path=flow if stream == "warped" else None, threads=1)
        seconds = time.process_time() - start
        with Shard(path) as shard:
            frames = sum(entry.decoded for entry in shard.entries)
        taken[stream] = 1000 * seconds / frames
    return taken


def times(videos: Path) -> Table:
    """A row for clips as they are and enlarged, from the videos and from stored frames."""
    clips = folders_in_turn(find_videos(videos))[:CLIPS]
    rows = []
    for name, large in (("as they are, H.264", False), (f"{LARGE_PX[0]} x {LARGE_PX[1]}, HEVC", True)):
        with tempfile.TemporaryDirectory() as folder:
            root = written(clips, Path(folder) / "films", large=large)
            milliseconds(root, Path(folder) / "compiling", "frames")
            found = {source: milliseconds(root, Path(folder) / source, source) for source in ("video", "frames")}
        slow = sum(found["video"].values())
        for source, taken in found.items():
            total = sum(taken.values())
            rows.append(
                [name, source, *(number(taken[stream]) for stream in STREAMS), number(total), f"{slow / total:.2f}"]
            )
    return Table("time, ms a frame", ("clips", "flow_from", *STREAMS, "all", "times as fast"), rows)


def errors(videos: Path, truth: Path) -> Table:
    """A row a preset: errors on known motion from images as they are and from stored ones, and how far they differ."""
    pairs = video_pairs(videos, PAIRS)
    known = (truth_pairs(truth), moved_pairs(pairs.first[::4]))
    rows = []
    for preset in PRESETS:
        settings, row = Flow(preset=preset), [preset]
        for group in known:
            for change in (np.asarray, as_stored):
                first = change(np.stack([pair.first for pair in group]))
                second = change(np.stack([pair.second for pair in group]))
                fields = estimate(first, second, settings)
                found = [
                    endpoint_error(field, pair.flow, pair.valid) for field, pair in zip(fields, group, strict=True)
                ]
                row.append(number(float(np.mean(found))))
        fields = estimate(pairs.first, pairs.second, settings)
        stored = estimate(as_stored(pairs.first), as_stored(pairs.second), settings)
        row.append(number(stored_levels_apart(fields, stored)))
        rows.append(row)
    columns = ("preset", "truth, px", "stored", "moved frames, px", "stored", "difference, levels")
    return Table("errors", columns, rows)


def as_stored(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey images [N, H, W] after JPEG, as a shard of frames would hold them."""
    quality = config.Preprocess().jpeg_quality
    return np.stack([decode_luma(encode_frame(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), quality)) for image in images])


def main(given: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode_once", description=__doc__)
    parser.add_argument("--videos", type=Path, required=True, help="folder of clips")
    parser.add_argument("--truth", type=Path, required=True, help="folder of pairs with their flow")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE}")
    asked = parser.parse_args(given)
    try:
        tables = [times(asked.videos), errors(asked.videos, asked.truth)]
    except InputError as error:
        print(f"benchmarks.decode_once: {error}", file=sys.stderr)
        return 2
    show(Console(), tables)
    if asked.write:
        command = "python -m benchmarks.decode_once --videos FOLDER --truth FOLDER --write"
        write_page(PAGE, "Decoding once", command, tables, METHOD)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
