"""What `atw run` and `atw plan` refuse before Snakemake starts."""

import errno
from pathlib import Path
from typing import Any

import pytest
import yaml

from atw import workflow
from atw.config import Config
from atw.extras import starting
from atw.extras.cost.estimate import pending_files
from atw.files import InputError
from atw.plan import Plan
from tests.unit.configured import UCF101

TARGET = "results/demo/split1/fused.json"


def test_a_folder_that_takes_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(**_: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    expected = (
        r"^the working folder cannot be written to \(Read-only file system\), and Snakemake keeps .*; work in ano"
    )
    with pytest.raises(InputError, match=expected):
        workflow.run([TARGET], [], plain=False)
    with pytest.raises(InputError, match=expected):
        pending_files(TARGET, Path("config.yaml"))


def test_a_link_to_a_configuration_that_is_not_there_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    workflow.CONFIG.symlink_to("/nowhere/shared.yaml")
    with pytest.raises(
        InputError, match=r"^config.yaml is a link to /nowhere/shared.yaml, which is not there; mend or"
    ):
        workflow.run([TARGET], [], plain=False)
    with pytest.raises(InputError, match=r"config.yaml exists; work in an empty folder, or move it away"):
        starting.write_for_published("ucf101")
    assert workflow.CONFIG.is_symlink()


def test_shards_are_in_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for shards in ("file", "file/x/y", str(tmp_path / "file/x")):
        with pytest.raises(InputError, match=rf"^shards is {shards}, and .*file is no folder; name another place$"):
            Plan({"shards": shards, "datasets": {"mine": UCF101}})
    for shards in ("new/folder", "/nowhere/new", "loop/x"):
        assert Plan({"shards": shards, "datasets": {"mine": UCF101}}).config.shards == shards


def test_entries_of_several_lines_are_read() -> None:
    """As config.yaml has it in comments."""
    entry = starting.published()["somethingv2"]
    loaded = Config.model_validate(yaml.safe_load(yaml.safe_dump({"datasets": {"mine": entry}})))
    assert (loaded.dataset("mine").recipe, loaded.dataset("mine").train.steps) == ("large", (26_400, 52_800))
