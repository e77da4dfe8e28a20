"""A table of the paper as CSV for spreadsheets and as an HTML page for people, from the content of its JSON."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from atw.files import atomic_path

_PAGE = Environment(
    loader=PackageLoader("atw.evaluate", "."),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write_csv(path: Path, table: dict[str, Any]) -> None:
    """Write a line for each row and column; accuracies are fractions of 1, and empty where there is none."""
    lines = list(_lines(table))
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def _lines(table: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for row in table["rows"]:
        for name, cell in row["cells"].items():
            ours = cell["ours"] or {}
            comparison = cell["comparison"] or {}
            low, high = ours.get("top1_ci95", (None, None))
            difference_low, difference_high = comparison.get("difference_ci95", (None, None))
            yield {
                "group": row["group"],
                "row": row["label"],
                "column": name,
                "experiment": row["experiment"],
                **{f"published_{dataset}": cell["published"].get(dataset) for dataset in table["published_on"]},
                "top1": ours.get("top1"),
                "top1_std": ours.get("top1_std"),
                "ci95_low": low,
                "ci95_high": high,
                "correct": ours.get("correct"),
                "videos": ours.get("total"),
                "compared_with": comparison.get("with"),
                "difference": comparison.get("difference"),
                "difference_ci95_low": difference_low,
                "difference_ci95_high": difference_high,
                "p_value": comparison.get("p_value"),
            }


def write_html(path: Path, table: dict[str, Any]) -> None:
    """Write one page that asks nothing of the network; accuracies are percent."""
    page = _PAGE.get_template("table.html").render(table)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
