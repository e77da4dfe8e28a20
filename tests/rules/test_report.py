"""The page of a result as the workflow makes it."""

import re
from pathlib import Path
from zipfile import ZipFile

import pytest

from atw.files import InputError
from atw.plan import Plan
from tests.rules.conftest import BAD, CONFIG, Workplace

PAGE = "results/tiny/split1/report.html"


@pytest.fixture(scope="module")
def page(workplace: Workplace) -> str:
    workplace.snakemake(PAGE)
    return (workplace.folder / PAGE).read_text(encoding="utf-8")


def test_the_page_names_what_was_bad_and_what_it_took(page: str) -> None:
    assert f'<th scope="row">{BAD}</th>' in page
    assert "Test videos that could not be decoded, and count as wrong in every number: 1." in page
    times = page[page.index('aria-label="Time of each stage"') : page.index("What the numbers come from")]
    found = dict(re.findall(r'<th scope="row">([\w ]+)</th><td>\d+</td>\s*<td>(\d+\.\d s)</td>', times))
    assert list(found) == [
        *("frames", "flow", "warped"),
        *(f"{stage} {stream}" for stage in ("train", "score") for stream in ("rgb", "flow", "warped")),
        "fuse",
    ]


def test_the_page_is_made_once(workplace: Workplace, page: str) -> None:
    assert page
    assert workplace.jobs(PAGE) == {}
    (workplace.folder / PAGE).unlink()
    assert workplace.jobs(PAGE) == {"report_page": 1}
    workplace.snakemake(PAGE)
    assert (workplace.folder / PAGE).read_text(encoding="utf-8") == page


def test_snakemakes_own_report_has_the_page(workplace: Workplace, page: str) -> None:
    assert page
    workplace.snakemake(PAGE, "--report", "all.zip")
    with ZipFile(workplace.folder / "all.zip") as packed:
        found = [name for name in packed.namelist() if "/data/raw/" in name and name.endswith("/report.html")]
        assert [packed.read(name).decode() for name in found] == [page]
        text = packed.read("all/report.html").decode()
    assert "the worst errors with frames and flow" in text
    assert "<script src=" not in text
    assert '<link rel="stylesheet" href="http' not in text


def test_a_page_without_rgb_still_shows_frames(workplace: Workplace) -> None:
    config = {**CONFIG, "experiments": {"motion": {"fusion": {"weights": {"rgb": 0, "flow": 1, "warped": 1}}}}}
    config["datasets"] = {"tiny": CONFIG["datasets"]["tiny"] | folders(workplace.folder)}
    plan = Plan(config)
    run = "tiny/experiments/motion"
    assert plan.fused_streams(run, "split1") == ["flow", "warped"]
    shards = plan.report_shards(run, "split1")
    assert shards == [path for stream in ("rgb", "flow", "warped") for path in plan.shards(run, "split1", stream)]
    with pytest.raises(InputError, match="split9"):
        plan.report_shards(run, "split9")


def folders(place: Path) -> dict[str, str]:
    return {"root": str(place / "videos"), "lists": str(place / "lists/split{split}.csv")}
