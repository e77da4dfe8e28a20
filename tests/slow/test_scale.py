"""The benchmark of scale, whole, at sizes of minutes: every stage runs, and its page is written."""

from pathlib import Path

import psutil
import pytest

from atw.train.ray.cluster import still_there
from benchmarks.scale import __main__ as benchmark
from benchmarks.scale.__main__ import Sizes
from tests.conftest import _moving_frames, _write_mjpeg

SMALL = Sizes(
    nothing=24,
    planned=(6_000, 24_000),
    drawn=(800, 3_200),
    opened=(512, 1_024),
    videos_a_shard=(256, 64),
    videos_of_shards=1_024,
    samples=50,
    clips=6,
    loaders=(0, 1),
    batches=4,
    lengths=(20, 40),
    numbers=(2, 4),
    frames=10,
    splits=(256, 512),
)


def test_it_writes_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos, page = tmp_path / "videos", tmp_path / "scale.md"
    for seed, name in enumerate(("left/a", "left/b", "left/c", "up/a", "up/b", "up/c")):
        _write_mjpeg(videos / f"{name}.avi", _moving_frames(24, width=340, height=256, seed=seed))
    monkeypatch.setattr(benchmark, "PAGE", page)
    monkeypatch.setattr(benchmark, "SIZES", SMALL)
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    assert benchmark.main([str(videos), "--write"]) == 0
    text = page.read_text(encoding="utf-8")
    for words in ("| growth |", "| training | videos | 256, 512 |", "- CPU: "):
        assert words in text
    alive = still_there(psutil.Process().children(recursive=True), 1)
    # The server that starts loaders, and its tracker of resources, stay as long as this process.
    allowed = ("multiprocessing.forkserver", "multiprocessing.resource_tracker")
    assert [
        process
        for process in alive
        if process.pid not in before and not any(name in " ".join(process.cmdline()) for name in allowed)
    ] == []
