"""Several trainings at once on one Ray and on Rays of their own, several nodes, and nodes and commands that die."""

import copy
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest

from tests.rules.conftest import CONFIG, REPOSITORY, Workplace
from tests.slow.processes import kill, tree

STREAMS = ("rgb", "flow", "warped")
FLOW = "results/tiny/split1/flow/model.pt"
# What Ray's actors say when they do not find their cluster. On a busy machine it may also complain about waiting.
NOISE = ("multiple active Ray", "Failed to query", "ConnectionError")
ITERATIONS = 800  # enough to be in the midst of when a node dies
ATW_RAY = (sys.executable, "-m", "atw", "ray")


def configure(place: Workplace, seed: int, *, iterations: int = 12, **compute: object) -> None:
    """The tiny configuration; a seed of its own makes a training of its own, on the same shards."""
    config = copy.deepcopy(CONFIG)
    config["seed"] = seed
    config["datasets"]["tiny"]["train"] |= {"iterations": iterations, "steps": [iterations]}
    config["datasets"]["tiny"]["compute"] |= compute
    place.write_config(config)


def snakemake(cores: int, *targets: str) -> list[str]:
    snakefile = str(REPOSITORY / "Snakefile")
    return [sys.executable, "-m", "snakemake", "--snakefile", snakefile, "--cores", str(cores), "--", *targets]


@dataclass
class Watched:
    """A run, every process that was ever seen below it, and what these were seen to do."""

    run: subprocess.Popen[bytes]
    seen: set[psutil.Process] = field(default_factory=set)
    workers_at_once: int = 0
    addresses: set[str] = field(default_factory=set)

    def look(self) -> None:
        processes = tree(self.run.pid)
        self.seen |= set(processes)
        workers = 0
        for process in processes:
            try:
                name = process.cmdline()[:1]
                worker = name and name[0].startswith("ray::RayTrainWorker")
                workers += bool(worker)
                if not worker:  # torch's store for its workers listens wherever it likes
                    self.addresses |= {
                        each.laddr.ip for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN
                    }
            except psutil.Error:
                continue
        self.workers_at_once = max(self.workers_at_once, workers)

    def wait(self, seconds: float) -> int:
        """The exit status; every process must be gone by then, or soon after."""
        end = time.monotonic() + seconds
        while self.run.poll() is None:
            assert time.monotonic() < end, "the run does not end"
            self.look()
            time.sleep(0.2)
        assert psutil.wait_procs(self.seen, timeout=15)[1] == []
        return self.run.returncode


def start(place: Workplace, command: list[str]) -> Watched:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    log = (place.folder / "run.log").open("wb")
    with log:
        run = subprocess.Popen(
            command, cwd=place.folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    return Watched(run)


def finish(watched: Watched, place: Workplace, seconds: float) -> None:
    try:
        status = watched.wait(seconds)
    finally:
        kill([*watched.seen])
    assert status == 0, (place.folder / "run.log").read_text()


def log_of(place: Workplace, stream: str) -> str:
    return (place.folder / f"logs/train/tiny/split1/{stream}.log").read_text()


def iterations_in(path: Path) -> list[int]:
    return [json.loads(line)["iteration"] for line in path.read_text().splitlines()]


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.2)


@pytest.fixture(autouse=True)
def no_cluster_to_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture(scope="module")
def place(workplace: Workplace) -> Workplace:
    """With its shards."""
    workplace.snakemake(*(f"shards/tiny/{stream}/0000{number}.h5" for stream in STREAMS for number in (0, 1)))
    return workplace


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("prefix", "streams", "seed"), [((*ATW_RAY, "--cpus", "3"), 3, 21), ((), 2, 22)])
def test_streams_train_side_by_side(place: Workplace, prefix: tuple[str, ...], streams: int, seed: int) -> None:
    configure(place, seed, iterations=300)
    models = [place.folder / f"results/tiny/split1/{stream}/model.pt" for stream in STREAMS[:streams]]
    run = start(place, [*prefix, *snakemake(streams, *(str(path.relative_to(place.folder)) for path in models))])
    finish(run, place, 380)
    assert run.workers_at_once == streams
    assert run.addresses
    assert {address for address in run.addresses if not loopback(address)} == set()
    for stream, model in zip(STREAMS, models, strict=False):
        assert iterations_in(model.with_name("history.jsonl")) == list(range(1, 301))
        text = log_of(place, stream)
        assert "Started training worker group" in text
        assert [line for line in text.splitlines() if any(word in line for word in NOISE)] == []


