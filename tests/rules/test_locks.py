"""A folder of shards in which others plant links; tests/slow/test_no_locks.py has file systems without locks."""

import copy
import shutil
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
