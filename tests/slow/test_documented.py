"""What README and docs tell people to type works as it stands there, or a table says why no test types it."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from nbclient import NotebookClient

from atw import config
from tests.rules.conftest import REPOSITORY
from tests.slow.documented import EXCEPTIONS, PAGES, PLANNED, TEXTS, pieces
from tests.slow.documented_place import DocumentedPlace

BY_PAGE = {page.relative_to(REPOSITORY).as_posix(): found for page in PAGES if (found := pieces(page))}
SHOWN = Counter(piece.text for found in BY_PAGE.values() for piece in found)
NOT_RUN = [command for commands in EXCEPTIONS.values() for command in commands]
TUTORIAL = REPOSITORY / "examples/tutorial.ipynb"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DocumentedPlace]:
    made = DocumentedPlace(tmp_path_factory.mktemp("documented"))
    yield made
    made.wait_until_quiet()


@pytest.fixture(autouse=True)
def in_the_place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "place" in request.fixturenames:
        monkeypatch.chdir(request.getfixturevalue("place").folder)


def test_code_is_found_wherever_it_stands() -> None:
    assert {"README.md", "docs/commands.md", "docs/ray.md", "docs/benchmarks/flow.md"} <= BY_PAGE.keys()
    assert {piece.kind for found in BY_PAGE.values() for piece in found} == {"command", "python", "settings", "text"}
    assert SHOWN["atw init path/to/videos"] == 3  # first of a block
    assert SHOWN["snakemake --cores 1 data/downloads/ucf101.json"] == 1  # in a sentence of a list
    assert SHOWN["snakemake --unlock"] == 1  # in a block of a list
    assert SHOWN["atw shards info shards/demo"] == 3  # with a comment, as an example of the command
    (continued,) = (text for text in SHOWN if text.startswith("atw attention"))
    assert continued.endswith("--frames shards/demo/rgb --video split1/walk/walk_test_000.avi --stream warped")


def test_the_tables_have_what_the_pages_have_and_nothing_twice() -> None:
    tables = Counter([*PLANNED, *NOT_RUN])
    assert [command for command, times in tables.items() if times > 1] == []
    assert sorted(tables.keys() - SHOWN.keys()) == []
    unused = [start for start in TEXTS if not any(text.startswith(start) for text in SHOWN)]
    assert unused == []


def with_settings(block: str) -> dict[str, Any]:
    """The repository's config.yaml with a block of settings: of the whole file, or of datasets."""
    raw: dict[str, Any] = yaml.safe_load((REPOSITORY / "config.yaml").read_text(encoding="utf-8"))
    given = yaml.safe_load(block.replace("0123...", 8 * "0123abcd"))
    if not given.keys() <= config.Config.model_fields.keys():
        given = {"datasets": given}
    datasets = raw["datasets"]
    for name, settings in given.pop("datasets", {}).items():
        datasets[name] = datasets.get(name, {}) | settings
    return raw | given


@pytest.mark.parametrize("page", BY_PAGE)
def test_a_page(place: DocumentedPlace, page: str) -> None:
    """Commands end with status 0 and write what they name, Python runs without a warning, settings are valid."""
    names: dict[str, Any] = {}
    for piece in BY_PAGE[page]:
        if piece.kind == "command" and piece.text not in NOT_RUN:
            place.run(piece.text)
        elif piece.kind == "python":
            exec(compile(piece.text, f"{page}, line {piece.line}", "exec"), names)
        elif piece.kind == "settings":
            config.load(with_settings(piece.text))
        elif piece.kind == "text":
            assert piece.text.startswith(tuple(TEXTS)), f"{page}, line {piece.line}: in no form that is known"


def test_what_predict_prints_is_described(place: DocumentedPlace) -> None:
    printed = place.run("atw predict video.mp4 other.avi --model results/ucf101/split1")
    found = [json.loads(line) for line in printed.splitlines()]
    assert [one["video"] for one in found] == ["video.mp4", "other.avi"]
    page = (REPOSITORY / "docs/predict.md").read_text(encoding="utf-8")
    assert [key for key in found[0] if f"`{key}`" not in page and key not in ("format", "streams")] == []
    assert set(found[0]["streams"]["flow"]) == {"labels", "attention"}


def test_the_new_kind_reads_its_list(place: DocumentedPlace) -> None:
    (shown,) = (piece for piece in BY_PAGE["docs/datasets.md"] if piece.kind == "python")
    names: dict[str, Any] = {}
    exec(shown.text, names)
    Path("split2.txt").write_text("a/1.avi a train\nb/2.avi b test\n", encoding="utf-8")
    rows = names["MyKind"](kind="mykind", root=".", lists=".").read_list("mine", 2)
    assert [(row.video, row.label, row.subset) for row in rows] == [("a/1.avi", "a", "train"), ("b/2.avi", "b", "test")]


def test_the_tutorial(place: DocumentedPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in place.environment().items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(TUTORIAL, as_version=4)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    folder = place.folder / "examples"  # where Jupyter runs it
    done = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    outputs = [output for cell in done.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    text = "".join(output.text for output in outputs if output.output_type == "stream")
    fused = json.loads(Path("results/demo/split1/fused.json").read_text(encoding="utf-8"))
    assert re.search(rf"fused +{fused['accuracy']['top1']:.3f}", text)
