"""The command line. A command imports what it calls when it is called, so that each needs only its own libraries."""

import logging
import os
import sys

import typer

from atw.commands import run, shards, stages, tools
from atw.files import InputError, printable

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Three-stream action recognition with temporal attention. "
    "`atw run results/demo/split1/fused.json` runs the stages in order.",
)
app.add_typer(run.app)
app.add_typer(tools.app)
app.add_typer(shards.app, name="shards")
app.add_typer(stages.app)


def main() -> None:
    """Run a command; wrong input exits with status 2 and one message, without a traceback."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        app()
    except InputError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        print(f"error: {error.strerror}: {error.filename or 'no file named'}", file=sys.stderr)
        sys.exit(os.EX_IOERR)
