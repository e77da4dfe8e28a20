"""Splits drawn from a folder with a directory per class."""

import csv
import errno
import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from atw import config
from atw.datasets import Dataset, NoVideosError
from atw.datasets.draw import assign
from atw.datasets.scan import scan
from atw.files import InputError
from atw.plan import Plan

VIDEOS = [f"{label}/{label}_p{person}_{number}.avi" for label in "ab" for person in range(5) for number in range(2)]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of videos; lists are written below the working folder, beside it."""
    monkeypatch.chdir(tmp_path)
    for video in VIDEOS:
        touch(tmp_path / "videos" / video)
    return tmp_path / "videos"


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def raw(root: Path, **keys: Any) -> dict[str, Any]:
    return {"datasets": {"mine": {"kind": "folder", "root": str(root), **keys}}}


def drawn(root: Path, **keys: Any) -> Dataset:
    return Plan(raw(root, **keys)).dataset("mine")


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("group", ["", r"_(p\d)_"])
def test_splits_are_drawn_once_and_written_down(root: Path, group: str) -> None:
    before = written(root / "a")
    mine = drawn(root, group=group)
    assert mine.split_names == ("split1", "split2", "split3")
    for name in mine.split_names:
        split = mine.split(name)
        assert sorted(row.video for row in (*split.train, *split.test)) == VIDEOS
        assert Counter(row.label for row in split.test) in (
            Counter(a=3, b=3) if not group else Counter(a=2, b=2),
            Counter(a=4, b=4) if group else None,
        )
        assert {row.group for row in split.train}.isdisjoint(row.group for row in split.test) or not group
    files = written(Path("lists/mine"))
    assert sorted(files) == ["drawn.json", "split1.csv", "split2.csv", "split3.csv"]
    assert len({files[f"split{number}.csv"] for number in (1, 2, 3)}) == 3
    assert drawn(root, group=group).rows("split2") == mine.rows("split2")
    assert written(Path("lists/mine")) == files
    assert sorted(path.name for path in Path("lists").iterdir()) == ["mine"]
    assert written(root / "a") == before
    with Path("lists/mine/split1.csv").open(newline="") as stream:
        assert next(csv.reader(stream)) == ["path", "label", "subset", "group"]


def test_the_same_seed_draws_the_same_and_another_seed_another(root: Path) -> None:
    rows = []
    for number, seed in enumerate((0, 0, 7)):
        plan = {"datasets": {f"mine{number}": raw(root, split_seed=seed)["datasets"]["mine"]}}
        rows.append(Plan(plan).dataset(f"mine{number}").rows("split1"))
    assert rows[0] == rows[1] != rows[2]


def test_videos_that_come_later_are_named_and_left_out(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    drawn(root)
    files = written(Path("lists/mine"))
    touch(root / "a" / "new.avi")
    with caplog.at_level(logging.WARNING, "atw"):
        mine = drawn(root)
    assert "1 videos came after its splits were drawn and are left out, first a/new.avi" in caplog.text
    assert "a/new.avi" not in [row.video for row in mine.rows("split1")]
    assert written(Path("lists/mine")) == files
    (root / "a" / "new.avi").unlink()
    (root / VIDEOS[0]).unlink()
    with pytest.raises(InputError, match=f"1 of the 20 listed videos are not in .*{VIDEOS[0]}"):
        drawn(root)


def test_a_line_added_by_hand_counts(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    drawn(root)
    touch(root / "a" / "new.avi")
    for number in (1, 2, 3):
        with Path(f"lists/mine/split{number}.csv").open("a") as stream:
            stream.write("a/new.avi,a,train,\n")
    assert "a/new.avi" in [row.video for row in drawn(root).rows("split3")]
    assert not caplog.text


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"splits": 2}, "drawn with splits: 3, config.yaml says 2"),
        ({"test_share": 0.4}, "drawn with test_share: 0.3, .*says 0.4. Lists once drawn stay"),
        ({"split_seed": 1}, "drawn with split_seed"),
        ({"group": "(p)"}, "drawn with group"),
        ({"extensions": [".avi"]}, "drawn with extensions"),
    ],
)
def test_other_settings_than_those_of_the_draw_are_refused(root: Path, keys: dict[str, Any], message: str) -> None:
    drawn(root)
    with pytest.raises(InputError, match=message):
        drawn(root, **keys)


def test_what_cannot_be_drawn_is_explained(root: Path) -> None:
    with pytest.raises(InputError, match=r"no file in a directory of a class, .* ends in one of \.mkv"):
        drawn(root, extensions=[".mkv"])
    with pytest.raises(InputError, match=r"a/a_p0_0.avi: the pattern '\(x\)' of `group` finds no group"):
        drawn(root, group="(x)")
    with pytest.raises(InputError, match=r"class a has videos of one group only \(10 in all\)"):
        drawn(root, group="^(.)")
    with pytest.raises(NoVideosError, match="absent, does not exist"):
        drawn(root / "absent")
    shutil.rmtree(root / "b")
    with pytest.raises(InputError, match=r"only one class has videos, a\. Two classes are the least"):
        drawn(root)
    touch(root / "b" / "1.xyz")
    with pytest.raises(InputError, match=r"only one class has videos, a; no file in b ends in one of \.avi"):
        drawn(root)
    shutil.rmtree(root / "a")
    touch(root / "1.avi")
    with pytest.raises(InputError, match=r"no file in a directory of a class.*Left out: '1.avi' \(in no directory"):
        drawn(root)
    assert not Path("lists/mine").exists()


def test_the_root_is_never_written_to(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    with pytest.raises(InputError, match="would be written into its root"):
        drawn(Path())
    assert sorted(path.name for path in root.iterdir()) == ["a", "b"]


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


def test_lists_drawn_with_fewer_endings_stay(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    drawn(root, extensions=[".avi"])
    touch(root / "a" / "new.vob")
    drawn(root, extensions=[".avi", ".vob"])
    assert "1 videos came after its splits were drawn and are left out, first a/new.vob" in caplog.text


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


def lose(file: str) -> None:
    Path("lists/mine", file).unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(
            (lambda content=content: Path("lists/mine/drawn.json").write_bytes(content), r"lists/mine/drawn.json")
            for content in (b"[]", b"{", b"[" * 100_000, b"\xff\xfe")
        ),
        (lambda: lose("drawn.json"), r"lists/mine holds no drawn.json"),
        (lambda: Path("lists/mine/split2.csv").write_bytes(b"path,label,subset\n\xff"), r"split2.csv cannot be read"),
        *(
            (
                lambda number=number: lose(f"split{number}.csv"),
                rf"3 splits were drawn, as .*drawn.json says, but lists/mine/split{number}.csv is missing",
            )
            for number in (1, 2, 3)
        ),
        (lambda: shutil.copy("lists/mine/split1.csv", "lists/mine/split4.csv"), r"split4.csv was not drawn"),
    ],
)
def test_drawn_lists_that_somebody_changed_are_named(root: Path, change: Callable[[], Any], message: str) -> None:
    location = drawn(root).location
    change()
    with pytest.raises(InputError, match=message):
        drawn(root)
    if "splits were drawn" in message:
        with pytest.raises(InputError, match=message):
            _ = Dataset(location).split_names


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(1, 6), min_size=2, max_size=8), min_size=1, max_size=5),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 99),
)
def test_a_draw_is_stratified_and_keeps_groups_together(sizes: list[list[int]], share: float, seed: int) -> None:
    videos, groups = [], []
    for label, counts in enumerate(sizes):
        for group, count in enumerate(counts):
            videos += [f"c{label}/g{group}_{number}.avi" for number in range(count)]
            groups += [f"c{label}/g{group}"] * count
    tested = assign(videos, groups, test_share=share, seed=seed, split=1)
    assert len(set(zip(groups, tested, strict=True))) == len(set(groups))
    for label, counts in enumerate(sizes):
        own = [test for video, test in zip(videos, tested, strict=True) if video.startswith(f"c{label}/")]
        assert 0 < sum(own) < len(own)
        # Off by half a group at most, but where a class would have no video on one side.
        nearest = max(counts) / 2 + 1e-9
        if min(counts) <= share * len(own) <= len(own) - max(counts):
            assert sum(own) - share * len(own) <= nearest


def test_a_video_more_moves_few_others() -> None:
    videos = [f"a/{number}.avi" for number in range(200)]
    before = assign(videos, videos, test_share=0.3, seed=0, split=1)
    longer = [*videos, "a/new.avi"]
    after = assign(longer, longer, test_share=0.3, seed=0, split=1)
    assert sum(before) == 60
    assert sum(old != new for old, new in zip(before, after, strict=False)) <= 1


def test_groups_that_straddle_classes_are_kept_whole() -> None:
    videos = [f"{label}/p{person}.avi" for label in "abc" for person in range(10)]
    groups = [video[2:4] for video in videos]
    tested = assign(videos, groups, test_share=0.3, seed=0, split=1)
    assert sum(tested) == 9
    assert len({group for group, test in zip(groups, tested, strict=True) if test}) == 3


def test_the_location_of_a_drawn_folder_goes_through_the_command_line(root: Path) -> None:
    loaded = config.load(yaml.safe_load(yaml.safe_dump(raw(root))))
    location = config.location(loaded, "mine")
    assert '"lists": null' in location.to_json()
    drawn(root)
    assert Dataset.from_json(location.to_json()).split("split1").classes == ("a", "b")
