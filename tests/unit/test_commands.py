"""The command line as a whole: help, examples, completion, JSON, exit status, and its page in docs/."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from rich.table import Table
from rich.text import Text
from typer.testing import CliRunner

from atw.commands import app
from atw.datasets.lists import read_text
from atw.evaluate.result import read_result
from atw.files import InputError, write_json
from atw.terminal import console
from tests.unit.scored import result

REPOSITORY = Path(__file__).parents[2]
ROOT: Any = typer.main.get_command(app)
GROUPS = ("shards", "detections")
COMMANDS = {
    " ".join(filter(None, (group, name))): command
    for group, commands in (("", ROOT.commands), *((name, ROOT.commands[name].commands) for name in GROUPS))
    for name, command in commands.items()
    if name not in GROUPS
}
# What programs may read; `predict` prints JSON anyway.
WITH_JSON = {
    "predict",
    "show",
    "compare",
    "export",
    "plan",
    "config",
    "doctor",
    "settings",
    "shards info",
    "shards verify",
    "detections score",
}


def atw(*arguments: str, folder: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    given = os.environ | {"PYTHONPATH": str(REPOSITORY), **environment}
    # As the installed command is called: completion goes by its name.
    code = "import sys; from atw.commands import main; sys.argv[0] = 'atw'; main()"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, timeout=60)


def test_the_commands_are_found() -> None:
    assert {"run", "config", "train", "shards export"} <= COMMANDS.keys()
    assert COMMANDS.keys() > WITH_JSON


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_of_itself(name: str) -> None:
    shown = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    example = shown.output.partition("Example: ")[2].splitlines()[0]
    assert example.startswith((f"atw {name} ", "atw run "))
    if example.startswith("atw run --dry-run"):
        assert COMMANDS[name].rich_help_panel == "Stages of the workflow"


@pytest.mark.parametrize("name", COMMANDS)
def test_json_goes_by_one_name(name: str) -> None:
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert ("--json" in options) == (name in WITH_JSON)


def test_the_page_of_commands_is_current() -> None:
    command = [sys.executable, "-m", "typer", "atw.commands", "utils", "docs", "--name", "atw", "--title", "Commands"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    page = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True).stdout
    assert (REPOSITORY / "docs/commands.md").read_text(encoding="utf-8").strip() == page.strip()
    for name in COMMANDS:
        assert f"## `atw {name}`" in page


def complete(line: str, folder: Path) -> set[str]:
    """What bash is offered for the last word of a line."""
    words = line.split(" ")
    run = atw(folder=folder, _ATW_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1))
    return set(run.stdout.split())


def test_shells_complete_commands_and_targets(tmp_path: Path) -> None:
    assert complete("atw sh", tmp_path) == {"show", "shard", "shards"}
    assert "--cores" in complete("atw run --c", tmp_path)
    assert "results/demo/split1/fused.json" in complete("atw run results/demo/s", tmp_path)
    mine = {"datasets": {"mine": {"kind": "folder", "root": "."}}, "experiments": {"fast": {}}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(mine), encoding="utf-8")
    assert complete("atw config results/mine/e", tmp_path) == {
        "results/mine/experiments/fast/split1/fused.json",
        "results/mine/experiments/fast/split1/report.html",
        "results/mine/experiments/fast/summary.json",
    }
    assert complete("atw plan results/mine/t", tmp_path) == {f"results/mine/tables/table{n}.json" for n in range(1, 5)}
    (tmp_path / "config.yaml").write_text("datasets: 5\n", encoding="utf-8")
    assert complete("atw run results/", tmp_path) == set()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_shown_for_each_shell(shell: str) -> None:
    shown = atw(_ATW_COMPLETE=f"source_{shell}")
    assert shown.returncode == 0
    assert f"complete_{shell}" in shown.stdout


def test_the_schema_of_the_configuration() -> None:
    shown = CliRunner().invoke(app, ["settings", "--json"])
    schema = json.loads(shown.output)
    assert {"seed", "datasets", "train"} <= schema["properties"].keys()
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such-command"], "No such command"),
        (["show"], "Missing argument"),
        (["plan", "a", "--cores", "none"], "--cores"),
        (["show", "nothing.json"], "nothing.json"),
        (["config", "nobody"], "config.yaml does not exist"),
        (["shards", "info", "nowhere"], "nowhere does not exist"),
    ],
)
def test_wrong_input_and_wrong_command_lines_are_status_2(tmp_path: Path, arguments: list[str], words: str) -> None:
    run = atw(*arguments, folder=tmp_path, COLUMNS="200")
    assert run.returncode == 2
    assert words in run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout == ""


def test_damage_is_status_1(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"no shard")
    for command in ("info", "verify"):
        run = atw("shards", command, "a.h5", folder=tmp_path)
        assert run.returncode == 1
        assert "a.h5" in run.stderr
    run = atw("shards", "verify", "--json", "a.h5", folder=tmp_path)
    assert run.returncode == 1
    found = json.loads(run.stdout)
    assert found["shards"] == 1
    assert "a.h5" in found["damage"][0]


def test_a_failing_disk_is_status_74(tmp_path: Path) -> None:
    code = "import atw.commands as c; c.app = lambda: open('/nowhere/file'); c.main()"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == os.EX_IOERR == 74
    assert run.stderr == "error: No such file or directory: /nowhere/file\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("arguments", [["--version"], ["config", "demo"], ["config", "demo", "--json"]])
def test_an_output_that_takes_nothing_is_named(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "atw", *arguments], cwd=REPOSITORY, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (run.returncode, run.stderr) == (74, "error: No space left on device: the output\n")


def test_a_name_begins_no_line_of_the_log() -> None:
    code = "import atw.commands as c, logging; c.app = lambda: logging.getLogger('atw').info('%s', NAME); c.main()"
    code = code.replace("NAME", r"'a\n18:00:00 b'")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert re.fullmatch(r"\d\d:\d\d:\d\d a\n  18:00:00 b\n", run.stderr)


def test_an_empty_path_is_not_the_working_folder() -> None:
    for arguments in (["predict", "", "--model", "x"], ["init", ""]):
        said = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
        assert said.exit_code == 2
        assert "the path is empty, perhaps because a variable of the shell is" in said.output


def test_a_letter_that_the_terminal_lacks_is_spelt() -> None:
    code = "import atw.commands as c; c.app = lambda: print('caf\\u00e9'); c.main()"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (run.stdout, run.stderr, run.returncode) == ("caf\\xe9\n", "", 0)


def test_ctrl_c_is_status_130(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "atw", "show", "pipe"]
    child = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, start_new_session=True)
    with (tmp_path / "pipe").open("w"):  # opens once the command reads
        child.send_signal(signal.SIGINT)
        assert child.wait(timeout=30) == 130
    assert child.stderr is not None
    assert b"Traceback" not in child.stderr.read()
    child.stderr.close()


STEERS = "\x1b]0;owned\x07\x1b[31m\x9b31m\u202e[link=http://x]a[/link]"
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_text_of_others_does_not_steer_the_terminal(tmp_path: Path, options: list[str]) -> None:
    path = result(tmp_path, [1, 2], [3], dataset=STEERS, experiment=STEERS, quarantined=[(STEERS, 1, STEERS)])
    for arguments in (["show", str(path)], ["compare", str(path), str(path)]):
        said = CliRunner().invoke(app, [*arguments, *options], env={"COLUMNS": "300"})
        assert said.exit_code == 0, said.output
        assert "[link=http://x]a[/link]" in said.stdout
        assert not CONTROLS.findall(said.stdout)


def test_the_folder_of_a_result_is_the_result(tmp_path: Path) -> None:
    path = result(tmp_path, [1, 2], [3])
    assert path.name == "fused.json"
    of_file, of_folder = (CliRunner().invoke(app, ["show", str(one), "--json"]).stdout for one in (path, path.parent))
    assert of_file == of_folder != ""


def test_a_terminal_gets_no_codes_but_ours() -> None:
    table = Table(STEERS, title=STEERS)
    table.add_row(Text(STEERS))
    written = io.StringIO()
    terminal = console(file=written, force_terminal=True, width=200)
    terminal.print(table, STEERS)
    ours = re.sub(r"\x1b\[[0-9;]*m", "", written.getvalue())
    assert "\x1b[" in written.getvalue()
    assert not CONTROLS.findall(ours)
    assert "\\u001b]0;owned" in ours


def test_messages_and_logs_do_not_steer_the_terminal(tmp_path: Path) -> None:
    for code in (
        f"raise InputError({STEERS!r})",
        f"raise KeyError({STEERS!r})",
        f"raise RuntimeError({STEERS!r})",
        f"raise OSError(2, 'gone', {STEERS!r})",
        f"logging.getLogger('atw').warning({STEERS!r})",
    ):
        script = (
            "import logging, atw.commands as c; from atw.files import InputError\n"
            f"def app():\n    {code}\nc.app = app\nc.main()"
        )
        run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert "owned" in run.stderr, code
        assert not CONTROLS.findall(run.stderr), code


@pytest.mark.parametrize("part", ["streams", "videos", "accuracy", "fusion", "dataset", "pairs", "provenance"])
@pytest.mark.parametrize("value", [None, 5, "x", [1], {}])
def test_a_result_of_another_form_is_an_error_in_words(tmp_path: Path, part: str, value: Any) -> None:
    path = tmp_path / "fused.json"
    whole = {name: {} for name in ("streams", "videos", "accuracy", "fusion", "pairs", "provenance")}
    path.write_text(json.dumps({"format": 2, "dataset": "a", "split": "b", "experiment": "", **whole, part: value}))
    for arguments in (["show", str(path)], ["compare", str(path), str(path)]):
        assert isinstance(CliRunner().invoke(app, arguments).exception, InputError)


def test_what_was_meant_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole message of inputs that are there, and something else, and of those that are not there yet."""
    monkeypatch.chdir(tmp_path)
    for folder in ("results/a/split1/rgb", "results/b/split1", "results/b/split2", "lists"):
        (tmp_path / folder).mkdir(parents=True)
    for split in ("split1", "split2"):
        (tmp_path / f"results/b/{split}/fused.json").write_text("{}")
    (tmp_path / "results/a/split1/rgb/model.pt").write_bytes(b"")
    missing = "results/a/split1/fused.json"
    for arguments, said in (
        (["show", missing], f"{missing} does not exist; make it by `atw run {missing}`, or correct the path"),
        (["show", "results"], "results holds no fused.json and no split*/fused.json; give the folder of a result"),
        (["show", "results/b"], "results/b has the results of splits; give one, as results/b/split1/fused.json"),
        (
            ["export", "results/a", "--out", "a.pt2"],
            "results/a is a folder; give the model.pt of a trained stream in it",
        ),
        (["export", "a.pt", "--out", "a.pt2"], "a.pt does not exist; give the model.pt of a trained stream"),
        (
            ["predict", "a.avi", "--model", "results/a/split1/rgb/model.pt"],
            "results/a/split1/rgb/model.pt is no folder; give that of a split, as results/ucf101/split1",
        ),
        (
            ["predict", "a.avi", "--model", "results/a/split2"],
            "results/a/split2 does not exist; give the folder of a trained split, as results/ucf101/split1",
        ),
    ):
        run = subprocess.run([sys.executable, "-m", "atw", *arguments], capture_output=True, text=True, timeout=120)
        assert (run.returncode, run.stdout, run.stderr) == (2, "", f"error: {said}\n")
    with pytest.raises(
        InputError, match=r"^list file lists is a folder; name a file .* such as lists/split\{split\}\.csv$"
    ):
        read_text(Path(), "lists")


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "1e999", "[" * 100_000])
def test_json_that_is_none_is_refused_and_not_written(tmp_path: Path, text: str) -> None:
    (tmp_path / "fused.json").write_text('{"format": 2, "fusion": ' + text + "}")
    with pytest.raises(InputError, match="is not a result"):
        read_result(tmp_path / "fused.json")
    with pytest.raises(InputError, match=r"a\.json is not written"):
        write_json(tmp_path / "a.json", {"accuracy": float("nan")})
    assert not (tmp_path / "a.json").exists()
