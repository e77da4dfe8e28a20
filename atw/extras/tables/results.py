"""The tables of the paper, its numbers beside ours: table{1,2,3,4}.json, and the same as CSV, HTML, LaTeX, Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from atw.config import RunsTableSettings, SplitsTableSettings, find_kind, paper
from atw.evaluate.attention import stream_attention
from atw.evaluate.compare import Outcomes, compare, outcomes
from atw.evaluate.fuse import fuse, probabilities
from atw.evaluate.metrics import Accuracy, listed_accuracy
from atw.evaluate.result import read_summary
from atw.evaluate.scores import Scores, read_scores
from atw.extras.tables.content import (
    Cell,
    Difference,
    PaperSource,
    RowContent,
    SplitsAccuracy,
    StreamOrigin,
    TableContent,
    TableProvenance,
)
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
        table = _exploration(inputs, settings)
    else:
        table = _state_of_the_art(inputs[0], settings)
    write_html(out.with_suffix(".html"), table)
    write_csv(out.with_suffix(".csv"), table)
    write_latex(out.with_suffix(".tex"), table)
    write_markdown(out.with_suffix(".md"), table)
    write_json(out, table.to_dict())


def _published_on(kind: str, rows: Iterable[RowContent]) -> list[str]:
    """The paper's datasets to print: the one at hand if the paper has it, else all."""
    every = [name for row in rows for cell in row.cells.values() for name in cell.published]
    own = find_kind(kind).title
    return [own] if own and own in every else list(dict.fromkeys(every))


def _published(percent: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value / 100, 4) for name, value in percent.items()}


# Tables 1 to 3


@dataclass(frozen=True)
class _Run:
    """Our side of a row: its streams, and by column its accuracy and which videos are right."""

    streams: dict[str, StreamOrigin]
    accuracy: dict[str, Accuracy]
    outcomes: dict[str, Outcomes]


def _exploration(inputs: list[Path], settings: RunsTableSettings) -> TableContent:
    table = paper.TABLES[settings.table]
    columns = table.columns_of(settings.weights)
    paths = _by_run(inputs, settings)
    runs = {row.experiment: _run(row, columns, paths, settings) for row in table.rows}
    rows = [_row(row, table, runs, settings) for row in table.rows]
    return TableContent(
        format=FORMAT,
        table=settings.table,
        dataset=settings.dataset,
        published_on=_published_on(settings.kind, rows),
        split=settings.split,
        caption=table.caption,
        decimals=table.decimals,
        paper=PaperSource(page=table.page, network=table.network),
        columns=columns,
        rows=rows,
        notes=_notes(table.network, rows, settings),
        footnotes=list(table.footnotes),
        provenance=TableProvenance(
            scores={run: {stream: file_digest(path) for stream, path in files.items()} for run, files in paths.items()},
            settings=settings.to_dict(),
        ),
    )


def _by_run(inputs: list[Path], settings: RunsTableSettings) -> dict[str, dict[str, Path]]:
    """Score files by experiment and stream."""
    paths: dict[str, dict[str, Path]] = {}
    for path in inputs:
        one = read_scores(path)
        for key, had, asked in (("dataset", one.dataset, settings.dataset), ("split", one.split, settings.split)):
            if had != asked:
                raise InputError(f"{path} has scores of {key} {had}, but the table is of {asked}; give other files")
        paths.setdefault(one.experiment, {})[one.stream] = path
    return paths


def _run(
    row: paper.PublishedRow,
    columns: Sequence[paper.Column],
    paths: Mapping[str, Mapping[str, Path]],
    settings: RunsTableSettings,
) -> _Run:
    experiment = settings.experiments[row.experiment]
    needed = dict.fromkeys(stream for column in columns for stream in column.streams)
    for stream in needed:
        if stream not in paths.get(experiment, {}):
            raise InputError(
                f"the row {row.label} needs scores of {stream}, experiment {experiment!r}; give their file"
            )
    scores: dict[str, Scores] = {stream: read_scores(paths[experiment][stream]) for stream in needed}
    first = next(iter(scores.values()))
    run = _Run({stream: _origin(one) for stream, one in scores.items()}, {}, {})
    for column in columns:
        weights: dict[str, float] = {stream: settings.weights[stream] for stream in column.streams}
        if len(weights) == 1:
            weights = dict.fromkeys(weights, 1.0)
        logits = fuse(scores, weights=weights, on=settings.add)
        shares = probabilities(logits, weights=weights, on=settings.add)
        run.accuracy[column.name] = listed_accuracy(logits, first, probabilities=shares)
        run.outcomes[column.name] = outcomes(logits, first)
    return run


def _origin(scores: Scores) -> StreamOrigin:
    model = ("settings", "train", "model")
    return StreamOrigin(
        backbone=scores.recorded(str, *model, "backbone"),
        weights_sha256=scores.recorded(dict, "model").get("weights"),
        consensus=scores.recorded(str, *model, "consensus"),
        seed=scores.recorded(int, "seed"),
        attention=stream_attention(scores),
        model_sha256=scores.recorded(str, "model", "sha256"),
        settings_digest=digest(scores.recorded(dict, "settings")),
    )


