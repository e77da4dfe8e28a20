"""What starts and ends a Ray, and a command beside it, without Ray; tests/slow/test_ray.py has one."""

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import psutil
import pytest
from ray.exceptions import AuthenticationError

from atw import commands
from atw.config import Compute
from atw.files import InputError
from atw.train import cluster, launch, shared
from atw.train.cluster import OWNER, Owner


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name in cluster.environment():
        monkeypatch.setenv(name, "")  # to be set back after what a test sets


@pytest.fixture
def light_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "own_ray", lambda **_: nullcontext("127.0.0.1:1"))


def run(*command: str) -> int:
    return shared.run_with_ray(list(command), cpus=1, gpus=0)


@contextmanager
def sleeper(owner: Owner) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "100"], env=os.environ | {OWNER: str(owner)})
    try:
        while Owner.of(psutil.Process(process.pid)) is None:  # its environment is not to be seen at once
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EINVAL])
def test_a_process_in_the_moment_of_its_end_is_waited_for(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    opened = []

    def pidfd_open(pid: int, flags: int = 0) -> int:
        opened.append(pid)
        if len(opened) < 3:
            raise OSError(number, os.strerror(number))
        return real(pid, flags)

    real = os.pidfd_open
    with subprocess.Popen(["sleep", "0.2"]) as process:
        watched = psutil.Process(process.pid)
        assert cluster.still_there([watched], 0.0) == [watched]
        monkeypatch.setattr(os, "pidfd_open", pidfd_open)
        assert cluster.still_there([watched], 10.0) == []
    assert opened == [watched.pid] * 3


def test_another_error_of_waiting_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def pidfd_open(pid: int, flags: int = 0) -> int:
        raise OSError(errno.EIO, "broken")

    with subprocess.Popen(["sleep", "0.1"]) as process:
        monkeypatch.setattr(os, "pidfd_open", pidfd_open)
        with pytest.raises(OSError, match="broken"):
            cluster.still_there([psutil.Process(process.pid)], 1.0)


def test_a_new_ray_has_a_token_of_its_own_and_stays_on_loopback() -> None:
    first, second = cluster.environment(), cluster.environment()
    assert first["RAY_AUTH_MODE"] == "token"
    assert len(first["RAY_AUTH_TOKEN"]) == 64
    assert first["RAY_AUTH_TOKEN"] != second["RAY_AUTH_TOKEN"]
    assert first["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"


def test_a_joined_cluster_keeps_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    monkeypatch.delenv("RAY_COLOR_PREFIX", raising=False)
    variables = cluster.environment()
    assert variables["RAY_COLOR_PREFIX"] == "0"
    assert "RAY_USAGE_STATS_ENABLED" not in variables  # the user's own word
    assert not {name for name in variables if "AUTH" in name or "CLUSTER" in name}


def test_an_owner_is_told_from_a_later_process_of_the_same_number() -> None:
    owner = Owner.current()
    assert owner.runs()
    assert not Owner(owner.host, owner.pid, owner.began - 3600).runs()
    with sleeper(owner) as process:
        assert Owner.of(psutil.Process(process.pid)) == owner
        dead = Owner(owner.host, process.pid, psutil.Process(process.pid).create_time())
        assert dead.runs()
    assert not dead.runs()


def test_a_ray_that_does_not_start_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with (
        pytest.raises(InputError, match=r"Ray did not start \(exit status 1\).*TMPDIR"),
        cluster.own_ray(cpus=1, gpus=0),
    ):
        pass


@pytest.mark.parametrize(("command", "status"), [("exit 3", 3), ("kill -TERM $$", 143), ("true", 0)])
def test_the_status_is_that_of_the_command(light_ray: None, command: str, status: int) -> None:
    assert run("bash", "-c", command) == status


def test_the_command_gets_the_address_and_the_token(light_ray: None, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("bash", "-c", f"echo $RAY_ADDRESS $RAY_AUTH_MODE ${{#RAY_AUTH_TOKEN}} > '{out}'") == 0
    assert out.read_text().split() == ["127.0.0.1:1", "token", "64"]


def test_what_the_command_leaves_is_ended(light_ray: None, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("bash", "-c", f"setsid sleep 100 & echo $! > '{out}'") == 0
    assert not psutil.pid_exists(int(out.read_text()))


def test_a_command_that_does_not_heed_a_signal_is_killed(light_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "_GRACE_SECONDS", 0.5)
    handler = signal.getsignal(signal.SIGTERM)
    timer = threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGTERM))
    timer.start()
    assert run("bash", "-c", "trap '' TERM; while true; do sleep 0.1; done") == 128 + signal.SIGKILL
    timer.join()
    assert signal.getsignal(signal.SIGTERM) == handler


def test_an_unknown_command_is_named(light_ray: None) -> None:
    with pytest.raises(InputError, match="cannot run no-such-program: No such file"):
        run("no-such-program")


def test_a_cluster_to_join_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    with pytest.raises(InputError, match=r"RAY_ADDRESS is head:6379.*without `atw ray`"):
        run("true")


def test_leftovers_of_a_killed_one_are_named(light_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "_FADE_SECONDS", 0.1)
    current = Owner.current()
    gone = Owner(current.host, current.pid, current.began - 3600)
    elsewhere = Owner("elsewhere", current.pid, gone.began)
    with sleeper(gone) as left, sleeper(elsewhere):
        with pytest.raises(InputError, match=rf"{left.pid} \(sleep 100\).*kill {left.pid}$"):
            run("true")
        left.kill()
        left.wait()
        assert run("true") == 0


def test_the_command_line_passes_everything_on(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []

    def record(command: list[str], **given: int | None) -> int:
        calls.append((command, given))
        return 7

    monkeypatch.setattr(shared, "run_with_ray", record)
    monkeypatch.setattr(
        sys, "argv", ["atw", "ray", "--cpus", "3", "--", "snakemake", "--cores", "2", "--resources", "gpu=2", "--", "x"]
    )
    with pytest.raises(SystemExit) as stopped:
        commands.main()
    assert stopped.value.code == 7
    command = ["snakemake", "--cores", "2", "--resources", "gpu=2", "--", "x"]
    assert calls == [(command, {"cpus": 3, "gpus": None})]


@pytest.mark.parametrize(("compute", "enough"), [({}, 4), ({"min_workers": 1}, 2)])
def test_a_cluster_without_the_cpus_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, compute: dict[str, int], enough: int
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    monkeypatch.setattr(launch, "_ray", lambda *_: nullcontext())
    wanted = Compute.model_validate({"workers": 2, **compute})
    monkeypatch.setattr(launch.ray, "cluster_resources", lambda: {"CPU": float(enough), "GPU": 3.0})
    assert launch._cluster_has(wanted, threads=4) == 3
    monkeypatch.setattr(launch.ray, "cluster_resources", lambda: {"CPU": enough - 1.0})
    with pytest.raises(InputError, match=f"at head:6379 has {enough - 1} CPUs, but this training needs {enough}"):
        launch._cluster_has(wanted, threads=4)


def test_an_address_where_nobody_answers_is_refused_at_once() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(InputError, match=f"RAY_ADDRESS is {address}.*unset RAY_ADDRESS"):
            cluster.check_reachable(address)
        listener.listen()
        cluster.check_reachable(address)
    cluster.check_reachable("auto")


@pytest.mark.parametrize("error", [ConnectionError("no"), AuthenticationError("no token")])
def test_a_cluster_that_refuses_is_explained(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(**_: object) -> None:
        raise error

    monkeypatch.setattr(launch.ray, "init", refuse)
    with pytest.raises(InputError, match=r"cannot join the Ray cluster at auto: no.*token"):
        launch._join("auto")
