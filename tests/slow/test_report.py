"""The page of a result in a real browser: the demo's, and one of four hundred classes."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from atw.extras.report.page import render
from atw.extras.report.videos import ATTENTION_VIDEOS, MISTAKES
from atw.train.ray.cluster import still_there
from benchmarks.page_pictures import PROGRAMS
from tests.rules.conftest import Workplace
from tests.unit.reported import MANY, many_classes
from tests.unit.stored import WriteShard

PAPER_PX = 690  # 180 mm and a little
PHONE, DESK = (390, 844), (1100, 900)
FIGURES = {"headline", "classes", "confusion", "training-loss", "training-accuracy", "surface", "attention"}
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        if psutil.Process().username() == "root":
            pytest.fail("there is no Chromium; `.ci/install.sh chromium` installs Debian's")
        pytest.skip("there is no Chromium, and only root can install it with `.ci/install.sh chromium`")
    before = set(psutil.Process().children(recursive=True))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        started = [process for process in psutil.Process().children(recursive=True) if process not in before]
        assert any("chrom" in process.name() for process in started)
        yield browser
        browser.close()
    assert still_there(started, 20) == []


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    """Opens a page and draws it; fails at the end if the page has said anything or asked anybody."""
    heard: list[str] = []
    contexts = []

    def open_page(path: Path, *, size: tuple[int, int] = DESK, scheme: Any = "light") -> Page:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: heard.append(message.text))
        page.on("pageerror", lambda error: heard.append(str(error)))
        page.on("requestfailed", lambda request: heard.append(f"failed: {request.url[:200]}"))
        page.on("request", lambda request: request.url.startswith(("data:", "blob:")) or heard.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-drawn=all]", timeout=60_000)
        assert heard == [path.as_uri()]
        heard.clear()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert heard == []


@pytest.fixture(scope="module")
def demo_page(demo: Workplace) -> Path:
    target = "results/demo/split1/report.html"
    demo.snakemake(target)
    assert (demo.folder / target).stat().st_size < 8_000_000
    return demo.folder / target


@pytest.fixture(scope="module")
def large_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.conftest import _write_shard

    folder = tmp_path_factory.mktemp("large")
    write_shard: WriteShard = _write_shard
    path = folder / "report.html"
    path.write_text(render(many_classes(folder, write_shard), folder / "logs"), encoding="utf-8")
    return path


def figures(page: Page) -> dict[str, dict[str, Any]]:
    """By name: how many traces a figure has drawn, and the size of its picture in px."""
    found: dict[str, dict[str, Any]] = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll(".figure")].map((place) => {
            const box = place.querySelector("svg.main-svg").getBoundingClientRect();
            const marks = place.querySelectorAll(".point, .js-line, .hm image, .points path").length;
            const [traces, {width, height}] = [place._fullData.length, box];
            return [place.id.replace("figure-", ""), {traces, marks, width, height}];
        }))"""
    )
    return found


def shown_classes(page: Page, figure: str) -> list[str]:
    names: list[str] = page.evaluate("(name) => document.getElementById(name).data[0].y", f"figure-{figure}")
    return names


