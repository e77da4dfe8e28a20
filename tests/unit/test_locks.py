"""Locks of files: on file systems that have none, in folders where others write, and of holders that were killed."""

import errno
import os
import platform
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from atw.errors import BusyError, InputError
from atw.files import atomic_folder, atomic_path, write_json
from atw.locks import locked
from atw.train.history import History
from tests.conftest import OtherUser
from tests.unit.writers import hold, names, start

Environment = Callable[[int], dict[str, str]]
ERRORS = [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP]
WARNING = re.compile(r"the file system of \S+ has no locks \(.*\)")

EVERYTHING = """
import logging, sys
from pathlib import Path
from atw.evaluate.scores import read_scores
from atw.files import InputError, atomic_folder, write_json
from atw.locks import locked
from atw.hdf5 import new_file
from atw.shards import Shard

logging.basicConfig(level=logging.DEBUG)
folder = Path(sys.argv[1])
for number in range(3):
    write_json(folder / f"{number}.json", number)
with atomic_folder(folder / "frames"):
    pass
with new_file(folder / "0.h5") as file:
    file["a"] = 1
for read in (read_scores, Shard):
    try:
        read(folder / "0.h5")
    except InputError as error:
        assert "unable to lock" not in str(error), error
with locked(folder / "run", "running"):
    try:
        with locked(folder / "run", "running"):
            raise AssertionError
    except InputError as error:
        print(error)
"""

FORKED = """
import os, sys
from pathlib import Path
from atw.errors import BusyError
from atw.locks import locked

folder = Path(sys.argv[1])
try:
    with locked(folder / "run", "running"):
        child = os.fork()
        if not child:
            raise SystemExit  # what is open around it is left, too
        assert os.waitpid(child, 0)[1] == 0
        print([path.name for path in folder.iterdir()])
        child = os.fork()
        if not child:
            try:
                with locked(folder / "run", "running"):
                    os._exit(1)
            except BusyError:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
except SystemExit:
    os._exit(0)
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("error", ERRORS)
def test_without_locks_all_goes_on_with_one_warning(tmp_path: Path, no_locks: Environment, error: int) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", EVERYTHING, str(tmp_path)], env=os.environ | no_locks(error),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout == "this process is running already\n"
    assert len(WARNING.findall(run.stderr)) == 1
    assert os.strerror(error) in run.stderr
    assert run.stderr.count("WARNING") == 1
    assert names(tmp_path) == ["0.h5", "0.json", "1.json", "2.json", "frames"]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("error", [0, errno.ENOSYS, errno.ENOLCK])
def test_a_second_writer_waits_and_says_for_whom(tmp_path: Path, no_locks: Environment, error: int) -> None:
    path = tmp_path / "result.txt"
    environment = no_locks(error) if error else {}
    with hold(path, **environment) as first:
        second = start(path, **environment)
        assert second.stderr is not None and second.stdout is not None
        said = next(line for line in second.stderr if line.startswith("waiting"))
        assert said.startswith(f"waiting for process {first.pid} on {platform.node()}, which is writing {path}")
        assert (f"if it has ended, delete {tmp_path}/.result.txt.lock" in said) == bool(error)
        assert len(names(tmp_path)) == 2  # the lock, and the temporary file of the first
        first.communicate("")
        assert second.communicate("")[0] == "written\n"
    assert (first.returncode, second.returncode) == (0, 0)
    assert names(tmp_path) == ["result.txt"]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("error", [0, *ERRORS])
def test_what_a_killed_writer_leaves_blocks_nobody(tmp_path: Path, no_locks: Environment, error: int) -> None:
    path = tmp_path / "result.txt"
    environment = no_locks(error) if error else {}
    with hold(path, **environment) as child:
        child.send_signal(signal.SIGKILL)
    assert len(names(tmp_path)) == 2
    with hold(path, **environment) as child:
        child.communicate("")
    assert child.returncode == 0
    assert names(tmp_path) == ["result.txt"]


@pytest.fixture
def soft(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process finds no locks, either, and no exchange of names."""

    def refuse(*_: object) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr("atw.locks._lockable", {})
    monkeypatch.setattr("filelock._soft.exchange_names", lambda *_: False)


