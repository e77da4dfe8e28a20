"""The stages of the workflow in processes of their own, on growing inputs: the most memory that each has."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2

from atw import config
from atw.datasets import Dataset
from atw.files import InputError
from benchmarks.scale import synthetic
from benchmarks.scale.synthetic import Synthetic
from benchmarks.scale.watched import run

_NAME = "clips"
_THREADS = 2
_FPS = 25


class Peaks(NamedTuple):
    """The most memory of a stage, bytes, by the number of `unit`."""

    stage: str
    unit: str
    peaks: dict[int, int]

    @property
    def bytes_each(self) -> float:
        """What one more takes, between the two largest sizes."""
        (size, peak), (larger, higher) = sorted(self.peaks.items())[-2:]
        return (higher - peak) / (larger - size)


def write_clip(source: Path, out: Path, frames: int) -> None:
    """A video of so many frames: those of `source`, forwards and backwards again and again.

    Raises:
        InputError: `source` cannot be decoded.
    """
    reader = cv2.VideoCapture(str(source))
    found: list[Any] = []
    while len(found) < frames:
        read, frame = reader.read()
        if not read:
            break
        found.append(frame)
    reader.release()
    if not found:
        raise InputError(f"{source} cannot be decoded; take it out of the folder of videos")
    out.parent.mkdir(parents=True, exist_ok=True)
    height, width = found[0].shape[:2]
    writer = cv2.VideoWriter(str(out), cv2.VideoWriter.fourcc(*"MJPG"), _FPS, (width, height))
    there_and_back = [*found, *found[-2:0:-1]]
    for number in range(frames):
        writer.write(there_and_back[number % len(there_and_back)])
    writer.release()


def preprocess(folder: Path, sources: Sequence[Path], *, videos: int, frames: int) -> dict[str, int]:
    """Peak memory of the shards of rgb, flow and warped flow of `videos` videos with so many frames each."""
    rows = ["path,label,subset"]
    for number in range(videos):
        name = f"{number % 2}/{number:04d}.avi"
        write_clip(sources[number % len(sources)], folder / "videos" / name, frames)
        rows.append(f"{name},{number % 2},train")
    lists = folder / "split1.csv"
    lists.write_text("\n".join(rows) + "\n", encoding="utf-8")
    of_dataset = {"kind": "folder", "root": str(folder / "videos"), "lists": str(lists)}
    loaded = config.load({"datasets": {_NAME: of_dataset}, "preprocess": {"shards": 1}, "flow": {"preset": "fast"}})
    location = config.location(loaded, _NAME)
    members = Dataset(location).members_digest("00000", 1)
    peaks: dict[str, int] = {}
    for stream in config.STREAMS:
        settings = config.shard_settings(loaded, _NAME, stream).of_shard("00000", members).to_json()
        given: list[str | Path] = ["shard", folder / f"{stream}.h5", "--settings", settings]
        given += ["--dataset", location.to_json(), "--threads", str(_THREADS)]
        if stream == "warped":
            given += ["--flow", folder / "flow.h5"]
        peaks[stream] = run("atw", *given, folder=folder).peak_bytes
    return peaks


def of_lengths(folder: Path, sources: Sequence[Path], frames: Sequence[int]) -> list[Peaks]:
    """Shards of one video, by its number of frames."""
    found = {count: preprocess(folder / f"long {count}", sources[:1], videos=1, frames=count) for count in frames}
    return [Peaks(f"shard of {name}, one video", "frames", _column(found, name)) for name in config.STREAMS]


def of_numbers(folder: Path, sources: Sequence[Path], videos: Sequence[int], *, frames: int) -> list[Peaks]:
    """Shards of short videos, by their number."""
    found = {count: preprocess(folder / f"many {count}", sources, videos=count, frames=frames) for count in videos}
    return [Peaks(f"shard of {name}", "videos", _column(found, name)) for name in config.STREAMS]


def _column(found: dict[int, dict[str, int]], name: str) -> dict[int, int]:
    return {size: peaks[name] for size, peaks in found.items()}


def of_splits(folder: Path, datasets: dict[int, Synthetic]) -> list[Peaks]:
    """What works on a whole split, by the number of its videos."""
    found = {videos: _whole_split(folder / f"split of {videos}", given) for videos, given in datasets.items()}
    return [Peaks(name, "videos", _column(found, name)) for name in next(iter(found.values()))]


def _whole_split(folder: Path, given: Synthetic) -> dict[str, int]:
    folder.mkdir(parents=True)
    loaded, location = given.loaded, config.location(given.loaded, synthetic.NAME).to_json()
    of_audit = config.audit_settings(loaded, synthetic.NAME, **given.split)
    of_score = config.score_settings(loaded, synthetic.NAME, synthetic.STREAM, "", **given.split)
    of_fusion = config.fuse_settings(loaded, synthetic.NAME, "")
    compute = config.Compute(gpus=0, loaders=1, train_threads=_THREADS).model_dump_json()
    model, scores = folder / "model.pt", folder / "scores.h5"
    commands: dict[str, list[str | Path]] = {
        "audit": ["audit", folder / "audit.csv", *given.shards, "--settings", of_audit.to_json()],
        "check of shards": ["shards", "verify", *given.shards],
        "training": [],
        "scoring": ["score", scores, *given.shards, "--model", model, "--settings", of_score.to_json()],
        "fusion": ["fuse", folder / "fused.json", scores, "--settings", of_fusion.to_json()],
    }
    commands["audit"] += ["--dataset", location]
    commands["scoring"] += ["--dataset", location, "--compute", compute, "--threads", str(_THREADS)]
    peaks: dict[str, int] = {}
    for name, command in commands.items():
        if name == "training":
            peaks[name] = _training(folder, given, model)
        else:
            peaks[name] = run("atw", *command, folder=folder).peak_bytes
    return peaks


def _training(folder: Path, given: Synthetic, model: Path) -> int:
    job: dict[str, Any] = {
        "out": str(model),
        "settings": given.train_settings.to_dict(),
        "dataset": config.location(given.loaded, synthetic.NAME).to_json(),
        "shards": [str(path) for path in given.shards],
    }
    path = folder / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    return run("benchmarks.scale.training_job", path, folder=folder).peak_bytes
