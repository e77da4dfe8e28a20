"""Videos that are replaced by others of the same size: what their shards hold is made again, and nothing is mixed."""

import copy
import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from atw.shards import Shard
from tests.rules.conftest import CONFIG, HEIGHT, MOTION, REPOSITORY, WIDTH, Workplace, write_video

CASES = REPOSITORY / "tests/cases/videos"
TARGET = "results/tiny/split1/fused.json"
FILM = "left/raw.avi"
HALF = {"left/half.ts": "ts", "up/half.avi": "avi"}  # downloads that were cut off, their size reserved before


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """Two classes of three videos, two of them halves, and a raw film, which has one size whatever it shows."""
    place = Workplace(tmp_path_factory.mktemp("replaced"))
    rows = [(FILM, "left", "train"), ("left/half.ts", "left", "test"), ("up/half.avi", "up", "train")]
    for label in MOTION:
        for number, subset in enumerate(("train", "test")):
            rows.append((f"{label}/{number}.avi", label, subset))
            write_video(place.folder / "videos" / rows[-1][0], label, len(rows))
    for video, ending in HALF.items():
        shutil.copy(CASES / f"zero50_sound.{ending}", place.folder / "videos" / video)
    write_raw(place.folder / "videos" / FILM, seed=0)
    place.write_list(rows)
    place.write_config(configured("rgb"))
    return place


def configured(*streams: str) -> dict[str, object]:
    config = copy.deepcopy(CONFIG)
    tiny = config["datasets"]["tiny"]
    tiny["preprocess"] |= {"shards": 1, "quarantine_limit": 0.5}
    tiny["train"] |= {"iterations": 2, "steps": [1]}
    tiny["fusion"] = {"weights": dict.fromkeys(streams, 1)}
    return config


def write_raw(path: Path, seed: int) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"I420"), 25, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for image in np.random.default_rng(seed).integers(0, 256, (9, HEIGHT, WIDTH, 3), dtype=np.uint8):
        writer.write(image)
    writer.release()


def quarantined(place: Workplace) -> set[str]:
    with (place.folder / "results/tiny/split1/quarantine.csv").open(newline="", encoding="utf-8") as file:
        listed = {row["video"] for row in csv.DictReader(file) if row["verdict"] == "quarantined"}
    fused = json.loads((place.folder / TARGET).read_text())
    assert {bad["video"] for bad in fused["videos"]["quarantined"]} == listed
    return listed


def taken(place: Workplace) -> dict[str, int]:
    """Frames of what were halves at first."""
    with Shard(shard(place, "rgb")) as frames:
        return {entry.video: entry.count for entry in frames.entries if entry.video in HALF}


def shard(place: Workplace, stream: str) -> Path:
    return place.folder / f"shards/tiny/{stream}/00000.h5"


def test_halves_that_are_replaced_by_whole_copies_of_their_size_are_taken(place: Workplace) -> None:
    place.snakemake(TARGET)
    assert "up/half.avi" in quarantined(place)
    assert max(taken(place).values()) < 60
    for video, ending in HALF.items():
        path, whole = place.folder / "videos" / video, CASES / f"sound.{ending}"
        assert path.stat().st_size == whole.stat().st_size
        shutil.copy(whole, path)
    assert place.jobs(TARGET) == {"frames": 1, "audit": 1, "train": 1, "score": 1, "fuse": 1}
    place.snakemake(TARGET)
    assert quarantined(place) == set()
    assert taken(place) == dict.fromkeys(HALF, 120)
    assert place.jobs(TARGET) == {}


def test_a_film_that_is_replaced_between_two_stages_is_one_film_in_all_streams(place: Workplace) -> None:
    path = place.folder / "videos" / FILM
    size = path.stat().st_size
    old = shard(place, "rgb").read_bytes()
    write_raw(path, seed=1)
    assert path.stat().st_size == size
    place.snakemake(str(shard(place, "flow").relative_to(place.folder)))
    place.write_config(configured("rgb", "flow"))
    assert place.jobs(TARGET) == {"frames": 1, "audit": 1, "train": 2, "score": 2, "fuse": 1}
    place.snakemake(TARGET)
    with Shard(shard(place, "rgb")) as frames, Shard(shard(place, "flow")) as flow:
        assert frames.files == flow.files
    # A shard of which Snakemake knows nothing, as it comes from somebody else.
    shard(place, "rgb").write_bytes(old)
    rgb = "shards/tiny/rgb/00000.h5"
    place.snakemake("--cleanup-metadata", rgb)
    run = place.snakemake(TARGET, check=False)
    assert run.returncode != 0
    assert f"{rgb} and " in run.stdout + run.stderr
    assert f"made from different files of {FILM}" in run.stdout + run.stderr