def ended_process() -> int:
    """The number of a process that has ended."""
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    return child.pid


@pytest.mark.usefixtures("soft")
def test_a_lock_of_another_machine_says_what_to_delete(tmp_path: Path) -> None:
    lock = tmp_path / ".run.lock"
    lock.write_text(f"{ended_process()}\nfar.away\n")
    message = rf"process \d+ on far.away is running: .*; if it has ended, delete {re.escape(str(lock))}$"
    with pytest.raises(BusyError, match=message), locked(tmp_path / "run", "running"):
        pass
    assert lock.exists()
    lock.unlink()
    with locked(tmp_path / "run", "running"):
        host = lock.read_text().splitlines()[1]
    lock.write_text(f"{10**30}\n{host}\n")  # no number of a process
    with pytest.raises(BusyError, match=f"process {10**30} on"), locked(tmp_path / "run", "running"):
        pass
    lock.write_text("")  # after a power cut
    with (
        pytest.raises(BusyError, match=rf"another process is running: .* delete {lock}$"),
        locked(tmp_path / "run", "running"),
    ):
        pass


@pytest.mark.usefixtures("soft")
def test_two_who_take_away_the_same_lock_do_not_take_that_of_the_faster_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / ".run.lock"
    with locked(tmp_path / "run", "running"):
        mine = lock.read_text()
    lock.write_text(f"{ended_process()}\n{mine.splitlines()[1]}\n")
    rename = Path.rename

    def late(old: Path, new: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        lock.unlink()
        lock.write_text(mine)  # of another process, which is alive, in between
        return rename(old, new)

    monkeypatch.setattr(Path, "rename", late)
    with pytest.raises(BusyError, match=f"process {os.getpid()} on"), locked(tmp_path / "run", "running"):
        pass
    assert lock.read_text() == mine
    assert names(tmp_path) == [".run.lock"]


@pytest.mark.parametrize("locks", [True, False])
def test_threads_take_turns(tmp_path: Path, request: pytest.FixtureRequest, locks: bool) -> None:
    if not locks:
        request.getfixturevalue("soft")
    counted = []

    def count(number: int) -> None:
        with locked(tmp_path / "run", "counting", wait=True):
            counted.append(number)
            assert names(tmp_path) == [".run.lock"]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(8)))
    assert sorted(counted) == list(range(8))
    assert names(tmp_path) == []


def test_a_process_of_the_same_number_elsewhere_is_not_this_one(tmp_path: Path) -> None:
    # As in two containers with one host name.
    path = tmp_path / "result.txt"
    with hold(path, before=f"import os\nos.getpid = lambda: {os.getpid()}\n") as child:
        with pytest.raises(BusyError, match=rf"process {os.getpid()} on"), locked(path, "writing"):
            pass
        child.communicate("")
    assert names(tmp_path) == ["result.txt"]


