"""A table of the paper as CSV for spreadsheets, as an HTML page for people, and as LaTeX and Markdown for authors."""

import csv
from collections.abc import Iterator
from itertools import chain, compress
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from tabulate import LATEX_ESCAPE_RULES, SEPARATING_LINE, tabulate

from atw.evaluate.metrics import Accuracy
from atw.extras.tables.content import Difference, SplitsAccuracy, TableContent
from atw.files import atomic_path, write_text

_MINUS, _DASH = "\N{MINUS SIGN}", "\N{EN DASH}"

_PAGE = Environment(
    loader=PackageLoader("atw.extras.tables", "."),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write_csv(path: Path, table: TableContent) -> None:
    """Write a line for each row and column; accuracies are fractions of 1, and empty where there is none."""
    lines = list(_lines(table))
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def _lines(table: TableContent) -> Iterator[dict[str, object]]:
    for row in table.rows:
        for name, cell in row.cells.items():
            values = cell.to_dict()
            ours, difference = values["ours"] or {}, values["comparison"] or {}
            low, high = ours.get("top1_ci95", (None, None))
            difference_low, difference_high = difference.get("difference_ci95", (None, None))
            yield {
                "group": row.group,
                "row": row.label,
                "column": name,
                "experiment": row.experiment,
                **{f"published_{dataset}": cell.published.get(dataset) for dataset in table.published_on},
                "top1": ours.get("top1"),
                "top1_std": ours.get("top1_std"),
                "ci95_low": low,
                "ci95_high": high,
                "correct": ours.get("correct"),
                "videos": ours.get("total"),
                "compared_with": difference.get("with"),
                "difference": difference.get("difference"),
                "difference_ci95_low": difference_low,
                "difference_ci95_high": difference_high,
                "p_value": difference.get("p_value"),
            }


def write_html(path: Path, table: TableContent) -> None:
    """Write one page that asks nothing of the network; accuracies are percent."""
    _write(path, _PAGE.get_template("table.html").render(dict(table)))


def write_latex(path: Path, table: TableContent) -> None:
    """Write a `table` environment for a document that loads `booktabs`; accuracies are percent.

    The notes and footnotes stand above it as comments, so that the author sees them first.
    """
    headings, lines = _printed(table)
    said = (f"% {line}" for line in (*table.notes, *table.footnotes))
    parts = [
        *said,
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_tex(_caption(table))}}}",
        rf"\label{{tab:atw-{table.table}}}",
        tabulate(_with_rules(lines), headings, tablefmt="latex_booktabs", disable_numparse=True),
        r"\end{table}",
    ]
    # Signs that fonts of older documents lack, as mathematics.
    _write(path, "\n".join(parts).replace(_MINUS, "$-$").replace(_DASH, "--").replace("±", r"$\pm$"))


def write_markdown(path: Path, table: TableContent) -> None:
    """Write a table with its caption, notes and footnotes; accuracies are percent."""
    headings, lines = _printed(table)
    rows = tabulate(lines, headings, tablefmt="github", disable_numparse=True)
    said = "\n".join(f"- {line}" for line in (*table.notes, *table.footnotes))
    _write(path, f"**{_caption(table)}**\n\n{rows}\n\n{said}")


def _write(path: Path, text: str) -> None:
    write_text(path, f"{text.rstrip()}\n")


def _caption(table: TableContent) -> str:
    published = " and ".join(table.published_on)
    return (
        f"{table.caption}. Top-1 accuracy in percent with 95% intervals: published on {published}, "
        f"ours on {table.dataset}, {table.split}."
    )


def _printed(table: TableContent) -> tuple[list[str], list[list[str]]]:
    """Headings, and a line for each column and row of the paper's table: narrow enough for a page.

    The name of the column and the group of rows stand in the first of their lines only, and are left out if there is no
    more than one.
    """
    columns = [column.name for column in table.columns]
    cells = [(name, row.group or "", row.label, row.cells[name]) for name in columns for row in table.rows]
    compared = any(cell.comparison for *_, cell in cells)
    lines, before = [], ("", "")
    for name, group, label, cell in cells:
        names = [name if name != before[0] else "", group if (name, group) != before else ""]
        line = [label, *(_percent(cell.published.get(one), table.decimals) for one in table.published_on)]
        line += [_ours(cell.ours), *([_difference(cell.comparison)] if compared else [])]
        lines.append([*names, *line])
        before = (name, group)
    headings = ["", "", "", *(f"paper, {name}" for name in table.published_on), f"ours, {table.dataset}"]
    headings += ["difference (p)"] if compared else []
    shown = [len(columns) > 1, any(row.group for row in table.rows)] + [True] * (len(headings) - 2)
    return list(compress(headings, shown)), [list(compress(line, shown)) for line in lines]


def _with_rules(lines: list[list[str]]) -> list[Any]:
    """The lines, with a rule above each one that begins a part of the table."""
    if all(line[0] for line in lines):
        return lines
    return list(chain.from_iterable([SEPARATING_LINE, line] if line[0] else [line] for line in lines))[1:]


def _percent(share: float | None, decimals: int) -> str:
    return _DASH if share is None else f"{100 * share:.{decimals}f}"


def _ours(accuracy: Accuracy | SplitsAccuracy | None) -> str:
    if accuracy is None:
        return _DASH
    deviation = accuracy.top1_std if isinstance(accuracy, SplitsAccuracy) else None
    spread = "" if deviation is None else f" ± {_percent(deviation, 1)}"
    low, high = accuracy.top1_ci95
    return f"{_percent(accuracy.top1, 1)}{spread} [{_percent(low, 1)}, {_percent(high, 1)}]"


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return _DASH
    return f"{100 * difference.test.difference:+.1f} ({difference.test.p_value:.2g})".replace("-", _MINUS)


def _tex(text: str) -> str:
    return "".join(LATEX_ESCAPE_RULES.get(sign, sign) for sign in text)
