"""Processes that are in the middle of writing a file, for the tests of files and locks."""

import os
import subprocess
import sys
from pathlib import Path

WRITER = """
import sys
from pathlib import Path
from atw.files import atomic_path

with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("new, but only half of")
    print("written", flush=True)
    sys.stdin.read()
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def start(path: Path, *, before: str = "", **environment: str) -> subprocess.Popen[str]:
    """A process that writes `path` until its input is closed; it runs the code `before` first."""
    return subprocess.Popen(
        [sys.executable, "-c", before + WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=os.environ | environment, text=True,
    )  # fmt: skip


def hold(path: Path, *, before: str = "", **environment: str) -> subprocess.Popen[str]:
    """`start`, and wait until the process holds the lock."""
    child = start(path, before=before, **environment)
    assert child.stdout is not None
    assert child.stdout.readline() == "written\n"
    return child
