"""A working folder with tiny real videos, in which the tests run the workflow's rules one after the other."""

import csv
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from tests.unit.encoded import encode

REPOSITORY = Path(__file__).parents[2]
WIDTH, HEIGHT, FRAMES = 64, 48, 14
MOTION = {"left": (-2, 0), "up": (0, -1)}  # pixels a frame
BAD = "up/up_test_bad.avi"

CONFIG = {
    "seed": 3,
    "datasets": {
        "tiny": {
            "kind": "folder",
            "root": "videos",
            "lists": "lists/split{split}.csv",
            "preprocess": {"width": WIDTH, "height": HEIGHT, "shards": 2},
            "flow": {"preset": "fast", "levels": 2, "bound": 8},
            "warp": {"distance": 3, "min_matches": 10, "min_inliers": 6},
            "sampling": {"segments": 2, "stack": 3},
            "augment": {"input_size": 32, "scales": [1.0, 0.875]},
            "model": {"backbone": "tiny", "weights": None, "dropout": 0.0, "partial_bn": "none"},
            "train": {"iterations": 12, "batch": 6, "learning_rate": 0.02, "steps": [8], "lr_multipliers": "uniform"},
            "evaluate": {"snippets": 5, "crop": 48},
            "compute": {
                "preprocess_threads": 1,
                "train_threads": 1,
                "gpus": 0,
                "loaders": 0,
                "checkpoint_every": 6,
            },
        },
        "show": {"kind": "demo", "train_per_class": 1, "test_per_class": 1, "evaluate": {"crop": 96}},
    },
    "experiments": {"average": {"model": {"consensus": "average"}}},
}


VARIABLE = [number + number // 3 for number in range(FRAMES)]  # when frames are shown, in 1/25 s


def write_video(path: Path, label: str, seed: int, times: list[int] | None = None) -> list[np.ndarray]:
    """A texture that moves by whole pixels; returns the frames as written.

    `times` are those of the frames in 1/25 s; the places between them are empty chunks.
    """
    rng = np.random.default_rng(seed)
    texture = cv2.GaussianBlur(rng.integers(0, 256, (200, 200, 3), dtype=np.uint8), (0, 0), 2)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    dx, dy = MOTION[label]
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = []
    for number in range(FRAMES):
        # The window moves against the motion that is seen.
        top, left = 80 - dy * number, 80 - dx * number
        frames.append(np.ascontiguousarray(texture[top : top + HEIGHT, left : left + WIDTH]))
    if times is not None:
        encode(path, frames, "mjpeg", times)
        return frames
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()
    return frames


@dataclass
class Workplace:
    """The folder, and the command that runs in it."""

    folder: Path

    def _launch(self, cores: int) -> tuple[list[str], dict[str, str]]:
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")]
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        return [*command, "--cores", str(cores)], environment

    def snakemake(self, *arguments: str, check: bool = True, timeout: float = 500) -> subprocess.CompletedProcess[str]:
        command, environment = self._launch(cores=2)
        run = subprocess.run(
            [*command, *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            env=environment,
            timeout=timeout,
        )
        if check:
            assert run.returncode == 0, run.stdout + run.stderr
        return run

    def start(self, *arguments: str, cores: int = 2) -> subprocess.Popen[bytes]:
        """The same command, not waited for, in a session of its own."""
        command, environment = self._launch(cores)
        return subprocess.Popen(
            [*command, *arguments],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def jobs(self, *arguments: str) -> dict[str, int]:
        """What a dry run would do: rule name to number of jobs, without the total."""
        lines = self.snakemake("--quiet", "rules", "--dry-run", *arguments).stdout.splitlines()
        pairs = [line.split() for line in lines if len(line.split()) == 2]
        return {rule: int(count) for rule, count in pairs if count.isdigit() and rule != "total"}

    def write_config(self, config: dict[str, object]) -> None:
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")

    def write_list(self, rows: list[tuple[str, str, str]], split: int = 1) -> None:
        path = self.folder / "lists" / f"split{split}.csv"
        path.parent.mkdir(exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("path", "label", "subset"), *rows])


def raise_recipe(folder: Path, stage: str) -> None:
    """Write the repository as a next commit would have it, that raises the recipe number of a stage, into a folder."""
    for name in ("atw", "workflow", "envs"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "Snakefile", folder)
    source = folder / "atw/config/stages.py"
    text = source.read_text(encoding="utf-8")
    raised, count = re.subn(rf'^(    "{stage}": )\d+(?=,$)', r"\g<1>99", text, flags=re.MULTILINE)
    assert count == 1
    source.write_text(raised, encoding="utf-8")


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    place = Workplace(tmp_path_factory.mktemp("workplace"))
    rows = []
    for label in MOTION:
        for subset, count in (("train", 4), ("test", 3)):
            for number in range(count):
                # A name that breaks any command line it is not quoted in.
                name = f"{label}/it's {label} {subset} ({number}) & #1;.avi"
                times = VARIABLE if subset == "test" and number else None
                write_video(place.folder / "videos" / name, label, len(rows), times)
                rows.append((name, label, subset))
    whole = place.folder / "videos" / rows[0][0]
    bad = place.folder / "videos" / BAD
    bad.write_bytes(whole.read_bytes()[: whole.stat().st_size // 3])
    place.write_list([*rows, (BAD, "up", "test")])
    place.write_config(CONFIG)
    return place
