"""The table `consensus`: every consensus function on a dataset, over seeds and splits, with its differences."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from atw.config import ConsensusTableSettings, find_kind
from atw.config.sections import Consensus
from atw.evaluate.attention import StreamAttention, stream_attention
from atw.evaluate.compare import Comparison, Outcomes, RepeatedAccuracy, compare_repeated, outcomes, repeated_accuracy
from atw.evaluate.fuse import fuse
from atw.evaluate.metrics import OMITTED, Record, mean_of_known
from atw.evaluate.scores import Scores, read_scores, snippet_reader
from atw.files import InputError, file_digest, write_json, write_text

FORMAT = 1
Repeats = list[Outcomes]
"""Outcomes of all splits' test videos, one entry per seed."""


class ConsensusCell(RepeatedAccuracy):
    """The accuracy of a row in one column, over all splits.

    Args:
        entropy: of the attention weights, see `StreamAttention`; mean over seeds and splits, None for a fusion.
        auc: of the weights against the known actions; the same mean, None where it is unknown.
        top1_averaged: accuracy of the same networks if all snippets of a video weigh the same; None for a fusion. How
            far it is below `top1` is what the weights do; the rest of a difference is in how the networks were trained.
        differences: this row less the named row, see `compare_repeated`.
    """

    entropy: float | None = OMITTED
    auc: float | None = OMITTED
    top1_averaged: float | None = OMITTED
    differences: dict[str, Comparison]


class ConsensusRow(Record):
    """A consensus function: its experiments, one per seed ("" is none), and its cells by the name of the column."""

    consensus: str
    experiments: list[str]
    cells: dict[str, ConsensusCell]


class ConsensusTableContent(Record):
    """The content of consensus.json; the columns are the streams, and `fused`."""

    format: int
    dataset: str
    splits: list[str]
    seeds: list[int]
    columns: list[str]
    rows: list[ConsensusRow]
    notes: list[str]
    provenance: dict[str, Any]


def write_consensus_table(out: Path, score_paths: Sequence[Path], settings: ConsensusTableSettings) -> None:
    """Write the table as JSON, and beside it as Markdown.

    Args:
        out: path of the JSON file.
        score_paths: the score file of each experiment, split and stream of the settings.
        settings: of the table.

    Raises:
        InputError: a score file is missing, or rows have scores of other test videos than the others.
    """
    scored = _by_run(score_paths, settings)
    repeats = {
        consensus: [_outcomes(experiment, scored, settings) for experiment in experiments]
        for consensus, experiments in settings.rows.items()
    }
    columns = list(next(iter(repeats.values()))[0])
    by_column = {
        column: {consensus: [one[column] for one in every] for consensus, every in repeats.items()}
        for column in columns
    }
    rows = [
        ConsensusRow(
            consensus=consensus,
            experiments=list(experiments),
            cells={
                column: _cell(consensus, by_column[column], _of_column(scored, experiments, column), settings)
                for column in columns
            },
        )
        for consensus, experiments in settings.rows.items()
    ]
    table = ConsensusTableContent(
        format=FORMAT,
        dataset=settings.dataset,
        splits=list(settings.splits),
        seeds=[settings.seed + repeat for repeat in range(len(rows[0].experiments))],
        columns=columns,
        rows=rows,
        notes=_notes(rows, settings),
        provenance={
            "scores": {" ".join(place): file_digest(one.path) for place, one in scored.items()},
            "settings": settings.to_dict(),
        },
    )
    _write_markdown(out.with_suffix(".md"), table)
    write_json(out, table.to_dict())


_Place = tuple[str, str, str]
"""Experiment, split and stream."""


class _Scored(NamedTuple):
    """A score file, its attention, and whether each listed test video is recognised by the mean of its snippets."""

    path: Path
    attention: StreamAttention
    averaged: list[bool]


def _by_run(score_paths: Sequence[Path], settings: ConsensusTableSettings) -> dict[_Place, _Scored]:
    found: dict[_Place, _Scored] = {}
    for path in score_paths:
        one = read_scores(path)
        if one.dataset != settings.dataset:
            raise InputError(f"{path} has scores of {one.dataset}, the table is of {settings.dataset}; leave it out")
        with snippet_reader(path) as read:
            # The sum has the order of the mean: behind the snippets of a video, scores are 0.
            sums = [read(row).sum(axis=(0, 1), dtype=np.float64) for row in range(len(one.videos))]
        averaged = [right for _, right in outcomes(np.array(sums), one).values()]
        found[one.experiment, one.split, one.stream] = _Scored(path, stream_attention(one), averaged)
    return found


