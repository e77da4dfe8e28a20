"""The command line. A command imports what it calls when it is called, so that each needs only its own libraries."""

import logging
import os
import sys
import traceback

import typer

from atw.commands import run, shards, stages, tools
from atw.files import InputError, printable

_HELP = (
    "Three-stream action recognition with temporal attention: raw videos in, a traceable accuracy out.\n\n"
    "Exit status: 0 done; 1 it could not be done, or what was looked at is not in order; 2 wrong input or a wrong "
    "command line, with one message that names it and the remedy; 74 a file or disk failed; 130 interrupted by Ctrl-C. "
    "`atw run` and `atw ray` end with the status of what they run.\n\n"
    "Example: atw run results/demo/split1/fused.json"
)
app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=_HELP)
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
        if error.filename is None:
            traceback.print_exc()  # nothing else says where to look
        print(f"error: {error.strerror}: {error.filename or 'no file named'}", file=sys.stderr)
        sys.exit(os.EX_IOERR)
