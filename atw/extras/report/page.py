"""Write report.html: one file with its style, scripts, Plotly and all pictures, which needs no network."""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from atw.errors import printable
from atw.extras.drawing import COLOURS, COLOURS_ON_DARK
from atw.extras.report.accuracy import Classes, classes, headline
from atw.extras.report.charts import PageSection
from atw.extras.report.fusion_weights import fusion_weights
from atw.extras.report.inputs import NO_OTHERS, ReportInputs, read_inputs
from atw.extras.report.pipeline import health, stage_times, training
from atw.extras.report.videos import all_test_videos, attention, mistakes
from atw.files import write_text

_FOLDER = Path(__file__).parent
_LOOKS = {
    "rgb": "rgb looks at single frames",
    "flow": "flow at the motion from frame to frame",
    "warped": "warped at the motion without that of the camera",
}
_ENVIRONMENT = Environment(
    loader=PackageLoader("atw.extras.report", "."),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=lambda value: printable(value) if type(value) is str else value,
)

_ENVIRONMENT.filters["json"] = lambda content: json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)


def write_report(
    out: Path,
    result: Path,
    *,
    shards: Path,
    quarantine: Path,
    logs: Path,
    compared: Mapping[str, Path] = NO_OTHERS,
) -> None:
    """Write report.html of a result. Equal inputs give equal bytes.

    Args:
        out: path of the page.
        result: fused.json, with the score files and histories beside it.
        shards: folder of the dataset's shards.
        quarantine: quarantine.csv of the split.
        logs: folder of the workflow's logs; a job without a log has no time.
        compared: fused.json of other experiments on the same videos, by name.

    Raises:
        InputError: a file is missing, damaged, or belongs to another result.
    """
    write_text(out, render(read_inputs(result, shards, quarantine, compared), logs))


def render(inputs: ReportInputs, logs: Path) -> str:
    """Return the page as text."""
    flow_and_videos = health(inputs)
    by_class = classes(inputs)
    sections: dict[str, PageSection] = {
        "headline": headline(inputs, flow_and_videos.streams),
        "classes": by_class,
        "training": training(inputs),
        "fusion_weights": fusion_weights(inputs),
        "attention": attention(inputs),
        "health": flow_and_videos,
    }
    figures = {name: figure for section in sections.values() for name, figure in section.figures.items()}
    scripts = {"plotly": get_plotlyjs(), "script": (_FOLDER / "page.js").read_text(encoding="utf-8")}
    return _ENVIRONMENT.get_template("page.html").render(
        **sections,
        result=inputs.result,
        looks=", ".join(_LOOKS[stream] for stream in inputs.result.streams),
        mistakes=mistakes(inputs),
        compared=inputs.compared,
        colours={"light": COLOURS, "dark": COLOURS_ON_DARK},
        times=stage_times(inputs, logs),
        drawn=sorted(figures),
        data=Markup(_data(figures, by_class, inputs)),
        style=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),
        hashes=" ".join(_hash(script) for script in scripts.values()),
        **{name: Markup(script) for name, script in scripts.items()},
    )


def _data(figures: dict[str, go.Figure], by_class: Classes, inputs: ReportInputs) -> str:
    """Return what the script reads, as JSON that cannot end its element."""
    content = {
        "figures": {name: json.loads(figure.to_json()) for name, figure in sorted(figures.items())},
        "names": [row.name for row in by_class.rows],
        "cells": by_class.cells,
        "videos": [[*video[:-1], *video.streams] for video in all_test_videos(inputs)],
    }
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _hash(script: str) -> str:
    """Name a script as the page's security policy does, so that no script in a name or label can run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