def test_who_is_forked_inside_does_not_let_go(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FORKED, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout == "['.run.lock']\n"
    assert names(tmp_path) == []


def write_all(folder: Path) -> None:
    write_json(folder / "result.json", {"new": True})
    with atomic_folder(folder / "frames") as temporary:
        (temporary / "0").write_text("new")


@pytest.mark.parametrize("locks", [True, False])
@pytest.mark.parametrize("name", [".result.json.lock", ".frames.lock"])
def test_a_planted_link_is_not_followed(
    tmp_path: Path, other_user: OtherUser, request: pytest.FixtureRequest, name: str, locks: bool
) -> None:
    if not locks:
        request.getfixturevalue("soft")
    secret = tmp_path / "secret"
    secret.write_text("of root alone")
    other_user.run(f"ln -s {secret} {name}")
    with pytest.raises(InputError, match=rf"cannot write .*: .*{name} is no lock file; look who made it, delete it"):
        write_all(other_user.folder)
    assert secret.read_text() == "of root alone"
    assert (other_user.folder / name).is_symlink()
    assert not (other_user.folder / name.removeprefix(".").removesuffix(".lock")).exists()


@pytest.mark.parametrize("plant", ["mkfifo", "mkdir", "head -c 5000 /dev/zero >"])
def test_what_is_no_lock_file_is_refused(other_user: OtherUser, plant: str) -> None:
    other_user.run(f"{plant} .result.json.lock")
    with pytest.raises(InputError, match=r"cannot write .*result\.json: .*\.lock is no lock file"):
        write_json(other_user.folder / "result.json", 1)
    assert names(other_user.folder) == [".result.json.lock"]


def test_a_second_name_of_a_file_is_not_written_into(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("12\ndear\n")
    os.link(secret, tmp_path / ".result.txt.lock")
    with pytest.raises(InputError, match=r"\.result\.txt\.lock is no lock file"), atomic_path(tmp_path / "result.txt"):
        pass
    assert secret.read_text() == "12\ndear\n"


def test_others_may_wait_for_a_lock_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with locked(tmp_path / "run", "running"):
            assert stat.S_IMODE((tmp_path / ".run.lock").stat().st_mode) == 0o666
    finally:
        os.umask(before)


@pytest.mark.parametrize("content", ["", "12 on their.machine", "12\ntheirs\n", "12\ntheirs\n345\n"])
def test_a_lock_that_another_user_left_is_taken_over(other_user: OtherUser, content: str) -> None:
    other_user.run(f"umask 077; printf '{content}' > .result.json.lock; touch .result.json.abcdefgh.tmp")
    write_json(other_user.folder / "result.json", 1)
    assert names(other_user.folder) == ["result.json"]


def test_a_file_of_ours_under_a_locks_name_is_not_emptied(other_user: OtherUser) -> None:
    (other_user.folder / "mine.txt").write_text("12 things")
    other_user.run("mv mine.txt .result.json.lock")
    with pytest.raises(InputError, match=r"\.result\.json\.lock is no lock file"):
        write_json(other_user.folder / "result.json", 1)
    assert (other_user.folder / ".result.json.lock").read_text() == "12 things"


def test_what_others_write_into_a_lock_does_not_steer_the_terminal(tmp_path: Path) -> None:
    with locked(tmp_path / "run", "running"), ThreadPoolExecutor(1) as pool:
        (tmp_path / ".run.lock").write_text("1\n\033[2J\n")
        with pytest.raises(BusyError, match=r"process 1 on \\u001b\[2J is running"):
            pool.submit(locked(tmp_path / "run", "running").__enter__).result()


def test_a_training_keeps_its_history_in_no_link(tmp_path: Path, other_user: OtherUser) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of root alone")
    other_user.run(f"ln -s {secret} history.jsonl")
    with pytest.raises(InputError, match=r"history\.jsonl: it is a link"):
        History(other_user.folder / "history.jsonl", None, 0)
    assert secret.read_text() == "of root alone"


@pytest.mark.parametrize("plant", ["ln -s {secret} .frames.old", "mkdir .frames.old; touch .frames.old/0"])
def test_what_has_the_name_of_the_old_folder_is_in_no_ones_way(
    tmp_path: Path, other_user: OtherUser, plant: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of root alone")
    (other_user.folder / "frames").mkdir()
    other_user.run(plant.format(secret=secret))
    with atomic_folder(other_user.folder / "frames", replace=True) as temporary:
        (temporary / "0").write_text("new")
    assert names(other_user.folder) == ["frames"]
    assert names(other_user.folder / "frames") == ["0"]
    assert secret.read_text() == "of root alone"
