"""Claims of devices by several processes, and what is said where no device can be used."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from atw.files import InputError
from atw.flow import cuda

HOLD = """
import sys
from atw.flow.cuda import hold_one
with hold_one(sys.argv[1].split(","), wait_seconds=0) as index:
    print(index, flush=True)
    sys.stdin.read()
"""


def holding(devices: str, temporary: Path) -> subprocess.Popen[str]:
    """A process that holds one of the devices until its input is closed."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, devices], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(temporary)}, text=True,
    )  # fmt: skip


def test_processes_hold_different_devices_until_they_die(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with holding("a,b", tmp_path) as first:
        assert first.stdout is not None and first.stdout.readline() == "0\n"
        with holding("a,b", tmp_path) as second:
            assert second.stdout is not None and second.stdout.readline() == "1\n"
            with (
                pytest.raises(InputError, match=r"all 2 GPUs \(b, a\).*--resources gpu=2"),
                cuda.hold_one(["b", "a"], wait_seconds=0.3),
            ):
                pass
            first.send_signal(signal.SIGKILL)
            with cuda.hold_one(["b", "a"], wait_seconds=10) as index:
                assert index == 1
            second.communicate("")
    with cuda.hold_one(["b", "a"], wait_seconds=10) as index:
        assert index == 0


def test_a_claim_decides_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(cuda, "visible_devices", lambda: ["GPU-0", "GPU-1"])
    seen = []
    with cuda.claim() as outer:
        with cuda.claim() as inner:
            worker = threading.Thread(target=lambda: seen.append(cuda.current_device()))
            worker.start()
            worker.join()
        assert cuda.current_device() == 0  # the claim that is left
    assert (outer, inner, seen) == ("GPU-0", "GPU-1", [1])
    assert (tmp_path / f"atw-gpu-{os.getuid()}").stat().st_mode & 0o777 == 0o700


def test_a_foreign_lock_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"atw-gpu-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="TMPDIR"), cuda.hold_one(["a"]):
        pass


def test_no_device_is_an_error_at_once() -> None:
    with pytest.raises(InputError, match="no GPU"), cuda.hold_one([]):
        pass


def test_says_why_it_is_unusable(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = cuda.unusable()
    assert reason is None or re.search("driver|GPU|extra", reason)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert re.search(r"numba-cuda.*atw\[cuda\]", str(cuda.unusable()))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("\nCUDA driver library cannot be found.\nEnsure that ...", "no NVIDIA driver"),
        ("Call to cuInit results in CUDA_ERROR_NO_DEVICE (100)", "finds no GPU among CUDA_VISIBLE_DEVICES=7"),
        ("Call to cuInit results in CUDA_ERROR_SYSTEM_NOT_READY (802)", "does not start.*802"),
        ("", "NVVM is missing.*atw"),
    ],
)
def test_drivers_errors_are_told_apart(error: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert re.search(words, cuda.explain(error))


@pytest.mark.parametrize(
    ("driver", "capability", "words"),
    [
        ((12, 8), (9, 0), r"driver is for CUDA 12\.8.*cu12"),
        ((13, 0), (7, 0), r"7\.0 is below 7\.5"),
        ((13, 1), (9, 0), "^None$"),
    ],
)
def test_old_drivers_and_devices_are_named(driver: tuple[int, int], capability: tuple[int, int], words: str) -> None:
    assert re.search(words, str(cuda.outdated(driver=driver, packages=(13, 0), capability=capability, lowest=(7, 5))))
