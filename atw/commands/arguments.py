"""Arguments and options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path, typer.Argument(help="file to write", show_default=False)]
SettingsText = Annotated[str, typer.Option("--settings", help="JSON of the settings that this stage depends on")]
DatasetText = Annotated[str, typer.Option("--dataset", help="JSON that says where videos and lists are")]
ComputeText = Annotated[str, typer.Option("--compute", help="JSON of the `compute` section")]
Shards = Annotated[list[Path], typer.Argument(help="shards of the split's videos", show_default=False)]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads to use")]
UsableThreads = Annotated[int | None, typer.Option(min=1, help="CPU threads; all cores unless given")]
Gpus = Annotated[int, typer.Option(min=0, help="GPUs reserved for this job")]
AsJson = Annotated[bool, typer.Option("--json", help="for programs")]
Configfile = Annotated[Path, typer.Option(help="the configuration, as for snakemake")]
