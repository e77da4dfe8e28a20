"""The tables of the paper, its numbers beside ours: table{1,2,3,4}.json, and the same as CSV, HTML, LaTeX and Markdown.

Accuracies are fractions of 1 in JSON and CSV. A cell of JSON has `published` (by the paper's dataset), `ours` (None
where the paper cites somebody else) and `comparison` with the row that it names (None for that row itself).
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from atw.config import RunsTableSettings, SplitsTableSettings, find_kind, paper
from atw.evaluate import metrics
from atw.evaluate.compare import Outcomes, compare, outcomes
from atw.evaluate.fuse import fuse
from atw.evaluate.result import read_summary
from atw.evaluate.scores import Scores, read_names, read_scores
from atw.extras.tables.write import write_csv, write_html, write_latex, write_markdown
from atw.files import InputError, digest, file_digest, write_json

FORMAT = 1
_LEVEL = 0.05
_FLAT = 0.5


def write_table(out: Path, inputs: list[Path], settings: RunsTableSettings | SplitsTableSettings) -> None:
    """Write a table as JSON, and beside it as CSV, HTML, LaTeX and Markdown.

    Args:
        out: path of the JSON file.
        inputs: score files of every experiment of the table; for Table 4 the dataset's summary.json.
        settings: of the table.

    Raises:
        InputError: an input is missing, of other data than the settings say, or on other test videos than the others.
    """
    if isinstance(settings, RunsTableSettings):
        made = _rows_of_runs(inputs, settings)
    else:
        made = _state_of_the_art(inputs[0], settings)
    table = {
        "format": FORMAT,
        "table": settings.table,
        "dataset": settings.dataset,
        "published_on": _published_on(settings.kind, made["rows"]),
        **made,
    }
    table["provenance"]["settings"] = settings.to_dict()
    write_html(out.with_suffix(".html"), table)
    write_csv(out.with_suffix(".csv"), table)
    write_latex(out.with_suffix(".tex"), table)
    write_markdown(out.with_suffix(".md"), table)
    write_json(out, table)


def _published_on(kind: str, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The paper's datasets to print: the one at hand where the paper has it, else all."""
    every = [name for row in rows for cell in row["cells"].values() for name in cell["published"]]
    own = find_kind(kind).title
    return [own] if own and own in every else list(dict.fromkeys(every))


def _published(percent: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value / 100, 4) for name, value in percent.items()}


# Tables 1 to 3


def _rows_of_runs(inputs: list[Path], settings: RunsTableSettings) -> dict[str, Any]:
    table = paper.TABLES[settings.table]
    columns = table.columns_of(settings.weights)
    paths = _by_run(inputs, settings)
    rows, seen = [], {}
    for row in table.rows:
        experiment = settings.experiments[row.experiment]
        made, seen[row.experiment] = _row(row, columns, paths, experiment, settings)
        rows.append(made)
    labels = {row.experiment: row.label for row in table.rows}
    for row, made in zip(table.rows, rows, strict=True):
        for name, cell in made["cells"].items():
            if row.against:
                test = compare(seen[row.against][name], seen[row.experiment][name], seed=settings.seed)
                cell["comparison"] = {"with": labels[row.against], **test}
    return {
        "split": settings.split,
        "caption": table.caption,
        "decimals": table.decimals,
        "paper": {"page": table.page, "network": table.network},
        "columns": [{"name": column.name, "streams": list(column.streams)} for column in columns],
        "rows": rows,
        "notes": _notes(table.network, rows, settings),
        "footnotes": list(table.footnotes),
        "provenance": {"scores": {run: _digests(streams) for run, streams in paths.items()}},
    }


def _by_run(inputs: list[Path], settings: RunsTableSettings) -> dict[str, dict[str, Path]]:
    """Score files by experiment and stream."""
    found: dict[str, dict[str, Path]] = {}
    for path in inputs:
        names = read_names(path)
        for key, asked in (("dataset", settings.dataset), ("split", settings.split)):
            if names[key] != asked:
                raise InputError(
                    f"{path} has scores of {key} {names[key]}, but the table is of {asked}; give other files"
                )
        found.setdefault(names["experiment"], {})[names["stream"]] = path
    return found


def _row(
    row: paper.Row,
    columns: list[paper.Column],
    paths: dict[str, dict[str, Path]],
    experiment: str,
    settings: RunsTableSettings,
) -> tuple[dict[str, Any], dict[str, Outcomes]]:
    """A row without its comparisons, and the outcomes of each of its columns."""
    needed = dict.fromkeys(stream for column in columns for stream in column.streams)
    for stream in needed:
        if stream not in paths.get(experiment, {}):
            raise InputError(
                f"the row {row.label} needs scores of {stream}, experiment {experiment!r}; give their file"
            )
    scores: dict[str, Scores] = {stream: read_scores(paths[experiment][stream]) for stream in needed}
    first = next(iter(scores.values()))
    cells, seen = {}, {}
    for column in columns:
        weights: dict[str, float] = {stream: settings.weights[stream] for stream in column.streams}
        if len(weights) == 1:
            weights = dict.fromkeys(weights, 1.0)
        logits = fuse(scores, weights=weights, on=settings.add)
        summary = metrics.summary(
            logits,
            first.labels,
            quarantined_labels=[label for _, label, _ in first.quarantined],
            classes=first.classes,
            seed=settings.seed,
        )
        ours = {key: summary[key] for key in ("top1", "top1_ci95", "mean_class", "correct", "total")}
        published = _published(row.published.get(column.name, {}))
        cells[column.name] = {"published": published, "ours": ours, "comparison": None}
        seen[column.name] = outcomes(logits, first)
    made = {"label": row.label, "group": row.group or None, "experiment": experiment or None}
    return made | {"streams": {name: _of_stream(one) for name, one in scores.items()}, "cells": cells}, seen


