"""The lists of UCF-101, HMDB-51, Kinetics and Something-Something."""

import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atw import config
from atw.datasets import Dataset
from atw.datasets.lists import checked_video
from atw.files import InputError
from atw.preprocess.shard import make
from atw.shards import Shard
from tests.unit.lists import ODD_NAMES, dataset, write, write_hmdb51, write_ucf101
from tests.unit.preprocessed import MovingFrames, WriteMjpeg

OFFICIAL_LISTS = Path(__file__).parents[3] / "shared" / "data" / "official_lists"


def refused(mine: Dataset, message: str) -> None:
    with pytest.raises(InputError, match=message):
        mine.split("split1")


@given(st.text("a./\\ \0", max_size=8))
def test_a_listed_path_is_checked_as_pathlib_reads_it(name: str) -> None:
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        with pytest.raises(InputError, match="must be relative"):
            checked_video(name, "a list")
    else:
        assert checked_video(name, "a list") == str(path)


# UCF-101


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
        ("testlist01.txt", "Swing/v_Swing_g02_c03.avi", "group Swing/g02 is in both subsets"),
        ("testlist01.txt", "Swing/v_Swing_g02_c01.avi", "is listed twice"),
        *((file, "", f"{file} does not exist: put it there") for file in ("classInd.txt", "trainlist01.txt")),
    ],
)
def test_a_wrong_or_missing_ucf101_list_is_named(tmp_path: Path, file: str, line: str, message: str) -> None:
    path = write(write_ucf101(tmp_path) / file, line)
    if not line:
        path.unlink()
    refused(dataset("ucf101", tmp_path), message)


# HMDB-51


def test_hmdb51_lists(tmp_path: Path) -> None:
    split = dataset("hmdb51", write_hmdb51(tmp_path)).split("split3")
    assert split.classes == ("kick", "kick_ball", "sword", "sword_exercise")  # as official; TSN swaps two pairs
    assert [row.video for row in split.train] == [
        "kick/a_1.avi",
        "kick_ball/b_0.avi",
        *sorted(f"sword/{name}" for name in ODD_NAMES[0::2]),
        "sword_exercise/a_0.avi",
    ]
    # sword_exercise/a_2.avi is marked 0
    assert {row.video: row.label for row in split.test} == {
        "kick/a_0.avi": "kick",
        "kick_ball/b_1.avi": "kick_ball",
        "sword_exercise/a_1.avi": "sword_exercise",
        **{f"sword/{name}": "sword" for name in ODD_NAMES[1::2]},
    }


@pytest.mark.parametrize("line", ["a_0.avi 3", "a_0.avi", "a_0.mp4 1", "1 a_0.avi"])
def test_a_wrong_hmdb51_line_is_named(tmp_path: Path, line: str) -> None:
    write(write_hmdb51(tmp_path) / "kick_test_split1.txt", "a_1.avi 1", line)
    refused(dataset("hmdb51", tmp_path), r"kick_test_split1.txt, line 2: expected `file.avi 0\|1\|2`")


def test_hmdb51_lists_that_lead_out_or_are_missing_are_named(tmp_path: Path) -> None:
    refused(dataset("hmdb51", tmp_path), "no list files")
    write(write_hmdb51(tmp_path) / "kick_test_split1.txt", "../../secret.avi 1")
    refused(dataset("hmdb51", tmp_path), "must be relative to the dataset's root and stay inside it")


def test_odd_names_reach_the_shard(tmp_path: Path, moving_frames: MovingFrames, write_mjpeg: WriteMjpeg) -> None:
    lists = write_hmdb51(tmp_path / "lists")
    loaded = config.load(
        {
            "datasets": {"odd": {"kind": "hmdb51", "root": str(tmp_path / "videos"), "lists": str(lists)}},
            "preprocess": {"width": 48, "height": 40, "shards": 1},
            "evaluate": {"crop": 40},
        }
    )
    mine = Dataset(config.location(loaded, "odd"))
    names = [f"sword/{name}" for name in ODD_NAMES]
    for seed, name in enumerate(names):
        write_mjpeg(tmp_path / "videos" / name, moving_frames(7 + seed, seed=seed))
    settings = config.shard_settings(loaded, "odd", "rgb").of_shard("00000", mine.members_digest("00000", 1))
    make(tmp_path / "00000.h5", settings, mine, flow_path=None, threads=1)
    with Shard(tmp_path / "00000.h5") as shard:
        counts = {entry.video: entry.count for entry in shard.entries if entry.video in names}
    assert counts == {name: 7 + seed for seed, name in enumerate(names)}


