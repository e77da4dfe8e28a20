"""Which videos are listed as bad, which of them count towards the limit, and copies of one file."""

from pathlib import Path

import pytest

from atw import config
from atw.config import AuditSettings
from atw.datasets import Dataset
from atw.files import InputError
from atw.preprocess.audit import Finding, allowed, audit, merge, read_findings
from atw.preprocess.shard import make
from atw.shards import Entry, create
from tests.unit.preprocessed import MovingFrames, WriteMjpeg
from tests.unit.stored import header


def raw(folder: Path) -> dict[str, object]:
    mine = {"kind": "folder", "root": str(folder / "videos"), "lists": str(folder / "list.csv")}
    return {
        "datasets": {"mine": mine},
        "preprocess": {"width": 48, "height": 40, "shards": 1},
        "evaluate": {"crop": 40},
    }


def dataset(folder: Path, *, allow_missing: bool) -> Dataset:
    return Dataset(config.location(config.load(raw(folder)), "mine").replaced(allow_missing=allow_missing))


def settings(limit: float, **changes: object) -> AuditSettings:
    given = {"recipe": 1, "dataset": "mine", "split": "split1", "videos": "", "identical": "refuse"}
    return AuditSettings.model_validate(given | {"quarantine_limit": limit} | changes)


def make_shard(folder: Path) -> Path:
    mine = dataset(folder, allow_missing=True)
    given = config.shard_settings(config.load(raw(folder)), "mine", "rgb")
    given = given.of_shard("00000", mine.members_digest("00000", 1))
    make(folder / "0.h5", given, mine, flow_path=None, threads=1)
    return folder / "0.h5"


# The content of each video by its name, "" of nothing, and where it is listed.
COPIES = {
    "fine.avi": ("1", "x", "train"),
    "fine again.avi": ("1", "x", "train"),
    "test.avi": ("2", "x", "test"),
    "test again.avi": ("2", "x", "test"),
    "other class.avi": ("3", "y", "train"),
    "empty.avi": ("", "x", "train"),
    "empty too.avi": ("", "y", "test"),
    "bad.avi": ("<html>", "x", "train"),
    "bad too.avi": ("<html>", "y", "test"),
    "gone.avi": (None, "x", "train"),
    "gone too.avi": (None, "y", "test"),
}


def audit_copies(
    folder: Path,
    write_mjpeg: WriteMjpeg,
    moving_frames: MovingFrames,
    more: dict[str, tuple[str, str, str]],
    **keys: str,
) -> list[str]:
    """Audit these videos; what was written of quarantined ones comes back."""
    videos = COPIES | more
    for name, (content, _, _) in videos.items():
        path = folder / "videos" / name
        path.parent.mkdir(exist_ok=True)
        if content and content.isdigit():
            write_mjpeg(path, moving_frames(4, seed=int(content)))
        elif content is not None:
            path.write_text(content)
    rows = [f"{name},{label},{subset}" for name, (_, label, subset) in videos.items()]
    (folder / "list.csv").write_text("\n".join(["path,label,subset", *rows]) + "\n")
    audit(folder / "quarantine.csv", [make_shard(folder)], settings(1.0, **keys), dataset(folder, allow_missing=True))
    return (folder / "quarantine.csv").read_text().splitlines()


def test_copies_that_do_no_harm_are_counted(
    tmp_path: Path, write_mjpeg: WriteMjpeg, moving_frames: MovingFrames, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "atw"):
        rows = audit_copies(tmp_path, write_mjpeg, moving_frames, {})
    assert len(rows) == 7  # the header and those without content
    assert "2 videos are copies, byte by byte, of others of their class and subset" in caplog.text
    assert "the same file" not in caplog.text


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"leak.avi": ("1", "x", "test")}, "fine again.avi (train, x) = leak.avi (test, x) = fine.avi (train, x)"),
        ({"leak.avi": ("3", "y", "test")}, "leak.avi (test, y) = other class.avi (train, y)"),
        ({"twice.avi": ("3", "x", "train")}, "other class.avi (train, y) = twice.avi (train, x)"),
        ({"twice.avi": ("2", "y", "test")}, "test again.avi (test, x) = twice.avi (test, y) = test.avi (test, x)"),
        (
            {f"z{number}.avi": ("3", "y", "train") for number in range(9)} | {"zz.avi": ("3", "y", "test")},
            "other class.avi (train, y) = zz.avi (test, y) = z0.avi (train, y) = z1.avi (train, y) and 7 more",
        ),
    ],
)
def test_a_file_of_both_subsets_or_of_two_classes_is_refused(
    tmp_path: Path,
    write_mjpeg: WriteMjpeg,
    moving_frames: MovingFrames,
    caplog: pytest.LogCaptureFixture,
    more: dict[str, tuple[str, str, str]],
    words: str,
) -> None:
    with pytest.raises(InputError, match=r"identical files of mine, split1, 1 in all, are both") as error:
        audit_copies(tmp_path, write_mjpeg, moving_frames, more)
    assert f"  {words}\n" in str(error.value)
    assert "set datasets.mine.preprocess.identical in config.yaml to allow" in str(error.value)
    assert not (tmp_path / "quarantine.csv").exists()
    caplog.clear()
    assert len(audit_copies(tmp_path, write_mjpeg, moving_frames, more, identical="allow")) == 7
    assert f"the same file: {words}" in caplog.text


