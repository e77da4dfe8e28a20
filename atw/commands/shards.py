"""`atw shards`: inspect, verify and export shards."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from atw.commands.arguments import AsJson
from atw.errors import printable
from atw.files import json_text

app = typer.Typer(no_args_is_help=True, help="Inspect, verify and export shards.")

Paths = Annotated[list[Path], typer.Argument(help="shards, or folders of shards", show_default=False)]


@app.command()
def info(paths: Paths, as_json: AsJson = False) -> None:
    """Print the contents of shards: videos, items, settings, sizes. Status 1: a shard cannot be read.

    Example: atw shards info shards/demo
    """
    from atw.shards import tools

    _exit_with(tools.info(paths, as_json=as_json))


@app.command()
def verify(paths: Paths, as_json: AsJson = False) -> None:
    """Check every byte of shards, and that streams come from the same files. Status 1: damage, with its remedy.

    Example: atw shards verify shards
    """
    from atw.shards import tools

    count, damage = tools.verify(paths)
    if as_json:
        print(json_text({"shards": count, "damage": damage}))
        sys.exit(1 if damage else 0)
    _exit_with(damage)
    print(f"{count} shards are whole")


@app.command()
def export(
    paths: Paths,
    out: Annotated[Path, typer.Option(help="folder to write to", show_default=False)],
    video: Annotated[list[str] | None, typer.Option(help="id of a video; default: all")] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="frames: jpg (as stored) or png; flow: flo (px) or png-flow (stored levels)"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace an earlier export")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="keep exported videos, and continue with the others")
    ] = False,
) -> None:
    """Write frames or flow fields as files, one folder per video: OUT/dataset/stream/id.

    Example: atw shards export shards/demo/flow --out flow
    """
    from atw.shards import tools

    exported = tools.export(paths, out, videos=video or (), form=form, overwrite=overwrite, skip_existing=skip_existing)
    there = f", {len(exported.kept)} of them from before" if exported.kept else ""
    print(f"{len(exported.written) + len(exported.kept)} videos in {out}{there}")


def _exit_with(messages: list[str]) -> None:
    for message in messages:
        print(f"damaged: {printable(message)}", file=sys.stderr)
    if messages:
        sys.exit(1)
