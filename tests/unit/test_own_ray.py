"""What starts and ends a Ray, and a command beside it, without Ray; tests/slow/test_ray.py has one."""

import errno
import inspect
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import psutil
import pytest
from ray._private import services
from ray._private.node import Node
from ray.exceptions import AuthenticationError

from atw import commands
from atw.config import Compute
from atw.files import InputError
from atw.train import launch, stopping
from atw.train.ray import cluster, head, shared, sockets
from atw.train.ray.cluster import OWNER, Owner, birth
from atw.train.stopping import StoppedError


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
def sleeper(owner: Owner, program: Path | str = "sleep") -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([program, "100"], env=os.environ | {OWNER: str(owner)})
    try:
        while Owner.of(psutil.Process(process.pid)) is None:  # its environment is not to be seen at once
            time.sleep(0.01)
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EINVAL, errno.EIO])
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
        other = number == errno.EIO
        with pytest.raises(OSError, match=os.strerror(number)) if other else nullcontext():
            assert cluster.still_there([watched], 10.0) == []
    assert opened == [watched.pid] * (1 if other else 3)


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


def test_an_owner_is_told_from_a_later_process_of_the_same_number(tmp_path: Path) -> None:
    owner = Owner.current()
    assert owner.runs()
    assert not Owner(owner.host, owner.pid, f"{owner.began}0").runs()
    odd = tmp_path / "a) Z 1 2 (b"
    odd.write_bytes(Path("/bin/sleep").read_bytes())
    odd.chmod(0o700)
    with sleeper(owner, odd) as process:
        assert Owner.of(psutil.Process(process.pid)) == owner
        dead = Owner(owner.host, process.pid, birth(process.pid))
        with pytest.MonkeyPatch.context() as clock:  # which is set, and makes no owner look dead
            if sys.platform == "linux":
                clock.setattr(psutil.Process, "create_time", lambda _: time.time() + 3600)
            assert dead.runs()
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not dead.runs()  # only its exit status is left
    assert not dead.runs()


