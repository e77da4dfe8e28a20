import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from atw.extras import doctor
from atw.extras.doctor import hardware, software, speed
from atw.flow.engine import BACKENDS, FlowBackend
from atw.machine import memory_bytes, processor, usable_cores


def program(folder: Path, name: str, content: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{content}\n")
    path.chmod(0o755)


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def test_programs_get_json_people_lines_and_terminals_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = doctor.examine(measure=False)
    doctor.show(report, as_json=True)
    content = json.loads(capsys.readouterr().out)
    assert content["works"] is True
    assert set(content["flow"]["backends"]) == set(BACKENDS)
    assert content["flow"]["backends"]["numba"] == {"what": "on the CPU", "unusable": None, "pairs_per_second": None}
    assert content["flow"]["auto"] in BACKENDS
    assert content["machine"]["cores"] >= 1
    doctor.show(report, as_json=False)
    shown = capsys.readouterr().out
    lines = dict(line.split("  ", 1) for line in shown.splitlines())
    assert lines["verdict"].strip() == "flow and decoding work"
    assert "mpeg4" in lines["decoding"]
    assert lines["flow backend numba"].strip() == "on the CPU"
    assert "\x1b" not in shown
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    doctor.show(report, as_json=False)
    shown = capsys.readouterr().out
    assert shown.startswith("┏")
    assert "flow backend numba" in shown


def test_a_library_that_is_broken_costs_its_part_and_the_verdict(tmp_path: Path) -> None:
    write(tmp_path / "numba" / "__init__.py", "raise ImportError('numba needs something that is not there')\n")
    write(tmp_path / "av" / "__init__.py", "raise OSError('libavcodec.so: cannot open')\n")
    command = [sys.executable, "-m", "atw", "doctor", "--no-measure"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1, done.stderr
    assert "FAILS: ImportError: numba needs something that is not there" in done.stdout
    assert "FAILS: OSError: libavcodec.so: cannot open" in done.stdout
    assert "flow or decoding does NOT work" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "150000 100000\n", "a/cpu.max": "max 100000\n"}, 2),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/\n", {}, 8),
        (
            "5:cpuset:/\n3:cpu,cpuacct:/a\n",
            {"cpu/a/cpu.cfs_quota_us": "400000\n", "cpu/a/cpu.cfs_period_us": "100000\n"},
            4,
        ),
        ("3:cpu:/a\n", {"cpu/a/cpu.cfs_quota_us": "-1\n", "cpu/a/cpu.cfs_period_us": "100000\n"}, 8),
    ],
)
def test_cores_are_limited_by_the_control_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, membership: str, files: dict[str, str], cores: int
) -> None:
    write(tmp_path / "proc/self/cgroup", membership)
    for name, content in files.items():
        write(tmp_path / "sys/fs/cgroup" / name, content)
    monkeypatch.setattr("atw.machine.ROOT", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert usable_cores() == cores


@pytest.mark.parametrize(
    ("membership", "name", "content", "limited"),
    [
        ("0::/a\n", "a/memory.max", "1048576\n", True),
        ("0::/a\n", "a/memory.max", "max\n", False),
        ("4:memory:/a\n", "memory/a/memory.limit_in_bytes", "1048576\n", True),
        ("4:memory:/a\n", "memory/a/memory.limit_in_bytes", "9223372036854771712\n", False),
    ],
)
def test_memory_is_limited_by_the_control_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, membership: str, name: str, content: str, limited: bool
) -> None:
    write(tmp_path / "proc/self/cgroup", membership)
    write(tmp_path / "sys/fs/cgroup" / name, content)
    monkeypatch.setattr("atw.machine.ROOT", tmp_path)
    total, available = memory_bytes()
    assert total == (1 << 20 if limited else psutil.virtual_memory().total)
    assert 0 < available <= total


def test_the_processor_is_that_of_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atw.machine.ROOT", tmp_path)
    assert processor() == (platform.processor() or platform.machine())
    write(tmp_path / "proc/cpuinfo", "processor\t: 0\nmodel name\t: Fast 9000: v2\nmodel name\t: other\n")
    assert processor() == "Fast 9000: v2"


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists() or platform.machine() != "x86_64", reason="Linux on x86-64 only")
def test_vector_instructions_are_those_of_the_kernel() -> None:
    line = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    flags = set(line.partition(":")[2].split())
    for name in ("avx2", "fma", "avx512f"):
        assert (name in hardware.simd()) == (name in flags), name


