"""A Ray of one's own on this machine: on loopback, known to nobody else, and gone with the process that started it."""

import errno
import os
import platform
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

from atw.files import InputError

OWNER = "ATW_RAY_OWNER"  # in the environment of all that belongs to a Ray: who started it
_STOP_SECONDS = 20.0
_KILL_SECONDS = 10.0
_CONNECT_SECONDS = 10.0
_MOMENT_SECONDS = 0.05
_CLOCK_SECONDS = 5.0  # by so much the clock may have been set since a process began
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_COLOR_PREFIX": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def joined_address() -> str | None:
    """The address of the Ray cluster that a job is to join, if any."""
    return os.environ.get("RAY_ADDRESS") or None


def check_reachable(address: str) -> None:
    """Connect once to where a cluster should be; Ray itself takes two minutes, and then ends the process.

    Raises:
        InputError: nobody answers there.
    """
    host, _, port = address.rpartition(":")
    if port.isdigit():  # else `auto`, and what else Ray may know
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
        except (OSError, OverflowError) as error:
            raise InputError(
                f"RAY_ADDRESS is {address}, but no Ray cluster answers there ({error}): start it, or unset RAY_ADDRESS "
                "to train on this machine alone"
            ) from None


def environment() -> dict[str, str]:
    """Variables that a process needs before it imports Ray; its children inherit them.

    No usage reports and no metrics server, unless the user says otherwise. Where no cluster is to be joined also a
    token that only these processes know, and the one switch that keeps Ray's servers on loopback.
    """
    variables = {name: value for name, value in _QUIET.items() if name not in os.environ}
    if joined_address() is None:
        variables |= {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on every system: nodes have the address 127.0.0.1
        }
    return variables


@dataclass(frozen=True)
class Owner:
    """The process that started a Ray, told from a later one of the same number by when it began."""

    host: str
    pid: int
    began: float

    @classmethod
    def current(cls) -> "Owner":
        """This process."""
        return cls(platform.node(), os.getpid(), psutil.Process().create_time())

    @classmethod
    def of(cls, process: psutil.Process) -> "Owner | None":
        """Who started the Ray that a process belongs to; None where that is nobody's, or cannot be seen."""
        with suppress(psutil.Error, OSError, ValueError):
            host, pid, began = process.environ().get(OWNER, "").rsplit(":", 2)
            return cls(host, int(pid), float(began))
        return None

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}:{self.began}"

    def runs(self) -> bool:
        """Whether the process is still there."""
        with suppress(psutil.Error):
            return abs(psutil.Process(self.pid).create_time() - self.began) < _CLOCK_SECONDS
        return False


@contextmanager
def own_ray(*, cpus: int, gpus: int | None) -> Iterator[str]:
    """Start a Ray, give its address, and end it with every process of it.

    It ends when this process does, however that happens, for it watches a pipe that only this process holds open.

    Args:
        cpus: that it hands out.
        gpus: that it hands out; None for all that are visible.

    Raises:
        InputError: it did not start.
    """
    head = subprocess.Popen(
        [sys.executable, "-m", "atw.train.head", str(cpus), "all" if gpus is None else str(gpus)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for whoever uses the Ray, which ends after them
        env=os.environ | {OWNER: str(Owner.current())},
    )
    assert head.stdin and head.stdout
    try:
        address = head.stdout.readline().strip()
        if not address:
            raise InputError(
                f"Ray did not start (exit status {head.wait()}); its own messages stand above: look whether memory and "
                "the folder for temporary files (TMPDIR) have room, then start again"
            )
        yield address
    finally:
        processes = family(head.pid)
        head.stdin.close()
        head.stdout.close()
        with suppress(subprocess.TimeoutExpired):
            head.wait(_STOP_SECONDS)
        end(processes, patience_seconds=2.0)
        head.wait()


def family(pid: int) -> list[psutil.Process]:
    """A process and all that descend from it; nothing if it has ended."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def end(processes: list[psutil.Process], *, patience_seconds: float) -> None:
    """Wait for processes to end, and kill those that have not after `patience_seconds`."""
    alive = still_there(processes, patience_seconds)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    still_there(alive, _KILL_SECONDS)


def still_there(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait at most so long for processes to end; those that have not.

    psutil's own waiting fails where it meets a process in the moment of its end, which Linux then says ENOENT or EINVAL
    about (https://github.com/giampaolo/psutil/issues/2715).
    """
    waited_for, until = list(processes), time.monotonic() + seconds
    while True:
        try:
            return list(psutil.wait_procs(waited_for, timeout=max(until - time.monotonic(), 0.0))[1])
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINVAL):
                raise
            time.sleep(_MOMENT_SECONDS)