def _of_stream(scores: Scores) -> dict[str, Any]:
    """Where a stream's scores come from, and in what share of the videos its attention weighed all snippets alike."""
    model = ("settings", "train", "model")
    return {
        "backbone": scores.told(str, *model, "backbone"),
        "weights_sha256": scores.told(dict, "model").get("weights"),
        "consensus": scores.told(str, *model, "consensus"),
        "seed": scores.told(int, "seed"),
        "flat_attention": scores.told(float, "flat_attention"),
        "model_sha256": scores.told(str, "model", "sha256"),
        "settings_digest": digest(scores.told(dict, "settings")),
    }


def _digests(paths: Mapping[str, Path]) -> dict[str, str]:
    return {stream: file_digest(path) for stream, path in paths.items()}


# Table 4


def _state_of_the_art(path: Path, settings: SplitsTableSettings) -> dict[str, Any]:
    summary = read_summary(path)
    if (summary["dataset"], summary["experiment"]) != (settings.dataset, None):
        raise InputError(
            f"{path} is of dataset {summary['dataset']}, experiment {summary['experiment']}, but the table is of "
            f"{settings.dataset} without an experiment; give its own summary.json"
        )
    accuracy = summary["accuracy"]["top1"]
    ours = {
        "top1": accuracy["mean"],
        "top1_std": accuracy["std"],
        "top1_ci95": summary["pooled"]["top1_ci95"],
        "pooled_top1": summary["pooled"]["top1"],
    }
    rows = []
    for cited in paper.TABLE4:
        cell = {"published": _published(cited.published), "ours": None, "comparison": None}
        if cited.model == paper.OURS:
            cell["ours"] = ours
        rows.append({"label": cited.model, "group": None, "experiment": None, "cells": {"fused": cell}})
    splits = len(summary["splits"])
    networks = {f"{given.backbone} {_start(given.weights)}" for given in settings.networks.values()}
    return {
        "split": ", ".join(summary["splits"]),
        "caption": paper.TABLE4_CAPTION,
        "decimals": paper.TABLE4_DECIMALS,
        "paper": {"page": paper.TABLE4_PAGE, "network": paper.TABLE4_NETWORK},
        "columns": [{"name": "fused", "streams": list(settings.networks)}],
        "rows": rows,
        "notes": [
            f"Ours is the mean over {splits} split{'s' if splits > 1 else ''} of the fused top-1 accuracy, the paper's "
            "over three; the interval (95%, Wilson) is that of all test videos of all splits pooled, and does not "
            "cover what another training would change.",
            *_other_data(settings, rows),
            *_other_network(paper.TABLE4_NETWORK, networks),
        ],
        "footnotes": list(paper.TABLE4_FOOTNOTES),
        "provenance": {"summary": file_digest(path)},
    }


# What has to be said beside the numbers


def _notes(network: str, rows: list[dict[str, Any]], settings: RunsTableSettings) -> list[str]:
    cells = [cell for row in rows for cell in row["cells"].values()]
    of_streams = [stream for row in rows for stream in row["streams"].values()]
    networks = {f"{stream['backbone']} {_start(stream['weights_sha256'])}" for stream in of_streams}
    return [
        f"Ours: {cells[0]['ours']['total']} test videos of {settings.split} of {settings.dataset}, one training "
        f"a row and stream with seed {settings.seed}. Intervals (95%, bootstrap) say what other test videos would "
        "change, not what another training would.",
        *_other_data(settings, rows),
        *_other_network(network, networks),
        _chance([cell["comparison"] for cell in cells if cell["comparison"]]),
        *_flat_rows(rows),
    ]


def _start(weights: str | None) -> str:
    return "from ImageNet weights" if weights else "from scratch"


def _other_data(settings: RunsTableSettings | SplitsTableSettings, rows: list[dict[str, Any]]) -> list[str]:
    published = _published_on(settings.kind, rows)
    if find_kind(settings.kind).title in published:
        return []
    caution = find_kind(settings.kind).caution
    return [
        f"The paper's numbers are of {' and '.join(published)}, ours of {settings.dataset}: other videos, other "
        f"classes. They stand side by side and cannot be compared.{' ' * bool(caution)}{caution}"
    ]


def _other_network(published: str, networks: set[str]) -> list[str]:
    return [f"Network: the paper's is {published} from ImageNet weights, ours {', '.join(sorted(networks))}."]


def _chance(comparisons: list[dict[str, Any]]) -> str:
    references = " or ".join(dict.fromkeys(f"“{one['with']}”" for one in comparisons))
    small = sum(one["p_value"] < _LEVEL for one in comparisons)
    return (
        f"Differences are against {references}. p is McNemar's exact test, two-sided and not corrected for the number "
        f"of comparisons: {small} of {len(comparisons)} have p < {_LEVEL}, where chance alone gives up to "
        f"{_LEVEL * len(comparisons):.1f}."
    )


def _flat_rows(rows: list[dict[str, Any]]) -> list[str]:
    flat = [
        f"{row['label']} ({name} {stream['flat_attention']:.0%})"
        for row in rows
        for name, stream in row["streams"].items()
        if stream["consensus"] == "attention" and stream["flat_attention"] >= _FLAT
    ]
    if not flat:
        return []
    return [f"Attention weighed all snippets alike, as an average does, in most test videos of: {', '.join(flat)}."]
