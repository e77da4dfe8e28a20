"""What is wrong with files and folders of a dataset is one message with a remedy while the workflow plans."""

import os
from pathlib import Path

import pytest

from tests.rules.conftest import Workplace


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    for name in ("a/1.avi", "a/2.avi", "b/1.avi", "b/2.avi"):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return Workplace(tmp_path)


def planned(place: Workplace, *, target: str = "quarantine.csv", **keys: object) -> str:
    place.write_config({"datasets": {"mine": {"kind": "folder", "root": "videos", **keys}}})
    run = place.snakemake("--dry-run", f"results/mine/split1/{target}", check=False)
    assert run.returncode != 0
    assert "most recent call last" not in run.stdout + run.stderr
    return run.stdout + run.stderr


def test_a_folder_of_videos_that_leads_in_circles(place: Workplace) -> None:
    (place.folder / "videos/c").symlink_to("c")
    place.write_list([("a/1.avi", "a", "train"), ("c/1.avi", "a", "test")])
    output = planned(place, lists="lists/split{split}.csv")
    assert "videos/c cannot be read: Too many levels of symbolic links; look whether its drive is there" in output


def test_what_the_system_refuses_otherwise(place: Workplace) -> None:
    (place.folder / "lists").write_text("a file where the drawn lists ought to go")
    assert "File exists: 'lists'; look whether" in planned(place)


CASES = Path(__file__).parents[1] / "cases/lists"


@pytest.mark.parametrize("named", [False, True])
def test_a_key_that_stands_twice_is_refused_with_both_lines(place: Workplace, named: bool) -> None:
    place.write_config({"datasets": {"mine": {"kind": "folder", "root": "videos"}}})
    name = "own.yaml" if named else "config.yaml"
    (place.folder / name).write_bytes((CASES / "y_duptrain.yaml").read_bytes())
    options = ["--configfile", name, "--"] if named else []
    run = place.snakemake("--dry-run", *options, "results/mine/split1/quarantine.csv", check=False)
    assert run.returncode != 0
    output = run.stdout + run.stderr
    assert f"{name}, line 8, column 5: train stands twice, first in line 7; " in output
    assert "most recent call last" not in output


def test_numbers_inside_braces_of_the_command_line_count(place: Workplace) -> None:
    place.write_config({"datasets": {"mine": {"kind": "folder", "root": "videos", "splits": 1}}})
    target = ("--", "results/mine/split1/rgb/model.pt")
    place.snakemake(
        "--dry-run", "--config", "train={iterations: 5, learning_rate: 1e-3}", "model={weights: null}", *target
    )
    run = place.snakemake("--dry-run", "--config", "train={iterations: many}", *target, check=False)
    assert "--config: train.iterations: Input should be a valid integer (value 'many')" in run.stdout + run.stderr


def test_a_training_without_a_place_for_ray_is_refused_before_anything_runs(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "modules").mkdir()
    # As on a system without /tmp and the like.
    (tmp_path / "modules/sitecustomize.py").write_text(
        "from atw.train.ray import sockets\nsockets.COMMON_PLACES = ()\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "modules"), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for name in ("XDG_RUNTIME_DIR", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    output = planned(place, target="fused.json", model={"weights": None}, compute={"workers": 2})
    assert f"there is no folder for Ray's sockets and logs ({tmp_path.resolve()} has " in output
    assert "let TMPDIR name a folder of yours" in output


def test_a_run_without_a_target_takes_the_datasets_that_are_in_all(place: Workplace) -> None:
    demo = {"kind": "demo", "train_per_class": 1, "test_per_class": 1, "model": {"backbone": "tiny", "weights": None}}
    place.write_config({"datasets": {"short": demo, "long": demo | {"in_all": False}}})
    assert place.jobs()["render"] == 3  # splits of one demo
    assert place.jobs("--", "results/long/summary.json")["render"] == 3
