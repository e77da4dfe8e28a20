"""Lists of a folder of videos, and what is said when the videos are not there."""

import errno
import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from atw.files import InputError
from tests.unit.lists import GOOD, dataset, write, write_folder


def test_folder_lists(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "list.csv", '"c, d/3.mp4",fight,train,', *GOOD, "")
    mine = dataset("folder", path)
    split = mine.split("split1")
    assert mine.split_names == ("split1",)
    assert split.classes == ("calm", "fight")
    assert [row.video for row in split.train] == ["a/1.mp4", "b/1.mp4", "c, d/3.mp4"]
    assert [(row.video, row.label, row.group) for row in split.test] == [
        ("a/2.mp4", "fight", "g3"),
        ("b/2.mp4", "calm", "g4"),
    ]


def test_further_columns_are_ignored_and_group_is_optional(tmp_path: Path) -> None:
    rows = ("7,train,a/1.mp4,x,5.0", "8,test,a/2.mp4,x,4.0")
    split = dataset("folder", write_folder(tmp_path / "l.csv", *rows, header="id,subset,path,label,fps")).split(
        "split1"
    )
    assert [(row.video, row.label, row.group) for row in split.train] == [("a/1.mp4", "x", "")]


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "list.csv", *GOOD, header="\ufeffpath,label,subset,group")
    assert len(dataset("folder", path).split("split1").train) == 2


def test_numbered_lists_are_splits(tmp_path: Path) -> None:
    for name in ("list1.csv", "list2.csv", "list02.csv", "list.csv", "list3.csv.bak", "list3x.csv"):
        write_folder(tmp_path / name, *GOOD)
    mine = dataset("folder", tmp_path / "list{split}.csv")
    assert mine.split_names == ("split1", "split2")
    with pytest.raises(InputError, match="has no split4; it has split1, split2"):
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
    split = dataset("folder", write_folder(tmp_path / "l.csv", *rows, header="path, label,subset , group ")).split(
        "split1"
    )
    assert split.classes == ("fight",)
    assert [(row.label, row.subset, row.group) for row in (*split.train, *split.test)] == [
        ("fight", "train", "g1"),
        ("fight", "train", "g1"),
        ("fight", "test", "g2"),
    ]


def test_a_label_of_blanks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 2: needs a path, a label"):
        dataset("folder", write_folder(tmp_path / "l.csv", "a/1.mp4, ,train,")).rows("split1")


