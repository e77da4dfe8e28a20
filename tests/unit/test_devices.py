import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from atw.config import Compute
from atw.files import InputError
from atw.flow import cuda
from atw.train.devices import own_gpus, use_gpu


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
