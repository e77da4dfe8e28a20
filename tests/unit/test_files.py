import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from atw.files import atomic_path, digest, file_digest, write_json

HANGING_WRITER = """
import sys, time
from pathlib import Path
from atw.files import atomic_path

with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("new, but only half of")
    print("written", flush=True)
    time.sleep(60)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_new_file_appears_whole_and_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder" / "result.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent  # a rename between file systems would not be atomic
    assert path.read_text() == "new"
    assert names(path.parent) == ["result.txt"]


def test_the_old_file_is_replaced_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "result.txt"
    path.write_text("old")
    with path.open() as reader:
        with atomic_path(path) as temporary:
            temporary.write_text("new")
            assert path.read_text() == "old"
        assert path.read_text() == "new"
        assert reader.read() == "old"  # who has the old file open keeps it whole


@pytest.mark.parametrize("old", ["old", None])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_failing_writer_changes_nothing(tmp_path: Path, old: str | None, error: type[BaseException]) -> None:
    path = tmp_path / "result.txt"
    if old is not None:
        path.write_text(old)
    with pytest.raises(error), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error
    assert names(tmp_path) == (["result.txt"] if old else [])
    if old is not None:
        assert path.read_text() == old


@pytest.mark.timeout(60)
@pytest.mark.parametrize("old", ["old", None])
def test_a_killed_writer_changes_nothing(tmp_path: Path, old: str | None) -> None:
    path = tmp_path / "result.txt"
    if old is not None:
        path.write_text(old)
    child = subprocess.Popen([sys.executable, "-c", HANGING_WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == "written\n"
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert (path.read_text() if path.exists() else None) == old
    # What is left of the killed writer is hidden and never taken for a result.
    assert all(name.startswith(".") and name.endswith(".tmp") for name in names(tmp_path) if name != "result.txt")
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
    assert path.read_text() == "whole"


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "result.txt"
    with atomic_path(path) as first, atomic_path(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the one that ended last
    assert names(tmp_path) == ["result.txt"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    path = tmp_path / "result.txt"
    before = os.umask(umask)
    try:
        with atomic_path(path) as temporary:
            temporary.write_text("new")
        assert os.umask(umask) == umask  # atomic_path put it back
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_json_is_written_as_people_read_it(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"name": "Zoë", "values": [1, 2.5]})
    text = path.read_text(encoding="utf-8")
    assert "Zoë" in text
    assert text.endswith("}\n")
    assert json.loads(text) == {"name": "Zoë", "values": [1, 2.5]}


def test_equal_contents_have_equal_digests() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": (1, 2), "a": 1})


def test_the_digest_is_sha256_of_canonical_json() -> None:
    assert digest({"b": [1, "ö"], "a": None}) == hashlib.sha256('{"a":null,"b":[1,"ö"]}'.encode()).hexdigest()


@pytest.mark.parametrize("other", [{"a": 2}, {"a": "1"}, {"a": 1.5}, {"b": 1}, {"a": 1, "b": None}, {}, [["a", 1]]])
def test_different_contents_have_different_digests(other: object) -> None:
    assert digest({"a": 1}) != digest(other)


def test_file_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert file_digest(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