# (kind, split, classes, training videos, test videos); the official ones are the published counts.
GENERATED = [("ucf101", "split1", 3, 4, 2), ("hmdb51", "split2", 4, 6, 5)]
PUBLISHED = [
    ("ucf101", "split1", 101, 9537, 3783),
    ("ucf101", "split2", 101, 9586, 3734),
    ("ucf101", "split3", 101, 9624, 3696),
    *(("hmdb51", f"split{number}", 51, 3570, 1530) for number in (1, 2, 3)),
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


# Kinetics

HEADER = "label,youtube_id,time_start,time_end,split,is_cc"
HEAD, CAT = "massaging person's head", "petting animal (not cat)"
TRAIN = [f"{HEAD},--abc_DEF12,7,17,train,0", f'"{CAT}",1234567890a,110,120,train,0']
VALIDATE = [f"{HEAD},zyxwvutsrqp,0,10,validate,0", f"{CAT},aaaaaaaaaaa,5,15,validate,0"]


def write_kinetics(folder: Path, validate: str = "validate") -> Path:
    write(folder / "train.csv", HEADER, *TRAIN)
    write(folder / f"{validate}.csv", HEADER, *(row.replace("validate", validate) for row in VALIDATE))
    # The published test lists of some years have no labels; nothing reads this one.
    write(folder / "test.csv", "youtube_id,time_start,time_end,split", "bbbbbbbbbbb,5,15,test")
    return folder


@pytest.mark.parametrize("validate", ["validate", "val"])
def test_kinetics_lists(tmp_path: Path, validate: str) -> None:
    mine = dataset("kinetics", write_kinetics(tmp_path, validate), tmp_path / "clips")
    split = mine.split("split1")
    assert mine.split_names == ("split1",)
    assert split.classes == (HEAD, CAT)
    assert [(row.video, row.label, row.group) for row in split.train] == [
        (f"{HEAD}/--abc_DEF12_000007_000017.mp4", HEAD, "--abc_DEF12"),
        (f"{CAT}/1234567890a_000110_000120.mp4", CAT, "1234567890a"),
    ]
    assert [row.video for row in split.test] == [
        f"{HEAD}/zyxwvutsrqp_000000_000010.mp4",
        f"{CAT}/aaaaaaaaaaa_000005_000015.mp4",
    ]
    write(tmp_path / "clips" / mine.rows("split1")[0].video, "one is enough: missing clips are normal")
    mine.require_videos()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("{subset}/{label_underscored}/{id}.mkv", "train/massaging_person's_head/--abc_DEF12.mkv"),
        ("{subset}/{id}_{start}_{end}.mp4", "train/--abc_DEF12_000007_000017.mp4"),
    ],
)
def test_kinetics_clips_are_where_the_pattern_says(tmp_path: Path, path: str, expected: str) -> None:
    mine = dataset("kinetics", write_kinetics(tmp_path), path=path)
    assert expected in [row.video for row in mine.split("split1").train]


def test_kinetics_in_one_file_tested_on_the_test_list(tmp_path: Path) -> None:
    test = [row.replace("validate", "test") for row in VALIDATE[:1]]
    path = write(tmp_path / "all.csv", HEADER, *TRAIN, *VALIDATE[1:], *test)
    split = dataset("kinetics", path, test_on="test").split("split1")
    assert (len(split.train), len(split.test)) == (2, 1)
    assert split.test[0].video.startswith(f"{HEAD}/zyx")
    refused(
        dataset("kinetics", write(path, HEADER)), "lists no video of train or validate; correct datasets.mine.lists"
    )


@pytest.mark.parametrize(
    ("file", "lines", "message"),
    [
        ("train.csv", ["label,youtube_id"], "train.csv, line 1: no column split, time_end, time_start"),
        ("train.csv", [HEADER, "a,b,c,d,train,0"], "train.csv, line 2: needs a label.*whole seconds"),
        ("train.csv", [HEADER, "a,b,1,2,training,0"], "line 2: .*split of train, validate or test"),
        ("train.csv", [HEADER, "a,b,1"], "line 2: needs a label, a youtube_id"),
        ("train.csv", [HEADER, "a,../../../b,1,2,train,0"], "line 2: the path .* stay inside it"),
        ("train.csv", [HEADER, *TRAIN, TRAIN[0]], "is listed twice"),
        ("train.csv", [HEADER, *TRAIN, VALIDATE[0].replace(",0,10,validate", ",9,19,train")], "is in both subsets"),
        ("kinetics_val.csv", [HEADER], "kinetics_val.csv and validate.csv both list the videos of validate"),
        ("train.csv", None, "no CSV file lists the videos of train; needed is one file, such as train"),
    ],
    ids=str,
)
def test_a_wrong_or_missing_kinetics_list_is_named(
    tmp_path: Path, file: str, lines: list[str] | None, message: str
) -> None:
    path = write(write_kinetics(tmp_path) / file, *(lines or []))
    if lines is None:
        path.unlink()
    refused(dataset("kinetics", tmp_path), message)


