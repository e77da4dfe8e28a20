"""`python -m atw.train.ray.head FOLDER CPUS GPUS`: a Ray on this machine that lasts until its standard input is closed.

It prints its address, or an empty line and the reason why it did not start. `atw.train.ray.cluster` starts it, and
prepares the folder and the environment.
"""

import inspect
import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import psutil
import ray
import ray._private.services
from ray._raylet import persist_port  # type: ignore[attr-defined]  # mypy does not see compiled names

from atw.train.ray.cluster import PATIENCE_SECONDS
from atw.train.ray.sockets import INSIDE

LOOK_SECONDS = 0.5
_SERVERS = ("gcs_server", "raylet")
LISTEN_PORT = "dashboard_agent_listen_port"
AGENT_PORTS = ("metrics_agent_port", "metrics_export_port", "runtime_env_agent_port", LISTEN_PORT)
PORTS = range(20000, 32768)  # above the ports of Ray's workers, below those that Linux assigns by itself
_OBJECT_STORE_BYTES = 100_000_000  # trainings do not use it; the default is a third of the memory


def main(folder: Path, cpus: int, gpus: int | None) -> None:
    """Start a Ray that hands out `cpus` and `gpus` (None: all that are visible), and end it when stdin is closed."""
    started = threading.Event()
    threading.Thread(target=_fail_with_servers, args=(started,), daemon=True).start()
    ray._private.services.get_node = waiting(ray._private.services.get_node)
    ray._private.services.start_raylet = with_ports(ray._private.services.start_raylet)
    ray._private.services.start_api_server = in_short_tmpdir(ray._private.services.start_api_server, folder)
    try:
        context = ray.init(
            address="local",
            num_cpus=cpus,
            num_gpus=gpus,
            include_dashboard=True,  # without it a cleaner of Ray's logs an error every second
            dashboard_host="127.0.0.1",
            object_store_memory=_OBJECT_STORE_BYTES,
            logging_level=logging.WARNING,
            log_to_driver=False,
            _temp_dir=str(folder / INSIDE),
        )
    except Exception as error:
        _fail(f"{type(error).__name__}: {error}")
    started.set()
    try:
        with suppress(BrokenPipeError):  # the process that started this has ended
            print(context.address_info["gcs_address"], flush=True)
            sys.stdin.read()
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)  # the process that started this may have been killed


def waiting(get_node: Callable[..., Any]) -> Callable[..., Any]:
    """Make `get_node` wait until the node is known, and not raise RuntimeError: Ray's own 30 s cannot be set."""

    def wait(*arguments: Any) -> Any:
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return get_node(*arguments)
            except RuntimeError:
                if time.monotonic() > until:
                    raise
                time.sleep(LOOK_SECONDS)

    return wait


def with_ports(start_raylet: Callable[..., Any]) -> Callable[..., Any]:
    """Tell raylet the ports of its agents beforehand: it ends itself if they take 15 s to tell it."""

    def start(*arguments: Any, **options: Any) -> Any:
        ports = dict(zip(AGENT_PORTS, _free_ports(), strict=True))
        given = inspect.signature(start_raylet).bind(*arguments, **options | ports).arguments
        # raylet takes this file for the agent's own message; it gets the other ports on its command line.
        persist_port(given["session_dir"], given["node_id"], LISTEN_PORT, ports[LISTEN_PORT])
        return start_raylet(*arguments, **options | ports)

    return start


def in_short_tmpdir(start_api_server: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    """Start the dashboard with `folder` as TMPDIR: the path of the usual one may be too long for its sockets."""

    def start(*arguments: Any, **options: Any) -> Any:
        usual = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = str(folder)
        try:
            return start_api_server(*arguments, **options)
        finally:
            del os.environ["TMPDIR"]
            if usual is not None:
                os.environ["TMPDIR"] = usual

    return start


def _free_ports() -> list[int]:
    ports: list[int] = []
    while len(ports) < len(AGENT_PORTS):
        port = secrets.choice(PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            ports.append(port)
    return ports


def _fail_with_servers(started: threading.Event) -> None:
    """End this process if one of Ray's servers ends during the start: Ray itself would wait until its limit."""
    while not started.wait(LOOK_SECONDS):
        for child in psutil.Process().children():
            with suppress(psutil.Error, ChildProcessError):
                if child.name() in _SERVERS:
                    ended = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                    if ended and not started.is_set():
                        _fail(f"its {child.name()} ended with {_status(ended)}")


def _status(ended: os.waitid_result) -> str:
    if ended.si_code == os.CLD_EXITED:
        return f"status {ended.si_status}"
    return f"signal {ended.si_status} ({signal.strsignal(ended.si_status)}): look whether memory has room"


def _fail(reason: str) -> NoReturn:
    print(f"\n{reason}", flush=True)
    os._exit(1)  # works in any thread; Ray's processes end with this one


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), None if sys.argv[3] == "all" else int(sys.argv[3]))
