"""The workflow where the file system has no locks, and in a folder of shards where others plant links."""

import copy
import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import OtherUser
from tests.rules.conftest import CONFIG, Workplace


@pytest.fixture
def place(workplace: Workplace, tmp_path: Path) -> Workplace:
    """The videos, and nothing made of them."""
    for name in ("videos", "lists"):
        shutil.copytree(workplace.folder / name, tmp_path / name)
    new = Workplace(tmp_path)
    new.write_config(CONFIG)
    return new


@pytest.mark.timeout(600)
def test_without_locks_a_stream_is_trained_and_scored(
    place: Workplace, no_locks: Callable[[int], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in no_locks(errno.ENOLCK).items():
        monkeypatch.setenv(name, value)
    place.snakemake("results/tiny/split1/rgb/scores.h5")
    logs = [path for rule in ("frames", "train", "score") for path in (place.folder / "logs" / rule).rglob("*.log")]
    assert len(logs) == 4
    assert [path.read_text().count("has no locks (No locks available)") for path in logs] == [1] * 4
    assert not [path for path in place.folder.rglob(".*.lock") if ".snakemake" not in path.parts]


def test_links_planted_among_shared_shards_are_not_followed(place: Workplace, other_user: OtherUser) -> None:
    place.write_config(copy.deepcopy(CONFIG) | {"shards": str(other_user.folder)})
    secret = place.folder / "secret"
    secret.write_text("of root alone")
    other_user.run(f"mkdir -p tiny/rgb; ln -s {secret} tiny/rgb/.00000.h5.lock")
    shard = f"{other_user.folder}/tiny/rgb/00000.h5"
    assert place.snakemake(shard, check=False).returncode != 0
    log = (place.folder / "logs/frames/tiny/00000.log").read_text()
    assert f"{other_user.folder}/tiny/rgb/.00000.h5.lock is no lock file; look who made it" in log
    assert "Traceback" not in log
    assert secret.read_text() == "of root alone"
    other_user.run("rm tiny/rgb/.00000.h5.lock")
    place.snakemake(shard)
    assert [path.name for path in (other_user.folder / "tiny/rgb").iterdir()] == ["00000.h5"]