def test_a_message_names_twenty_files_at_most(
    tmp_path: Path, write_mjpeg: WriteMjpeg, moving_frames: MovingFrames
) -> None:
    more = {f"{label}{number:02d}.avi": (f"1{number}", label, "train") for number in range(22) for label in "xy"}
    with pytest.raises(InputError, match=r"mine, split1, 22 in all") as error:
        audit_copies(tmp_path, write_mjpeg, moving_frames, more)
    assert "x19.avi (train, x) = y19.avi (train, y)\n  and 2 more, all in the log of this job\n" in str(error.value)


def test_which_bad_videos_count(tmp_path: Path, moving_frames: MovingFrames, write_mjpeg: WriteMjpeg) -> None:
    # Ten listed videos: seven sound ones, two that are not there, and an empty file.
    for number in range(7):
        write_mjpeg(tmp_path / "videos" / f"{number}.avi", moving_frames(4, seed=number))
    (tmp_path / "videos" / "9.avi").touch()
    rows = [f"{number}.avi,x,{'test' if number % 2 else 'train'}" for number in range(10)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,subset", *rows]) + "\n")
    out, shard = tmp_path / "quarantine.csv", make_shard(tmp_path)
    # One of eight is the empty file; with the missing ones it would be three of ten.
    audit(out, [shard], settings(0.125), dataset(tmp_path, allow_missing=True))
    findings = [
        *(Finding(f"{number}.avi", "x", "quarantined", "missing file") for number in (7, 8)),
        Finding("9.avi", "x", "quarantined", "empty file"),
    ]
    assert read_findings(out) == findings
    with pytest.raises(InputError, match=r"3 of the 10 videos of mine, split1, cannot be used"):
        audit(out, [shard], settings(0.125), dataset(tmp_path, allow_missing=False))
    with pytest.raises(InputError, match=r"1 of the 8 videos of mine.*limit is 0, so 0 may") as error:
        audit(out, [shard], settings(0), dataset(tmp_path, allow_missing=True))
    assert "9.avi: empty file" in str(error.value)
    assert "missing file" not in str(error.value)
    merge(tmp_path / "all.csv", [out, out])
    assert read_findings(tmp_path / "all.csv") == findings
    (tmp_path / "list.csv").write_text("path,label,subset\n1.avi,x,train\nnew.avi,x,test\n")
    with pytest.raises(InputError, match=r"new.avi is in the list but in none of the shards, .*0.h5 and so on"):
        audit(out, [shard], settings(1), dataset(tmp_path, allow_missing=True))


def test_repaired_videos_are_listed_and_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label,subset\n1.avi,x,train\n2.avi,x,test\n")
    with create(tmp_path / "0.h5", header()) as writer:
        writer.add(Entry("1.avi", "x", sha256="1", repaired="header declares 9 frames"), [])
        writer.add(Entry("2.avi", "x", sha256="2"), [])
    audit(tmp_path / "out.csv", [tmp_path / "0.h5"], settings(0), dataset(tmp_path, allow_missing=False))
    assert read_findings(tmp_path / "out.csv") == [Finding("1.avi", "x", "repaired", "header declares 9 frames")]


@pytest.mark.parametrize(("videos", "limit", "most"), [(100, 0.07, 7), (10, 0.05, 1), (1000, 0.0, 0)])
def test_the_limit_is_a_share_and_at_least_one_video(videos: int, limit: float, most: int) -> None:
    assert allowed(videos, limit) == most
