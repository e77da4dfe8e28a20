"""The manual as a site: every page is in it, its links lead somewhere, and it asks nothing of anybody else."""

import html.parser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
# Elements whose address a browser fetches by itself.
FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manual without the rest of the repository: what it links to has to be in it."""
    folder = tmp_path_factory.mktemp("manual")
    shutil.copy(REPOSITORY / "mkdocs.yml", folder)
    shutil.copytree(REPOSITORY / "docs", folder / "docs")
    return folder


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("zensical"), "build", "--strict", "--config-file", "mkdocs.yml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


class Fetched(html.parser.HTMLParser):
    """What a page has a browser fetch."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in FETCHED and given.get("rel") not in ("canonical", "next", "prev"):
            self.addresses.append(given.get(FETCHED[tag]) or "")


def test_every_page_is_built_and_fetches_nothing_from_elsewhere(folder: Path) -> None:
    run = build(folder)
    assert run.returncode == 0, run.stdout + run.stderr
    pages = {path.relative_to(folder / "docs").with_suffix(".html") for path in (folder / "docs").rglob("*.md")}
    for name in pages:
        page = folder / "build/site" / name
        addresses = Fetched(page).addresses
        assert addresses
        for address in filter(None, addresses):
            assert "//" not in address, f"{name} fetches {address}"
            assert (page.parent / address.partition("?")[0]).resolve().exists(), f"{name} lacks {address}"


def test_every_page_is_in_the_menu() -> None:
    menu = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    named = [page for section in menu for pages in section.values() for entry in pages for page in entry.values()]
    there = {str(path.relative_to(REPOSITORY / "docs")) for path in (REPOSITORY / "docs").rglob("*.md")}
    assert sorted(named) == sorted(there)


@pytest.mark.parametrize("link", ["[x](nowhere.md)", "[x](ray.md#nowhere)", "[x](../README.md)"])
def test_a_link_that_leads_nowhere_fails(folder: Path, tmp_path: Path, link: str) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    with (tmp_path / "docs/index.md").open("a", encoding="utf-8") as page:
        page.write(f"\n{link}\n")
    run = build(tmp_path)
    assert run.returncode != 0