def _row(
    row: paper.PublishedRow, table: paper.PublishedTable, runs: Mapping[str, _Run], settings: RunsTableSettings
) -> RowContent:
    run, labels = runs[row.experiment], {other.experiment: other.label for other in table.rows}
    cells = {}
    for name, ours in run.accuracy.items():
        difference = None
        if row.against:
            test = compare(runs[row.against].outcomes[name], run.outcomes[name], seed=settings.seed)
            difference = Difference(against=labels[row.against], test=test)
        published = _published(row.published.get(name, {}))
        cells[name] = Cell(published=published, ours=ours, comparison=difference)
    experiment = settings.experiments[row.experiment]
    return RowContent(
        label=row.label, group=row.group or None, experiment=experiment or None, streams=run.streams, cells=cells
    )


# Table 4


def _state_of_the_art(path: Path, settings: SplitsTableSettings) -> TableContent:
    summary = read_summary(path)
    if (summary.dataset, summary.experiment) != (settings.dataset, None):
        raise InputError(
            f"{path} is of dataset {summary.dataset}, experiment {summary.experiment}, but the table is of "
            f"{settings.dataset} without an experiment; give its own summary.json"
        )
    top1 = summary.accuracy.top1
    if top1.mean is None:
        raise InputError(f"{path} is damaged: it has no mean accuracy; run the workflow for it again")
    ours = SplitsAccuracy(
        top1=top1.mean,
        top1_std=top1.std,
        top1_ci95=summary.pooled.top1_ci95,
        pooled_top1=summary.pooled.top1,
    )
    rows = [
        RowContent(
            label=cited.model,
            cells={
                "fused": Cell(published=_published(cited.published), ours=ours if cited.model == paper.OURS else None)
            },
        )
        for cited in paper.TABLE4
    ]
    splits = len(summary.splits)
    networks = {f"{given.backbone} {_start(given.weights)}" for given in settings.networks.values()}
    return TableContent(
        format=FORMAT,
        table=settings.table,
        dataset=settings.dataset,
        published_on=_published_on(settings.kind, rows),
        split=", ".join(summary.splits),
        caption=paper.TABLE4_CAPTION,
        decimals=paper.TABLE4_DECIMALS,
        paper=PaperSource(page=paper.TABLE4_PAGE, network=paper.TABLE4_NETWORK),
        columns=[paper.Column(name="fused", streams=tuple(settings.networks))],
        rows=rows,
        notes=[
            f"Ours is the mean over {splits} split{'s' if splits > 1 else ''} of the fused top-1 accuracy, the paper's "
            "over three; the interval (95%, Wilson) is that of all test videos of all splits pooled, and does not "
            "cover what another training would change.",
            *_other_data(settings, rows),
            _other_network(paper.TABLE4_NETWORK, networks),
        ],
        footnotes=list(paper.TABLE4_FOOTNOTES),
        provenance=TableProvenance(summary=file_digest(path), settings=settings.to_dict()),
    )


# What has to be said beside the numbers


def _notes(network: str, rows: list[RowContent], settings: RunsTableSettings) -> list[str]:
    cells = [cell for row in rows for cell in row.cells.values()]
    streams = [stream for row in rows for stream in (row.streams or {}).values()]
    networks = {f"{stream.backbone} {_start(stream.weights_sha256)}" for stream in streams}
    ours = cells[0].ours
    assert isinstance(ours, Accuracy)
    return [
        f"Ours: {ours.total} test videos of {settings.split} of {settings.dataset}, one training "
        f"a row and stream with seed {settings.seed}. Intervals (95%, bootstrap) say what other test videos would "
        "change, not what another training would.",
        *_other_data(settings, rows),
        _other_network(network, networks),
        _chance([cell.comparison for cell in cells if cell.comparison]),
        *_flat_rows(rows),
    ]


def _start(weights: str | None) -> str:
    return "from ImageNet weights" if weights else "from scratch"


def _other_data(settings: RunsTableSettings | SplitsTableSettings, rows: list[RowContent]) -> list[str]:
    published = _published_on(settings.kind, rows)
    if find_kind(settings.kind).title in published:
        return []
    caution = find_kind(settings.kind).caution
    return [
        f"The paper's numbers are of {' and '.join(published)}, ours of {settings.dataset}: other videos, other "
        f"classes. They stand side by side and cannot be compared.{' ' * bool(caution)}{caution}"
    ]


def _other_network(published: str, networks: set[str]) -> str:
    return f"Network: the paper's is {published} from ImageNet weights, ours {', '.join(sorted(networks))}."


def _chance(differences: list[Difference]) -> str:
    references = " or ".join(dict.fromkeys(f"“{one.against}”" for one in differences))
    small = sum(one.test.p_value < _LEVEL for one in differences)
    return (
        f"Differences are against {references}. p is McNemar's exact test, two-sided and not corrected for the number "
        f"of comparisons: {small} of {len(differences)} have p < {_LEVEL}, where chance alone gives up to "
        f"{_LEVEL * len(differences):.1f}."
    )


def _flat_rows(rows: list[RowContent]) -> list[str]:
    flat = [
        f"{row.label} ({name} {stream.attention.flat:.0%})"
        for row in rows
        for name, stream in (row.streams or {}).items()
        if stream.consensus == "attention" and stream.attention.flat >= _FLAT
    ]
    if not flat:
        return []
    return [f"Attention weighed all snippets alike, as an average does, in most test videos of: {', '.join(flat)}."]
