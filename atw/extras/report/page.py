"""The page: one file with its style, its script, Plotly and all pictures, that asks nothing of any network."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from atw.errors import printable
from atw.extras.drawing.palette import COLOURS, COLOURS_ON_DARK
from atw.extras.report.attention import attention
from atw.extras.report.classes import classes
from atw.extras.report.gathered import Gathered, gather
from atw.extras.report.headline import headline
from atw.extras.report.health import health
from atw.extras.report.mistakes import mistakes
from atw.extras.report.origin import provenance, times
from atw.extras.report.surface import surface
from atw.extras.report.training import training
from atw.files import atomic_path

_FOLDER = Path(__file__).parent
_ENVIRONMENT = Environment(
    loader=PackageLoader("atw.extras.report", "."),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=lambda value: printable(value) if type(value) is str else value,
)


def write_report(out: Path, result: Path, *, shards: Path, quarantine: Path, logs: Path) -> None:
    """Write report.html of a result.

    Equal inputs give equal bytes; of the logs, what they say about times.

    Args:
        out: path of the page.
        result: fused.json, with the score files and histories that the workflow puts beside it.
        shards: folder of the dataset's shards.
        quarantine: quarantine.csv of the split.
        logs: folder of the workflow's logs; jobs without one have no time.

    Raises:
        InputError: a file is missing, damaged, or of another result.
    """
    page = render(gather(result, shards, quarantine), logs)
    with atomic_path(out) as temporary:
        temporary.write_text(page, encoding="utf-8")


def render(gathered: Gathered, logs: Path) -> str:
    """The page as text."""
    found = health(gathered)
    sections = {
        "headline": headline(gathered, found),
        "classes": classes(gathered),
        "training": training(gathered),
        "surface": surface(gathered),
        "attention": attention(gathered),
        "mistakes": mistakes(gathered),
        "health": found,
    }
    figures = {name: one for section in sections.values() for name, one in section.pop("figures", {}).items()}
    scripts = {"plotly": get_plotlyjs(), "script": (_FOLDER / "page.js").read_text(encoding="utf-8")}
    return _ENVIRONMENT.get_template("page.html").render(
        **sections,
        result=gathered.result,
        weights=gathered.weights,
        colours={"light": COLOURS, "dark": COLOURS_ON_DARK},
        times=times(gathered, logs),
        provenance=provenance(gathered),
        drawn=sorted(figures),
        data=Markup(_data(figures, sections["classes"])),
        style=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),
        hashes=" ".join(_hash(script) for script in scripts.values()),
        **{name: Markup(script) for name, script in scripts.items()},
    )


def _data(figures: dict[str, go.Figure], by_class: dict[str, Any]) -> str:
    """What the script reads, as JSON that ends no element."""
    content = {
        "figures": {name: json.loads(one.to_json()) for name, one in sorted(figures.items())},
        "names": [row["name"] for row in by_class["rows"]],
        "cells": by_class["cells"],
    }
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _hash(script: str) -> str:
    """As the page's policy names a script that may run; none that slipped in with a name may."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
