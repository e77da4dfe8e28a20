"""A training on two nodes of a Ray cluster, one of which dies in the middle."""

import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rules.conftest import Workplace
from tests.slow.nodes import Cluster
from tests.slow.processes import kill
from tests.slow.watched import Watched, configure, finish, iterations_in, log_of, snakemake, start, wait_for

FLOW = "results/tiny/split1/flow/model.pt"
ITERATIONS = 800  # enough to be in the midst of when a node dies


@pytest.fixture(scope="module")
def place(workplace: Workplace) -> Workplace:
    """With its shards."""
    workplace.snakemake(*(f"shards/tiny/flow/0000{number}.h5" for number in (0, 1)))
    return workplace


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

    try:
        wait_for(is_under_way, 200, "no training began")
    except BaseException:
        kill([*watched.seen])
        raise
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
