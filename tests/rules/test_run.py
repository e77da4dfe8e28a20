"""`atw run` in any folder: its config.yaml, what it passes on to Snakemake, and how it ends."""

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.rules.conftest import CONFIG, REPOSITORY

DEMO = "results/demo/split1/fused.json"


def atw_run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Whatever `python` comes first on the way must not be the jobs'.
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "atw", "run", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=200)


def said(run: subprocess.CompletedProcess[str]) -> str:
    """Standard error without the line with which Snakemake's command line begins, before it has any logger."""
    return re.sub(r"^Using workflow specific profile .*\n", "", run.stderr)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with a dataset that is rendered within seconds."""
    show = {"kind": "demo", "train_per_class": 1, "test_per_class": 1, "evaluate": {"crop": 96}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"datasets": {"show": show}}), encoding="utf-8")
    return tmp_path


def test_an_empty_folder_gets_a_config_that_works(tmp_path: Path) -> None:
    run = atw_run(tmp_path, "--dry-run", DEMO)
    assert run.returncode == 0, run.stderr
    assert f"wrote {tmp_path / 'config.yaml'}" in run.stderr
    assert (tmp_path / "config.yaml").read_bytes() == (REPOSITORY / "config.yaml").read_bytes()
    assert "jobs would run:" in run.stderr
    assert "  fuse of demo split1: not made yet" in run.stderr
    again = atw_run(tmp_path, "-n", DEMO)
    assert again.returncode == 0
    assert "wrote" not in again.stderr


def test_a_config_that_is_there_stays(tmp_path: Path) -> None:
    own = "seed: 7\ndatasets: {show: {kind: demo, evaluate: {crop: 96}}}\n"
    (tmp_path / "config.yaml").write_text(own, encoding="utf-8")
    run = atw_run(tmp_path, "-n", "data/show/split1.csv")
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "config.yaml").read_text(encoding="utf-8") == own


def test_another_config_or_folder_is_snakemakes_matter(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("mine.yaml", "other/config.yaml"):
        (tmp_path / name).write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    target = "data/show/split1.csv"
    assert atw_run(tmp_path, "-n", target, "--", "--configfile", "mine.yaml").returncode == 0
    assert atw_run(tmp_path, "-n", target, "--", "--directory=other").returncode == 0
    assert not (tmp_path / "config.yaml").exists()


@pytest.mark.parametrize("option", [("--configfile", "mine.yaml"), ("--configfiles=mine.yaml",)])
def test_a_named_config_is_explained_before_snakemake_reads_it(tmp_path: Path, option: tuple[str, ...]) -> None:
    (tmp_path / "mine.yaml").write_text("datasets:\n\tshow: {kind: demo}\n", encoding="utf-8")
    run = atw_run(tmp_path, "-n", "data/show/split1.csv", "--", *option)
    assert run.returncode == 2
    assert "mine.yaml, line 2, column 1: a tab, which YAML does not take" in run.stderr
    assert not (tmp_path / "config.yaml").exists()


def test_a_named_config_that_is_not_there_is_named(tmp_path: Path) -> None:
    run = atw_run(tmp_path, "data/show/split1.csv", "--", "--configfile", "none.yaml")
    assert run.returncode == 2
    assert said(run).startswith("error: none.yaml does not exist")


def test_jobs_run_on_the_same_python_and_their_failure_is_the_exit_status(tmp_path: Path) -> None:
    small = {"show": {"kind": "demo", "train_per_class": 1, "test_per_class": 1, "evaluate": {"crop": 96}}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"datasets": small}), encoding="utf-8")
    done = atw_run(tmp_path, "--plain", "--cores", "1", "data/show/split1.csv")
    assert done.returncode == 0, done.stderr + done.stdout
    assert (tmp_path / "data/show/split1.csv").exists()
    assert "Provided cores: 1" in done.stderr
    plain = atw_run(tmp_path, "--plain", "results/nobody/split1/fused.json")
    assert plain.returncode == 1
    assert "InputFunctionException" in plain.stderr


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "results/nobody/split1/fused.json",
            "dataset 'nobody' is not in config.yaml under `datasets:`; known datasets: show",
        ),
        ("results/show/split9/fused.json", "dataset show has no split9; its splits are split1, split2, split3"),
        (
            "results/show/experiments/twostream/split1/fused.json",
            "experiment 'twostream' is not in config.yaml under `experiments:`; known experiments: none; those of the "
            "tables are in docs/evaluation.md",
        ),
        (
            "results/show/split1/fusd.json",
            "nothing makes results/show/split1/fusd.json; there are, for example, results/show/split1/fused.json, "
            "results/show/summary.json, results/show/split1/report.html",
        ),
        ("", "a target is empty, perhaps because a variable of the shell is; name a file, or leave it out"),
        (os.fsdecode(b"caf\xe9"), "nothing makes caf\\udce9: names of files here are plain text"),
    ],
)
def test_a_wrong_target_is_one_message(small: Path, target: str, message: str) -> None:
    run = atw_run(small, target)
    assert (run.returncode, run.stdout, said(run)) == (2, "", f"error: {message}\n")


def test_without_a_target_or_a_config_nothing_of_hours_begins(tmp_path: Path) -> None:
    for _ in range(2):  # the first call writes config.yaml
        run = atw_run(tmp_path)
        assert run.returncode == 2
        assert "error: no target is given" in run.stderr
        assert "`atw run results/demo/split1/fused.json`" in run.stderr
        assert not (tmp_path / "data").exists()
    unlocked = atw_run(tmp_path, "--", "--unlock")  # after a run was killed
    assert unlocked.returncode == 0, unlocked.stderr


def test_without_a_target_a_single_dataset_gives_its_first_split_and_page(small: Path) -> None:
    raw = yaml.safe_load((small / "config.yaml").read_text(encoding="utf-8"))
    raw["model"] = {"backbone": "tiny", "weights": None}
    (small / "config.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    run = atw_run(small, "-n")
    assert run.returncode == 0, run.stderr
    assert "fuse of show split1: not made yet" in run.stderr
    assert "report_page of show split1: what it takes is made anew" in run.stderr
    assert "split2" not in run.stderr
    every = atw_run(small, "-n", "--all-splits")
    assert "summary of show: not made yet" in every.stderr
    assert "split2" in every.stderr
    both = atw_run(small, "-n", "--all-splits", "results/show/split1/fused.json")
    assert (both.returncode, said(both)) == (
        2,
        "error: --all-splits is for a run without a target; name results/<dataset>/summary.json instead\n",
    )


def test_the_default_profile_holds_unless_another_is_named(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "config.yaml").write_text("cores: 1\n", encoding="utf-8")
    default = f"Using workflow specific profile {REPOSITORY / 'profiles/default'}"
    assert default in atw_run(tmp_path, "-n", DEMO).stderr
    named = atw_run(tmp_path, "-n", DEMO, "--", "--workflow-profile", "own")
    assert named.returncode == 0, named.stderr
    assert "Using workflow specific profile own" in named.stderr
    assert default not in named.stderr


@pytest.mark.parametrize("arguments", [["--keep-going", DEMO], ["--cores", "0", DEMO]])
def test_options_in_the_wrong_place_are_named(tmp_path: Path, arguments: list[str]) -> None:
    run = atw_run(tmp_path, *arguments)
    assert run.returncode == 2
    assert arguments[0] in run.stderr
    assert not (tmp_path / "config.yaml").exists()


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / ".config.yaml.lock").mkdir()
    run = atw_run(tmp_path, "-n", DEMO)
    assert run.returncode == 2
    assert "cannot write config.yaml" in run.stderr


def on_a_terminal(folder: Path, *arguments: str, interrupt_at: str = "\0") -> tuple[int, str]:
    """Exit status of `atw run` and all that it wrote to its terminal; Ctrl-C once it has written something."""
    keeper, terminal = pty.openpty()
    command = [sys.executable, "-m", "atw", "run", *arguments]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    child = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True
    )
    os.close(terminal)
    written = b""
    try:
        while part := os.read(keeper, 65536):
            written += part
            if interrupt_at.encode() in written:
                os.killpg(child.pid, signal.SIGINT)
                interrupt_at = "\0"
    except OSError:  # how Linux says that nobody has the terminal open any longer
        pass
    finally:
        os.close(keeper)
    status = child.wait(timeout=60)
    assert written.count(b"\x1b[?25l") == written.count(b"\x1b[?25h")  # a hidden cursor comes back
    return status, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode())


def test_a_terminal_shows_the_run_live(small: Path) -> None:
    status, screen = on_a_terminal(small, "--cores", "1", "data/show/split1.csv")
    assert status == 0, screen
    assert re.search(r"render +━+ +0 of 1", screen)
    assert "render  show 1  for 0:0" in screen
    assert re.search(r"1 of 1 jobs done in 0:\d\d\r\n$", screen)
    assert "jobid" not in screen
    assert any("rule render:" in path.read_text() for path in (small / ".snakemake/log").iterdir())


def test_a_failed_job_is_shown_with_its_log(small: Path) -> None:
    (small / "data/show").mkdir(parents=True)
    (small / "data/show/split1").write_text("in the way", encoding="utf-8")
    (small / "data/show/.split1.csv.lock").mkdir()
    status, screen = on_a_terminal(small, "--cores", "1", "data/show/split1.csv")
    assert status == 1
    assert "Error in rule render" in screen
    assert "Logfile logs/render/show/split1.log" in screen
    assert re.search(r"0 of 1 jobs done in \S+, 1 failed\r\n$", screen)


def test_ctrl_c_gives_the_terminal_back(small: Path) -> None:
    status, screen = on_a_terminal(small, "--cores", "1", "data/show/split1.csv", interrupt_at="render  show 1")
    assert status == 130
    assert re.search(
        r"0 of 1 jobs done in \S+, 1 failed\r\nstopped by Ctrl-C; the same command goes on from here\r\n$", screen
    )
    assert not (small / "data/show/split1.csv").exists()


def test_a_dry_run_says_which_setting_changed(small: Path) -> None:
    target = "data/show/split1.csv"
    assert said(atw_run(small, "-n", target)) == "1 job would run:\n  render of show 1: not made yet\n"
    assert atw_run(small, "--cores", "1", target).returncode == 0
    raw = yaml.safe_load((small / "config.yaml").read_text(encoding="utf-8"))
    raw["datasets"]["show"]["test_per_class"] = 2
    (small / "config.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    run = atw_run(small, "--dry-run", target)
    assert run.stdout == ""
    assert said(run) == "1 job would run:\n  render of show 1: test_per_class was 1, is 2\n"


@pytest.mark.parametrize("options", [["--plain"], ["--plain", "-n"], ["--", "--quiet"]])
def test_who_wants_snakemakes_own_lines_gets_them(small: Path, options: list[str]) -> None:
    status, screen = on_a_terminal(small, "--cores", "1", "data/show/split1.csv", *options)
    assert status == 0, screen
    assert "━" not in screen
    assert "jobs done" not in screen


def test_without_a_terminal_a_line_tells_of_each_job(small: Path) -> None:
    run = atw_run(small, "--cores", "1", "data/show/split1.csv")
    job = r"\d\d:\d\d:\d\d render show 1 done after 0:\d\d; render 1 of 1; 1 of 1 jobs done in 0:\d\d\n"
    assert re.fullmatch(job + r"1 of 1 jobs done in 0:\d\d\n", said(run)), run.stderr
    again = atw_run(small, "--cores", "1", "data/show/split1.csv")
    assert said(again) == "Nothing to be done (all requested files are present and up to date).\n"
