"""A Ray cluster of several nodes on this host."""

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

from atw.train.ray.cluster import still_there
from tests.slow.processes import kill, tree
from tests.slow.watched import wait_for


def free_ports(count: int) -> Iterator[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    yield from [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()


class Cluster:
    """A head and nodes on this host, each with an address and one CPU of its own; a token that all of them know."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.nodes: list[subprocess.Popen[bytes]] = []
        self.seen: set[psutil.Process] = set()
        self.address = ""

    def start_head(self) -> None:
        port, *others = free_ports(4)
        self.address = f"127.0.0.1:{port}"
        head = ["--head", f"--port={port}", "--node-ip-address=127.0.0.1", f"--temp-dir={self.folder}/ray"]
        servers = ("dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port")
        self.start([*head, *(f"--{name}={number}" for name, number in zip(servers, others, strict=True))])

    def add_node(self, ip: str) -> subprocess.Popen[bytes]:
        (port,) = free_ports(1)
        where = ["--address", self.address, f"--node-ip-address={ip}", f"--dashboard-agent-listen-port={port}"]
        # The head's log monitor reads all logs of this host.
        self.start([*where, f"--temp-dir={self.folder}/{ip}", "--include-log-monitor=false"])
        return self.nodes[-1]

    def alive(self) -> int:
        return sum(node.poll() is None for node in self.nodes)

    def start(self, arguments: list[str]) -> None:
        ray = str(Path(sys.executable).with_name("ray"))
        common = ["--block", "--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats"]
        path = self.folder / "start.log"
        with path.open("ab") as log:
            node = subprocess.Popen(
                [ray, "start", *common, *arguments],
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.nodes.append(node)

        def has_started() -> bool:
            assert node.poll() is None, path.read_text()
            self.look()
            return path.read_text().count("Ray runtime started.") == len(self.nodes)

        wait_for(has_started, 120, "a node does not start")

    def look(self) -> None:
        for node in self.nodes:
            self.seen |= set(tree(node.pid))

    def lose(self, node: subprocess.Popen[bytes]) -> None:
        """As a power cut would: every process of the node at once."""
        self.look()
        processes = tree(node.pid)
        assert [process for process in processes if process.name() == "raylet"]
        kill(processes)
        node.wait()

    def close(self) -> None:
        self.look()
        kill([*self.seen])
        for node in self.nodes:
            node.wait()
        assert still_there(self.seen, 15) == []
