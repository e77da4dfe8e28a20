"""The pipeline killed at random moments and continued by the documented two steps: the same as an undisturbed run."""

import contextlib
import json
import random
import shutil
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from atw.train.ray.cluster import still_there
from tests.rules.conftest import Workplace
from tests.slow.processes import kill, tree

TARGET = "results/tiny/split1/fused.json"
MOMENTS = 10  # for each kind of kill


def stages(processes: list[psutil.Process]) -> list[psutil.Process]:
    """The processes that `python -m atw` began, without those that Ray keeps beside them."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.cmdline()[1:3] == ["-m", "atw"]:
                found.append(process)
    return found


def made(place: Workplace) -> dict[str, bytes]:
    """Every shard and network."""
    paths = [*place.folder.glob("shards/**/*"), *place.folder.glob("results/**/model.pt")]
    return {str(path.relative_to(place.folder)): path.read_bytes() for path in paths if path.is_file()}


@pytest.fixture(scope="module")
def undisturbed(workplace: Workplace, tmp_path_factory: pytest.TempPathFactory) -> tuple[float, Workplace]:
    """Seconds that a whole run takes, and where it was: a place of its own, since other tests change the shared one."""
    place = Workplace(tmp_path_factory.mktemp("undisturbed"))
    _copy_inputs(workplace, place)
    begin = time.monotonic()
    place.snakemake(TARGET)
    return time.monotonic() - begin, place


def _copy_inputs(source: Workplace, target: Workplace) -> None:
    for name in ("videos", "lists"):
        shutil.copytree(source.folder / name, target.folder / name)
    shutil.copy(source.folder / "config.yaml", target.folder)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("victim", ["everything", "snakemake alone"])
def test_kills_change_nothing(undisturbed: tuple[float, Workplace], tmp_path: Path, victim: str) -> None:
    seconds, whole = undisturbed
    place = Workplace(tmp_path)
    _copy_inputs(whole, place)
    rng = random.Random(victim)
    killed = 0
    for _ in range(MOMENTS):
        run = place.start("--rerun-incomplete", TARGET)
        try:
            # Short enough that most attempts are killed; each gets further than the one before.
            run.wait(rng.uniform(1, seconds / 3))
            break
        except subprocess.TimeoutExpired:
            killed += 1
        processes = tree(run.pid)
        going_on = stages(processes)
        kill(processes if victim == "everything" else processes[:1])
        run.wait()
        if victim == "snakemake alone":
            # A stage that goes on is waited for, as a training's message asks.
            still_there(going_on, 120)
        else:
            still_there(processes, 30)
        assert not [path for path in tmp_path.glob("shards/**/*.h5") if path.stat().st_size == 0]
        place.snakemake("--unlock")
    assert killed >= 3
    place.snakemake(TARGET, "--rerun-incomplete")
    assert made(place) == made(whole)
    fused, expected = (json.loads((each.folder / TARGET).read_text()) for each in (place, whole))
    assert fused == expected
