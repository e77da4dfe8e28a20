"""The command line. A command imports its code only when it is called, so it needs only its own libraries."""

import contextlib
import io
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Annotated

import typer

from atw import __version__
from atw.commands import detections, jobs, shards, user
from atw.errors import InputError, printable

_HELP = (
    "Three-stream action recognition with temporal attention: raw videos in, a traceable accuracy out.\n\n"
    "Exit status: 0 success; 1 failure, or the checked files are damaged; 2 wrong input or a wrong command line, with "
    "one message that names the problem and the remedy; 74 a file or disk failed; 130 interrupted by Ctrl-C. `atw run` "
    "and `atw ray` otherwise return the status of the command they run.\n\n"
    "Example: atw run results/demo/split1/fused.json"
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"atw {__version__}")
        raise typer.Exit


app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=_HELP)
app.add_typer(user.app)
app.add_typer(shards.app, name="shards")
app.add_typer(detections.app, name="detections")
app.add_typer(jobs.app)


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """Options of every command."""


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return super().formatMessage(record).replace("\n", "\n  ")  # the name of a file may not begin a line


class _Output(io.TextIOWrapper):
    """The standard output, which need not know every letter of a name, and is named where it fails."""

    def __init__(self, plain: io.TextIOWrapper) -> None:
        # Line by line, so that it fails while the command runs.
        super().__init__(plain.buffer, plain.encoding, "backslashreplace", line_buffering=True)

    def write(self, text: str) -> int:
        with self._named():
            return super().write(text)

    def flush(self) -> None:
        with self._named():
            super().flush()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, "the output") from None


def main() -> None:
    """Run a command; wrong input exits with status 2 and one message, without a traceback."""
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(_Lines("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[lines])
    sys.excepthook = _print_traceback
    if type(sys.stdout) is io.TextIOWrapper:
        sys.stdout = _Output(sys.stdout)
    try:
        app()
    except InputError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        if error.filename is None:
            _print_traceback(type(error), error, error.__traceback__)  # nothing else says where to look
        print(f"error: {error.strerror}: {printable(str(error.filename or 'no file named'))}", file=sys.stderr)
        sys.exit(os.EX_IOERR)


def _print_traceback(kind: type[BaseException], error: BaseException, place: TracebackType | None) -> None:
    print(printable("".join(traceback.format_exception(kind, error, place))), end="", file=sys.stderr)