def test_videos_that_cannot_be_looked_at_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = write_folder(tmp_path / "list.csv", *GOOD)
    for row in GOOD:
        write(tmp_path / row.partition(",")[0], row)
    (tmp_path / "c").symlink_to("c")
    looping = write_folder(tmp_path / "loop.csv", *GOOD, "c/1.mp4,calm,train,")
    with pytest.raises(InputError, match=f"{tmp_path}/c cannot be read: Too many levels of symbolic links; look"):
        dataset("folder", looping, tmp_path).require_videos()
    long = write_folder(tmp_path / "long.csv", *GOOD, f"{'x' * 300}/1.mp4,calm,train,")
    with pytest.raises(InputError, match=r"xxx cannot be read: File name too long"):
        dataset("folder", long, tmp_path).require_videos()
    with pytest.raises(InputError, match=r"yyy cannot be read: File name too long"):
        dataset("folder", lists, tmp_path / ("y" * 300)).require_videos()
    dataset("folder", lists, tmp_path).require_videos()
    real = os.scandir

    def stale(path: str) -> Any:
        if path == f"{tmp_path}/b":
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
        return real(path)

    monkeypatch.setattr(os, "scandir", stale)
    with pytest.raises(InputError, match=f"{tmp_path}/b cannot be read: Stale file handle; look whether its drive"):
        dataset("folder", lists, tmp_path).require_videos()


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        ("path,label", ["a,b"], r"line 1: no column subset; needed are path,label,subset"),
        ("", ["a,b"], r"no column label, path, subset"),
        ('"path,label,subset', [], r"not a CSV file"),
        ("path,label,subset", ['"a.mp4,x,train'], r"not a CSV file"),
        ("path,label,subset", ["a.mp4,x,training"], r"line 2: .*subset of train or test.*'training'"),
        ("path,label,subset", ["a.mp4,x,train", "b.mp4,x"], r"line 3: .*subset of train or test"),
        ("path,label,subset", ["a.mp4,,train"], r"line 2: needs a path, a label"),
        ("path,label,subset", [",x,train"], r"line 2: the path '' must be relative"),
        ("path,label,subset", ["../a.mp4,x,train"], r"line 2: the path '../a.mp4' must .* stay inside"),
        ("path,label,subset", ["a/../../a.mp4,x,train"], r"line 2: the path .* stay inside"),
        ("path,label,subset", ["/etc/passwd,x,train"], r"line 2: the path '/etc/passwd' must be relative"),
        ("path,label,subset", ["a\\b.mp4,x,train"], r"line 2: the path .* must be relative"),
        ("path,label,subset", ["a.mp4,x,train", "./a.mp4,x,test"], r"a.mp4 is listed twice"),
        ("path,label,subset", ["a//b.mp4,x,train", "a/b.mp4,x,train"], r"a/b.mp4 is listed twice"),
        ("path,label,subset,group", ["a,x,train,g", "b,x,test,g"], r"group g is in both subsets .* move the whole"),
        ("path,label,subset", ["a,x,train", "b,x,test", "c,y,test"], r"no training video of class y"),
        ("path,label,subset", ["a,x,train"], r"no training or no test videos"),
        ("path,label,subset", [], r"no training or no test videos"),
    ],
    ids=str,
)
def test_a_wrong_folder_list_is_named(tmp_path: Path, header: str, rows: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataset("folder", write_folder(tmp_path / "list.csv", *rows, header=header)).split("split1")


def test_a_list_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(b"path,label,subset\n\xff\xfe,x,train\n")
    with pytest.raises(InputError, match=r"list.csv cannot be read"):
        dataset("folder", tmp_path / "list.csv").split("split1")


@pytest.mark.parametrize("name", ["list.csv", "list{split}.csv"])
def test_a_missing_folder_list_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"list1?\.csv does not exist"):
        dataset("folder", tmp_path / name).split("split1")


def test_a_label_must_not_differ_between_splits(tmp_path: Path) -> None:
    write_folder(tmp_path / "list1.csv", *GOOD)
    write_folder(tmp_path / "list2.csv", *GOOD[:3], "b/2.mp4,fight,test,g4")
    with pytest.raises(InputError, match=r"b/2.mp4 is calm in one split and fight in split2"):
        dataset("folder", tmp_path / "list{split}.csv").members("00000", 4)


def test_absent_videos_are_asked_for_before_anything_runs(tmp_path: Path) -> None:
    lists = write_folder(tmp_path / "list.csv", *GOOD)
    with pytest.raises(InputError, match=r"absent, does not exist. .*datasets.mine.root"):
        dataset("folder", lists, tmp_path / "absent").require_videos()
    allowing = dataset("folder", lists, tmp_path, allow_missing=True)
    for refused in (dataset("folder", lists, tmp_path), allowing):
        with pytest.raises(InputError, match=r"4 of the 4 listed videos are not in .*first a/1.mp4.*allow_missing"):
            refused.require_videos()
    write(tmp_path / "b" / "2.mp4", "one video is enough to begin where that is allowed: the others are quarantined")
    with pytest.raises(InputError, match=r"3 of the 4 listed videos are not in"):
        dataset("folder", lists, tmp_path).require_videos()
    allowing.require_videos()


CASES = Path(__file__).parents[1] / "cases/lists"


def videos(root: Path, *names: str) -> Path:
    for name in names or [f"{label}/{number}.mp4" for label in ("jump", "run") for number in (1, 2, 3)]:
        write(root / name, name)
    return root


