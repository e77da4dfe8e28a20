"""`atw detections`: rate detections."""

from pathlib import Path
from typing import Annotated

import typer

from atw.commands.arguments import AsJson
from atw.errors import InputError
from atw.files import json_text

app = typer.Typer(no_args_is_help=True, help="Rate detections of actions in untrimmed videos.")


@app.callback()
def detections() -> None:
    """Rate detections of actions in untrimmed videos."""  # a callback, so that `score` stays a command of its own


@app.command()
def score(
    predictions: Annotated[
        Path, typer.Argument(help="detections, or classifications, in ActivityNet's form", show_default=False)
    ],
    truth: Annotated[Path, typer.Argument(help="annotations in ActivityNet's form", show_default=False)],
    rule: Annotated[str, typer.Option(help="activitynet or thumos14: the kit to follow", show_default=False)],
    subset: Annotated[str | None, typer.Option(help="subset of the truth; default: that of the predictions")] = None,
    overlaps: Annotated[
        str | None, typer.Option(help="such as 0.3,0.5,0.7; default: .5 to .95, for thumos14 .1 to .7")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Rate detections by mAP over overlaps; predictions without segments by mAP and hit@k of classification.

    Example: atw detections score detections.json truth.json --rule thumos14 --overlaps 0.3,0.5,0.7
    """
    from atw.evaluate.detection_files import read_detections, read_truth
    from atw.evaluate.detection_score import print_score, require_shared_names
    from atw.evaluate.detection_score import score as rate

    needed = None if overlaps is None else _numbers(overlaps)
    found, shown = read_detections(predictions), read_truth(truth)
    require_shared_names(found, shown)
    rated = rate(found, shown, rule=rule, subset=subset, overlaps=needed)
    if as_json:
        print(json_text(rated.to_dict()))
    else:
        print_score(rated)


def _numbers(text: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if (
        not numbers
        or not all(0 < number <= 1 for number in numbers)
        or len({*map("{:g}".format, numbers)}) < len(numbers)
    ):
        raise InputError(f"--overlaps is {text!r}; give different numbers above 0 and at most 1, such as 0.3,0.5,0.7")
    return numbers