def test_gpus_are_those_that_nvidia_smi_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(
        tmp_path,
        "nvidia-smi",
        'echo "$1" | grep -q compute_cap || exit 9\n'
        'echo "NVIDIA H200, 580.95.05, 143771, 9.0"\necho "NVIDIA GB10, 580.95.05, [N/A], 12.1"',
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    found = hardware.examine_gpus()
    assert found.content == {
        "devices": [
            {"name": "NVIDIA H200", "driver": "580.95.05", "memory_gib": 140.4, "compute_capability": "9.0"},
            {"name": "NVIDIA GB10", "driver": "580.95.05", "memory_gib": None, "compute_capability": "12.1"},
        ],
        "why_none": None,
        "cuda_visible_devices": "1",
    }
    assert found.rows == [
        ("GPU 0", "NVIDIA H200, 140.4 GiB, driver 580.95.05, compute capability 9.0"),
        ("GPU 1", "NVIDIA GB10, driver 580.95.05, compute capability 12.1"),
        ("CUDA_VISIBLE_DEVICES", "1"),
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no NVIDIA driver: nvidia-smi is not installed"),
        ("echo 'NVIDIA-SMI has failed'; exit 9", "nvidia-smi fails: NVIDIA-SMI has failed"),
        ("", "nvidia-smi lists none"),
        ("exec sleep 20", "nvidia-smi does not answer within 0.2 s"),
    ],
)
def test_why_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, reason: str) -> None:
    if content is not None:
        program(tmp_path, "nvidia-smi", content)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    else:
        monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(hardware, "SMI_SECONDS", 0.2 if content == "exec sleep 20" else 10)
    found = hardware.examine_gpus()
    assert found.content["why_none"] == reason
    assert found.rows == [("GPU", f"none: {reason}")]


class OpenCvWithCuda:
    """What a build of OpenCV with CUDA says of itself on a machine without a driver."""

    __version__ = "4.14.0"

    class cuda:  # noqa: N801
        OpticalFlowDual_TVL1 = object

        @staticmethod
        def getCudaEnabledDeviceCount() -> int:  # noqa: N802
            return -1

    class optflow:  # noqa: N801
        DualTVL1OpticalFlow_create = object

    @staticmethod
    def getBuildInformation() -> str:  # noqa: N802
        return (
            "  Other third-party libraries:\n    VA:                          NO\n\n"
            "  NVIDIA CUDA:                   YES (ver 13.0, no extra features)\n"
            "    NVIDIA GPU arch:             80 90\n    NVIDIA PTX archs:\n\n  Python 3:\n"
        )


def test_opencv_with_cuda_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", OpenCvWithCuda)
    found = software.examine_opencv()
    assert found.content == {
        "version": "4.14.0",
        "built_with_cuda": "13.0",
        "built_for_gpus": "80 90",
        "cuda_devices": 0,
        "tvl1": True,
        "tvl1_cuda": True,
    }
    text = "4.14.0, built with CUDA 13.0 for compute capability 80 90, no device found; TV-L1: CPU and CUDA"
    assert found.rows == [("OpenCV", text)]


def test_this_opencv_says_what_it_is() -> None:
    import cv2

    found = software.examine_opencv()
    with_cuda = hasattr(cv2.cuda, "OpticalFlowDual_TVL1")
    assert (found.content["built_with_cuda"] is not None) == found.content["tvl1_cuda"] == with_cuda
    assert found.content["tvl1"]
    assert ("built without CUDA" in found.rows[0][1]) != with_cuda


def test_decoding_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "CODECS", ("mpeg4", "libx264", "nonsense"))
    found = software.examine_decoding()
    assert found.content["fails"] is None
    assert found.content["codecs"] == {"mpeg4": True, "libx264": False, "nonsense": False}
    assert found.rows[1] == ("no decoder for", "libx264 nonsense")
    black = np.zeros((32, 32, 3), np.uint8)
    monkeypatch.setattr("atw.videos.decode.read", lambda *_, **__: iter([black] * 3))
    reason = "three frames of brightness 60, 120 and 180 were read as [0.0, 0.0, 0.0]"
    assert software.examine_decoding().content["fails"] == reason


@pytest.mark.parametrize(
    ("script", "version"),
    [
        (None, None),
        ("echo slurm 24.05.3", "slurm 24.05.3"),
        (
            "echo 'sbatch: error: no server' >&2; echo 'sbatch: fatal: no configuration' >&2; exit 1",
            "sbatch fails: sbatch: fatal: no configuration",
        ),
        ("exit 1", "sbatch fails: without a word"),
    ],
)
def test_slurm_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, version: str | None
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if script:
        program(tmp_path, "sbatch", script)
    found = software.examine_slurm()
    assert found.content["version"] == version
    assert found.rows[1] == ("Slurm", version or "not here: no sbatch")


