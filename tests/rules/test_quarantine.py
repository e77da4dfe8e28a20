"""Bad videos are listed with their reasons, and too many of them stop the run before anything is trained."""

import copy
import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rules.conftest import CONFIG, MOTION, Workplace, write_video

TARGET = "results/tiny/split1/fused.json"
AUDIT = "results/tiny/split1/quarantine.csv"
DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda content: b"", "empty file"),
    "page": (lambda content: b"<html>404</html>" * 99, "not a video"),
    "cut": (lambda content: content[: len(content) // 2], "truncated"),
    "hole": (lambda content: content[:9000] + bytes(len(content) - 12000) + content[-3000:], "corrupt|truncated"),
    "zeros": (lambda content: bytes(len(content)), "not a video"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A dataset of six sound videos and five bad ones."""
    place = Workplace(tmp_path_factory.mktemp("quarantine"))
    rows = []
    for label in MOTION:
        for number, subset in enumerate(("train", "train", "test")):
            name = f"{label}/{number}.avi"
            write_video(place.folder / "videos" / name, label, len(rows))
            rows.append((name, label, subset))
    whole = (place.folder / "videos" / rows[0][0]).read_bytes()
    for number, (name, (damage, _)) in enumerate(DAMAGES.items()):
        (place.folder / f"videos/left/{name}.avi").write_bytes(damage(whole))
        rows.append((f"left/{name}.avi", "left", "test" if number % 2 else "train"))
    place.write_list(rows)
    place.write_config(configured(None))
    return place


def configured(limit: float | None) -> dict[str, object]:
    config = copy.deepcopy(CONFIG)
    if limit is not None:
        config["datasets"]["tiny"]["preprocess"]["quarantine_limit"] = limit
    return config


def read(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {row["video"]: row for row in csv.DictReader(file)}


def test_too_many_bad_videos_stop_the_run_before_training(place: Workplace) -> None:
    run = place.snakemake(TARGET, check=False)
    assert run.returncode != 0
    output = run.stdout + run.stderr
    assert "5 of the 11 videos of tiny, split1, cannot be used" in output
    assert "preprocess.quarantine_limit is 0.05, so 1 may be left out" in output
    assert "datasets.tiny.preprocess.quarantine_limit in config.yaml to 0.455 or more" in output
    for name, (_, expected) in DAMAGES.items():
        line = next(line for line in output.splitlines() if f"  left/{name}.avi: " in line)
        assert line.partition(": ")[2].startswith(tuple(expected.split("|")))
    assert "Traceback" not in output
    assert not (place.folder / AUDIT).exists()
    assert not list(place.folder.glob("results/tiny/split1/*/model.pt"))


def test_a_higher_limit_lets_the_corpus_run_to_its_result(place: Workplace) -> None:
    place.write_config(configured(0.455))
    before = {path: path.stat().st_mtime_ns for path in place.folder.glob("shards/tiny/*/*.h5")}
    place.snakemake(TARGET, "results/tiny/quarantine.csv")
    assert before
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    rows = read(place.folder / AUDIT)
    assert set(rows) == {f"left/{name}.avi" for name in DAMAGES}
    assert {row["verdict"] for row in rows.values()} == {"quarantined"}
    assert read(place.folder / "results/tiny/quarantine.csv") == rows
    fused = json.loads((place.folder / TARGET).read_text())
    named = {bad["video"]: bad["reason"] for bad in fused["videos"]["quarantined"]}
    assert named == {video: row["reason"] for video, row in rows.items()}


def test_another_limit_trains_nothing_again(place: Workplace) -> None:
    place.write_config(configured(0.6))
    assert place.jobs(TARGET) == {"audit": 1, "fuse": 1}
    # What is missing or outdated behind an audit that is made again is seen, too.
    scores, model = (place.folder / f"results/tiny/split1/flow/{name}" for name in ("scores.h5", "model.pt"))
    scores.rename(scores.with_suffix(".away"))
    model.rename(model.with_suffix(".away"))
    assert place.jobs(TARGET) == {"audit": 1, "train": 1, "score": 1, "fuse": 1}
    scores.with_suffix(".away").rename(scores)
    model.with_suffix(".away").rename(model)
    place.write_config(configured(0.455))
    assert place.jobs(TARGET) == {}


def test_a_training_judges_its_shards_itself(place: Workplace) -> None:
    place.write_config(configured(0.1))
    model = "results/tiny/experiments/average/split1/flow/model.pt"
    run = place.snakemake(model, check=False)
    assert run.returncode != 0
    assert "5 of the 11 videos of tiny, split1, cannot be used" in run.stdout + run.stderr
    assert not (place.folder / model).exists()
    place.write_config(configured(0.455))


def test_the_same_file_in_train_and_test_stops_the_run_unless_it_is_meant(place: Workplace) -> None:
    content, listing = (place.folder / "videos/up/0.avi").read_bytes(), place.folder / "lists/split1.csv"
    (place.folder / "videos/up/copy.avi").write_bytes(content)
    listing.write_text(listing.read_text() + "up/copy.avi,up,test\n")
    audit = (place.folder / AUDIT).read_bytes()
    run = place.snakemake(AUDIT, check=False)
    assert run.returncode != 0
    assert "up/0.avi (train, up) = up/copy.avi (test, up)" in run.stdout + run.stderr
    config = configured(0.455)
    config["datasets"]["tiny"]["preprocess"]["identical"] = "allow"
    place.write_config(config)
    place.snakemake(AUDIT)
    assert (place.folder / AUDIT).read_bytes() == audit
