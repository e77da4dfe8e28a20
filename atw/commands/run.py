"""`atw run`: the workflow in any folder."""

from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from atw.commands.arguments import complete_targets

app = typer.Typer()
_FURTHER = "atw.further"


class _WithFurther(TyperCommand):
    """Keeps what stands after `--` apart, where click would add it to the last argument."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what stands before `--`."""
        place = args.index("--") if "--" in args else len(args)
        ctx.meta[_FURTHER] = args[place + 1 :]
        return super().parse_args(ctx, args[:place])


@app.command(cls=_WithFurther)
def run(
    context: typer.Context,
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            help="files to make; the summary of every dataset unless given", autocompletion=complete_targets
        ),
    ] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="CPU cores to use; all unless given")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="say what would be done")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Snakemake's own lines, on a terminal too")] = False,
) -> None:
    """Make results in the working folder, with a config.yaml of its own: Snakemake on the workflow in this package.

    Further options of Snakemake stand after `--`. The exit status is Snakemake's, or 130 after Ctrl-C.

    Example: atw run --cores 4 results/demo/split1/fused.json -- --keep-incomplete
    """
    from atw import workflow

    options = [] if cores is None else ["--cores", str(cores)]
    options += ["--dry-run"] if dry_run else []
    raise typer.Exit(workflow.run(targets or [], [*options, *context.meta[_FURTHER]], plain=plain))
