"""The lists of UCF-101 and HMDB-51."""

from collections.abc import Callable
from pathlib import Path

import pytest

from atw.files import InputError
from tests.unit.lists import ODD_NAMES, dataset, write, write_hmdb51, write_ucf101

OFFICIAL_LISTS = Path(__file__).parents[3] / "shared" / "data" / "official_lists"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_ucf101_lists(tmp_path: Path, end: str) -> None:
    split = dataset("ucf101", write_ucf101(tmp_path, end)).split("split1")
    assert split.classes == ("Swing", "HandstandPushups", "Archery")  # the order of classInd.txt
    assert [(row.video, row.label, row.subset, row.group) for row in (*split.train, *split.test)] == [
        ("Archery/v_Archery_g02_c01.avi", "Archery", "train", "Archery/g02"),
        ("HandstandPushups/v_HandStandPushups_g02_c01.avi", "HandstandPushups", "train", "HandstandPushups/g02"),
        ("Swing/v_Swing_g02_c01.avi", "Swing", "train", "Swing/g02"),
        ("Swing/v_Swing_g02_c02.avi", "Swing", "train", "Swing/g02"),
        ("Archery/v_Archery_g01_c01.avi", "Archery", "test", "Archery/g01"),
        ("HandstandPushups/v_HandStandPushups_g01_c01.avi", "HandstandPushups", "test", "HandstandPushups/g01"),
    ]


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("classInd.txt", "2 Swing", "expected `1 ClassName`, found '2 Swing'"),
        ("classInd.txt", "Swing", "expected `1 ClassName`, found 'Swing'"),
        ("trainlist01.txt", "Golf/v_Golf_g01_c01.avi 4", "of a class of classInd.txt, found 'Golf"),
        ("trainlist01.txt", "Swing/clip.avi 1", r"expected `Class/v_Class_gGG_cCC.avi`"),
        ("testlist01.txt", "../Swing/v_Swing_g01_c01.avi", "must be relative"),
        ("testlist01.txt", "/Swing/v_Swing_g01_c01.avi", "must be relative"),
        ("testlist01.txt", "Swing/v_Swing_g02_c03.avi", "group Swing/g02 is in both subsets"),
        ("testlist01.txt", "Swing/v_Swing_g02_c01.avi", "is listed twice"),
    ],
)
def test_a_wrong_ucf101_list_is_named(tmp_path: Path, file: str, line: str, message: str) -> None:
    write(write_ucf101(tmp_path) / file, line)
    with pytest.raises(InputError) as error:
        dataset("ucf101", tmp_path).split("split1")
    assert message in str(error.value)


@pytest.mark.parametrize("file", ["classInd.txt", "trainlist02.txt", "testlist02.txt"])
def test_a_missing_ucf101_list_is_named(tmp_path: Path, file: str) -> None:
    (write_ucf101(tmp_path) / file).unlink()
    with pytest.raises(InputError, match=f"{file} does not exist: put the dataset's lists there"):
        dataset("ucf101", tmp_path).split("split2")


def test_hmdb51_lists(tmp_path: Path) -> None:
    mine = dataset("hmdb51", write_hmdb51(tmp_path))
    split = mine.split("split3")
    assert split.classes == ("kick", "kick_ball", "sword", "sword_exercise")  # as official; TSN swaps two pairs
    assert [row.video for row in split.train] == [
        "kick/a_1.avi",
        "kick_ball/b_0.avi",
        *sorted(f"sword/{name}" for name in ODD_NAMES[0::2]),
        "sword_exercise/a_0.avi",
    ]
    assert {row.video: row.label for row in split.test} == {
        "kick/a_0.avi": "kick",
        "kick_ball/b_1.avi": "kick_ball",
        "sword_exercise/a_1.avi": "sword_exercise",
        **{f"sword/{name}": "sword" for name in ODD_NAMES[1::2]},
    }
    assert "sword_exercise/a_2.avi" not in [row.video for row in mine.rows("split3")]  # it is marked 0


@pytest.mark.parametrize("line", ["a_0.avi 3", "a_0.avi", "a_0.mp4 1", "1 a_0.avi"])
def test_a_wrong_hmdb51_line_is_named(tmp_path: Path, line: str) -> None:
    write(write_hmdb51(tmp_path) / "kick_test_split1.txt", "a_1.avi 1", line)
    with pytest.raises(InputError, match=r"kick_test_split1.txt, line 2: expected `file.avi 0\|1\|2`"):
        dataset("hmdb51", tmp_path).split("split1")


def test_an_hmdb51_path_that_leads_out_is_refused(tmp_path: Path) -> None:
    write(write_hmdb51(tmp_path) / "kick_test_split1.txt", "../../secret.avi 1")
    with pytest.raises(InputError, match="must be relative to the dataset's root and stay inside it"):
        dataset("hmdb51", tmp_path).split("split1")


def test_missing_hmdb51_lists_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no list files"):
        dataset("hmdb51", tmp_path).split("split1")


# (kind, split, classes, training videos, test videos); the official ones are the published counts.
GENERATED = [("ucf101", "split1", 3, 4, 2), ("hmdb51", "split2", 4, 6, 5)]
PUBLISHED = [
    ("ucf101", "split1", 101, 9537, 3783),
    ("ucf101", "split2", 101, 9586, 3734),
    ("ucf101", "split3", 101, 9624, 3696),
    ("hmdb51", "split1", 51, 3570, 1530),
    ("hmdb51", "split2", 51, 3570, 1530),
    ("hmdb51", "split3", 51, 3570, 1530),
]
COUNTS = [
    *(("generated", *row) for row in GENERATED),
    *(("official", *row) for row in PUBLISHED if (OFFICIAL_LISTS / row[0]).is_dir()),
]


@pytest.mark.parametrize(("source", "kind", "name", "classes", "train", "test"), COUNTS)
def test_splits_have_the_counts_of_their_lists(
    tmp_path: Path, source: str, kind: str, name: str, classes: int, train: int, test: int
) -> None:
    writers: dict[str, Callable[[Path], Path]] = {"ucf101": write_ucf101, "hmdb51": write_hmdb51}
    split = dataset(kind, OFFICIAL_LISTS / kind if source == "official" else writers[kind](tmp_path)).split(name)
    assert (len(split.classes), len(split.train), len(split.test)) == (classes, train, test)
    assert {row.label for row in split.train} == set(split.classes)
    assert {row.video for row in split.train}.isdisjoint(row.video for row in split.test)
