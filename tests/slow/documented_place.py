"""A folder as people have it who follow the documentation: a checkout with small datasets, results, and new videos."""

import os
import re
import shutil
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import psutil
import yaml

from atw.files import write_json
from tests.rules.conftest import CONFIG, MOTION, REPOSITORY, write_video
from tests.slow.documented import PLANNED
from tests.unit.archives import write_zip
from tests.unit.encoded import encode

OFFICIAL = ("ucf101", "hmdb51")
SPLITS = (1, 2, 3)
# What a command says that it writes.
WRITTEN = re.compile(r"(?:--out|--render|--preview|atw attention|>) (?!/dev/)(\S+)")
TARGET = re.compile(r"(?<![\w/])(?:results|shards|data)/[^\s{}]+\.(?:json|csv|png|h5|pt)(?!\S)")


class DocumentedPlace:
    """The folder, and the commands that have run in it."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._ran: dict[str, str] = {}
        self.folder = folder = base / "checkout"
        for name in ("workflow", "profiles", "examples", "envs"):
            shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(REPOSITORY / "Snakefile", folder)
        for name in ("home", "cache", "docs", "archives"):
            (folder / name).mkdir()
        _write_config(folder)
        _write_videos(folder)
        _write_archives(folder / "archives")
        _write_detections(folder)
        for name in OFFICIAL:
            self.run(f"snakemake --cores 1 data/downloads/{name}.json")
        # Where nothing but the videos is there yet, there is something to plan.
        self._unmade = Path(shutil.copytree(folder, base / "unmade"))
        self.run("snakemake --cores 2 results/demo/split1/fused.json")
        self.run("snakemake --cores 2 results/demo/experiments/average/split1/fused.json")
        # What reads results does not look for whose they are: these stand in for trainings of hours.
        for name in ("ucf101", "videos"):
            shutil.copytree(folder / "results/demo", folder / f"results/{name}")

    def environment(self) -> dict[str, str]:
        """That of an activated environment with a home of its own, and a folder for Snakemake's cache."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SNAKEMAKE_"))}
        return kept | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "HOME": str(self.folder / "home"),
            "SNAKEMAKE_OUTPUT_CACHE": str(self.folder / "cache"),
        }

    def run(self, command: str) -> str:
        """The output of a command as a page has it, planned only where that is said; it runs once."""
        if command in self._ran:
            return self._ran[command]
        planned = command in PLANNED
        nothing_is_made = planned or command.startswith("atw plan ")
        typed = re.sub(r"\b(snakemake|atw run)\b", r"\1 --dry-run", command, count=1) if planned else command
        run = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", typed],
            cwd=self._unmade if nothing_is_made else self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert run.returncode == 0, f"{typed}: exit status {run.returncode}\n{run.stdout[-3000:]}\n{run.stderr[-3000:]}"
        if planned:
            assert re.search(r"Job stats:|would run:", run.stdout + run.stderr), f"{typed}: nothing was planned"
        if "--dry-run" not in typed and not nothing_is_made:
            for name in {*WRITTEN.findall(command), *TARGET.findall(command)}:
                assert (self.folder / name).exists(), f"{command}: there is no {name}"
        self._ran[command] = run.stdout
        return run.stdout

    def processes(self) -> list[psutil.Process]:
        """Those that still work in the folders."""
        found = []
        for process in psutil.process_iter(["cwd"]):
            if process.info["cwd"] and Path(process.info["cwd"]).is_relative_to(self._base):
                found.append(process)
        return found

    def wait_until_quiet(self, timeout_seconds: float = 30) -> None:
        """Ray's helpers end a moment after their commands."""
        end = time.monotonic() + timeout_seconds
        while (left := self.processes()) and time.monotonic() < end:
            time.sleep(0.2)
        assert not left, [process.cmdline() for process in left]


def _archives(name: str) -> dict[str, str]:
    return {f"{what}_from": f"archives/{name}-{what}.zip" for what in ("videos", "lists")}


def _write_config(folder: Path) -> None:
    """The repository's config.yaml, its datasets small: the network tiny, four iterations."""
    raw = yaml.safe_load((REPOSITORY / "config.yaml").read_text(encoding="utf-8"))
    places = {name: {key: raw["datasets"][name][key] for key in ("kind", "root", "lists")} for name in OFFICIAL}
    raw["datasets"] = {
        "demo": {"kind": "demo", "train_per_class": 1, "test_per_class": 1},
        # One stream is a training of seconds, and enough to compare with.
        "videos": {"kind": "folder", "root": "path/to/videos", "fusion": {"weights": {"rgb": 1}}},
        **{name: places[name] | _archives(name) for name in OFFICIAL},
    }
    raw["experiments"]["average"]["fusion"] = {"weights": {"rgb": 1}}
    sections: Any = deepcopy(CONFIG["datasets"]["tiny"])
    sections["preprocess"]["shards"] = 1
    sections["train"] |= {"iterations": 4, "steps": [3]}
    raw |= {name: section for name, section in sections.items() if name not in ("kind", "root", "lists")}
    (folder / "config.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")


def _write_videos(folder: Path) -> None:
    """Videos in directories of their classes, and new ones beside config.yaml; the film is longer than a window."""
    for label in MOTION:
        for number in range(4):
            write_video(folder / f"path/to/videos/{label}/{number}.avi", label, number)
    frames = write_video(folder / "other.avi", "left", 8)
    encode(folder / "video.mp4", frames, "mpeg4")
    encode(folder / "film.mp4", (frames + frames[::-1]) * 5, "mpeg4")


def _write_detections(folder: Path) -> None:
    """Detections in one film, and what it shows."""
    found = {"label": "left", "score": 0.5, "segment": [1, 3]}
    shown = {"label": "left", "segment": [1, 2.5]}
    write_json(folder / "detections.json", {"results": {"film": [found]}})
    write_json(folder / "truth.json", {"database": {"film": {"subset": "test", "annotations": [shown]}}})


def _write_archives(folder: Path) -> None:
    """The official archives' form, with two classes and two videos of each."""
    ucf101, hmdb51 = {}, {}
    for label in MOTION:
        train, test = ((folder.parent / f"path/to/videos/{label}/{number}.avi").read_bytes() for number in (0, 1))
        ucf101 |= {f"UCF-101/{label}/v_{label}_g01_c01.avi": train, f"UCF-101/{label}/v_{label}_g02_c01.avi": test}
        hmdb51 |= {f"hmdb51_org/{label}/train.avi": train, f"hmdb51_org/{label}/test.avi": test}
    write_zip(folder / "ucf101-videos.zip", ucf101)
    write_zip(folder / "hmdb51-videos.zip", hmdb51)

    lists = {"classInd.txt": [f"{number} {label}" for number, label in enumerate(MOTION, start=1)]}
    for split in SPLITS:
        train_lines = [f"{label}/v_{label}_g01_c01.avi {number}" for number, label in enumerate(MOTION, start=1)]
        lists[f"trainlist{split:02d}.txt"] = train_lines
        lists[f"testlist{split:02d}.txt"] = [f"{label}/v_{label}_g02_c01.avi" for label in MOTION]
    contents = {f"ucfTrainTestlist/{name}": "\r\n".join([*lines, ""]).encode() for name, lines in lists.items()}
    write_zip(folder / "ucf101-lists.zip", contents)
    names = [f"testTrainMulti_7030_splits/{label}_test_split{split}.txt" for label in MOTION for split in SPLITS]
    write_zip(folder / "hmdb51-lists.zip", dict.fromkeys(names, b"train.avi 1 \ntest.avi 2 \n"))