def test_blanks_of_kinetics_make_no_class_and_no_path(tmp_path: Path) -> None:
    header = "label,youtube_id,time_start,time_end,split "
    write(tmp_path / "train.csv", header, "high jump ,a,0,10,train", "high  jump,b ,0,10,train", end=" \r\n")
    write(tmp_path / "val.csv", header, "high\u00a0jump,c,0,10, val")
    mine = dataset("kinetics", tmp_path, path="{id}_{start}.mp4")
    assert mine.classes == ("high jump",)
    assert [row.video for row in mine.rows("split1")] == ["a_000000.mp4", "b_000000.mp4", "c_000000.mp4"]


# Something-Something

SOMETHING: dict[str, Any] = {
    "labels": {"Putting something on something": "1", "Holding something": 0},
    "train": [
        {"id": "78", "label": "holding a pen", "template": "Holding [something]", "placeholders": ["a pen"]},
        {"id": "9", "label": "putting", "template": "Putting [something] on [something]"},
    ],
    "validation": [{"id": "80", "label": "holding it", "template": "Holding [something]"}],
}


def write_something(folder: Path, prefix: str = "something-something-v2-", **changed: Any) -> Path:
    for name, content in (SOMETHING | changed).items():
        text = content if isinstance(content, str) else json.dumps(content)
        write(folder / f"{prefix}{name}.json", text)
    return folder


@pytest.mark.parametrize("prefix", ["something-something-v2-", ""])
def test_something_lists(tmp_path: Path, prefix: str) -> None:
    mine = dataset("somethingv2", write_something(tmp_path, prefix))
    split = mine.split("split1")
    assert mine.split_names == ("split1",)
    assert split.classes == ("Holding something", "Putting something on something")  # by number, not by alphabet
    assert [(row.video, row.label) for row in split.train] == [
        ("78.webm", "Holding something"),
        ("9.webm", "Putting something on something"),
    ]
    assert [row.video for row in split.test] == ["80.webm"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": {"Holding something": "0", "x": "2"}}, "labels.json: the numbers of the classes must be 0 to 1"),
        ({"labels": ["Holding something"]}, "labels.json: expected an object of class names"),
        *(
            ({"labels": {"Holding something": number, "x": "1"}}, "number of class 'Holding something' must be a whole")
            for number in (1e999, 0.7, 0.0, False, None, [], "0.0", " 0", "\u0660", "9" * 5000)
        ),
        ({"labels": '{"A": "0",\n "A": "1"}'}, r"labels.json, line 2: 'A' stands twice, first in line 1"),
        ({"labels": '{"A": "0", "A ": "1"}', "train": [], "validation": []}, "no training or no test videos"),
        ({"train": {}}, "train.json: expected a list"),
        ({"train": [{"id": 3, "template": "Holding [something]"}]}, "train.json, video 1: expected an object"),
        ({"train": [{"id": "3", "template": "Eating [something]"}]}, "video 1: class 'Eating something' is not in"),
        ({"train": [{"id": "../3", "template": "Holding [something]"}]}, "video 1: the path '../3.webm' must"),
        ({"train": "["}, r"train.json: not JSON"),
        ({"train": "[" * 100_000}, r"train.json: .* too deeply nested"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_wrong_something_list_is_named(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    refused(dataset("somethingv2", write_something(tmp_path, **changed)), message)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ('{"A": "0", "A ": "1"}', "class 'A' is listed twice"),
        ('{"A": "0", "a": "1"}', "'A' and 'a' would be two classes"),
        (None, r"no something-something-v2-labels.json: put the dataset's lists there"),
    ],
)
def test_wrong_something_classes_are_refused(tmp_path: Path, labels: str | None, message: str) -> None:
    if labels:
        write(tmp_path / "labels.json", labels)
    with pytest.raises(InputError, match=message):
        _ = dataset("somethingv2", tmp_path).classes