def check_page(page: Page, *, width: int) -> None:
    drawn = figures(page)
    assert set(drawn) >= FIGURES
    for name, figure in drawn.items():
        assert figure["traces"] > 0 and figure["marks"] > 0, name
        assert figure["height"] > 100 and 200 < figure["width"] <= width, name
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    broken = "[...document.images].filter((image) => !image.naturalWidth).length"
    assert page.evaluate("document.images.length") > 10 and page.evaluate(broken) == 0
    found = Axe().run(page, options={"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "best-practice"]}})
    assert [(one["id"], one["nodes"][0]["html"]) for one in found.response["violations"]] == []


@pytest.mark.timeout(1600)  # the first test that asks for the demo waits for it
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_the_demo_is_shown(demo_page: Path, opened: Open, tmp_path: Path, size: tuple[int, int], scheme: str) -> None:
    page = opened(demo_page, size=size, scheme=scheme)
    check_page(page, width=size[0])
    page.screenshot(path=tmp_path / f"{scheme}-{size[0]}.png", full_page=True)


@pytest.mark.timeout(1600)
def test_hover_and_filter(demo_page: Path, opened: Open) -> None:
    page = opened(demo_page)
    for figure, said in (("classes", "points"), ("confusion", "taken for")):
        place = page.locator(f"#figure-{figure}")
        place.scroll_into_view_if_needed()
        box = place.locator(".nsewdrag").bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + 12, box["y"] + 12)
        page.mouse.move(box["x"] + 14, box["y"] + 14)
        label = place.locator(".hoverlayer")
        label.locator("text").first.wait_for(timeout=5_000)
        assert said in (label.text_content() or "")
    classes = shown_classes(page, "classes")
    assert len(classes) == 8
    page.get_by_label("Show classes with").fill("JUMP")
    assert shown_classes(page, "classes") == shown_classes(page, "confusion") == ["jump"]
    assert page.locator("#class-count").inner_text() == "1 of 8 classes"
    page.get_by_text("All classes as a table").click()
    assert page.locator("#classes tr[data-places]:visible th").all_inner_texts()[0] == "jump"
    assert page.locator("details[open] tr[data-places]:visible").count() == 1
    page.get_by_label("Show classes with").fill("no such class")
    assert shown_classes(page, "classes") == []
    page.get_by_label("Show classes with").fill("")
    assert shown_classes(page, "classes") == classes


def test_a_clip_plays_above_its_attention(large_page: Path, opened: Open) -> None:
    page = opened(large_page)
    clips = page.locator(".clip")
    assert clips.count() == ATTENTION_VIDEOS + MISTAKES
    clip = clips.first
    at = "(clip) => parseFloat(getComputedStyle(clip.querySelector('.looked')).getPropertyValue('--at'))"
    film, button = clip.locator("video"), clip.get_by_role("button")
    assert film.evaluate("(film) => [film.paused, film.readyState]") == [True, 0]  # nothing is decoded yet
    button.click()
    for _ in range(100):
        if film.evaluate("(film) => film.played.length && film.currentTime") and clip.evaluate(at):
            break
        page.wait_for_timeout(50)
    assert film.evaluate("(film) => [film.videoWidth, film.videoHeight]") == [32, 24]
    assert film.evaluate("(film) => film.duration") == pytest.approx(6 / 25, abs=0.01)
    button.click()
    assert film.evaluate("(film) => film.paused")
    box = clip.locator(".looked").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_timeout(200)
    assert film.evaluate("(film) => film.currentTime") == pytest.approx(3 / 25, abs=0.01)
    assert clip.evaluate(at) == pytest.approx(50, abs=2)
    unplayed = clips.nth(1)
    unplayed.locator(".looked").click()
    for _ in range(100):
        if unplayed.locator("video").evaluate("(film) => film.readyState > 1 && film.currentTime > 0"):
            break
        page.wait_for_timeout(50)
    else:
        raise AssertionError("a click below a clip that has not played shows nothing")


def test_all_test_videos_can_be_searched_sorted_and_filtered(large_page: Path, opened: Open) -> None:
    page = opened(large_page)
    lines, count = page.locator("#video-table tbody tr"), page.locator("#video-count")

    def column(number: int) -> list[str]:
        return page.locator(f"#video-table tbody tr > :nth-child({number})").all_inner_texts()

    assert count.inner_text() == f"{2 * MANY} of {2 * MANY} videos; shown: the first 300"
    assert lines.count() == 300
    assert column(1) == sorted(column(1))
    page.get_by_role("button", name="probability").click()
    shares = [float(text.removesuffix("%")) for text in column(4)]
    assert shares == sorted(shares)
    page.get_by_role("button", name="probability").click()
    assert column(4)[0] == f"{max(float(text.removesuffix('%')) for text in column(4)):.1f}%" != f"{shares[0]:.1f}%"
    page.get_by_label("Show videos with").fill("<B>")
    assert set(column(2)) | set(column(3)) >= {"<b>bold</b> & co"}
    assert all("<b>bold</b> & co" in pair for pair in zip(column(2), column(3), strict=True))
    page.get_by_label("Show videos with").fill("")
    page.get_by_label("only those that are wrong").check()
    assert lines.count() == page.locator("#video-table tr.wrong").count() > 0
    assert all(true != said for true, said in zip(column(2), column(3), strict=True))


def test_figures_follow_the_theme_and_paper(large_page: Path, opened: Open) -> None:
    page = opened(large_page)

    def colour_and_width() -> tuple[str, float]:
        colour = page.evaluate("getComputedStyle(document.querySelector('#figure-classes .ytick text')).fill")
        return colour, figures(page)["headline"]["width"]

    def wait_until(done: Callable[[str, float], bool]) -> None:
        """As the policy of the page lets no waiting function of the browser's run."""
        for _ in range(100):
            if done(*colour_and_width()):
                return
            page.wait_for_timeout(50)
        raise AssertionError(colour_and_width())

    light, wide = colour_and_width()
    page.emulate_media(color_scheme="dark")
    wait_until(lambda colour, width: colour != light and width == wide)
    page.evaluate("void dispatchEvent(new Event('beforeprint'))")
    wait_until(lambda colour, width: colour == light and width < PAPER_PX)
    page.evaluate("void dispatchEvent(new Event('afterprint'))")
    wait_until(lambda colour, width: colour != light and width == wide)


def test_the_manual_has_pictures_of_the_page(large_page: Path, browser: Browser, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.page_pictures"]
    subprocess.run([*command, large_page, tmp_path / "pictures"], check=True, timeout=120)
    sizes = {}
    for path in (tmp_path / "pictures").iterdir():
        assert path.stat().st_size < 100_000
        with Image.open(path) as picture:
            sizes[path.name] = picture.size
    assert sizes["page.webp"] == (900, 1000)
    assert 700 < sizes["over-time.webp"][0] < 900
    assert len(sizes) == 2
    missing = subprocess.run([*command, tmp_path / "none.html", tmp_path], capture_output=True, text=True)
    assert (missing.returncode, "none.html does not exist" in missing.stderr) == (2, True)


def test_the_keyboard_reaches_everything(large_page: Path, opened: Open) -> None:
    page = opened(large_page)
    every = "nav a, input, summary, .scroll, .clip button"
    wanted = page.evaluate(f"[...document.querySelectorAll('{every}')].filter((one) => one.checkVisibility()).length")
    reached = page.evaluate_handle("new Set()")
    for _ in range(2 * wanted):
        page.keyboard.press("Tab")
        reached.evaluate("(reached) => void reached.add(document.activeElement)")
    assert reached.evaluate(f"(reached) => [...reached].filter((one) => one.matches('{every}')).length") == wanted
    folded = page.get_by_text("All classes as a table")
    folded.focus()
    page.keyboard.press("Enter")
    assert page.get_by_role("region", name="Accuracy by class").is_visible()


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_four_hundred_classes_stay_usable(
    large_page: Path, opened: Open, tmp_path: Path, size: tuple[int, int]
) -> None:
    page = opened(large_page, size=size)
    check_page(page, width=size[0])
    assert len(shown_classes(page, "classes")) == 40  # both ends
    assert len(shown_classes(page, "confusion")) == MANY
    page.get_by_label("Show classes with").fill("<B>")
    assert shown_classes(page, "classes") == ["&lt;b&gt;bold&lt;/b&gt; &amp; co"]
    assert page.locator("#figure-classes .ytick text").text_content() == "<b>bold</b> & co"
    page.get_by_label("Show classes with").fill("something")
    assert page.locator("#figure-classes .ytick text").text_content() == "pretending to put something…"[:27] + "…"
    page.screenshot(path=tmp_path / f"{size[0]}.png", full_page=True)
