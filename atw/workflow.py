"""The workflow's own files, which travel with the package, and the command that runs them in any folder."""

import contextlib
import ctypes
import difflib
import filecmp
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from atw import config
from atw.errors import printable
from atw.files import InputError, atomic_folder, atomic_path

CONFIG = Path("config.yaml")
# With one of these, Snakemake takes its configuration from elsewhere.
_CONFIGURATION = ("--configfile", "--configfiles")
_ELSEWHERE = (*_CONFIGURATION, "--directory", "-d")
_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
REFUSAL = "ATWREFUSAL"  # the variable with the path of the file through which a refusal comes back
_SIMILAR = 3  # targets in a message
ESTIMATE = "ATW_ESTIMATE"
"""The variable that says to the workflow that nothing will run: `atw plan` asks what would be made."""
# With one of these, people want to read what Snakemake says.
_LINES = (
    "--logger",
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


def configuration(path: Path) -> tuple[config.Document, ...]:
    """Read a configuration file that is named, and the working folder's config.yaml, which it goes over.

    Raises:
        InputError: it does not exist, or as `config.read`.
    """
    own = [CONFIG] if CONFIG.resolve() != path.resolve() else []
    return (config.read(path), *config.read_all(own))


def command(targets: Sequence[str], options: Sequence[str]) -> list[str]:
    """The command line that makes targets in the working folder, with Snakemake's own options before them."""
    return [sys.executable, "-m", "snakemake", "--snakefile", str(root() / "Snakefile"), *options, "--", *targets]


def environment() -> Mapping[str, str]:
    """The environment of that command: the jobs' `python` is the one that runs this."""
    # Not resolved: a virtual environment is known by the path of its link.
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


def run(targets: Sequence[str], options: Sequence[str], *, plain: bool) -> int:
    """Run Snakemake in the working folder, and give its exit status, or 130 after Ctrl-C.

    A config.yaml is written first where there is none, and options do not name another. The run is shown live on a
    terminal, and elsewhere by a line now and then, unless `plain` or an option wants Snakemake's own lines.

    Raises:
        InputError: config.yaml cannot be written, a configuration that is named cannot be read, what was given as a
            target is an option, no target is given where nothing is configured, or the workflow refuses an input or a
            target.
    """
    for target in targets:
        if not target:
            raise InputError(
                "a target is empty, perhaps because a variable of the shell is; name a file, or leave it out"
            )
        if not target.isprintable():
            raise InputError(f"nothing makes {target}: names of files here are plain text")
        if target.startswith("-"):
            raise InputError(f"{target} is no target; options of Snakemake stand at the end, after `--`")
    for path in _configurations(options):
        config.read(path)  # Snakemake would say less of what is wrong with it
    if not _given(options, _ELSEWHERE):
        require_writable()
        if CONFIG.is_symlink() and not CONFIG.exists():
            raise InputError(f"{CONFIG} is a link to {CONFIG.readlink()}, which is not there; mend or remove it")
        if not CONFIG.exists():
            with atomic_path(CONFIG) as temporary:
                shutil.copyfile(root() / "config.yaml", temporary)
            print(f"wrote {CONFIG.resolve()}: datasets and settings, to be edited", file=sys.stderr, flush=True)
    if (
        not targets
        and "--unlock" not in options
        and CONFIG.exists()
        and filecmp.cmp(CONFIG, root() / CONFIG, shallow=False)
    ):
        raise InputError(
            "no target is given, and config.yaml is as it was written; to see the demo, which takes minutes: "
            "`atw run results/demo/split1/fused.json`. For videos of your own, in an empty folder: "
            "`atw init path/to/videos`; then `atw run` makes the result and its page"
        )
    ours = not plain and shown(options)
    with tempfile.TemporaryDirectory() as folder:
        refusal = Path(folder) / "refusal"
        status = _attended(command(targets, ["--logger", "atw", *options] if ours else options), refusal)
        if not plain and status == 1 and refusal.exists():
            raise InputError(refusal.read_text(encoding="utf-8"))
    return status


def require_writable() -> None:
    """Raise InputError if nothing can be written in the working folder, where Snakemake keeps its notes."""
    try:
        with tempfile.TemporaryFile(dir=Path()):
            pass
    except OSError as error:
        raise InputError(
            f"the working folder cannot be written to ({error.strerror}), and Snakemake keeps its notes there; work in "
            "another one"
        ) from None


def planned(options: Sequence[str]) -> bool:
    """Whether nothing will run."""
    return not {"--dry-run", "--dryrun", "-n"}.isdisjoint(options)


def shown(options: Sequence[str]) -> bool:
    """Whether `atw run` shows a run in its own way: no option wants Snakemake's lines."""
    return not _given(options, _LINES)


def _given(options: Sequence[str], names: Sequence[str]) -> bool:
    """Whether an option of these names is among the options, as `--name` or `--name=value`."""
    return any(option.partition("=")[0] in names for option in options)


def refuse(message: str) -> bool:
    """Tell the `atw` that started this process, if any, what it has to say in place of Snakemake's messages."""
    path = os.environ.get(REFUSAL)
    if path and not Path(path).exists():
        with contextlib.suppress(OSError):  # a job on another machine inherits the variable, and not the folder
            Path(path).write_text(printable(message), encoding="utf-8")
    return bool(path)


def refused() -> bool:
    """Whether `refuse` was called in this run."""
    return Path(os.environ.get(REFUSAL, "")).is_file()


def profile_names() -> list[str]:
    """The profiles that come with the package."""
    return sorted(path.name for path in (root() / "profiles").iterdir() if (path / "config.yaml").is_file())


def copy_profile(name: str) -> Path:
    """Copy a profile of the package into the working folder's profiles/, to be edited there.

    Raises:
        InputError: there is no such profile, or one of that name is in the folder.
    """
    if name not in profile_names():
        raise InputError(f"no profile is called {name!r}; there are {', '.join(profile_names())}")
    out = Path("profiles") / name
    with atomic_folder(out) as temporary:
        shutil.copytree(root() / out, temporary, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    return out


def result(run: str) -> str:
    """The result of the first split of a dataset or an experiment."""
    return f"results/{run}/split1/fused.json"


def page(run: str) -> str:
    """The page of that result."""
    return f"results/{run}/split1/report.html"


def default_targets(options: Sequence[str], *, all_splits: bool) -> list[str]:
    """What a run without a target makes: of a single dataset the result of its first split and the page.

    Otherwise it is Snakemake's own default, the summaries of all datasets: no target.
    """
    if all_splits or not CONFIG.exists() or _given(options, _ELSEWHERE):
        return []
    document = config.read(CONFIG)
    loaded = config.load(document.content, [document])
    names = [name for name, given in loaded.datasets.items() if given.in_all]
    return [result(names[0]), page(names[0])] if len(names) == 1 else []


def unknown_target(target: str) -> str:
    """The message about a target that no rule makes, with the most similar ones."""
    known = target_names()
    similar = difflib.get_close_matches(target, known, _SIMILAR) or known[:_SIMILAR]
    return f"nothing makes {target}" + (f"; there are, for example, {', '.join(similar)}" if similar else "")


def target_names() -> list[str]:
    """The results that people ask for, of each dataset and experiment of `config_file`; none if it is not valid."""
    try:
        loaded = config.load(config.read(config_file()).content)
    except InputError:
        return []
    runs = [
        f"{name}{of}" for name in loaded.datasets for of in ("", *(f"/experiments/{e}" for e in loaded.experiments))
    ]
    targets = [target for run in runs for target in (result(run), page(run), f"results/{run}/summary.json")]
    return targets + [f"results/{name}/tables/table{number}.json" for name in loaded.datasets for number in range(1, 5)]


def _attended(line: Sequence[str], refusal: Path) -> int:
    """Exit status of Snakemake, which gets Ctrl-C from the terminal itself, and SIGTERM from here.

    It does not outlive this process (on Linux, however that ends): who starts again would meet it in the same files.
    """
    caught: list[int] = []
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    child = subprocess.Popen(line, env={**environment(), REFUSAL: str(refusal)}, preexec_fn=_end_with_parent)
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