def test_a_label_in_two_unicode_forms_is_one_class(tmp_path: Path) -> None:
    mine = dataset("folder", CASES / "l_nf.csv", videos(tmp_path))
    mine.require_videos()
    assert mine.split("split1").classes == ("caf\u00e9", "run")


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
    mine = dataset("folder", write_folder(tmp_path / "l.csv", *rows), videos(tmp_path))
    with pytest.raises(InputError) as error:
        mine.require_videos()
    assert f"{one!a} and {other!a} would be two classes" in str(error.value) or f"{other!a} and {one!a}" in str(
        error.value
    )


def test_the_case_of_labels_in_two_cases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="'Jump' and 'jump' would be two classes, and look like one; write one of them"
    ):
        dataset("folder", CASES / "l_labelcase.csv", videos(tmp_path)).require_videos()


def test_a_column_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"l_dupcol.csv, line 1: the column label is named twice"):
        dataset("folder", CASES / "l_dupcol.csv").rows("split1")


def test_blanks_after_a_path_do_not_count(tmp_path: Path) -> None:
    mine = dataset("folder", CASES / "l_trailing.csv", videos(tmp_path))
    mine.require_videos()
    assert [row.video for row in mine.rows("split1")][:2] == ["jump/1.mp4", "jump/2.mp4"]
    # A name that does end in a blank is meant where it is there.
    write(tmp_path / "jump/1.mp4 ", "x")
    assert (
        next(row.video for row in dataset("folder", CASES / "l_trailing.csv", tmp_path).rows("split1")) == "jump/1.mp4 "
    )


@pytest.mark.parametrize(("listed", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_paths_are_found_in_either_unicode_form(tmp_path: Path, listed: Any, stored: Any) -> None:
    name = "caf\u00e9/\u00fcber.mp4"
    on_disk = unicodedata.normalize("NFC", "caf\u00e9") + "/" + unicodedata.normalize(stored, "\u00fcber.mp4")
    rows = (f"{unicodedata.normalize(listed, name)} ,a,train,", "b/1.mp4,b,train,", "b/2.mp4,b,test,")
    root = videos(tmp_path / "videos", on_disk, "b/1.mp4", "b/2.mp4")
    mine = dataset("folder", write_folder(tmp_path / "l.csv", *rows), root)
    mine.require_videos()
    assert mine.rows("split1")[-1].video == on_disk
    both = (*rows, f"{unicodedata.normalize(stored, name)},a,train,")
    with pytest.raises(InputError, match="is listed twice"):
        dataset("folder", write_folder(tmp_path / "both.csv", *both), root).rows("split1")


@pytest.mark.parametrize("separator", [";", "\t"])
def test_tables_of_excel_are_read(tmp_path: Path, separator: str) -> None:
    rows = [
        row.replace(",", separator)
        for row in ('"path","label",subset,', '"a/1.mp4","x ",train,', "a/2.mp4,x,test,,", ",,,")
    ]
    write(tmp_path / "l.csv", "\ufeff" + rows[0], *rows[1:3], end="\r\n")
    split = dataset("folder", tmp_path / "l.csv").split("split1")
    assert [(row.video, row.label) for row in (*split.train, *split.test)] == [("a/1.mp4", "x"), ("a/2.mp4", "x")]


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("path,subset,label", "a/1.mp4,train,high, far", "line 2: 4 cells in 3 columns; put double quotes around text"),
        ("path,subset,label", 'a/1.mp4,train, "high, far"', "line 2: 4 cells in 3 columns"),
        ("path,subset,label", 'a/1.mp4,train, "high"', "line 2: remove the blank before the quotes of"),
        ("path,subset,label, label", "a/1.mp4,train,a,a", "line 1: the column label is named twice"),
    ],
)
def test_cells_that_would_be_misread_are_refused(tmp_path: Path, header: str, row: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataset("folder", write_folder(tmp_path / "l.csv", row, header=header)).rows("split1")
