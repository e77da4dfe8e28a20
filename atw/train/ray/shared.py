"""`atw ray`: run a command with one Ray for all trainings that it starts; each gets GPUs of its own."""

import logging
import os
import queue
import signal
import subprocess
import time
from contextlib import suppress

import psutil

from atw.files import InputError
from atw.train.ray.cluster import OWNER, Owner, end, environment, joined_address, own_ray, still_there
from atw.train.stopping import handled_by

log = logging.getLogger("atw")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FADE_SECONDS = 15.0  # the Ray of a killed `atw ray` ends by itself in this time
GRACE_SECONDS = 30.0
_POLL_SECONDS = 0.2
_ROUNDS = 5  # processes may start others while they are being killed


def run_with_ray(command: list[str], *, cpus: int, gpus: int | None) -> int:
    """Run a command with RAY_ADDRESS set to a Ray that is started for it, and leave no process behind.

    SIGINT, SIGTERM and SIGHUP are passed on to the command's process group. After SIGTERM and SIGHUP it has half a
    minute to end; then all its processes are killed.

    Args:
        command: program and arguments.
        cpus: number that Ray hands out.
        gpus: number that Ray hands out; None for all that are visible.

    Returns:
        The exit status of the command; 128 plus the number of the signal that ended it.

    Raises:
        InputError: there is a cluster to join already, an earlier `atw ray` left processes, or no such command.
    """
    if joined_address() is not None:
        raise InputError(
            f"RAY_ADDRESS is {joined_address()}, so trainings join that cluster: run the command without `atw ray`, or "
            "unset RAY_ADDRESS to have a Ray started for it"
        )
    _refuse_leftovers()
    os.environ.update(environment())
    caught: queue.SimpleQueue[int] = queue.SimpleQueue()
    with handled_by(caught.put, _SIGNALS):
        try:
            with own_ray(cpus=cpus, gpus=gpus) as address:
                if not caught.empty():
                    return 128 + caught.get()
                log.info("Ray is at %s, for %s", address, " ".join(command))
                return _wait_for(_start(command, address), caught)
        finally:
            _end_own()


def _start(command: list[str], address: str) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            env=os.environ | {"RAY_ADDRESS": address, OWNER: str(Owner.current())},
            stdin=subprocess.DEVNULL,  # a group in the background that reads from the terminal would be stopped
            process_group=0,
        )
    except OSError as error:
        raise InputError(f"cannot run {command[0]}: {error.strerror}; give a command as you would without it") from None


def _wait_for(child: subprocess.Popen[bytes], caught: "queue.SimpleQueue[int]") -> int:
    deadline = float("inf")
    while child.poll() is None:
        with suppress(queue.Empty):
            number = caught.get(timeout=_POLL_SECONDS)
            with suppress(ProcessLookupError):
                os.killpg(child.pid, number)
            if number != signal.SIGINT:
                deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
        if time.monotonic() > deadline:
            log.warning("the command does not end: killing it")
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _owned() -> list[tuple[psutil.Process, Owner]]:
    """Return every other process of this user on this machine that belongs to an `atw ray`, with its owner."""
    owners = [(process, Owner.of(process)) for process in psutil.process_iter() if process.pid != os.getpid()]
    host = Owner.current().host
    return [(process, owner) for process, owner in owners if owner and owner.host == host]


def _end_own() -> None:
    for _ in range(_ROUNDS):
        left = [process for process, owner in _owned() if owner.pid == os.getpid()]
        if not left:
            return
        end(left, patience_seconds=0.0)


def _refuse_leftovers() -> None:
    left = [process for process, owner in _owned() if not owner.runs()]
    alive = still_there(left, FADE_SECONDS)
    if not alive:
        return
    names = []
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            names.append(f"{process.pid} ({' '.join(process.cmdline())[:60]})")
    raise InputError(
        f"an earlier `atw ray` was killed and left processes: {', '.join(names)}; wait until they have ended, or end "
        f"them with: kill {' '.join(str(process.pid) for process in alive)}"
    )
