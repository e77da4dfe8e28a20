"""Files and folders are whole or absent, whatever stops their writer; JSON and digests."""

import errno
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from atw.files import InputError, atomic_folder, atomic_path, digest, file_digest, write_json
from tests.unit.writers import hold, names


def write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def test_the_new_file_appears_whole_and_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder" / "result.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent  # a rename between file systems would not be atomic
    assert path.read_text() == "new"
    assert names(path.parent) == ["result.txt"]


def test_only_a_file_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, words in (("pipe", "is no regular file"), ("folder", "is a folder")):
        with pytest.raises(InputError, match=f"{name} {words}; choose another name"), atomic_path(tmp_path / name):
            pytest.fail("it was begun")
    assert (tmp_path / "pipe").is_fifo()


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


@pytest.mark.parametrize("old", ["old", None])
def test_a_killed_writer_changes_nothing(tmp_path: Path, old: str | None) -> None:
    path = tmp_path / "result.txt"
    # Names that the temporary file of a killed writer must not be taken for.
    others = [".result.txt.tmp", ".result.txt.more.abcdefgh.tmp", ".result.txtx.abcdefgh.tmp"]
    for name in [*others, *(["result.txt"] if old else [])]:
        (tmp_path / name).write_text("old")
    before = names(tmp_path)
    with hold(path) as child:
        child.send_signal(signal.SIGKILL)
    assert (path.read_text() if path.exists() else None) == old
    left = sorted(set(names(tmp_path)) - set(before))
    assert len(left) == 2
    assert all(name.startswith(".result.txt.") and name.endswith((".tmp", ".lock")) for name in left)
    write_text(path, "whole")
    assert path.read_text() == "whole"
    assert names(tmp_path) == sorted([*others, "result.txt"])


def test_a_writer_does_not_wait_for_itself(tmp_path: Path) -> None:
    path = tmp_path / "result.txt"
    with atomic_path(path) as temporary:
        with pytest.raises(InputError, match=r"this process is writing .*result.txt already"), atomic_path(path):
            pass
        temporary.write_text("first")
    assert path.read_text() == "first"
    assert names(tmp_path) == ["result.txt"]


def test_a_lock_that_vanished_on_a_network_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = [OSError(errno.ESTALE, "Stale file handle")] * 2

    def samestat(*stats: os.stat_result) -> bool:
        if stale:
            raise stale.pop()
        return stats[0].st_ino == stats[1].st_ino

    monkeypatch.setattr("os.path.samestat", samestat)
    write_text(tmp_path / "result.txt", "new")
    assert stale == []
    assert names(tmp_path) == ["result.txt"]


RACING_WRITER = """
import sys
from pathlib import Path
from atw.files import atomic_path

path = Path(sys.argv[1])
for _ in range(40):
    with atomic_path(path) as temporary:
        assert [rest for rest in path.parent.glob(".*.tmp")] == [temporary]
        temporary.write_text(sys.argv[2] * 1000)
    assert len(path.read_text()) == 1000
"""


@pytest.mark.timeout(120)
def test_racing_writers_come_one_after_the_other(tmp_path: Path) -> None:
    children = [
        subprocess.Popen([sys.executable, "-c", RACING_WRITER, str(tmp_path / "result.txt"), letter]) for letter in "ab"
    ]
    assert [child.wait() for child in children] == [0, 0]
    assert names(tmp_path) == ["result.txt"]


def test_a_vanished_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "share" / "result.txt"
    message = r"cannot write .*share/result.txt: No such file.*look whether its folder"
    with pytest.raises(InputError, match=message), atomic_path(path) as temporary:
        temporary.write_text("new")
        shutil.rmtree(path.parent)
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS])
def test_a_disk_that_refuses_is_named(tmp_path: Path, error: int) -> None:
    message = rf"cannot write .*result.txt: {os.strerror(error)}; "
    with pytest.raises(InputError, match=message), atomic_path(tmp_path / "result.txt"):
        raise OSError(error, "whatever the library says")
    assert names(tmp_path) == []


def test_an_error_that_is_not_the_disks_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing.txt"), atomic_path(tmp_path / "result.txt"):
        (tmp_path / "nothing.txt").read_text()


