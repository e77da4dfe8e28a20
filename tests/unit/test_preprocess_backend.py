"""Which flow backend a job works with, and how GPUs are reserved."""

from pathlib import Path
from typing import Any

import pytest

from atw import plan as plan_module
from atw.config import ON_GPU
from atw.files import InputError
from atw.flow import cuda, engine
from atw.plan import Plan
from atw.preprocess.resources import job_backend


@pytest.mark.parametrize("name", ["cuda", "opencv-cuda"])
def test_a_gpu_that_was_not_given_is_an_error(name: str) -> None:
    with pytest.raises(InputError, match=f"flow.backend {name} needs a GPU.*--resources gpu=1"), job_backend(name, 0):
        pass


@pytest.mark.usefixtures("fresh_auto")
def test_auto_without_a_gpu_stays_on_the_cpu_even_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(engine.BACKENDS, "cuda", engine.BACKENDS["numba"])
    with job_backend("auto", 0) as name:
        assert name == "numba"


@pytest.mark.usefixtures("fresh_auto")
def test_auto_with_a_gpu_holds_it_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(engine.BACKENDS, "cuda", engine.BACKENDS["numba"])
    monkeypatch.setattr(cuda, "visible_devices", lambda: ["GPU-a-test-only"])
    with job_backend("auto", 1) as name:
        assert name == "cuda"
        with pytest.raises(InputError, match=r"GPU-a-test-only.* in use"), cuda.claim(wait_seconds=0):
            pass
    with cuda.claim(wait_seconds=0) as device:
        assert device == "GPU-a-test-only"


def test_a_backend_by_name_needs_no_gpu_on_the_cpu() -> None:
    for wanted in ("numba", "opencv"):
        with job_backend(wanted, 0) as name:
            assert name == wanted
    assert set(ON_GPU) < set(engine.BACKENDS)


@pytest.mark.parametrize(
    ("backend", "device", "package", "gpus"),
    [
        ("auto", True, True, 1),
        ("auto", False, True, 0),
        ("auto", True, False, 0),
        ("numba", True, True, 0),
        ("opencv", True, True, 0),
        ("cuda", False, False, 1),
        ("opencv-cuda", False, False, 1),
    ],
)
def test_jobs_of_flow_reserve_a_gpu_where_they_will_use_one(
    backend: str, device: bool, package: bool, gpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "NVIDIA_DEVICE", tmp_path if device else tmp_path / "none")
    found: Any = object() if package else None
    monkeypatch.setattr(plan_module.importlib.util, "find_spec", lambda _: found)
    plan = Plan({"datasets": {"demo": {"kind": "demo"}}, "flow": {"backend": backend}})
    assert plan.flow_gpus("demo") == gpus


@pytest.mark.parametrize(
    ("asked", "here", "device", "gpus"),
    [
        ("auto", True, True, 2),
        ("auto", True, False, 0),
        ("auto", False, False, 2),
        (0, False, True, 0),
        (2, True, False, 2),
    ],
)
def test_trainings_reserve_gpus_only_where_there_may_be_one(
    asked: int | str, here: bool, device: bool, gpus: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine without a GPU, they would wait for each other."""
    monkeypatch.setattr(plan_module, "GPU_DEVICES", (tmp_path / "none", tmp_path if device else tmp_path / "no"))
    plan = Plan({"datasets": {"demo": {"kind": "demo"}}, "compute": {"gpus": asked, "workers": 2}})
    assert plan.gpus("demo", "flow", here=here) == gpus
