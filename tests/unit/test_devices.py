import os
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from atw.config import Compute
from atw.files import InputError
from atw.flow import cuda
from atw.train import devices, loop
from atw.train.devices import Worker, own_gpus, use_gpu
from tests.conftest import OtherUser
from tests.unit.trainings import CPU, WriteShard, run_training, task_of


@pytest.mark.parametrize(
    ("gpus", "workers", "reserved", "available", "expected"),
    [
        ("auto", 1, 1, 1, True),
        ("auto", 1, 1, 0, False),
        ("auto", 1, 0, 8, False),
        ("auto", 2, 2, 1, False),
        (0, 1, 1, 1, False),
        (2, 2, 2, 8, True),
    ],
)
def test_use_gpu(gpus: int | str, workers: int, reserved: int, available: int, expected: bool) -> None:
    compute = Compute.model_validate({"gpus": gpus, "workers": workers})
    assert use_gpu(compute, reserved=reserved, available=available) is expected


@pytest.mark.parametrize(("reserved", "available", "words"), [(0, 1, "--resources gpu=1"), (1, 0, "0 CUDA devices")])
def test_a_demand_is_never_given_up(reserved: int, available: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        use_gpu(Compute(gpus=1), reserved=reserved, available=available)


HOLD = """
import sys
from atw.flow.cuda import hold_one
with hold_one(["GPU-0"]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_scoring_takes_gpus_that_no_other_job_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid=number))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with own_gpus(0) as none:
        assert none == ()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(tmp_path)}, text=True,
    ) as flow_job:  # fmt: skip
        assert flow_job.stdout is not None and flow_job.stdout.readline() == "held\n"
        with own_gpus(2) as first, own_gpus(1) as second:
            assert (first, second) == ((1, 2), (3,))
        flow_job.communicate("")


def test_slices_of_a_gpu_have_names_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA gives both the UUID of the GPU that they are slices of; torch leaves its prefix out."""
    for visible, expected in {
        "": ["GPU-a", "GPU-a"],
        "1,0": ["GPU-a", "GPU-a"],
        "MIG-b": ["MIG-b", "GPU-a"],
        "MIG-b, MIG-c,MIG-d": ["MIG-b", "MIG-c"],
        "MIG-GPU-a/1/0,MIG-GPU-a/2/0": ["MIG-GPU-a-1-0", "MIG-GPU-a-2-0"],
    }.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert cuda.device_names(["GPU-a", "a"]) == expected


@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_what_only_gpus_compute_is_refused_before_anything_is_read(
    precision: str, tmp_path: Path, write_shard: WriteShard
) -> None:
    task = task_of(tmp_path, write_shard, compute={"precision": precision})
    with pytest.raises(InputError, match=f"compute.precision is {precision}, which needs a GPU: take fp32 or bf16"):
        run_training(task, tmp_path / "h")
    assert not (tmp_path / "h").exists()


def test_compiling_needs_a_compiler_and_on_a_gpu_pythons_headers(
    tmp_path: Path, write_shard: WriteShard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU Triton builds a small C program on its first use, long after the training has begun."""
    made: list[str] = []
    network: Any = SimpleNamespace(compile=lambda: made.append("compiled"))
    gpu = torch.device("cuda")
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "include").mkdir()
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / name))
    with pytest.raises(InputError, match=r"compute.compile needs a C\+\+ compiler on the CPU"):
        loop.Training(task_of(tmp_path, write_shard, compute={"compile": True}), Worker(CPU))
    for program in ("g++", "gcc"):
        with pytest.raises(InputError, match=r"a C compiler on a GPU, and there is no gcc or clang here"):
            devices.compile_network(network, gpu)
        (tmp_path / program).write_text("")
        (tmp_path / program).chmod(0o755)
    with pytest.raises(InputError, match=r"include/Python\.h is not there.*python3-dev"):
        devices.compile_network(network, gpu)
    (tmp_path / "include/Python.h").write_text("")
    monkeypatch.setenv("CC", "elsewhere -m64")
    with pytest.raises(InputError, match=r"no elsewhere here"):
        devices.compile_network(network, gpu)
    monkeypatch.setenv("CC", "gcc -m64")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "kept"))
    devices.compile_network(network, gpu)
    assert made == ["compiled"]


def test_nothing_compiled_is_taken_from_a_folder_that_others_can_write_to(
    monkeypatch: pytest.MonkeyPatch, other_user: OtherUser
) -> None:
    other_user.folder.chmod(0o1777)  # as /tmp is
    planted = other_user.folder / "torchinductor_you"
    other_user.run("mkdir torchinductor_you; chmod 777 torchinductor_you")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(planted))
    network: Any = SimpleNamespace(compile=None)
    with pytest.raises(InputError, match=f"others can write to {planted.resolve()}: let TORCHINDUCTOR_CACHE_DIR name"):
        devices.compile_network(network, CPU)


@pytest.mark.parametrize(
    ("free_gb", "precision", "least", "videos"),
    [
        (80.0, "fp32", 1, 32),
        (9.0, "fp32", 1, 32),
        (8.0, "fp32", 1, 16),  # 32 videos hold 5.7 GB, and more comes and goes
        (4.0, "fp32", 1, 8),
        (0.5, "fp32", 1, 1),
        (0.5, "fp32", 2, 2),
        (6.0, "bf16", 1, 32),
    ],
)
def test_auto_is_what_fits_into_free_memory(
    free_gb: float, precision: str, least: int, videos: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = {"fp32": 178_693_744, "bf16": 92_591_728}  # of resnet50 with 4 snippets, by the function itself
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free_gb * 1e9), 0))
    monkeypatch.setattr(devices, "activation_bytes", lambda network, video, precision, device: counted[precision])
    network: Any = torch.nn.Linear(25_000_000, 1, bias=False, device="meta")
    options = {"video": (4, 3, 224, 224), "precision": precision, "least": least}
    assert devices.choose_microbatch("auto", network, device=torch.device("cuda"), **options) == videos
    assert devices.choose_microbatch("auto", network, device=CPU, **options) == 32
    assert devices.choose_microbatch(5, network, device=torch.device("cuda"), **options) == 5


@pytest.mark.parametrize(
    ("asked", "device", "capability", "precision"),
    [
        ("auto", "cuda", (9, 0), "bf16"),
        ("auto", "cuda", (8, 0), "bf16"),
        ("auto", "cuda", (7, 5), "fp32"),
        ("auto", "cpu", (9, 0), "fp32"),
        ("fp32", "cuda", (9, 0), "fp32"),
        ("bf16", "cpu", (7, 5), "bf16"),
    ],
)
def test_auto_is_bf16_where_a_gpu_has_it(
    asked: str, device: str, capability: tuple[int, int], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert devices.choose_precision(asked, torch.device(device)) == precision


@pytest.mark.parametrize(
    ("asked", "device", "cores", "gpus", "processes", "loaders"),
    [
        ("auto", "cuda", 64, 2, 2, 8),
        ("auto", "cuda", 16, 4, 1, 3),
        ("auto", "cuda", 2, 4, 1, 1),
        ("auto", "cpu", 32, 0, 1, 2),
        ("auto", "cpu", 5, 0, 1, 1),
        ("auto", "cpu", 8, 0, 2, 0),
        ("auto", "cpu", 2, 0, 1, 0),
        (7, "cpu", 2, 0, 1, 7),
        (0, "cuda", 64, 1, 1, 0),
    ],
)
def test_auto_takes_the_cores_that_are_left(
    asked: int | str,
    device: str,
    cores: int,
    gpus: int,
    processes: int,
    loaders: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "usable_cores", lambda: cores)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert devices.choose_loaders(asked, torch.device(device), processes=processes) == loaders


def test_activations_are_counted_once_and_the_network_stays_as_it_is(tmp_path: Path, write_shard: WriteShard) -> None:
    network = loop.build_network(task_of(tmp_path, write_shard)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(5)
    drawn = torch.random.get_rng_state()
    one = devices.activation_bytes(network, (2, 6, 32, 32), "fp32", CPU)
    assert devices.activation_bytes(network, (4, 6, 32, 32), "fp32", CPU) == pytest.approx(2 * one, rel=0.01)
    first = 2 * 6 * 32 * 32 * 4  # the normalised input alone
    assert first < one < 100 * first
    assert 0.4 * one < devices.activation_bytes(network, (2, 6, 32, 32), "bf16", CPU) < 0.9 * one
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert not network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_what_auto_chose_stays_with_the_training(tmp_path: Path, write_shard: WriteShard) -> None:
    task = task_of(tmp_path, write_shard, compute={"microbatch": "auto"})
    training = loop.Training(task, Worker(CPU))
    assert training.microbatch == 32
    training.microbatch = 4
    state = training.state(3)
    assert state["settled"] == {"precision": "fp32", "loaders": 0}
    other = loop.Training(task, Worker(CPU))
    other.resume(state)
    assert other.microbatch == 4
    asked = loop.Training(task_of(tmp_path, write_shard, compute={"microbatch": 3}), Worker(CPU))
    asked.resume(state)
    assert asked.microbatch == 3


def test_too_little_shared_memory_is_said_before_anything_is_read(
    tmp_path: Path, write_shard: WriteShard, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = 3 * 2 * 6 * 16 * 16  # videos, snippets, channels and the sides of a crop
    for free, room in ((5 * batch, True), (5 * batch - 1, False)):  # two loaders have two ready, and one is in use
        monkeypatch.setattr(devices.shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        with nullcontext() if room else pytest.raises(InputError, match=r"/dev/shm has 0 MiB.*--shm-size.*loaders"):
            devices.check_shared_memory(2, batch, processes=1)
    devices.check_shared_memory(0, batch, processes=1)
    with pytest.raises(InputError, match="2 loaders need 1 MiB"):
        run_training(task_of(tmp_path, write_shard, compute={"loaders": 2}), tmp_path / "history.jsonl")
    assert not (tmp_path / "history.jsonl").exists()


def test_a_full_gpu_is_one_message(tmp_path: Path, write_shard: WriteShard, monkeypatch: pytest.MonkeyPatch) -> None:
    def update(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of devices. Tried to allocate 392.00 MiB")

    monkeypatch.setattr(loop, "update", update)
    for given, words in ((3, "compute.microbatch to a number below 3"), (1, r"of the GPU: end what else")):
        task = task_of(tmp_path, write_shard, compute={"microbatch": given})
        with pytest.raises(InputError, match=words):
            run_training(task, tmp_path / "history.jsonl")
