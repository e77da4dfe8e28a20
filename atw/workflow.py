"""The workflow's own files, which travel with the package, and the command that runs them in any folder."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from atw import config
from atw.files import InputError, atomic_path

CONFIG = Path("config.yaml")
# With one of these, Snakemake takes its configuration from elsewhere.
_CONFIGURATION = ("--configfile", "--configfiles")
_ELSEWHERE = (*_CONFIGURATION, "--directory", "-d")
_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
# With one of these, people want to read what Snakemake says.
_LINES = (
    "--logger",
    "--dry-run",
    "--dryrun",
    "-n",
    "--quiet",
    "-q",
    "--verbose",
    "--debug-dag",
    "--printshellcmds",
    "-p",
)


def root() -> Path:
    """The folder of Snakefile, workflow/, profiles/, envs/ and config.yaml: in the installed package, or a checkout."""
    installed = Path(__file__).parent / "workflow_files"
    return installed if installed.exists() else Path(__file__).parents[1]


def config_file() -> Path:
    """The working folder's config.yaml, or the one that it would get."""
    return CONFIG if CONFIG.exists() else root() / CONFIG


def command(targets: Sequence[str], options: Sequence[str]) -> list[str]:
    """The command line that makes targets in the working folder, with Snakemake's own options before them."""
    return [sys.executable, "-m", "snakemake", "--snakefile", str(root() / "Snakefile"), *options, "--", *targets]


def environment() -> Mapping[str, str]:
    """The environment of that command: the jobs' `python` is the one that runs this."""
    # Not resolved: a virtual environment is known by the path of its link.
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


def run(targets: Sequence[str], options: Sequence[str], *, plain: bool) -> int:
    """Run Snakemake in the working folder, and give its exit status, or 130 after Ctrl-C.

    A config.yaml is written first where there is none, and options do not name another. On a terminal the run is shown
    live, unless `plain` or an option wants Snakemake's own lines.

    Raises:
        InputError: config.yaml cannot be written, a configuration that is named cannot be read, or what was given as a
            target is an option.
    """
    for target in targets:
        if target.startswith("-"):
            raise InputError(f"{target} is no target; options of Snakemake stand at the end, after `--`")
    config.read_all(_configurations(options))  # Snakemake would say less of what is wrong with them
    if not CONFIG.exists() and not any(option.partition("=")[0] in _ELSEWHERE for option in options):
        with atomic_path(CONFIG) as temporary:
            shutil.copyfile(root() / "config.yaml", temporary)
        print(f"wrote {CONFIG.resolve()}: datasets and settings, to be edited", file=sys.stderr, flush=True)
    live = sys.stderr.isatty() and not plain and not any(option.partition("=")[0] in _LINES for option in options)
    return _attended(command(targets, ["--logger", "atw", *options] if live else options))


def _attended(line: Sequence[str]) -> int:
    """Exit status of Snakemake, which gets Ctrl-C from the terminal itself, and SIGTERM from here.

    It does not outlive this process (on Linux, however that ends): who starts again would meet it in the same files.
    """
    caught: list[int] = []
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    child = subprocess.Popen(line, env=environment(), preexec_fn=_end_with_parent)
    signal.signal(signal.SIGTERM, lambda number, _: child.send_signal(number))
    status = child.wait()
    if caught:
        print("stopped by Ctrl-C; the same command goes on from here", file=sys.stderr, flush=True)
        return 128 + signal.SIGINT
    return status if status >= 0 else 128 - status


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _configurations(options: Sequence[str]) -> Iterator[Path]:
    """The files that Snakemake's option for them names; as many may follow it as one likes."""
    named = False
    for option in options:
        name, equals, value = option.partition("=")
        if option.startswith("-"):
            named = name in _CONFIGURATION
            if named and equals:
                yield Path(value)
        elif named:
            yield Path(option)
