"""Imports go one way, so that each stage needs only its own libraries and the workflow next to none."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A module imports from its own group and from groups of lower rank; groups of one rank know nothing of each other.
GROUPS = {
    "atw": (0, "base"),
    "atw.errors": (0, "base"),
    "atw.files": (0, "base"),
    "atw.hdf5": (0, "base"),
    "atw.jit": (0, "base"),
    "atw.config": (0, "base"),
    "atw.locks": (0, "base"),
    "atw.machine": (0, "base"),
    "atw.terminal": (0, "base"),
    "atw.workflow": (0, "base"),
    "atw.videos.containers": (0, "base"),
    "atw.videos.times": (0, "base"),
    "atw.videos": (1, "inputs"),
    "atw.datasets": (1, "inputs"),
    "atw.shards": (1, "inputs"),
    "atw.plan": (2, "plan"),
    "atw.flow": (2, "preprocess"),
    "atw.preprocess": (2, "preprocess"),
    "atw.data": (2, "data"),
    "atw.model": (2, "model"),
    "atw.train": (3, "train"),
    "atw.evaluate": (4, "evaluate"),
    "atw.train.launch": (5, "launch"),
    "atw.train.ray.rendezvous": (5, "launch"),
    "atw.extras": (1, "extras"),
    "atw.extras.reference": (1, "reference"),
    "atw.extras.live": (1, "live"),
    "atw.extras.planned": (1, "live"),
    "atw.extras.demo": (2, "demo"),
    "atw.extras.download": (2, "download"),
    "atw.extras.doctor": (3, "doctor"),
    "atw.extras.flow_preview": (6, "drawing"),
    "atw.extras.drawing": (5, "drawing"),
    "atw.extras.cost": (5, "cost"),
    "atw.extras.export": (4, "export"),
    "atw.extras.origins": (5, "origins"),
    "atw.extras.tables": (5, "tables"),
    "atw.extras.starting": (6, "starting"),
    "atw.extras.training_data": (6, "training_data"),
    "atw.extras.predict": (6, "predict"),
    "atw.extras.report": (6, "report"),
    "atw.commands": (7, "commands"),
    "atw.__main__": (8, "main"),
}
# Libraries that only some groups or modules may import.
RESERVED = {
    "snakemake": set(),
    "ray": {"atw.train.launch", "atw.train.ray.rendezvous", "atw.train.ray.head"},
    "torch": {"data", "model", "train", "evaluate", "launch", "predict", "cost", "export"},
    "torchvision": {"model"},
    "numba": {"atw.jit", "preprocess"},
    "av": {
        "atw.videos.decode",
        "atw.videos.completeness",
        "atw.videos.containers",
        "atw.extras.doctor.software",
        "atw.extras.drawing.films",
    },
    "h5py": {
        "atw.hdf5",
        "atw.shards.format",
        "atw.shards.reading",
        "atw.shards.writing",
        "atw.evaluate.scores",
    },
    "pydantic": {
        "atw.model.modelfile",
        "atw.config.datasets",
        "atw.config.explain",
        "atw.datasets.activitynet",
        "atw.datasets.demo",
        "atw.datasets.folder",
        "atw.datasets.lists",
        "atw.datasets.official",
        "atw.datasets.thumos14",
        "atw.extras.download.fetch",
        "atw.config.sections",
        "atw.config.settings",
        "atw.config.stages",
        "atw.config.merge",
        "evaluate",
        "atw.extras.tables.content",
        "atw.extras.reference",
        "atw.extras.report.inputs",
        "atw.preprocess.single",
    },
    "jinja2": {"atw.extras.tables.write", "atw.extras.report.page"},
    "plotly": {"report"},
    "typer": {"commands"},
    "matplotlib": {"drawing"},
    "onnxruntime": {"atw.extras.export"},
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted((ROOT / "atw").rglob("*.py"))}


def group(module: str) -> tuple[int, str]:
    name = module
    while name not in GROUPS:
        name = name.rpartition(".")[0]
    # Only the package itself has the place of `atw`: a new module needs one of its own.
    assert name != "atw" or module == "atw", f"{module} has no place in GROUPS"
    return GROUPS[name]


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, functions' own imports included, but none that only the type checker sees."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [
        node for node in tree.body if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module


def test_the_walk_finds_the_package() -> None:
    assert {"atw.config", "atw.datasets", "atw.train.launch", "atw.commands.jobs"} <= set(MODULES)
    assert "atw.files" in set(imported(MODULES["atw.config.merge"]))
    assert "atw.flow" in set(imported(MODULES["atw.preprocess.streams"]))  # from atw import flow
    assert "atw.preprocess.shard" in set(imported(MODULES["atw.commands.jobs"]))  # inside a function


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module: str) -> None:
    rank, own = group(module)
    for name in imported(MODULES[module]):
        if name == "atw" or name.startswith("atw."):
            other_rank, other = group(name)
            assert other == own or other_rank < rank, f"{module} ({own}) must not import {name} ({other})"


@pytest.mark.parametrize("module", MODULES)
def test_libraries_stay_where_they_belong(module: str) -> None:
    for name in imported(MODULES[module]):
        library = name.partition(".")[0]
        if library in RESERVED:
            assert {module, group(module)[1]} & RESERVED[library], f"{module} must not import {library}"


def workflow_imports() -> set[str]:
    files = [ROOT / "Snakefile", *sorted((ROOT / "workflow").rglob("*.smk"))]
    return {
        name
        for path in files
        for name in re.findall(r"^\s*(?:from|import)\s+(atw[\w.]*)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }


def test_the_workflow_imports_only_what_is_light() -> None:
    assert workflow_imports()
    light = {"atw.config", "atw.datasets", "atw.files", "atw.plan", "atw.train.ray.sockets", "atw.workflow"}
    assert workflow_imports() <= light


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split())


def test_what_the_workflow_imports_imports_little() -> None:
    loaded = loaded_after(f"import {', '.join({'atw.config', 'atw.datasets'} | workflow_imports())}")
    assert {"atw.config", "atw.datasets", "pydantic"} <= loaded
    assert not loaded & {"numpy", "torch", "cv2", "ray", "av", "h5py", "numba", "scipy", "rich"}


def test_preprocessing_does_without_torch_and_ray() -> None:
    loaded = loaded_after("import atw.preprocess.shard, atw.extras.demo.render")
    assert {"atw.preprocess.shard", "atw.flow", "numba"} <= loaded
    assert not loaded & {"torch", "ray", "atw.data", "atw.model", "atw.train"}


def test_training_does_without_decoders_and_ray_until_it_is_launched() -> None:
    loaded = loaded_after("import atw.train.loop, atw.evaluate.score")
    assert {"torch", "atw.train.loop"} <= loaded
    assert not loaded & {"ray", "av", "atw.preprocess", "atw.flow"}


def test_no_two_classes_and_no_two_modules_share_a_name() -> None:
    """A name means one thing; `commands` may call a module after what it commands."""
    classes: dict[str, list[str]] = {}
    modules: dict[str, list[str]] = {}
    for path in sorted((ROOT / "atw").rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        if path.stem not in ("__init__", "__main__") and path.parent.name != "commands":
            modules.setdefault(path.stem, []).append(place)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                classes.setdefault(node.name, []).append(place)
    for names in (classes, modules):
        assert {name: places for name, places in names.items() if len(places) > 1} == {}
