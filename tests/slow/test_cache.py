"""Snakemake's own cache between working folders: every shard from it, and none of another recipe."""

import shutil
from pathlib import Path

import pytest

from tests.rules.conftest import Workplace, raise_recipe

SHARDS = [f"shards/tiny/{stream}/{number:05d}.h5" for stream in ("rgb", "flow", "warped") for number in range(2)]


def another(place: Workplace, folder: Path) -> Workplace:
    """A working folder with copies of the same videos."""
    folder.mkdir()
    for name in ("videos", "lists"):
        shutil.copytree(place.folder / name, folder / name)
    shutil.copy(place.folder / "config.yaml", folder)
    return Workplace(folder)


def ran(place: Workplace) -> set[str]:
    """The stages that ran: what is taken from the cache leaves an empty log."""
    return {path.parts[-3] for path in (place.folder / "logs").rglob("*.log") if path.stat().st_size}


@pytest.mark.timeout(300)
def test_a_second_folder_takes_every_shard_from_the_cache(
    workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("SNAKEMAKE_OUTPUT_CACHE", str(tmp_path / "cache"))
    plain = another(workplace, tmp_path / "plain")
    plain.snakemake(*SHARDS)
    first = another(workplace, tmp_path / "first")
    first.snakemake("--cache", "--", *SHARDS)
    second = another(workplace, tmp_path / "second")
    second.snakemake("--cache", "--", *SHARDS)
    assert ran(first) == {"frames", "flow", "warped"}
    assert ran(second) == set()
    for shard in SHARDS:
        content = (plain.folder / shard).read_bytes()
        assert (first.folder / shard).read_bytes() == content
        assert (second.folder / shard).read_bytes() == content
        assert (second.folder / shard).resolve().is_relative_to(tmp_path / "cache")
    # A stage that computes otherwise than before misses, and so does what follows from it.
    next_commit = tmp_path / "commit"
    next_commit.mkdir()
    raise_recipe(next_commit, "flow")
    monkeypatch.setenv("PYTHONPATH", str(next_commit))
    third = another(workplace, tmp_path / "third")
    third.snakemake("--snakefile", str(next_commit / "Snakefile"), "--cache", "--", *SHARDS)
    assert ran(third) == {"flow", "warped"}
