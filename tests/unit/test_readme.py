"""README's numbers are those of the files that were measured, and it stays short."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Rows of the table, by a word of theirs, and the table of consensus functions that they come from.
TABLES = {
    "eight rendered actions": "demo",
    "rendered, the action fills": "untrimmed",
    "five surveillance clips": "bags5",
    "surveillance clips of 2 s": "fightsurv",
    "seven tennis strokes": "tennis7",
}


def read(name: str) -> Any:
    return json.loads((ROOT / "docs/benchmarks" / name).read_text(encoding="utf-8"))


def short(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")


@pytest.mark.parametrize("words", TABLES)
def test_a_row_has_the_accuracies_of_its_file(words: str) -> None:
    table = read(f"consensus_{TABLES[words]}.json")
    cells = {row["consensus"]: row["cells"]["fused"] for row in table["rows"]}
    gated, difference = cells["gated"], cells["gated"]["differences"]["average"]
    low, high = difference["difference_ci95"]
    shown = f"**{short(gated['top1'])}**" if low > 0 or high < 0 else short(gated["top1"])
    line = next(line for line in README.splitlines() if words in line)
    seeds = {2: "two", 3: "three"}[len(table["seeds"])]
    assert [cell.strip() for cell in line.split("|")[2:-1]] == [
        shown,
        short(cells["average"]["top1"]),
        f"{difference['videos']}, {seeds} seeds",
    ]


def test_the_speed_of_the_flow_is_the_measured_one() -> None:
    rows = read("flow.json")["rows"]
    ours = next(row for row in rows if (row["name"], row["preset"]) == ("numba", "opencv4"))
    times = re.search(r"(\d+) times as fast as OpenCV's", README)
    assert times and int(times[1]) == round(ours["times_opencv4"])


def test_the_hours_of_ucf101_are_those_of_the_manual() -> None:
    costs = (ROOT / "docs/paper-table.md").read_text(encoding="utf-8")
    row = next(line for line in costs.splitlines() if line.startswith("| UCF-101 "))
    flow, warped = (cell.split()[0] for cell in row.split("|")[-3:-1])
    assert f"its flow would take about {flow} core hours, warped flow {warped}" in README


def test_it_shows_before_it_tells() -> None:
    assert len(README.encode()) < 5500
    assert README.index("![") < README.index("```mermaid") < README.index("| on |") < README.index("make demo")
    assert "10.1007/978-3-319-92007-8_9" in README
    picture = re.search(r"\]\((docs/pictures/\S+)\)", README)
    assert picture and (ROOT / picture[1]).stat().st_size < 500_000
