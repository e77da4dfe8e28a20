"""The documentation says what the code does."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from atw.reference import markdown

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
    assert "nothing.json is not a result" in run.stderr
    assert "Traceback" not in run.stderr


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