def test_a_folder_appears_whole_and_is_replaced_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "frames"
    with atomic_folder(path) as temporary:
        (temporary / "0").write_text("old")
        assert not path.exists()
    with pytest.raises(InputError, match=r"frames exists already"), atomic_folder(path):
        pass
    with pytest.raises(RuntimeError), atomic_folder(path, replace=True):
        raise RuntimeError
    assert names(path) == ["0"]
    with atomic_folder(path, replace=True) as temporary:
        (temporary / "1").write_text("new")
    assert names(path) == ["1"]
    assert names(path.parent) == ["frames"]


def test_the_old_folder_is_there_until_the_new_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "frames"
    path.mkdir()
    (path / "0").write_text("old")
    rename = Path.replace

    def fail(old: Path, new: Path) -> Path:
        if old.name.endswith(".tmp"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(old, new)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(InputError, match=r"cannot write .*frames: No space"), atomic_folder(path, replace=True):
        pass
    assert (path / "0").read_text() == "old"
    assert names(tmp_path) == ["frames"]


def test_an_old_folder_is_put_back_after_a_kill_between_two_names(tmp_path: Path) -> None:
    kill = f"""
import os, signal, sys
from pathlib import Path
from atw.files import atomic_folder

rename = Path.replace

def replace(old, new):
    if old.name.endswith(".tmp"):
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(old, new)

Path.replace = replace
with atomic_folder(Path({str(tmp_path / "frames")!r}), replace=True):
    pass
"""
    path = tmp_path / "frames"
    path.mkdir()
    (path / "0").write_text("old")
    assert subprocess.run([sys.executable, "-c", kill], check=False).returncode == -signal.SIGKILL
    with pytest.raises(InputError, match=r"frames exists already"), atomic_folder(path):
        pass
    assert (path / "0").read_text() == "old"
    assert names(tmp_path) == ["frames"]


def test_a_link_is_replaced_and_what_it_shows_stays(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/0").write_text("of somebody else")
    (tmp_path / "frames").symlink_to("elsewhere")
    with atomic_folder(tmp_path / "frames", replace=True) as temporary:
        (temporary / "1").write_text("new")
    assert names(tmp_path / "elsewhere") == ["0"]
    assert names(tmp_path / "frames") == ["1"]
    assert names(tmp_path) == ["elsewhere", "frames"]


def test_files_and_all_of_a_folder_are_on_the_disk_before_they_have_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flushed, flush = tmp_path / "frames", [], os.fsync

    def fsync(handle: int) -> None:
        flushed.append((Path(f"/proc/self/fd/{handle}").readlink().name, path.exists()))
        flush(handle)

    monkeypatch.setattr("os.fsync", fsync)
    with atomic_folder(path) as temporary:
        (temporary / "deep").mkdir()
        (temporary / "0").write_text("new")
        (temporary / "deep/1").write_text("new")
    inside = ["0", "1", "deep", temporary.name]
    assert sorted(flushed) == sorted([*((name, False) for name in inside), (tmp_path.name, True)])
    flushed.clear()
    path = tmp_path / "result.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("new")
    assert flushed == [(temporary.name, False), (tmp_path.name, True)]


def test_a_folder_is_not_searched_for_each_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def search(folder: Path) -> None:
        raise AssertionError(folder)

    monkeypatch.setattr(Path, "iterdir", search)
    for number in range(3):
        with atomic_folder(tmp_path / f"{number}") as temporary:
            (temporary / "0").write_text("new")
        write_text(tmp_path / f"{number}.txt", "new")
    monkeypatch.undo()
    assert names(tmp_path) == ["0", "0.txt", "1", "1.txt", "2", "2.txt"]


def test_the_umask_of_the_process_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def umask(mask: int) -> int:
        raise AssertionError(mask)

    monkeypatch.setattr("os.umask", umask)
    write_text(tmp_path / "result.txt", "new")
    with atomic_folder(tmp_path / "frames"):
        pass
    assert names(tmp_path) == ["frames", "result.txt"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    path = tmp_path / "result.txt"
    before = os.umask(umask)
    try:
        write_text(path, "new")
        with atomic_folder(tmp_path / "frames"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "frames").stat().st_mode) == 0o777 & ~umask


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
