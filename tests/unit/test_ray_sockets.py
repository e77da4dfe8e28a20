"""The folder of a Ray, and where sockets can be: short, and of one user alone."""

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from atw.files import InputError
from atw.train.ray import sockets
from tests.conftest import OtherUser


@pytest.fixture
def only_tmpdir(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path | str], str]:
    """Why a Ray cannot have its folder in TMPDIR, where nothing else is there."""
    monkeypatch.setattr(sockets, "COMMON_PLACES", ())
    for name in ("XDG_RUNTIME_DIR", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)

    def reason(place: Path | str) -> str:
        monkeypatch.setenv("TMPDIR", str(place))
        try:
            sockets.require_place(workers=2)
        except InputError as error:
            return str(error)
        return ""

    return reason


def test_one_worker_needs_a_place_only_where_its_readers_have_none(
    monkeypatch: pytest.MonkeyPatch, only_tmpdir: Callable[[Path | str], str], tmp_path: Path
) -> None:
    assert only_tmpdir(tmp_path / "nowhere") != ""
    sockets.require_place(workers=1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * sockets.SOCKET_BYTES)))
    with pytest.raises(InputError, match="TMPDIR"):
        sockets.require_place(workers=1)


def test_a_long_path_is_no_place_for_sockets(
    monkeypatch: pytest.MonkeyPatch, only_tmpdir: Callable[[Path | str], str]
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="a") as short:
        place = Path(short, "x" * (sockets.PLACE_BYTES - len(short) - 1))
        place.mkdir()
        assert only_tmpdir(place) == ""
        wide = place.with_name(place.name[:-1] + "ä")  # as many characters, one byte more
        wide.mkdir()
        message = only_tmpdir(wide)
        assert f"{wide} has {sockets.PLACE_BYTES + 1} bytes, of at most {sockets.PLACE_BYTES}" in message
        link = Path(short) / "l"
        link.symlink_to(wide)
        assert str(wide) in only_tmpdir(link)
        monkeypatch.setenv("RAY_ADDRESS", "head:6379")  # whose folder is its own affair
        assert only_tmpdir(wide) == ""
        monkeypatch.setattr(sockets, "COMMON_PLACES", ("/nowhere", "/tmp"))
        assert sockets.places() == [Path("/tmp").resolve()]


def test_a_place_without_room_or_that_is_not_there_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, only_tmpdir: Callable[[Path | str], str]
) -> None:
    monkeypatch.setattr(sockets, "PLACE_BYTES", 999)
    assert only_tmpdir(tmp_path) == ""
    assert f"{tmp_path / 'none'} is no folder" in only_tmpdir(tmp_path / "none")
    (tmp_path / "file").touch()
    assert f"{tmp_path / 'file'} is no folder" in only_tmpdir(tmp_path / "file")
    monkeypatch.setattr(sockets, "FREE_BYTES", 1 << 60)
    assert "MB left" in only_tmpdir(tmp_path)


def test_a_place_that_others_can_exchange_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, other_user: OtherUser, only_tmpdir: Callable[[Path | str], str]
) -> None:
    monkeypatch.setattr(sockets, "PLACE_BYTES", 999)
    shared = other_user.folder.resolve()
    (shared / "ours").mkdir()
    (shared / "ours").chmod(0o700)
    for place in (shared, shared / "ours"):
        assert f"{place} could be exchanged by others, who may write to {shared}" in only_tmpdir(place)
    shared.chmod(0o1777)
    assert only_tmpdir(shared) == only_tmpdir(shared / "ours") == ""
    other_user.run("mkdir theirs")
    assert "could be exchanged" in only_tmpdir(shared / "theirs")


def test_nobody_else_gets_at_the_folder_of_a_ray(other_user: OtherUser) -> None:
    other_user.folder.chmod(0o1777)  # as /tmp is
    with sockets.own_folder(other_user.folder) as own:
        inside = own.path / sockets.INSIDE
        inside.chmod(0o777)  # as Ray does
        (inside / "socket").touch()
        for attempt in (
            f"ls {inside}",
            f"touch {inside}/planted",
            f"mv {inside}/socket {inside}/s",
            f"mv {own.path} x",
        ):
            assert other_user.run(attempt, check=False).returncode != 0, attempt
        assert sorted(path.name for path in own.path.rglob("*")) == [sockets.HELD, sockets.INSIDE, "socket"]
    assert list(other_user.folder.iterdir()) == []


KILLED = """
import os, sys
from pathlib import Path
from atw.train.ray.sockets import own_folder
with own_folder(Path(sys.argv[1])) as own:
    print(own.path, flush=True)
    sys.stdin.read()
    os._exit(9)
"""


def test_leftovers_of_killed_rays_are_removed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin and process.stdout
        other = Path(process.stdout.readline().strip())
        with sockets.own_folder(tmp_path) as own:
            assert set(tmp_path.iterdir()) == {own.path, other}
        assert list(tmp_path.iterdir()) == [other]
    assert other.exists()
    with sockets.own_folder(tmp_path) as own:
        assert list(tmp_path.iterdir()) == [own.path]


def test_what_only_looks_like_a_leftover_stays(other_user: OtherUser) -> None:
    shared, prefix = other_user.folder, sockets.PREFIX
    mark = sockets.HELD
    other_user.run(f"mkdir -m 700 {prefix}theirs && touch {prefix}theirs/{mark} && ln -s {shared}/goal {prefix}link")
    for name in ("goal", f"{prefix}open"):
        (shared / name).mkdir()
        (shared / name / mark).touch()
        (shared / name).chmod(0o700 if name == "goal" else 0o755)
    before = sorted(shared.iterdir())
    with sockets.own_folder(shared):
        pass
    assert sorted(shared.iterdir()) == before
    assert (shared / "goal" / mark).exists()


def test_a_ray_that_could_not_lock_its_folder_is_no_leftover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with monkeypatch.context() as without_locks:
        without_locks.setattr(sockets.fcntl, "flock", flock)
        kept = sockets.own_folder(tmp_path)
        first = kept.__enter__()
    with sockets.own_folder(tmp_path) as second:
        assert set(tmp_path.iterdir()) == {first.path, second.path}
    kept.__exit__(None, None, None)
    assert list(tmp_path.iterdir()) == []


LIMIT = sockets.SOCKET_BYTES - len(sockets.PYTHONS_SOCKET)
FRESH = """
import multiprocessing.util, tempfile, time
from atw.train.ray.sockets import forkserver
context = forkserver()
process = context.Process(target=time.sleep, args=(0,))
process.start()
process.join()
print(process.exitcode, multiprocessing.util.get_temp_dir(), tempfile.gettempdir(), sep="\\n")
"""


@pytest.mark.parametrize(("length", "inside"), [(LIMIT, True), (LIMIT + 1, False), (250, False)])
def test_fresh_processes_start_where_tmpdir_is_long(length: int, inside: bool) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="a") as short:
        place = Path(short, "x" * (length - len(short) - 1))
        place.mkdir()
        command, environment = [sys.executable, "-c", FRESH], os.environ | {"TMPDIR": str(place)}
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        status, own, usual = ran.stdout.splitlines()
        assert (status, usual) == ("0", str(place)), ran.stderr
        assert (Path(own).parent == place) is inside
        assert not Path(own).exists()
        assert list(place.iterdir()) == []
