"""fused.json and summary.json: written for programs, printed for people."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from atw.config import FuseSettings
from atw.evaluate.choice import choose_weights
from atw.evaluate.fuse import FORMAT, mean_over_splits, report
from atw.evaluate.metrics import wilson_interval
from atw.evaluate.scores import Scores, Subset, read_names, read_scores
from atw.files import InputError, read_json, write_json
from atw.terminal import console

_WIDE_INTERVAL = 0.2


def write_result(out: Path, score_paths: list[Path], settings: FuseSettings) -> None:
    """Fuse score files into fused.json.

    Args:
        out: path of the result.
        score_paths: one score file of the test videos a stream; where the weights are chosen, one of the held-out
            videos too.
        settings: weights, and how they are chosen.

    Raises:
        InputError: the files disagree about videos, labels, classes, dataset, split or experiment; or there are
            held-out scores and the weights are not chosen, or the other way round.
    """
    scores, held_out = _by_stream(score_paths, "test"), _by_stream(score_paths, "held_out")
    if not scores:
        raise InputError(f"{score_paths[0]} has no scores of test videos; give the scores.h5 of each stream")
    weights: dict[str, float] = {stream: weight for stream, weight in settings.weights.items() if weight}
    choice = None
    if held_out or settings.choose == "held_out":
        _require_pairs(scores, held_out, settings)
        choice = choose_weights(held_out, configured=weights, on=settings.add)
        weights = choice["chosen"]["weights"]
    first = next(iter(scores.values()))
    quarantined = dict(first.provenance["train_quarantined"])
    quarantined |= {video: reason for video, _, reason in first.quarantined}
    result = report(
        scores,
        weights=weights,
        on=settings.add,
        seed=settings.seed,
        train_videos=first.provenance["train_videos"],
        quarantined=[{"video": video, "reason": reason} for video, reason in sorted(quarantined.items())],
    )
    result["provenance"]["fuse"] = settings.to_dict()
    if "held_out_videos" in first.provenance:
        result["videos"]["held_out"] = first.provenance["held_out_videos"]
    if choice:
        result["fusion"]["held_out"] = choice
    write_json(out, result)


def _by_stream(paths: list[Path], subset: Subset) -> dict[str, Scores]:
    read = (read_scores(path, subset=subset) for path in paths if read_names(path)["subset"] == subset)
    return {scores.stream: scores for scores in read}


def _require_pairs(scores: dict[str, Scores], held_out: dict[str, Scores], settings: FuseSettings) -> None:
    """Refuse held-out scores that nobody asked for, that are missing or that another network gave."""
    if settings.choose == "none":
        raise InputError("scores of held-out videos are given, but fusion.choose is none; leave them out")
    if scores.keys() != held_out.keys():
        raise InputError(
            f"fusion.choose is held_out, with test scores of {', '.join(scores)} and held-out scores of "
            f"{', '.join(held_out) or 'no stream'}; give both of every stream"
        )
    for stream, one in scores.items():
        had, has = (each.told(str, "model", "sha256") for each in (one, held_out[stream]))
        if had != has:
            raise InputError(
                f"test and held-out videos of {stream} were scored by different networks; run the workflow, which "
                "scores the outdated one again"
            )


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
        content = read_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a result ({error}); give the path of a {kind}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or having not in content:
        raise InputError(f"{path} is not a {kind} of format {FORMAT}; run the workflow for it again")
    return content


@contextlib.contextmanager
def understood(path: Path) -> Iterator[None]:
    """Make one message of what goes wrong where a result of somebody else has another form."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged: it lacks something, or has it in another form ({type(error).__name__}: {error}); run "
            "the workflow for it again"
        ) from None


def print_result(path: Path) -> None:
    """Print the accuracies of a fused.json as a table, with what was quarantined below it."""
    with understood(path):
        _print(read_result(path))


def _print(result: dict[str, Any]) -> None:
    title = " ".join(filter(None, (result["dataset"], result["split"], result["experiment"])))
    table = Table(title=f"{title}: {result['videos']['test']} test videos")
    for name in ("stream", "top-1", "95% interval", "top-5", "mean class"):
        table.add_column(name, justify="left" if name == "stream" else "right")
    for name, accuracy in (*result["streams"].items(), *result["pairs"].items(), ("fused", result["accuracy"])):
        low, high = accuracy["top1_ci95"]
        top5 = "" if accuracy["top5"] is None else f"{accuracy['top5']:.3f}"
        table.add_row(
            name, f"{accuracy['top1']:.3f}", f"{low:.3f} to {high:.3f}", top5, f"{accuracy['mean_class']:.3f}"
        )
    terminal = console()
    terminal.print(table)
    fused = result["accuracy"]
    low, high = wilson_interval(fused["correct"], fused["total"])
    if high - low > _WIDE_INTERVAL:
        terminal.print(
            f"{fused['total']} test videos are few: by Wilson's 95% interval the fused top-1 is anything from "
            f"{low:.3f} to {high:.3f}. The table's intervals resample the videos, which takes few of them for certain."
        )
    if "held_out" in result["fusion"]:
        choice = result["fusion"]["held_out"]
        weights = ", ".join(f"{stream} {weight:.3g}" for stream, weight in choice["chosen"]["weights"].items())
        terminal.print(
            f"weights chosen on {choice['videos']} held-out videos: {weights}; top-1 there "
            f"{choice['chosen']['top1']:.3f}, with the configured weights {choice['configured']['top1']:.3f}"
        )
    for bad in result["videos"]["quarantined"]:
        terminal.print(f"quarantined {bad['video']}: {bad['reason']}")
