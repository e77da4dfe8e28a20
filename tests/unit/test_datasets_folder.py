"""Lists of a folder of videos, and what is said when the videos are not there."""

import errno
import os
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from atw.datasets.scan import existing
from atw.files import InputError
from tests.unit.lists import GOOD, dataset, write, write_folder

CASES = Path(__file__).parents[1] / "cases/lists"
PLAIN = "path,label,subset"


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_folder_lists(tmp_path: Path, mark: str) -> None:
    header = f"{mark}path,fps,label,subset,group,fps too"
    rows = [re.sub(r'(\.mp4"?),', r"\1,25,", row) + ",25" for row in ('"c, d/3.mp4",fight,train,', *GOOD)]
    mine = dataset("folder", write_folder(tmp_path / "list.csv", *rows, "", header=header))
    split = mine.split("split1")
    assert mine.split_names == ("split1",)
    assert split.classes == ("calm", "fight")
    assert [row.video for row in split.train] == ["a/1.mp4", "b/1.mp4", "c, d/3.mp4"]
    assert [(row.video, row.label, row.group) for row in split.test] == [
        ("a/2.mp4", "fight", "g3"),
        ("b/2.mp4", "calm", "g4"),
    ]


def test_numbered_lists_are_splits(tmp_path: Path) -> None:
    for name in ("list1.csv", "list2.csv", "list02.csv", "list.csv", "list3.csv.bak", "list3x.csv"):
        write_folder(tmp_path / name, *GOOD)
    mine = dataset("folder", tmp_path / "list{split}.csv")
    assert mine.split_names == ("split1", "split2")
    with pytest.raises(InputError, match="has no split4; its splits are split1, split2"):
        mine.rows("split4")


@pytest.mark.parametrize("pattern", ["list{split}.csv", "[a] {split}/list.csv", "{split}/list{split}.csv"])
@pytest.mark.parametrize(("numbers", "missing"), [((1, 2, 4), 3), ((2,), 1), ((1, 12), 2)])
def test_a_gap_in_the_numbers_of_the_lists_is_refused(
    tmp_path: Path, pattern: str, numbers: tuple[int, ...], missing: int
) -> None:
    for number in numbers:
        write_folder(tmp_path / pattern.replace("{split}", str(number)), *GOOD)
    with pytest.raises(InputError) as error:
        _ = dataset("folder", tmp_path / pattern).split_names
    assert f"{tmp_path / pattern.replace('{split}', str(missing))} does not exist, but" in str(error.value)


def test_blanks_belong_to_no_column(tmp_path: Path) -> None:
    rows = ("a/1.mp4, fight ,train , g1", "a/2.mp4,fight, train,g1 ", "a/3.mp4,fight\u00a0,test,g2")
    path = write_folder(tmp_path / "l.csv", *rows, header="path, label,subset , group ")
    split = dataset("folder", path).split("split1")
    assert split.classes == ("fight",)
    assert [(row.label, row.subset, row.group) for row in (*split.train, *split.test)] == [
        ("fight", "train", "g1"),
        ("fight", "train", "g1"),
        ("fight", "test", "g2"),
    ]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_tables_of_excel_are_read(tmp_path: Path, separator: str) -> None:
    rows = ('\ufeff"path","label",subset,', '"a/1.mp4","x ",train,', "a/2.mp4,x,test,,", ",,,")
    write(tmp_path / "l.csv", *(row.replace(",", separator) for row in rows[:3]), end="\r\n")
    split = dataset("folder", tmp_path / "l.csv").split("split1")
    assert [(row.video, row.label) for row in (*split.train, *split.test)] == [("a/1.mp4", "x"), ("a/2.mp4", "x")]


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("path,label", ["a,b"], r"line 1: no column subset; needed are path,label,subset"),
        ("", ["a,b"], r"no column label, path, subset"),
        ('"path,label,subset', [], r"not a CSV file"),
        (PLAIN, ['"a.mp4,x,train'], r"not a CSV file"),
        (PLAIN, ["a.mp4,x,training"], r"line 2: .*subset of train or test.*'training'"),
        (PLAIN, ["a.mp4,x,train", "b.mp4,x"], r"line 3: .*subset of train or test"),
        (PLAIN, ["a.mp4,,train"], r"line 2: needs a path, a label"),
        (PLAIN, ["a.mp4, ,train"], r"line 2: needs a path, a label"),
        (PLAIN, [",x,train"], r"line 2: the path '' must be relative"),
        (PLAIN, ["../a.mp4,x,train"], r"line 2: the path '../a.mp4' must .* stay inside"),
        (PLAIN, ["a/../../a.mp4,x,train"], r"line 2: the path .* stay inside"),
        (PLAIN, ["/etc/passwd,x,train"], r"line 2: the path '/etc/passwd' must be relative"),
        (PLAIN, ["a\\b.mp4,x,train"], r"line 2: the path .* must be relative"),
        (PLAIN, ["a.mp4,x,train", "./a.mp4,x,test"], r"a.mp4 is listed twice"),
        (PLAIN, ["a//b.mp4,x,train", "a/b.mp4,x,train"], r"a/b.mp4 is listed twice"),
        (f"{PLAIN},group", ["a,x,train,g", "b,x,test,g"], r"group g is in both subsets .* move the whole"),
        (PLAIN, ["a,x,train", "b,x,test", "c,y,test"], r"no training video of class y"),
        (PLAIN, ["a,x,train"], r"no training or no test videos"),
        (PLAIN, [], r"no training or no test videos"),
        (PLAIN, ["a,high, far,train"], "line 2: 4 cells in 3 columns; put double quotes around text"),
        (PLAIN, ['a, "high, far",train'], "line 2: 4 cells in 3 columns"),
        (PLAIN, ['a, "high",train'], "line 2: remove the blank before the quotes of"),
        (f"{PLAIN}, label", ["a,a,train,a"], "line 1: the column label is named twice"),
        (PLAIN, [b"\xff\xfe,x,train"], r"list.csv cannot be read"),
        (PLAIN, None, r"list.csv does not exist"),
    ],
    ids=str,
)
def test_a_wrong_or_missing_folder_list_is_named(tmp_path: Path, header: str, rows: Any, message: str) -> None:
    path = tmp_path / "list.csv"
    if rows is not None:
        lines = [row if isinstance(row, bytes) else row.encode() for row in (header, *rows)]
        path.write_bytes(b"".join(line + b"\n" for line in lines))
    with pytest.raises(InputError, match=message):
        dataset("folder", path).split("split1")


