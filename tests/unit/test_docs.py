"""The documentation says what the code does."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from atw import __version__
from atw.extras.reference import markdown

REPOSITORY = Path(__file__).parents[2]
PAGES = [*sorted(REPOSITORY.glob("*.md")), *sorted((REPOSITORY / "docs").glob("*.md"))]


def test_configuration_reference_is_current() -> None:
    assert (REPOSITORY / "docs/configuration.md").read_text(encoding="utf-8") == markdown()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_command_has_help() -> None:
    run = subprocess.run([sys.executable, "-m", "atw", "--help"], capture_output=True, text=True, check=True)
    commands = re.findall(r"^│ (\w+) +\w", run.stdout, flags=re.MULTILINE)
    rules = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "workflow/rules").glob("*.smk"))
    run_by_rules = set(re.findall(r"python -m atw (\w+)", rules))
    assert len(run_by_rules) >= 8
    assert run_by_rules | {"show", "compare", "predict", "export", "flow", "doctor", "ray"} <= set(commands)
    for command in commands:
        subprocess.run([sys.executable, "-m", "atw", command, "--help"], capture_output=True, check=True)


def test_the_citation_is_of_this_software_and_names_no_version_of_its_own() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["type"] == "software"
    assert citation["license"] == project["license"]
    assert "version" not in citation
    assert "version" in project["dynamic"]
    (paper,) = citation["references"]
    assert paper["title"].casefold() in (REPOSITORY / "docs/paper.md").read_text(encoding="utf-8").casefold()


def test_a_wrong_result_file_is_named() -> None:
    run = subprocess.run([sys.executable, "-m", "atw", "show", "nothing.json"], capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr == "error: nothing.json does not exist; make it by `atw run nothing.json`, or correct the path\n"


def test_conda_environment_has_the_pinned_versions() -> None:
    pinned = (REPOSITORY / "envs/requirements.txt").read_text(encoding="utf-8").splitlines()
    environment = yaml.safe_load((REPOSITORY / "envs/atw.yaml").read_text(encoding="utf-8"))
    assert environment["dependencies"][-1]["pip"] == [line for line in pinned if not line.startswith("#")]


def test_pins_name_no_package_host_and_satisfy_the_ranges() -> None:
    pinned = (REPOSITORY / "envs/requirements.txt").read_text(encoding="utf-8")
    assert "://" not in pinned
    assert "@" not in pinned
    versions = {
        line.partition("==")[0].lower().replace("_", "-"): line.partition("==")[2].split()[0]
        for line in pinned.splitlines()
        if "==" in line
    }
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for text in (*project["dependencies"], *extras["dev"], *extras["docs"]):
        wanted = Requirement(text)
        assert wanted.specifier.contains(versions[wanted.name.lower()]), text


def test_every_installed_pin_runs_on_the_oldest_python_that_is_promised() -> None:
    """A package that asks for 3.11.5 would end `make` on a Debian 12."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest = project["requires-python"].removeprefix(">=") + ".0"
    pinned = (REPOSITORY / "envs/requirements.txt").read_text(encoding="utf-8")
    everywhere = re.findall(r"^([\w.-]+)==[^;\n]+$", pinned, re.MULTILINE)  # without a marker
    wanted = {name: metadata(name)["Requires-Python"] for name in everywhere}
    assert [name for name, versions in wanted.items() if versions and oldest not in SpecifierSet(versions)] == []


def test_what_a_forge_runs_is_there_to_be_run() -> None:
    """The workflow's make targets, its Pythons, and the programs of the hooks."""
    checks = yaml.safe_load((REPOSITORY / ".github/workflows/checks.yml").read_text(encoding="utf-8"))
    steps = [step.get("run", "") for job in checks["jobs"].values() for step in job["steps"]]
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = {step.split()[1] for step in steps if step.startswith("make ")}
    assert targets == {"test", "test-slow", "demo", "docs"}
    assert all(re.search(rf"^{target}:", makefile, flags=re.MULTILINE) for target in targets)
    installed = {group for step in steps if "install.sh" in step for group in step.split("install.sh ")[1].split()}
    assert installed == set((REPOSITORY / ".ci/run").read_text(encoding="utf-8").split("install.sh ")[1].split()[:3])
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pythons = checks["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert all(Requirement(f"python{project['requires-python']}").specifier.contains(python) for python in pythons)
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    commands = [hook["entry"].removeprefix(".venv/bin/").split()[0] for hook in hooks]
    assert all(re.search(rf"^\t{command}\b", makefile, flags=re.MULTILINE) for command in commands)


def test_the_version_is_printed() -> None:
    run = subprocess.run([sys.executable, "-m", "atw", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout == f"atw {__version__}\n"
