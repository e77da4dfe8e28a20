"""Pictures of the page of a result, for the manual: its beginning, and one video over time.

    python -m benchmarks.page_pictures results/demo/split1/report.html docs/pictures

The page is drawn by the system's Chromium; `.ci/install.sh chromium` installs one.
"""

import argparse
import io
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from atw.files import atomic_path

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
SIZE_PX = {"width": 900, "height": 1000}
PLACES = {"page": None, "over-time": "#attention .video"}  # by name: what of the page; None is its beginning
QUALITY = 60  # of WebP, 0 to 100


def main(arguments: Sequence[str]) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page_pictures", description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path, help="report.html of a result")
    parser.add_argument("out", type=Path, help="folder for page.webp and over-time.webp")
    options = parser.parse_args(arguments)
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None or not options.page.is_file():
        missing = f"{options.page} does not exist" if program else f"there is no {PROGRAMS[0]}"
        print(f"benchmarks.page_pictures: {missing}", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE_PX)
        page.goto(options.page.absolute().as_uri())
        page.wait_for_selector("html[data-drawn=all]", timeout=60_000)
        for name, place in PLACES.items():
            shown = page.locator(place).first.screenshot() if place else page.screenshot()
            with atomic_path(options.out / f"{name}.webp") as temporary:
                Image.open(io.BytesIO(shown)).convert("RGB").save(temporary, format="WEBP", quality=QUALITY, method=6)
            print(f"wrote {options.out / name}.webp", file=sys.stderr)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
