"""Several trainings at once, on one Ray and on Rays of their own, and commands that are stopped in the middle."""

import getpass
import os
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest

from atw.train.ray.cluster import environment, own_ray, still_there
from atw.train.ray.sockets import _LONGEST_SOCKET, INSIDE
from tests.conftest import OtherUser
from tests.rules.conftest import Workplace
from tests.slow.processes import kill, tree
from tests.slow.watched import Watched, configure, finish, iterations_in, log_of, snakemake, start, wait_for

STREAMS = ("rgb", "flow", "warped")
# What Ray's actors say when they do not find their cluster. On a busy machine it may also complain about waiting.
NOISE = ("multiple active Ray", "Failed to query", "ConnectionError")
ATW_RAY = (sys.executable, "-m", "atw", "ray")


@pytest.fixture(autouse=True)
def no_cluster_to_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture(scope="module")
def place(workplace: Workplace) -> Workplace:
    """With its shards."""
    workplace.snakemake(*(f"shards/tiny/{stream}/0000{number}.h5" for stream in STREAMS for number in (0, 1)))
    return workplace


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("prefix", "streams", "seed", "workers"),
    [((*ATW_RAY, "--cpus", "4"), 2, 20, 2), ((), 2, 22, 2)],
    ids=["two of two workers on one Ray", "two of two workers on Rays of their own"],
)
def test_streams_train_side_by_side(
    place: Workplace, prefix: tuple[str, ...], streams: int, seed: int, workers: int
) -> None:
    configure(place, seed, iterations=300, workers=workers, train_threads=workers)
    models = [place.folder / f"results/tiny/split1/{stream}/model.pt" for stream in STREAMS[:streams]]
    targets = [str(path.relative_to(place.folder)) for path in models]
    scratch = place.folder / "a path that is too long for the names of sockets" / str(seed)
    scratch.mkdir(parents=True)
    run = start(place, [*prefix, *snakemake(streams * workers, *targets)], TMPDIR=str(scratch))
    finish(run, place, 380)
    assert run.workers_at_once == streams * workers
    assert any(path.name == "plasma_store" for path in run.sockets)
    assert run.exposed == set()
    assert not any(path.exists() for path in run.sockets)
    # Torch makes the folder of a cache there for several workers, and Snakemake's solver forgets its problems.
    left = [path for path in scratch.rglob("*") if not path.name.endswith("-pulp.mps")]
    assert [path for path in left if path != scratch / f"torchinductor_{getpass.getuser()}"] == []
    addresses = run.addresses()
    assert [address for address in addresses if loopback(address)]
    assert {address: titles for address, titles in addresses.items() if not loopback(address)} == {}
    for stream, model in zip(STREAMS, models, strict=False):
        assert iterations_in(model.with_name("history.jsonl")) == list(range(1, 301))
        text = log_of(place, stream)
        assert "Started training worker group" in text
        assert [line for line in text.splitlines() if any(word in line for word in NOISE)] == []


def loopback(address: str) -> bool:
    parsed = ip_address(address)
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback


# Before any program of Python's: what starts the raylet waits first, for longer than the 30 s that Ray gives it, and
# the agents of Ray's dashboard, which have 15 s to answer, stand still for ever.
SLOW = """
import os, signal, subprocess, sys
begin = subprocess.Popen.__init__
def slowly(self, args, *rest, **options):
    if isinstance(args, list) and str(args[0]).endswith("/raylet"):
        args = ["sh", "-c", 'sleep 35; exec "$@"', "raylet", *args]
    begin(self, args, *rest, **options)
subprocess.Popen.__init__ = slowly
if any(part.endswith("dashboard/agent.py") for part in sys.orig_argv):
    os.kill(os.getpid(), signal.SIGSTOP)
"""


def title(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


@pytest.mark.timeout(300)
def test_a_slow_ray_is_waited_for_and_nobody_else_gets_at_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path, other_user: OtherUser
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    slow = {"TMPDIR": str(other_user.folder), "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    for name, value in (environment() | slow).items():
        monkeypatch.setenv(name, value)
    with own_ray(cpus=1, gpus=0):
        raylet, agent = (
            next(each for each in tree(os.getpid()) if title(each).partition(" --")[0].endswith(name))
            for name in ("/raylet", "dashboard/agent.py")
        )
        assert agent.status() == psutil.STATUS_STOPPED
        option = next(part for part in raylet.cmdline() if part.startswith("--raylet_socket_name="))
        folder = Path(option.partition("=")[2]).parents[3]
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        sockets = [path for path in folder.rglob("*") if path.is_socket()]
        assert Path(option.partition("=")[2]) in sockets
        assert max(len(str(path)) for path in sockets) <= len(f"{folder}/{INSIDE}/{_LONGEST_SOCKET}")
        for attempt in (f"ls {folder}", f"touch {folder}/{INSIDE}/planted", f"mv {sockets[0]} {sockets[0]}.old"):
            assert other_user.run(attempt, check=False).returncode != 0, attempt
        # What is in TMPDIR is of others than Ray.
        assert {stat.S_IMODE(path.stat().st_mode) for path in other_user.folder.iterdir()} <= {0o700}
        agent.kill()
    assert caplog.text == ""
    assert not folder.exists()


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
        assert still_there(rest, 30) == []
        refused = subprocess.run([*ATW_RAY, "--", "true"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert refused.returncode == 2
        assert "an earlier `atw ray` was killed" in refused.stderr
        remedy = refused.stderr.rpartition("kill ")[2].split()
        assert {process.pid for process in left} <= {int(pid) for pid in remedy}
        subprocess.run(["kill", *remedy], check=True)
        assert still_there(watched.seen, 15) == []
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
