"""Runs of the workflow with every process that belonged to them, and what they left behind."""

import contextlib
import copy
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from atw.train.ray.cluster import still_there
from tests.rules.conftest import CONFIG, REPOSITORY, Workplace
from tests.slow.processes import kill, tree


def configure(place: Workplace, seed: int, *, iterations: int = 12, **compute: object) -> None:
    """The tiny configuration; a seed of its own makes a training of its own, on the same shards."""
    config = copy.deepcopy(CONFIG)
    config["seed"] = seed
    config["datasets"]["tiny"]["train"] |= {"iterations": iterations, "steps": [2 * iterations // 3]}
    config["datasets"]["tiny"]["compute"] |= compute
    place.write_config(config)


def snakemake(cores: int, *targets: str) -> list[str]:
    snakefile = str(REPOSITORY / "Snakefile")
    return [sys.executable, "-m", "snakemake", "--snakefile", snakefile, "--cores", str(cores), "--", *targets]


WORKER = "ray::RayTrainWorker"


@dataclass
class Watched:
    """A run, every process that was ever seen below it, and what these were seen to do."""

    run: subprocess.Popen[bytes]
    seen: set[psutil.Process] = field(default_factory=set)
    workers_at_once: int = 0
    looks: int = 0
    sockets: set[Path] = field(default_factory=set)
    exposed: set[Path] = field(default_factory=set)
    titles: dict[int, set[str]] = field(default_factory=dict)
    listening: dict[int, set[str]] = field(default_factory=dict)

    def look(self) -> None:
        processes = tree(self.run.pid)
        self.seen |= set(processes)
        workers = 0
        self.looks += 1
        for process in processes:
            with contextlib.suppress(psutil.Error):
                sockets = process.net_connections("tcp")
                title = " ".join(process.cmdline())
                workers += title.startswith(WORKER)
                self.titles.setdefault(process.pid, set()).add(title)
                addresses = {each.laddr.ip for each in sockets if each.status == psutil.CONN_LISTEN}
                self.listening.setdefault(process.pid, set()).update(addresses)
                if self.looks % 10 == 1:  # it takes its time
                    names = [Path(each.laddr) for each in process.net_connections("unix") if each.laddr]
                    self.sockets.update(names)
                    names += [Path(each.path) for each in process.open_files()]
                    self.exposed.update(path for path in names if others_reach(path))
        self.workers_at_once = max(self.workers_at_once, workers)

    def addresses(self) -> dict[str, set[str]]:
        """Where processes listened, and what these were called: one takes its title some time after it began."""
        found: dict[str, set[str]] = {}
        for pid, addresses in self.listening.items():
            for address in addresses:
                found.setdefault(address, set()).update(self.titles[pid])
        return found

    def wait(self, seconds: float) -> int:
        """The exit status; every process must be gone by then, or soon after."""
        end = time.monotonic() + seconds
        while self.run.poll() is None:
            assert time.monotonic() < end, "the run does not end"
            self.look()
            time.sleep(0.2)
        assert still_there(self.seen, 15) == []
        return self.run.returncode


def others_reach(path: Path) -> bool:
    """Whether other users of this machine can change a file, or put one of theirs in its place."""
    try:
        status = [each.stat() for each in (path, *path.parents)]
    except OSError:  # gone, or no file
        return False
    writable = [each.st_mode & stat.S_IWOTH and not each.st_mode & stat.S_ISVTX for each in status]
    return any(writable) and all(each.st_mode & stat.S_IXOTH for each in status[1:])


def start(place: Workplace, command: list[str], **variables: str) -> Watched:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"} | variables
    log = (place.folder / "run.log").open("wb")
    with log:
        run = subprocess.Popen(
            command, cwd=place.folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    return Watched(run)


def finish(watched: Watched, place: Workplace, seconds: float) -> None:
    try:
        status = watched.wait(seconds)
    finally:
        kill([*watched.seen])
    assert status == 0, (place.folder / "run.log").read_text()


def log_of(place: Workplace, stream: str) -> str:
    return (place.folder / f"logs/train/tiny/split1/{stream}.log").read_text()


def iterations_in(path: Path) -> list[int]:
    return [json.loads(line)["iteration"] for line in path.read_text().splitlines()]


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.2)
