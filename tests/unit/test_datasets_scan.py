"""What is found in a folder with a directory per class, and what is left out."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from atw.datasets.scan import scan
from atw.files import InputError
from tests.unit.drawn import VIDEOS, drawn, touch


def test_scan_goes_by_extension_and_passes_over_hidden_names(tmp_path: Path) -> None:
    for name in ("a/1.avi", "a/deep/er/2.MP4", "a/notes.txt", "a/._1.avi", ".cache/3.avi", "b c/it's #1 & (x);.avi"):
        touch(tmp_path / name)
    found = scan(tmp_path, (".avi", ".mp4"))
    assert found.videos == ["a/1.avi", "a/deep/er/2.MP4", "b c/it's #1 & (x);.avi"]
    assert (found.left_out, found.endings, found.empty) == ([], {".txt": 1}, [])


EXTRAS = ("@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN", "lost+found", ".Trash-1000", "@Recycle", ".snapshot")


def test_what_drives_and_archives_add_is_passed_over(tmp_path: Path) -> None:
    for name in ("a/1.avi", "a/._1.avi", "a/.DS_Store", "a/Thumbs.db"):
        touch(tmp_path / name)
    for name in EXTRAS:
        touch(tmp_path / name / "1.avi")
        touch(tmp_path / "a" / name / "1.avi")
    content = scan(tmp_path, (".avi",))
    assert (content.videos, content.classes, content.endings, content.left_out) == (["a/1.avi"], ["a"], {}, [])


def test_other_endings_are_counted_and_said_once_each(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a/1.gif", "a/2.GIF", "b/1.gif", "b/notes.txt", "b/README"):
        touch(root / name)
    drawn(root)
    assert (
        "are left out for their endings, which `extensions` does not name: .gif (3), none (1), .txt (1)" in caplog.text
    )


@pytest.mark.parametrize(("one", "other"), [("Jump", "jump"), ("caf\u00e9", "cafe\u0301")])
def test_directories_that_look_the_same_are_refused(root: Path, one: str, other: str) -> None:
    for name in (one, other):
        touch(root / name / "1.avi")
        touch(root / name / "2.avi")
    with pytest.raises(InputError, match=r"would be two classes|is that of"):
        drawn(root)
    assert not Path("lists").exists()


def test_endings_of_cameras_and_phones_are_known(root: Path) -> None:
    for ending in ("3gp", "3g2", "mts", "m2ts", "asf", "ogv", "vob", "h264", "divx", "f4v", "qt"):
        touch(root / ending / f"1.{ending.upper()}")
        touch(root / ending / f"2.{ending}")
    assert len(drawn(root).classes) == 2 + 11


def test_names_with_unusual_blanks_go_through_the_lists(root: Path) -> None:
    marks = ("\u00a0", "\u3000", "\u200d", "\u202f", "\u2028")
    names = [f"a{i}{mark}c/Screen{mark}{n}.avi" for i, mark in enumerate(marks) for n in (1, 2)]
    for name in names:
        touch(root / name)
    assert set(names) <= {row.video for row in drawn(root).rows("split1")}


@pytest.mark.parametrize(
    "name", ["a/x\ny.avi", "a/x\\y.avi", "a/\udcff.avi", "a/\x1b[2J.avi", "a\nb/1.avi", "loose.avi"]
)
def test_what_no_list_can_hold_is_left_out_by_name(root: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    touch(root / name)
    mine = drawn(root)
    assert sorted(row.video for row in mine.rows("split1")) == VIDEOS
    shown = name if "/1.avi" not in name else "a\nb"
    assert f"1 files below {root} are left out: {shown!r} (" in caplog.text


def test_what_is_no_regular_file_is_left_out_by_name(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "a" / "dead.avi").symlink_to("nothing.avi")
    (root / "a" / "self.avi").symlink_to("self.avi")
    (root / "away").symlink_to("no folder")
    os.mkfifo(root / "b" / "pipe.avi")
    os.mkfifo(root / "b" / "control")
    touch(root.parent / "elsewhere.bin")
    (root / "b" / "link.avi").symlink_to(root.parent / "elsewhere.bin")
    mine = drawn(root)
    assert sorted(row.video for row in mine.rows("split1")) == sorted([*VIDEOS, "b/link.avi"])
    assert (
        f"4 files below {root} are left out: 'a/dead.avi' (broken link), 'a/self.avi' (broken link), "
        "'away' (broken link), 'b/pipe.avi' (no regular file)"
    ) in caplog.text


def test_many_names_are_cut_short(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(12):
        touch(root / f"{number:02d}.avi")
    drawn(root)
    assert "'09.avi' (in no directory of a class) and 2 more" in caplog.text


def test_directories_without_a_known_ending_are_named(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(root / "c" / "1.xyz")
    touch(root / "d" / "deep" / "readme.txt")
    assert drawn(root).classes == ("a", "b")
    assert f"2 directories in {root} are no classes" in caplog.text
    assert caplog.text.rstrip().endswith(": c, d")


@pytest.mark.parametrize(
    "names",
    [
        ("train", "test"),
        ("Training", "val"),
        ("train", "validation", "test", "extra"),
        ("train", "eval"),
        ("train", "hold-out"),
        ("train_set", "dev"),
        ("val", "test"),
        ("train1", "test1"),
        ("fold1", "fold2"),
        ("Split_01", "split 02", "extra"),
    ],
)
def test_subsets_are_not_taken_for_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for name in names:
        touch(tmp_path / "v" / name / "a" / "1.avi")
        touch(tmp_path / "v" / name / "b" / "2.avi")
    with pytest.raises(
        InputError, match=r"are subsets of a split, not classes.* name the folder .* or write the lists"
    ):
        drawn(tmp_path / "v")
    assert not Path("lists").exists()


def test_a_class_may_be_called_train_and_blanks_belong_to_no_label(root: Path) -> None:
    for name in ("train", "c "):
        touch(root / name / "1.avi")
        touch(root / name / "2.avi")
    assert drawn(root).classes == ("a", "b", "c", "train")


@pytest.mark.parametrize(
    ("name", "message"), [("a ", "directory 'a ' is that of 'a'"), (" ", "directory ' ' is empty")]
)
def test_names_that_are_one_label_are_refused(root: Path, name: str, message: str) -> None:
    touch(root / name / "1.avi")
    with pytest.raises(InputError, match=message):
        drawn(root)


@pytest.mark.parametrize("folder", ["", "b", "b/deep"])
def test_a_folder_that_cannot_be_read_is_named(root: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    touch(root / "b" / "deep" / "1.avi")
    real = os.scandir

    def refused(path: str) -> Any:
        if Path(path) == root / folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(InputError, match=f"{root / folder} cannot be read: Permission denied; look whether"):
        drawn(root)
    assert not Path("lists").exists()


@pytest.mark.parametrize("name", ["0", "zz"])
def test_links_are_followed_but_not_in_circles(root: Path, name: str) -> None:
    (root / "a" / name).symlink_to(root)
    (root / "b" / name).symlink_to("../b")
    touch(root.parent / "elsewhere" / "1.avi")
    (root / "b" / f"{name}more").symlink_to(root.parent / "elsewhere")
    assert scan(root, (".avi",)).videos == sorted([*VIDEOS, f"b/{name}more/1.avi"])


@pytest.mark.parametrize("name", ["0", "zz"])
def test_one_directory_is_not_two_classes(root: Path, name: str) -> None:
    (root / name).symlink_to("a")
    first, second = sorted((name, "a"))
    with pytest.raises(InputError, match=f"({first} and {second}|{second} and {first}) are the same directory"):
        drawn(root)
