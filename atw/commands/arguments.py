"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path, typer.Argument(help="file to write", show_default=False)]
SettingsText = Annotated[str, typer.Option("--settings", help="JSON of the settings that this stage depends on")]
DatasetText = Annotated[str, typer.Option("--dataset", help="JSON with the places of videos and lists")]
ComputeText = Annotated[str, typer.Option("--compute", help="JSON of the `compute` section")]
Shards = Annotated[list[Path], typer.Argument(help="shards of the split's videos", show_default=False)]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads to use")]
UsableThreads = Annotated[int | None, typer.Option(min=1, max=1024, help="CPU threads; default: all cores")]
Gpus = Annotated[int, typer.Option(min=0, help="GPUs reserved for this job")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON, for programs")]
Configfile = Annotated[
    Path, typer.Option(help="configuration file, as for snakemake: its settings go over those of config.yaml")
]


def given_path(text: str) -> Path:
    """Read a path; an empty one, as of a variable that is not set, would be the working folder."""
    if not text:
        raise typer.BadParameter("the path is empty, perhaps because a variable of the shell is")
    return Path(text)


def complete_targets(incomplete: str) -> list[str]:
    """Return the targets of the working folder's config.yaml, for shell completion."""
    from atw import workflow

    return [target for target in workflow.target_names() if target.startswith(incomplete)]
