"""Which quarantined videos count towards the limit."""

import csv
from pathlib import Path

import pytest

from atw import config
from atw.datasets import Dataset
from atw.files import InputError
from atw.preprocess.audit import audit
from atw.preprocess.shard import make
from tests.unit.test_preprocess import MovingFrames, WriteMjpeg


@pytest.fixture
def shard(tmp_path: Path, moving_frames: MovingFrames, write_mjpeg: WriteMjpeg) -> Path:
    """The shard of ten listed videos: seven sound ones, two that are not there, and an empty file."""
    for number in range(7):
        write_mjpeg(tmp_path / "videos" / f"{number}.avi", moving_frames(4, seed=number))
    (tmp_path / "videos" / "9.avi").touch()
    rows = [f"{number}.avi,x,{'test' if number % 2 else 'train'}" for number in range(10)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,subset", *rows]) + "\n")
    mine = dataset(tmp_path, allow_missing=True)
    given = config.shard_settings(config.load(raw(tmp_path)), "mine", "rgb")
    make(
        tmp_path / "0.h5",
        given | {"shard": "00000", "members": mine.members_digest("00000", 1)},
        mine,
        flow_path=None,
        threads=1,
    )
    return tmp_path / "0.h5"


def raw(folder: Path) -> dict[str, object]:
    mine = {"kind": "folder", "root": str(folder / "videos"), "lists": str(folder / "list.csv")}
    return {
        "datasets": {"mine": mine},
        "preprocess": {"width": 48, "height": 40, "shards": 1},
        "evaluate": {"crop": 40},
    }


def dataset(folder: Path, *, allow_missing: bool) -> Dataset:
    return Dataset(config.location(config.load(raw(folder)), "mine") | {"allow_missing": allow_missing})


def settings(limit: float) -> dict[str, object]:
    return {"dataset": "mine", "split": "split1", "quarantine_limit": limit}


def test_missing_videos_that_are_allowed_do_not_count_but_are_listed(tmp_path: Path, shard: Path) -> None:
    out = tmp_path / "quarantine.csv"
    # One of eight is the empty file; with the missing ones it would be three of ten.
    audit(out, [shard], settings(0.125), dataset(tmp_path, allow_missing=True))
    with out.open(newline="") as file:
        assert [(row["video"], row["reason"]) for row in csv.DictReader(file)] == [
            ("7.avi", "missing file"),
            ("8.avi", "missing file"),
            ("9.avi", "empty file"),
        ]


def test_missing_videos_count_where_they_are_not_allowed(tmp_path: Path, shard: Path) -> None:
    with pytest.raises(InputError, match=r"3 of the 10 videos of mine, split1, cannot be used"):
        audit(tmp_path / "quarantine.csv", [shard], settings(0.125), dataset(tmp_path, allow_missing=False))


def test_other_bad_videos_count_beside_allowed_missing_ones(tmp_path: Path, shard: Path) -> None:
    with pytest.raises(InputError, match=r"1 of the 8 videos of mine.*limit is 0, so 0 may") as error:
        audit(tmp_path / "quarantine.csv", [shard], settings(0), dataset(tmp_path, allow_missing=True))
    assert "9.avi: empty file" in str(error.value)
    assert "missing file" not in str(error.value)