def loopback(address: str) -> bool:
    parsed = ip_address(address)
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback


OWN_GPU = """
import ray, sys, time
from pathlib import Path
ray.init()
class Holder:
    def ids(self):
        return ray.get_gpu_ids()
holder = ray.remote(num_cpus=0, num_gpus=1)(Holder).remote()
Path(sys.argv[1]).write_text(str(ray.get(holder.ids.remote())))
while not Path(sys.argv[2]).exists():
    time.sleep(0.1)
"""


@pytest.mark.timeout(200)
def test_trainings_hold_distinct_gpus(place: Workplace, tmp_path: Path) -> None:
    script = tmp_path / "own_gpu.py"
    script.write_text(OWN_GPU)
    python = f"'{sys.executable}' '{script}'"
    both = f"{python} first second & {python} second first & wait"
    watched = start(Workplace(tmp_path), [*ATW_RAY, "--cpus", "1", "--gpus", "2", "--", "bash", "-c", both])
    finish(watched, Workplace(tmp_path), 180)
    assert {(tmp_path / name).read_text() for name in ("first", "second")} == {"[0]", "[1]"}


@pytest.mark.timeout(200)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_command_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    place = Workplace(tmp_path)
    # In the command's group, and in a session of its own as a daemon would be; bash alone would die of SIGINT.
    command = "echo started > began; setsid sleep 1000 & sleep 1001; sleep 1002"
    watched = start(place, [*ATW_RAY, "--cpus", "1", "--", "bash", "-c", command])
    try:
        wait_for((tmp_path / "began").exists, 120, "the command did not begin")
        wait_for(lambda: len(sleeping(watched)) == 2, 30, "the command did not begin")
        watched.look()
        watched.run.send_signal(number)
        if number != signal.SIGKILL:
            assert watched.wait(60) == 128 + number
            return
        watched.run.wait()
        left = [process for process in watched.seen if process in sleeping(watched)]
        assert len(left) == 2
        # Ray ends by itself; the command is named at the next start.
        rest = [process for process in watched.seen if not is_command(process)]
        assert psutil.wait_procs(rest, timeout=30)[1] == []
        refused = subprocess.run([*ATW_RAY, "--", "true"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert refused.returncode == 2
        assert "an earlier `atw ray` was killed" in refused.stderr
        remedy = refused.stderr.rpartition("kill ")[2].split()
        assert {process.pid for process in left} <= {int(pid) for pid in remedy}
        subprocess.run(["kill", *remedy], check=True)
        assert psutil.wait_procs(watched.seen, timeout=15)[1] == []
    finally:
        kill([*watched.seen])


def is_command(process: psutil.Process) -> bool:
    try:
        return process.name() in ("sleep", "bash")
    except psutil.Error:
        return False


def sleeping(watched: Watched) -> list[psutil.Process]:
    watched.look()
    return [process for process in watched.seen if is_command(process) and process.name() == "sleep"]


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
        head = ["--head", f"--port={port}", "--node-ip-address=127.0.0.1", f"--temp-dir={self.folder}"]
        servers = ("dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port")
        self.start([*head, *(f"--{name}={number}" for name, number in zip(servers, others, strict=True))])

    def add_node(self, ip: str) -> subprocess.Popen[bytes]:
        (port,) = free_ports(1)
        where = ["--address", self.address, f"--node-ip-address={ip}", f"--dashboard-agent-listen-port={port}"]
        self.start([*where, "--include-log-monitor=false"])  # the head's reads all logs of this host
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
        assert psutil.wait_procs(self.seen, timeout=15)[1] == []


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # Not below pytest's folder: Ray puts sockets there, whose paths may have 107 bytes.
    with tempfile.TemporaryDirectory(prefix="atw-", ignore_cleanup_errors=True) as folder:
        cluster = Cluster(Path(folder))
        try:
            cluster.start_head()
            yield cluster
        finally:
            cluster.close()


@pytest.fixture
def joined(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    every_line = {"RAY_DEDUP_LOGS": "0"}
    for name, value in (cluster.environment | every_line | {"RAY_ADDRESS": cluster.address}).items():
        monkeypatch.setenv(name, value)
    return cluster


def history_of_run(place: Workplace, before: set[Path]) -> Path | None:
    found = set(place.folder.glob("checkpoints/tiny/split1/flow/*/history.jsonl")) - before
    return found.pop() if found else None


def start_training(place: Workplace, seed: int, **compute: object) -> Watched:
    """Begin one over two nodes, and come back in the midst of it."""
    configure(place, seed, iterations=ITERATIONS, workers=2, train_threads=2, checkpoint_every=40, **compute)
    before = set(place.folder.glob("checkpoints/tiny/split1/flow/*/history.jsonl"))
    watched = start(place, snakemake(2, FLOW))

    def is_under_way() -> bool:
        assert watched.run.poll() is None, log_of(place, "flow")
        watched.look()
        path = history_of_run(place, before)
        return path is not None and len(path.read_text().splitlines()) > 100

    wait_for(is_under_way, 200, "no training began")
    return watched


def workers_of_run(place: Workplace) -> dict[int, str]:
    """Process id and address of every worker that was ever started."""
    found = re.findall(r"\) - \(ip=(\S+), pid=(\d+)\) world_rank=", log_of(place, "flow"))
    return {int(pid): ip for ip, pid in found}


@pytest.mark.timeout(500)
def test_a_lost_node_is_waited_for(place: Workplace, joined: Cluster) -> None:
    second = joined.add_node("127.0.0.2")
    watched = start_training(place, 31)
    try:
        first_workers = workers_of_run(place)
        assert len(first_workers) == 2
        assert "127.0.0.2" in first_workers.values()
        joined.lose(second)
        wait_for(lambda: "RETRY" in log_of(place, "flow"), 60, "the loss is not noticed")
        time.sleep(5)
        assert workers_of_run(place) == first_workers  # nothing starts with one node
        joined.add_node("127.0.0.3")
    except BaseException:
        kill([*watched.seen])
        raise
    finish(watched, place, 300)
    later_workers = [ip for pid, ip in workers_of_run(place).items() if pid not in first_workers]
    assert len(later_workers) == 2
    assert "127.0.0.3" in later_workers
    assert "resumed at iteration" in log_of(place, "flow")
    assert iterations_in((place.folder / FLOW).with_name("history.jsonl")) == list(range(1, ITERATIONS + 1))


@pytest.mark.timeout(500)
def test_a_lost_node_is_done_without(place: Workplace, joined: Cluster) -> None:
    second = joined.nodes[-1] if joined.alive() == 2 else joined.add_node("127.0.0.4")
    watched = start_training(place, 32, min_workers=1)
    try:
        assert len(workers_of_run(place)) == 2
        joined.lose(second)
    except BaseException:
        kill([*watched.seen])
        raise
    finish(watched, place, 300)
    assert len(workers_of_run(place)) == 3
    assert "resumed at iteration" in log_of(place, "flow")
    assert iterations_in((place.folder / FLOW).with_name("history.jsonl")) == list(range(1, ITERATIONS + 1))