def _of_column(scored: Mapping[_Place, _Scored], experiments: Sequence[str], column: str) -> list[_Scored]:
    return [one for (experiment, _, stream), one in scored.items() if stream == column and experiment in experiments]


def _outcomes(
    experiment: str, scored: Mapping[_Place, _Scored], settings: ConsensusTableSettings
) -> dict[str, Outcomes]:
    """Outcomes of one seed's trainings on the test videos of all splits, by column."""
    weights: dict[str, float] = {stream: weight for stream, weight in settings.weights.items() if weight}
    merged: dict[str, Outcomes] = {}
    for split in settings.splits:
        scores: dict[str, Scores] = {}
        for stream in weights:
            if (experiment, split, stream) not in scored:
                raise InputError(f"the table needs scores of {stream}, {split}, experiment {experiment!r}; give them")
            scores[stream] = read_scores(scored[experiment, split, stream].path)
        logits: dict[str, NDArray[np.floating]] = {stream: one.video_logits for stream, one in scores.items()}
        if len(weights) > 1:
            logits["fused"] = fuse(scores, weights=weights, on=settings.add)
        first = next(iter(scores.values()))
        for column, values in logits.items():
            merged.setdefault(column, {}).update(outcomes(values, first))
    return merged


def _cell(
    consensus: Consensus,
    repeats: Mapping[Consensus, Repeats],
    scored: Sequence[_Scored],
    settings: ConsensusTableSettings,
) -> ConsensusCell:
    own = repeats[consensus]
    return ConsensusCell(
        **dict(repeated_accuracy(own, seed=settings.seed)),
        entropy=mean_of_known([one.attention.entropy for one in scored]),
        auc=mean_of_known([one.attention.actions.weights.auc for one in scored if one.attention.actions]),
        top1_averaged=mean_of_known([right for one in scored for right in one.averaged]),
        differences={
            other: compare_repeated(repeats[other], own, seed=settings.seed)
            for other in settings.against
            if other != consensus
        },
    )


def _notes(rows: Sequence[ConsensusRow], settings: ConsensusTableSettings) -> list[str]:
    seeds = len(rows[0].experiments)
    caution = find_kind(settings.kind).caution
    return [
        f"Top-1 accuracy in percent over the test videos of {', '.join(settings.splits)} of {settings.dataset}, "
        f"{seeds} trainings per row, stream and split.",
        "Intervals (95%, bootstrap) resample the test videos, each with the outcomes of all seeds. They do not say "
        "what other training videos would change.",
        "p is McNemar's exact test over all pairs of outcomes. With several seeds, a video counts several times, so p "
        "is too small: believe the interval.",
        "Entropy is that of the attention weights, 1 if all snippets count the same. AUC is of the weights against the "
        "known actions; .5 is chance.",
        "Averaged is the accuracy of the same networks if all snippets weigh the same: what top-1 has more is by the "
        "weights.",
        *([caution] if caution else []),
    ]


def _write_markdown(path: Path, table: ConsensusTableContent) -> None:
    against = list(
        dict.fromkeys(name for row in table.rows for cell in row.cells.values() for name in cell.differences)
    )
    headings = ["", "consensus", "top-1", "entropy", "AUC", "averaged", *(f"less {name} (p)" for name in against)]
    lines = []
    for column in table.columns:
        for number, row in enumerate(table.rows):
            cell = row.cells[column]
            spread = "" if cell.top1_std is None else f" ± {100 * cell.top1_std:.1f}"
            line = [column if number == 0 else "", row.consensus, f"{100 * cell.top1:.1f}{spread}"]
            line += ["" if one is None else f"{one:.2f}" for one in (cell.entropy, cell.auc)]
            line.append("" if cell.top1_averaged is None else f"{100 * cell.top1_averaged:.1f}")
            lines.append([*line, *(_difference(cell.differences.get(name)) for name in against)])
    text = tabulate(lines, headings, tablefmt="github", disable_numparse=True)
    said = "\n".join(f"- {note}" for note in table.notes)
    write_text(path, f"{text}\n\n{said}\n")


def _difference(test: Comparison | None) -> str:
    if test is None:
        return ""
    low, high = test.difference_ci95
    return f"{100 * test.difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] ({test.p_value:.2g})"
