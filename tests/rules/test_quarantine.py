"""Bad videos are listed with their reasons, and too many of them stop the run before anything is trained."""

import copy
import csv
import json
import shutil
from collections.abc import Callable, Iterator
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


@pytest.fixture(scope="module")
def stopped(place: Workplace) -> str:
    """What a run says that too many bad videos stop; it has left shards, and nothing that was trained."""
    run = place.snakemake(TARGET, check=False)
    assert run.returncode != 0
    assert not (place.folder / AUDIT).exists()
    assert not list(place.folder.glob("results/tiny/split1/*/model.pt"))
    return run.stdout + run.stderr


@pytest.fixture(scope="module")
def finished(place: Workplace, stopped: str) -> Workplace:
    """The same folder after a run to its result, by a higher limit, which made no shard again."""
    place.write_config(configured(0.455))
    before = {path: path.stat().st_mtime_ns for path in place.folder.glob("shards/tiny/*/*.h5")}
    place.snakemake(TARGET, "results/tiny/quarantine.csv")
    assert before
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    return place


@pytest.fixture
def lenient(finished: Workplace) -> Iterator[Workplace]:
    """The finished folder, whose limit is what it was for the next test."""
    yield finished
    finished.write_config(configured(0.455))


def test_too_many_bad_videos_stop_the_run_before_training(stopped: str) -> None:
    assert "5 of the 11 videos of tiny, split1, cannot be used" in stopped
    assert "preprocess.quarantine_limit is 0.05, so 1 may be left out" in stopped
    assert "datasets.tiny.preprocess.quarantine_limit in config.yaml to 0.455 or more" in stopped
    for name, (_, expected) in DAMAGES.items():
        line = next(line for line in stopped.splitlines() if f"  left/{name}.avi: " in line)
        assert line.partition(": ")[2].startswith(tuple(expected.split("|")))
    assert "Traceback" not in stopped


def test_a_higher_limit_lets_the_corpus_run_to_its_result(finished: Workplace) -> None:
    rows = read(finished.folder / AUDIT)
    assert set(rows) == {f"left/{name}.avi" for name in DAMAGES}
    assert {row["verdict"] for row in rows.values()} == {"quarantined"}
    assert read(finished.folder / "results/tiny/quarantine.csv") == rows
    fused = json.loads((finished.folder / TARGET).read_text())
    named = {bad["video"]: bad["reason"] for bad in fused["videos"]["quarantined"]}
    assert named == {video: row["reason"] for video, row in rows.items()}


def test_another_limit_trains_nothing_again(lenient: Workplace) -> None:
    lenient.write_config(configured(0.6))
    assert lenient.jobs(TARGET) == {"audit": 1, "fuse": 1}
    # What is missing or outdated behind an audit that is made again is seen, too.
    scores, model = (lenient.folder / f"results/tiny/split1/flow/{name}" for name in ("scores.h5", "model.pt"))
    scores.rename(scores.with_suffix(".away"))
    model.rename(model.with_suffix(".away"))
    assert lenient.jobs(TARGET) == {"audit": 1, "train": 1, "score": 1, "fuse": 1}
    scores.with_suffix(".away").rename(scores)
    model.with_suffix(".away").rename(model)
    lenient.write_config(configured(0.455))
    assert lenient.jobs(TARGET) == {}


def test_a_training_judges_its_shards_itself(lenient: Workplace) -> None:
    lenient.write_config(configured(0.1))
    model = "results/tiny/experiments/average/split1/flow/model.pt"
    run = lenient.snakemake(model, check=False)
    assert run.returncode != 0
    assert "5 of the 11 videos of tiny, split1, cannot be used" in run.stdout + run.stderr
    assert not (lenient.folder / model).exists()


def test_the_same_file_in_train_and_test_stops_the_run_unless_it_is_meant(finished: Workplace, tmp_path: Path) -> None:
    place = Workplace(tmp_path / "copy")
    shutil.copytree(finished.folder, place.folder)
    listing = place.folder / "lists/split1.csv"
    shutil.copy(place.folder / "videos/up/0.avi", place.folder / "videos/up/copy.avi")
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
