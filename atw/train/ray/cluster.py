"""A private Ray on this machine: on loopback, closed to other users, and ended with the process that started it."""

import errno
import logging
import os
import platform
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from atw.files import InputError
from atw.train.ray.sockets import last_errors, own_folder, places

log = logging.getLogger("atw")
OWNER = "ATW_RAY_STARTED_BY"  # in the environment of all processes of a Ray: the process that started it
_STOP_SECONDS = 20.0
_KILL_SECONDS = 10.0
_CONNECT_SECONDS = 10.0
_MOMENT_SECONDS = 0.05
_PROC = Path("/proc")
_BOOT = _PROC / "sys/kernel/random/boot_id"
PATIENCE_SECONDS = 180  # for each step of a start; Ray's own limits are 30 or 60
_LONG_WAITS = {
    "RAY_gcs_server_port_wait_time_s": str(PATIENCE_SECONDS),
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": str(PATIENCE_SECONDS),
    "RAY_raylet_start_wait_time_s": str(PATIENCE_SECONDS),
    "RAY_agent_register_timeout_ms": str(1000 * PATIENCE_SECONDS),
    "RAY_worker_register_timeout_seconds": str(PATIENCE_SECONDS),
}
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_COLOR_PREFIX": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def joined_address() -> str | None:
    """Return the address of the Ray cluster that a job has to join, if any."""
    return os.environ.get("RAY_ADDRESS") or None


def check_reachable(address: str) -> None:
    """Connect once to a cluster's address; Ray itself takes two minutes to fail, and then ends the process.

    Raises:
        InputError: nothing answers there.
    """
    host, _, port = address.rpartition(":")
    if port.isdigit():  # else `auto` or another form that Ray knows
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise InputError(
                f"RAY_ADDRESS is {address}, but no Ray cluster answers there ({error}): start it, or unset RAY_ADDRESS "
                "to train on this machine alone"
            ) from None


def environment() -> dict[str, str]:
    """Return the variables that a process needs before it imports Ray; its children inherit them.

    They turn usage reports and the metrics server off, unless the user has set them. If no cluster is to be joined,
    there is also a token that only these processes know, and the one switch that keeps Ray's servers on loopback.
    """
    variables = {name: value for name, value in (_QUIET | _LONG_WAITS).items() if name not in os.environ}
    if joined_address() is None:
        variables |= {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on every system: nodes have the address 127.0.0.1
        }
    return variables


@dataclass(frozen=True)
class Owner:
    """The process that started a Ray; its start time tells it from a later process of the same number."""

    host: str
    pid: int
    began: str

    @classmethod
    def current(cls) -> "Owner":
        """This process."""
        return cls(platform.node(), os.getpid(), birth(os.getpid()))

    @classmethod
    def of(cls, process: psutil.Process) -> "Owner | None":
        """Return the owner of the Ray that a process belongs to; None if there is none or it cannot be read."""
        with suppress(psutil.Error, OSError, ValueError):
            host, pid, began = process.environ().get(OWNER, "").rsplit(":", 2)
            return cls(host, int(pid), began)
        return None

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}:{self.began}"

    def runs(self) -> bool:
        """Whether the process is still there."""
        return birth(self.pid) == self.began


def birth(pid: int) -> str:
    """Return when a process began, by a clock that nobody can set; "" if it has ended.

    Linux counts from the boot. psutil adds the time of day to that, which may change; other systems record the time of
    day once, when a process begins.
    """
    with suppress(OSError, psutil.Error):
        if sys.platform != "linux":
            return str(psutil.Process(pid).create_time())
        # The fields of `man proc_pid_stat` from the third on: the name before them may have any character.
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        if fields[0] not in "ZX":
            return f"{_BOOT.read_text().strip()}+{fields[19]}"
    return ""


@contextmanager
def own_ray(*, cpus: int, gpus: int | None) -> Iterator[str]:
    """Start a Ray, yield its address, and then end all its processes and remove its folder.

    It also ends when this process does, however that happens: it watches a pipe that only this process holds open.

    Args:
        cpus: number that it hands out.
        gpus: number that it hands out; None for all that are visible.

    Raises:
        InputError: it did not start, twice, or there is no folder for it.
    """
    folders = places()
    with ExitStack() as stack:
        try:
            address = stack.enter_context(_started(folders[0], cpus, gpus))
        except (_NotStartedError, OSError) as error:
            log.warning("Ray did not start, trying again: %s", error)
            try:
                address = stack.enter_context(_started((folders[1:] or folders)[0], cpus, gpus))
            except (_NotStartedError, OSError) as again:
                raise InputError(f"Ray did not start, twice: {again}") from None
        yield address


class _NotStartedError(Exception):
    """With the reason."""


@contextmanager
def _started(place: Path, cpus: int, gpus: int | None) -> Iterator[str]:
    with own_folder(place) as folder:
        head = subprocess.Popen(
            [sys.executable, "-m", "atw.train.ray.head", folder.path, str(cpus), "all" if gpus is None else str(gpus)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C must not reach the Ray before the processes that use it
            pass_fds=[folder.lock],
            env=os.environ | {OWNER: str(Owner.current())},
        )
        assert head.stdin and head.stdout
        try:
            address = head.stdout.readline().strip()
            if not address:
                raise _NotStartedError(_explain(head, head.stdout.read().strip(), folder.path))
            yield address
        finally:
            processes = family(head.pid)
            head.stdin.close()
            head.stdout.close()
            with suppress(subprocess.TimeoutExpired):
                head.wait(_STOP_SECONDS)
            end(processes, patience_seconds=2.0)
            head.wait()


def _explain(head: "subprocess.Popen[str]", reason: str, folder: Path) -> str:
    """Say why a Ray did not start, with the last errors of its logs, which are removed with it."""
    status = head.wait()
    if status < 0:
        reason = f"signal {-status} ({signal.strsignal(-status)}) ended it: look whether memory has room"
    elif not reason:
        reason = f"exit status {status}, its own messages stand above"
    return "; ".join(filter(None, [reason, last_errors(folder)]))


def family(pid: int) -> list[psutil.Process]:
    """Return a process and its descendants; none if it has ended."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def end(processes: list[psutil.Process], *, patience_seconds: float) -> None:
    """Wait for processes to end, and kill those that are left after `patience_seconds`."""
    alive = still_there(processes, patience_seconds)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    still_there(alive, _KILL_SECONDS)


def still_there(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait so many seconds for processes to end, and return those that are left.

    psutil's own waiting fails if a process ends at that moment: Linux answers ENOENT or EINVAL
    (https://github.com/giampaolo/psutil/issues/2715).
    """
    waited_for, until = list(processes), time.monotonic() + seconds
    while True:
        try:
            return list(psutil.wait_procs(waited_for, timeout=max(until - time.monotonic(), 0.0))[1])
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINVAL):
                raise
            time.sleep(_MOMENT_SECONDS)
