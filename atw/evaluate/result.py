"""fused.json and summary.json: written for programs, printed for people."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from atw.evaluate.fuse import FORMAT, mean_over_splits, report
from atw.evaluate.scores import read_scores
from atw.files import InputError, write_json


def write_result(out: Path, score_paths: list[Path], settings: dict[str, Any]) -> None:
    """Fuse score files into fused.json.

    Args:
        out: path of the result.
        score_paths: one score file a stream.
        settings: what `atw.config.fuse_settings` gives.

    Raises:
        InputError: the files disagree about videos, labels, classes, dataset, split or experiment.
    """
    scores = {read.stream: read for read in map(read_scores, score_paths)}
    first = next(iter(scores.values()))
    quarantined = dict(first.provenance["train_quarantined"])
    quarantined |= {video: reason for video, _, reason in first.quarantined}
    result = report(
        scores,
        weights={stream: weight for stream, weight in settings["weights"].items() if weight},
        on=settings["on"],
        seed=settings["seed"],
        train_videos=first.provenance["train_videos"],
        quarantined=[{"video": video, "reason": reason} for video, reason in sorted(quarantined.items())],
    )
    result["provenance"]["fuse"] = settings
    write_json(out, result)


def write_summary(out: Path, fused_paths: list[Path]) -> None:
    """Average the results of several splits into summary.json."""
    write_json(out, mean_over_splits([read_result(path) for path in fused_paths]))


def read_result(path: Path) -> dict[str, Any]:
    """The content of a fused.json."""
    return _read(path, "fused.json", having="fusion")


def read_summary(path: Path) -> dict[str, Any]:
    """The content of a summary.json."""
    return _read(path, "summary.json", having="pooled")


def _read(path: Path, kind: str, *, having: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a result ({error}); give the path of a {kind}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or having not in content:
        raise InputError(f"{path} is not a {kind} of format {FORMAT}; run the workflow for it again")
    return content


def print_result(path: Path) -> None:
    """Print the accuracies of a fused.json as a table, with what was quarantined below it."""
    result = read_result(path)
    title = " ".join(filter(None, (result["dataset"], result["split"], result["experiment"])))
    table = Table(title=title)
    for name in ("stream", "top-1", "95% interval", "top-5", "mean class"):
        table.add_column(name, justify="left" if name == "stream" else "right")
    for name, accuracy in (*result["streams"].items(), *result["pairs"].items(), ("fused", result["accuracy"])):
        low, high = accuracy["top1_ci95"]
        top5 = "" if accuracy["top5"] is None else f"{accuracy['top5']:.3f}"
        table.add_row(
            name, f"{accuracy['top1']:.3f}", f"{low:.3f} to {high:.3f}", top5, f"{accuracy['mean_class']:.3f}"
        )
    console = Console()
    console.print(table)
    for bad in result["videos"]["quarantined"]:
        console.print(f"quarantined {bad['video']}: {bad['reason']}", markup=False)
