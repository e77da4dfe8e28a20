"""The wheel, installed into an empty environment, runs the workflow in an empty folder without the checkout."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from atw import __version__
from tests.rules.conftest import REPOSITORY

TARGET = "results/tiny/split1/fused.json"
TINY = {
    "kind": "demo",
    "train_per_class": 2,
    "test_per_class": 1,
    "preprocess": {"width": 64, "height": 48, "shards": 1},
    "flow": {"preset": "fast", "levels": 2, "warps": 1, "iterations": 6, "bound": 8},
    "warp": {"distance": 3, "min_matches": 10, "min_inliers": 6},
    "sampling": {"segments": 2, "stack": 3},
    "augment": {"input_size": 32, "scales": [1.0]},
    "model": {"backbone": "tiny", "weights": None, "dropout": 0.0, "partial_bn": "none"},
    "train": {"iterations": 4, "batch": 8, "steps": [3]},
    "evaluate": {"snippets": 3, "crop": 32},
    "fusion": {"weights": {"warped": 1}},
    "compute": {"preprocess_threads": 1, "train_threads": 1, "gpus": 0, "loaders": 0},
}
SMALLER = ("preprocess", "flow", "warp", "sampling", "augment", "model", "train", "evaluate", "fusion", "compute")


def call(command: list[str | Path], folder: Path, timeout_seconds: float) -> str:
    """Output of a command that knows nothing of the checkout and of this environment."""
    own = ("PYTHON", "VIRTUAL_ENV", "RAY_", "SNAKEMAKE")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    environment["PATH"] = "/usr/local/bin:/usr/bin:/bin"
    run = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout_seconds, check=False
    )
    assert run.returncode == 0, f"{command}\n{run.stdout[-4000:]}\n{run.stderr[-4000:]}"
    return run.stdout + run.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    call([*pip, "--wheel-dir", str(folder), str(REPOSITORY)], folder, 300)
    (built,) = folder.glob("*.whl")
    return built


def link_torch(site_packages: Path) -> None:
    """Lend torch, torchvision and the libraries of CUDA, four gigabytes, to another environment as links."""
    for distribution in importlib.metadata.distributions():
        if re.match(r"(torch|torchvision|triton|nvidia-.*)$", distribution.metadata["Name"]):
            for top in {path.parts[0] for path in distribution.files or [] if ".." not in path.parts}:
                link = site_packages / top
                if not link.is_symlink():
                    link.symlink_to(str(distribution.locate_file(top)))


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment in which nothing but the wheel was installed."""
    folder = tmp_path_factory.mktemp("environment")
    call([sys.executable, "-m", "venv", folder], folder, 120)
    link_torch(next(folder.glob("lib/python*/site-packages")))
    pip = [folder / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    call([*pip, "--constraint", REPOSITORY / "envs/requirements.txt", wheel], folder, 1500)
    return folder / "bin"


def test_the_wheel_has_the_workflow_and_no_more(wheel: Path) -> None:
    assert wheel.name.startswith(f"atw-{__version__}-")
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"atw", "snakemake_logger_plugin_atw", next(top for top in tops if top.endswith(".dist-info"))}
    inside = {name.removeprefix("atw/workflow_files/") for name in names if name.startswith("atw/workflow_files/")}
    folders = [REPOSITORY / name for name in ("workflow", "profiles", "envs")]
    here = [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert inside == {"Snakefile", "config.yaml", *(str(path.relative_to(REPOSITORY)) for path in here)}


@pytest.mark.timeout(2500)
def test_a_run_in_an_empty_folder(bin_folder: Path, tmp_path: Path) -> None:
    atw = bin_folder / "atw"
    plan = call([atw, "run", "--dry-run", "results/demo/split1/fused.json"], tmp_path, 200)
    assert f"wrote {tmp_path / 'config.yaml'}" in plan
    assert "fuse of demo split1: not made yet" in plan

    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"datasets": {"tiny": TINY}}), encoding="utf-8")
    said = call([atw, "run", "--cores", "2", TARGET], tmp_path, 900)
    result = json.loads((tmp_path / TARGET).read_text(encoding="utf-8"))
    assert result["videos"]["test"] == 8
    assert str(bin_folder.parent) in said  # where the Snakefile is
    logs = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "logs").rglob("*.log"))
    assert str(REPOSITORY) not in said + logs + (tmp_path / TARGET).read_text(encoding="utf-8")
    assert call([atw, "run", "--", "--logger", "atw", "--summary"], tmp_path, 200)
    shown = call([atw, "show", TARGET], tmp_path, 200)
    assert "warped" in shown

    own = tmp_path / "own"
    own.mkdir()
    written = call([atw, "init", tmp_path / "data/tiny/split1"], own, 200)
    assert "24 videos of 8 classes" in written
    assert "  recipe: small " in written
    assert re.search(r"\nabout [\d.]+ (s|min); `atw plan results/split1/split1/fused.json` says for what\n", written)
    config = yaml.safe_load((own / "config.yaml").read_text(encoding="utf-8"))
    config["datasets"]["split1"] |= {name: TINY[name] for name in SMALLER}
    (own / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    made = call([atw, "run", "--cores", "2"], own, 900)
    assert "for any browser: results/split1/split1/report.html" in made
    assert json.loads((own / "results/split1/split1/fused.json").read_text(encoding="utf-8"))["videos"]["test"] == 8

    where = call([bin_folder / "python", "-c", "import atw; print(atw.__file__)"], tmp_path, 60)
    assert Path(where.strip()).is_relative_to(bin_folder.parent)
