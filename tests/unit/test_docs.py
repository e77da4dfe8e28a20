"""The documentation says what the code does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from atw.reference import markdown

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def test_configuration_reference_is_current() -> None:
    assert (REPOSITORY / "docs/configuration.md").read_text(encoding="utf-8") == markdown()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_command_has_help() -> None:
    run = subprocess.run([sys.executable, "-m", "atw", "--help"], capture_output=True, text=True, check=True)
    commands = re.findall(r"^│ (\w+) +\w", run.stdout, flags=re.MULTILINE)
    assert {"render", "shard", "train", "score", "fuse", "summary", "show"} <= set(commands)
    for command in commands:
        subprocess.run([sys.executable, "-m", "atw", command, "--help"], capture_output=True, check=True)


def test_a_wrong_result_file_is_named() -> None:
    run = subprocess.run([sys.executable, "-m", "atw", "show", "nothing.json"], capture_output=True, text=True)
    assert run.returncode == 2
    assert "nothing.json is not a result" in run.stderr
    assert "Traceback" not in run.stderr