def test_ray_and_its_address_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr("importlib.metadata.version", lambda _: "2.50")
    assert software.examine_ray().rows == [("Ray", "2.50, RAY_ADDRESS=10.0.0.1:6379")]

    def missing(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr("importlib.metadata.version", missing)
    assert software.examine_ray().content["version"] is None


def test_backends_are_timed_and_checked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def still(prev: Any, *_: object) -> Any:
        return np.zeros((len(prev), 2, *prev.shape[1:]), np.float32)

    def broken(*_: object) -> Any:
        raise RuntimeError("no kernel image")

    backends = {
        "opencv-cuda": FlowBackend("a", lambda: "not installed", broken),
        "cuda": FlowBackend("b", lambda: None, broken),
        "opencv": FlowBackend("w", lambda: None, still),
        "numba": BACKENDS["numba"],
    }
    for place in ("atw.extras.doctor.speed.BACKENDS", "atw.flow.engine.BACKENDS"):
        monkeypatch.setattr(place, backends)
    monkeypatch.setattr(speed, "LEAST_SECONDS", 0.01)
    monkeypatch.setattr(speed, "PRESETS", ("fast",))
    part = speed.examine_flow(cores=2, measure=True)
    found = part.content["backends"]
    assert part.content["auto"] == "numba"
    assert found["opencv-cuda"]["unusable"] == "not installed"
    assert found["cuda"]["unusable"] == "fails: RuntimeError: no kernel image"
    assert found["opencv"]["unusable"] == "gives wrong flow: [0.0, 0.0] px for a motion of [3.4, -1.7] px"
    rates = found["numba"]["pairs_per_second"]["fast"]
    assert set(rates) == {1, 2}
    assert min(rates.values()) > 0
    assert "timing numba" in capsys.readouterr().err
    rows = dict(part.rows)
    assert rows["flow by auto"] == "numba"
    assert rows["flow backend opencv-cuda"] == "cannot run: not installed"
    assert "pairs/s with 1 thread, " in rows["flow backend numba"]


def test_the_rate_is_pairs_over_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    sizes = []

    def working(prev: Any, *_: object, **__: object) -> None:
        nonlocal now
        sizes.append(len(prev))
        now += 0.02 + len(prev) / 50

    monkeypatch.setattr(speed, "estimate", working)
    monkeypatch.setattr("time.perf_counter", lambda: now)
    # 32 pairs are the first to take half a second: 0.02 + 0.64.
    assert speed.pairs_per_second("numba", "fast", 2) == round(32 / 0.66, 1)
    assert sizes == [4, 8, 16, 32]


def test_the_rendered_pictures_move_as_said() -> None:
    prev, following = speed.texture(3)
    assert prev.shape == following.shape == (3, 256, 340)
    assert np.array_equal(prev[0], prev[2])
    assert prev.std() > 20
    # Brightness differs by gradient times motion: least squares gives the motion, half of it back from each picture.
    mean = (prev[0].astype(float) + following[0]) / 2
    down, across = np.gradient(mean)
    inside = np.s_[20:-20, 20:-20]
    gradients = np.stack([across[inside].ravel(), down[inside].ravel()], axis=1)
    change = (prev[0].astype(float) - following[0])[inside].ravel()
    motion, *_ = np.linalg.lstsq(gradients, change)
    assert np.sign(motion).tolist() == [1, -1]
    assert motion == pytest.approx([3.4, -1.7], rel=0.35)


@pytest.mark.parametrize(("free_gib", "warns"), [(0.9, True), (1.0, False)])
def test_little_shared_memory_is_said(monkeypatch: pytest.MonkeyPatch, free_gib: float, warns: bool) -> None:
    monkeypatch.setattr(hardware.shutil, "disk_usage", lambda _: SimpleNamespace(free=int(free_gib * (1 << 30))))
    part = hardware.examine_machine()
    assert part.content["shared_memory_free_gib"] == free_gib
    said = dict(part.rows)["shared memory"]
    assert said.startswith(f"{free_gib} GiB free in /dev/shm")
    assert ("start a container with --shm-size 4g, or set compute.loaders to 0" in said) == warns


def test_without_shared_memory_nothing_is_said_of_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hardware, "SHARED_MEMORY", tmp_path / "shm")
    assert "shared memory" not in dict(hardware.examine_machine().rows)
