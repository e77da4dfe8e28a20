"""What a target still needs, as Snakemake sees it: changed settings and videos included."""

import subprocess
from pathlib import Path
from typing import NamedTuple

from atw import workflow
from atw.files import InputError


class Pending(NamedTuple):
    """Files that are to be made, by rule."""

    shards: list[Path]
    models: list[Path]
    scores: list[Path]


def pending(target: str, configfile: Path) -> Pending:
    """Ask Snakemake, in the working folder, what it would make for a target. Nothing is made.

    Raises:
        InputError: Snakemake does not know the target, or refuses; its message is passed on.
    """
    command = workflow.command([target], ["--configfile", str(configfile), "--summary"])
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if run.returncode:
        # What comes before is of every run, what comes after names lines of the workflow.
        reason = run.stderr.rpartition("Building DAG of jobs...")[2].partition("\nTraceback")[0]
        raise InputError(f"Snakemake cannot plan {target}:\n{reason.strip()}")
    found = Pending([], [], [])
    places = {
        "frames": found.shards,
        "flow": found.shards,
        "warped": found.shards,
        "train": found.models,
        "score": found.scores,
        "score_held_out": found.scores,
    }
    for line in run.stdout.splitlines():
        path, _, rule, *_, plan = line.split("\t")
        if plan == "update pending" and rule in places and not path.endswith("history.jsonl"):
            places[rule].append(Path(path))
    return found
