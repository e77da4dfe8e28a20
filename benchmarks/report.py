"""Tables of a report, shown on a terminal and written as Markdown."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table as RichTable

from atw.files import InputError, write_text
from benchmarks import machine

_WIDTH = 120  # of the lines of a page, apart from tables


class Table(NamedTuple):
    """A table of finished text; `notes` are sentences that stand below it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def number(value: float | None, digits: int = 3) -> str:
    """`value` with so many significant digits, so many decimals below 1; a dash where there is no value."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    decimals = max(0, digits - len(f"{abs(value):.0f}")) if abs(value) >= 1 else digits
    return f"{value:.{decimals}f}"


def share_of(share: float, what: str) -> float:
    """A share of what the device can do at most, unless it is more than all.

    Raises InputError: then the peak was measured too low or the work counted twice, and no figure of the run is right.
    """
    if share > 1:
        raise InputError(
            f"{what}: {share:.0%} of what the device can do at most, which cannot be; the benchmark measured its peak "
            "too low: run it again on a machine that does nothing else, and report it if it stays"
        )
    return share


def show(console: Console, tables: Sequence[Table]) -> None:
    """Print the tables."""
    for table in tables:
        drawn = RichTable(title=table.title, caption="\n".join(table.notes), caption_justify="left")
        for index, column in enumerate(table.columns):
            drawn.add_column(column, justify="left" if index < 2 else "right")
        for row in table.rows:
            drawn.add_row(*row)
        console.print(drawn)


def markdown(title: str, command: str, facts: Mapping[str, str], tables: Sequence[Table], method: Sequence[str]) -> str:
    """A page: what was measured where, the tables, and how it was done."""
    lines = [f"# {title}", "", f"Written by `{command}`; not to be edited.", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    for table in tables:
        lines += ["", f"## {table.title}", ""]
        lines.append(f"| {' | '.join(table.columns)} |")
        lines.append(f"|{'|'.join(' --- ' if index < 2 else ' ---: ' for index in range(len(table.columns)))}|")
        lines += [f"| {' | '.join(row)} |" for row in table.rows]
        for note in table.notes:
            lines += ["", textwrap.fill(note, _WIDTH)]
    wrapped = (textwrap.fill(f"- {sentence}", _WIDTH, subsequent_indent="  ") for sentence in method)
    lines += ["", "## Method", "", *wrapped]
    return "\n".join(lines) + "\n"


def write_page(path: Path, title: str, command: str, tables: Sequence[Table], method: Sequence[str]) -> None:
    """Write a page of what was measured on this machine."""
    write_text(path, markdown(title, command, machine.describe(), tables, method))
