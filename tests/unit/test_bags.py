"""examples/make_bags.py: clips of flat colours, joined."""

import csv
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "examples/make_bags.py"
FRAMES = 8


@pytest.fixture(name="clips")
def clips_fixture(tmp_path: Path, write_mjpeg: Callable[..., Path]) -> Path:
    """Two red clips and four green ones in each subset."""
    rows = []
    for subset in ("train", "test"):
        for label, count, colour in (("fight", 2, (0, 0, 200)), ("calm", 4, (0, 200, 0))):
            for number in range(count):
                path = f"{label}/{subset}{number}.avi"
                (tmp_path / "clips" / label).mkdir(parents=True, exist_ok=True)
                write_mjpeg(tmp_path / "clips" / path, [np.full((48, 64, 3), colour, np.uint8)] * FRAMES)
                rows.append((path, label, subset))
    lines = ["path,label,subset", *map(",".join, rows)]
    (tmp_path / "clips/split1.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "clips"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True)


def is_red(video: Path) -> list[bool]:
    capture, red = cv2.VideoCapture(str(video)), []
    while True:
        whole, frame = capture.read()
        if not whole:
            return red
        _, green, level = frame.mean(axis=(0, 1))
        red.append(bool(level > green))


def test_one_clip_of_a_bag_shows_the_class_and_the_list_says_where(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "bags"
    done = run(clips, "fight", out, "--clips", "3", "--seed", "1")
    assert done.returncode == 0, done.stderr
    with (out / "split1.csv").open(newline="") as stream:
        rows: list[dict[str, Any]] = list(csv.DictReader(stream))
    assert sorted((row["label"], row["subset"]) for row in rows) == sorted(
        (label, subset) for label in ("fight", "no_fight") for subset in ("train", "test") for _ in range(2)
    )
    for row in rows:
        red = is_red(out / row["path"])
        assert len(red) == 3 * FRAMES
        if row["label"] == "no_fight":
            assert not any(red)
            assert (row["action_first"], row["action_last"]) == ("", "")
        else:
            first, last = int(row["action_first"]), int(row["action_last"])
            assert last - first + 1 == FRAMES
            assert red == [first <= number <= last for number in range(len(red))]
    assert len({row["action_first"] for row in rows}) > 2
    again = run(clips, "fight", tmp_path / "again", "--clips", "3", "--seed", "1")
    assert again.returncode == 0
    for row in rows:
        assert (tmp_path / "again" / row["path"]).read_bytes() == (out / row["path"]).read_bytes()


def test_wrong_input_is_named_and_nothing_is_overwritten(clips: Path, tmp_path: Path) -> None:
    for arguments, words in (
        ((clips, "fight", tmp_path / "bags", "--clips", 5), "split1.csv: train needs clips of fight, and at least 5"),
        ((clips, "brawl", tmp_path / "bags"), "train needs clips of brawl"),
        ((clips, "fight", tmp_path / "bags", "--clips", 1), "a bag has at least 2 clips"),
        ((clips, "fight", clips), "exists; name a new folder"),
        ((tmp_path, "fight", tmp_path / "bags"), "has no split1.csv"),
    ):
        done = run(*arguments)
        assert done.returncode != 0
        assert words in done.stderr
    assert not (tmp_path / "bags").exists()