def test_a_label_must_not_differ_between_splits(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"list1\.csv does not exist; create it with the columns"):
        dataset("folder", tmp_path / "list{split}.csv").rows("split1")
    write_folder(tmp_path / "list1.csv", *GOOD)
    write_folder(tmp_path / "list2.csv", *GOOD[:3], "b/2.mp4,fight,test,g4")
    with pytest.raises(InputError, match=r"b/2.mp4 is calm in one split and fight in split2"):
        dataset("folder", tmp_path / "list{split}.csv").members("00000", 4)


# Labels


@pytest.mark.parametrize(
    "other", ["high  jump", "high\u00a0jump", "\thigh\tjump ", "high\u200b jump", "\u2003high jump"]
)
def test_blanks_and_unseen_marks_make_no_class(tmp_path: Path, other: str) -> None:
    rows = ("a/1.mp4,high jump,train,", f"a/2.mp4,{other},train,", "a/3.mp4,high jump,test,", "b/1.mp4,run,train,")
    assert dataset("folder", write_folder(tmp_path / "l.csv", *rows)).classes == ("high jump", "run")


@pytest.mark.parametrize(
    ("one", "other"), [("Jump", "jump"), ("\uff4aump", "jump"), ("ju\u200dmp", "jump"), ("STRASSE", "stra\u00dfe")]
)
def test_labels_that_look_the_same_are_refused_with_both_spellings(tmp_path: Path, one: str, other: str) -> None:
    rows = (f"a/1.mp4,{one},train,", f"a/2.mp4,{other},train,", f"a/3.mp4,{other},test,", "b/1.mp4,run,train,")
    with pytest.raises(InputError, match="would be two classes, and look like one; write one of them") as error:
        dataset("folder", write_folder(tmp_path / "l.csv", *rows), tmp_path).require_videos()
    assert f"{one!a} and {other!a}" in str(error.value) or f"{other!a} and {one!a}" in str(error.value)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("l_nf.csv", ""),
        ("l_trailing.csv", ""),
        ("l_labelcase.csv", "'Jump' and 'jump' would be two classes"),
        ("l_dupcol.csv", "line 1: the column label is named twice"),
    ],
)
def test_real_lists(tmp_path: Path, case: str, message: str) -> None:
    for label in ("jump", "run"):
        for number in (1, 2, 3):
            write(tmp_path / f"{label}/{number}.mp4", "video")
    mine = dataset("folder", CASES / case, tmp_path)
    if message:
        with pytest.raises(InputError, match=message):
            mine.require_videos()
    else:
        mine.require_videos()
        assert mine.split("split1").classes in (("caf\u00e9", "run"), ("jump", "run"))


