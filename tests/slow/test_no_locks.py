"""From videos to fused.json where the file system has no locks."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rules.conftest import Workplace


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("error", [errno.ENOSYS, errno.ENOLCK])
def test_without_locks_the_whole_pipeline_runs(
    workplace: Workplace,
    no_locks: Callable[[int], dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: int,
) -> None:
    for name in ("videos", "lists"):
        shutil.copytree(workplace.folder / name, tmp_path / name)
    shutil.copy(workplace.folder / "config.yaml", tmp_path)
    for name, value in no_locks(error).items():
        monkeypatch.setenv(name, value)
    Workplace(tmp_path).snakemake("results/tiny/split1/fused.json", timeout=1000)
    assert json.loads((tmp_path / "results/tiny/split1/fused.json").read_text())["streams"].keys() == {
        "rgb", "flow", "warped"
    }  # fmt: skip
    warning = f"has no locks ({os.strerror(error)})"
    logs = {path: path.read_text() for path in (tmp_path / "logs").rglob("*.log")}
    assert {path: text.count(warning) for path, text in logs.items()} == dict.fromkeys(logs, 1)
    assert not [path for path in tmp_path.rglob(".*.lock") if ".snakemake" not in path.parts]
    assert not [text for text in logs.values() if "SoftFileLock" in text]  # the warning of the library