@contextmanager
def a_ray_that(*lines: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A Ray whose process is a script, which has its folder in `$3` and counts its starts in the file `starts`."""
    script = folder / "python"
    script.write_text("\n".join(["#!/bin/sh", f"cd '{folder}'", "echo $3 >> starts", *lines]))
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(script))
    with cluster.own_ray(cpus=1, gpus=0) as address:
        yield address


LOGS = 'mkdir -p "$3/r/session_2026/logs"; cd "$3/r/session_2026/logs"'
SHORT = "[2026-11-28 05:02:49,496 E 6649 6650] (raylet) main.cc:1: no space left"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["exit 3"], "exit status 3, its own messages stand above$"),
        (["echo; echo its raylet ended with status 1; exit 1"], "its raylet ended with status 1$"),
        (["kill -9 $$"], r"signal 9 \(Killed\) ended it: look whether memory has room$"),
        (
            [
                LOGS,
                "echo I > raylet.out",
                f"echo '{SHORT}' >> raylet.out",
                "echo one > dashboard.err",
                "echo; echo why",
            ],
            r"why; its raylet.out says: .*main.cc:1: no space left$",
        ),
        (
            [LOGS, "seq 9 > gcs_server.err", "touch raylet.err", "echo; echo why"],
            r"why; its gcs_server.err says: 7 \| 8 \| 9$",
        ),
        ([LOGS, "echo OSError: full > dashboard.log", "echo; echo why"], "why; its dashboard.log says: OSError: full$"),
    ],
)
def test_a_ray_that_does_not_start_is_tried_twice_and_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lines: list[str], reason: str
) -> None:
    with (
        pytest.raises(InputError, match=f"^Ray did not start, twice: {reason}"),
        a_ray_that(*lines, folder=tmp_path, monkeypatch=monkeypatch),
    ):
        pass
    starts = [Path(line) for line in (tmp_path / "starts").read_text().splitlines()]
    assert len(starts) == 2
    assert not any(start.exists() for start in starts)


def test_a_ray_that_starts_at_the_second_try_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = ["test $(wc -l < starts) = 2 || { echo; echo too slow; exit 1; }", "echo 127.0.0.1:7", "cat"]
    monkeypatch.setattr(sockets, "COMMON_PLACES", ())
    monkeypatch.setattr(sockets, "PLACE_BYTES", 999)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with a_ray_that(*lines, folder=tmp_path, monkeypatch=monkeypatch) as address:
        assert address == "127.0.0.1:7"
        starts = [Path(line) for line in (tmp_path / "starts").read_text().splitlines()]
        assert [start.exists() for start in starts] == [False, True]
        assert starts[1].parent == tmp_path
        assert stat.S_IMODE(starts[1].stat().st_mode) == 0o700
    assert not starts[1].exists()
    assert "trying again: too slow" in caplog.text


def test_ray_gets_more_time_than_it_gives_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[object] = [RuntimeError("unknown"), RuntimeError("unknown"), {"node": 1}]

    def get_node(*arguments: object) -> object:
        assert arguments == ("address", "id")
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(head, "LOOK_SECONDS", 0.0)
    assert head.waiting(get_node)("address", "id") == {"node": 1}
    monkeypatch.setattr(head, "PATIENCE_SECONDS", -1)
    answers.append(RuntimeError("unknown"))
    with pytest.raises(RuntimeError, match="unknown"):
        head.waiting(get_node)("address", "id")


def test_ray_knows_the_ports_of_its_agents_beforehand(tmp_path: Path) -> None:
    def start_raylet(node_id: str, session_dir: str, **options: object) -> dict[str, object]:
        return {"node_id": node_id, "session_dir": session_dir, **options}

    node = "0" * 56
    given = head.with_ports(start_raylet)(node, str(tmp_path), runtime_env_agent_port=0, other=1)
    ports = {name: given.pop(name) for name in head.AGENT_PORTS}
    assert given == {"node_id": node, "session_dir": str(tmp_path), "other": 1}
    assert all(port in head.PORTS for port in ports.values())
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        f"{head.LISTEN_PORT}_{node}": str(ports[head.LISTEN_PORT])
    }


@pytest.mark.parametrize("usual", ["/elsewhere", None])
def test_only_the_dashboard_has_the_folder_for_its_tmpdir(monkeypatch: pytest.MonkeyPatch, usual: str | None) -> None:
    monkeypatch.setenv("TMPDIR", usual) if usual else monkeypatch.delenv("TMPDIR", raising=False)
    start = head.in_short_tmpdir(lambda *arguments: (*arguments, os.environ["TMPDIR"]), Path("/short"))
    assert start("host", 1) == ("host", 1, "/short")
    assert os.environ.get("TMPDIR") == usual


def test_ray_still_starts_by_what_is_replaced_in_it() -> None:
    assert "ray._private.services.get_node(" in inspect.getsource(Node.__init__)
    assert "ray._private.services.start_raylet(" in inspect.getsource(Node.start_raylet)
    assert "ray._private.services.start_api_server(" in inspect.getsource(Node.start_api_server)
    assert {*head.AGENT_PORTS, "session_dir", "node_id"} <= set(inspect.signature(services.start_raylet).parameters)
    assert "RAY_gcs_server_port_wait_time_s" in inspect.getsource(Node.start_gcs_server)


@pytest.mark.parametrize(("command", "status"), [("exit 3", 3), ("kill -TERM $$", 143), ("true", 0)])
def test_the_status_is_that_of_the_command(light_ray: None, command: str, status: int) -> None:
    assert run("bash", "-c", command) == status


def test_the_command_gets_the_address_and_the_token_and_what_it_leaves_is_ended(
    light_ray: None, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    printed = "$RAY_ADDRESS $RAY_AUTH_MODE ${#RAY_AUTH_TOKEN} $!"
    assert run("bash", "-c", f"setsid sleep 100 & echo {printed} > '{out}'") == 0
    *given, left = out.read_text().split()
    assert given == ["127.0.0.1:1", "token", "64"]
    assert not psutil.pid_exists(int(left))


def test_a_command_that_does_not_heed_a_signal_is_killed(light_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "GRACE_SECONDS", 0.5)
    handler = signal.getsignal(signal.SIGTERM)
    timer = threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGTERM))
    timer.start()
    assert run("bash", "-c", "trap '' TERM; while true; do sleep 0.1; done") == 128 + signal.SIGKILL
    timer.join()
    assert signal.getsignal(signal.SIGTERM) == handler


def test_what_cannot_be_run_is_named(light_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="cannot run no-such-program: No such file"):
        run("no-such-program")
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    with pytest.raises(InputError, match=r"RAY_ADDRESS is head:6379.*without `atw ray`"):
        run("true")


def test_leftovers_of_a_killed_one_are_named(light_ray: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "FADE_SECONDS", 0.1)
    current = Owner.current()
    gone = Owner(current.host, current.pid, "earlier")
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
    monkeypatch.setattr(cluster, "check_reachable", lambda _: None)
    monkeypatch.setattr(launch.ray, "init", lambda **_: None)
    wanted = Compute.model_validate({"workers": 2, **compute})
    monkeypatch.setattr(launch.ray, "cluster_resources", lambda: {"CPU": float(enough), "GPU": 3.0})
    assert launch.available_gpus(wanted, threads=4) == 3
    monkeypatch.setattr(launch.ray, "cluster_resources", lambda: {"CPU": enough - 1.0})
    with pytest.raises(InputError, match=f"at head:6379 has {enough - 1} CPUs, but this training needs {enough}"):
        launch.available_gpus(wanted, threads=4)


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

    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr(launch.ray, "init", refuse)
    with pytest.raises(InputError, match=r"cannot join the Ray cluster at auto: no.*token"):
        launch.available_gpus(Compute(), threads=1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_told_to_the_workers_who_then_end(tmp_path: Path, number: signal.Signals) -> None:
    flag, handler = tmp_path / "stop", signal.getsignal(number)
    flag.touch()  # of one that was killed

    def work() -> str:
        assert not flag.exists()
        os.kill(os.getpid(), number)
        while not flag.exists():
            time.sleep(0.01)
        return "state"

    with stopping.stop_file(flag) as caught:
        assert stopping.finish_or_stop(work, caught) == "state"
    assert caught == [number]
    assert not flag.exists()
    assert signal.getsignal(number) == handler


def test_workers_that_do_not_end_are_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forever = threading.Event()
    try:
        for grace, signals in ((0.0, 1), (1000.0, 2)):
            monkeypatch.setattr(stopping, "GRACE_SECONDS", grace)
            with pytest.raises(StoppedError) as stopped, stopping.stop_file(tmp_path / "stop") as caught:
                for _ in range(signals):
                    os.kill(os.getpid(), signal.SIGTERM)
                stopping.finish_or_stop(forever.wait, caught)
            assert stopped.value.number == signal.SIGTERM
    finally:
        forever.set()


def test_errors_count_until_a_signal_came(tmp_path: Path) -> None:
    def fail() -> None:
        raise InputError("no shard")

    with stopping.stop_file(tmp_path / "stop") as caught:
        with pytest.raises(InputError, match="no shard"):
            stopping.finish_or_stop(fail, caught)
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(StoppedError):
            stopping.finish_or_stop(fail, caught)