# Videos


def test_blanks_after_a_path_do_not_count_unless_the_file_has_them(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "l.csv", "a/1.mp4 ,x,train,")
    assert [row.video for row in dataset("folder", path, tmp_path).rows("split1")] == ["a/1.mp4"]
    write(tmp_path / "a/1.mp4 ", "x")
    assert [row.video for row in dataset("folder", path, tmp_path).rows("split1")] == ["a/1.mp4 "]


@pytest.mark.parametrize(("listed", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_paths_are_found_in_either_unicode_form(tmp_path: Path, listed: Any, stored: Any) -> None:
    folder, file = "caf\u00e9", "\u00fcber.mp4"
    on_disk = f"{folder}/{unicodedata.normalize(stored, file)}"
    for name in (on_disk, "b/1.mp4", "b/2.mp4"):
        write(tmp_path / "videos" / name, name)
    rows = [f"{unicodedata.normalize(listed, f'{folder}/{file}')} ,a,train,", "b/1.mp4,b,train,", "b/2.mp4,b,test,"]
    mine = dataset("folder", write_folder(tmp_path / "l.csv", *rows), tmp_path / "videos")
    mine.require_videos()
    assert mine.rows("split1")[-1].video == on_disk
    rows.append(f"{unicodedata.normalize(stored, f'{folder}/{file}')},a,train,")
    with pytest.raises(InputError, match="is listed twice"):
        dataset("folder", write_folder(tmp_path / "l.csv", *rows), tmp_path / "videos").rows("split1")


def test_existing_finds_files_and_nothing_else(tmp_path: Path) -> None:
    for name in ("top.avi", "a/1.avi", "a/b/2.avi", "a/folder.avi/x"):
        write(tmp_path / name, "x")
    (tmp_path / "a/link.avi").symlink_to(tmp_path / "top.avi")
    (tmp_path / "a/dead.avi").symlink_to(tmp_path / "nothing")
    asked = ["top.avi", "a/1.avi", "a/b/2.avi", "a/folder.avi", "a/link.avi", "a/dead.avi", "a/3.avi", "c/1.avi"]
    asked.append("top.avi/1.avi")
    assert existing(str(tmp_path), asked) == {"top.avi", "a/1.avi", "a/b/2.avi", "a/link.avi"}


def test_missing_videos_are_asked_for_before_anything_runs(tmp_path: Path) -> None:
    lists = write_folder(tmp_path / "list.csv", *GOOD)
    with pytest.raises(InputError, match=r"absent, does not exist. .*datasets.mine.root"):
        dataset("folder", lists, tmp_path / "absent").require_videos()
    strict, allowing = (dataset("folder", lists, tmp_path, allow_missing=allowed) for allowed in (False, True))
    for refused in (strict, allowing):
        with pytest.raises(InputError, match=r"4 of the 4 listed videos are not in .*first a/1.mp4") as error:
            refused.require_videos()
        assert ("set datasets.mine.allow_missing to true" in str(error.value)) == (refused is strict)
    write(tmp_path / "b" / "2.mp4", "one video is enough to begin where that is allowed: the others are quarantined")
    with pytest.raises(InputError, match=r"3 of the 4 listed videos are not in"):
        strict.require_videos()
    allowing.require_videos()


def test_videos_that_cannot_be_looked_at_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = write_folder(tmp_path / "list.csv", *GOOD)
    for row in GOOD:
        write(tmp_path / row.partition(",")[0], row)
    (tmp_path / "c").symlink_to("c")
    dataset("folder", lists, tmp_path).require_videos()
    looping = write_folder(tmp_path / "loop.csv", *GOOD, "c/1.mp4,calm,train,")
    with pytest.raises(InputError, match=f"{tmp_path}/c cannot be read: Too many levels of symbolic links; look"):
        dataset("folder", looping, tmp_path).require_videos()
    with pytest.raises(InputError, match=r"yyy cannot be read: File name too long"):
        dataset("folder", lists, tmp_path / ("y" * 300)).require_videos()
    real = os.scandir

    def stale(path: str) -> Any:
        if path == f"{tmp_path}/b":
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
        return real(path)

    monkeypatch.setattr(os, "scandir", stale)
    with pytest.raises(InputError, match=f"{tmp_path}/b cannot be read: Stale file handle; look whether its drive"):
        dataset("folder", lists, tmp_path).require_videos()
