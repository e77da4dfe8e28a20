"""ActivityNet and THUMOS14: their lists, labels and actions from files in the official forms."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from atw.config import Interval
from atw.datasets import Dataset
from atw.files import InputError
from atw.plan import Plan
from tests.unit.lists import dataset, write, write_ucf101
from tests.unit.untrimmed import ACTIVITYNET, VALIDATION, write_activitynet, write_bmn, write_thumos14

Rows = list[tuple[str, str]]


def rows_of(mine: Dataset) -> tuple[Rows, Rows]:
    split = mine.split("split1")
    train, test = ([(row.video, row.label) for row in rows] for rows in (split.train, split.test))
    return train, test


# ActivityNet


@pytest.mark.parametrize("write_lists", [lambda folder: write_activitynet(folder / "anet.json"), write_bmn])
def test_activitynet_in_both_forms(tmp_path: Path, write_lists: Callable[[Path], Path]) -> None:
    mine = dataset("activitynet", write_lists(tmp_path / "lists"))
    assert mine.split_names == ("split1",)
    assert mine.classes == ("Left", "Up")
    assert mine.allow_missing
    assert rows_of(mine) == (
        [("v_aaa.mp4", "Up"), ("v_bbb.mp4", "Left|Up")],
        [("v_-cc.mp4", "Left"), ("v_ddd.mp4", "Up|Left")],
    )
    assert mine.intervals("split1") == {
        f"v_{name}.mp4": tuple(Interval(*annotation, "seconds") for annotation in annotations)
        for name, (_, annotations) in ACTIVITYNET.items()
        if annotations
    }


def test_places_of_activitynets_videos(tmp_path: Path) -> None:
    lists = write_activitynet(tmp_path / "anet.json")
    train, test = rows_of(dataset("activitynet", lists, path="{subset}/{id}.mkv"))
    assert (train[0][0], test[0][0]) == ("training/aaa.mkv", "validation/-cc.mkv")
    with pytest.raises(InputError, match=r"path: .*must hold \{id\}, and in braces nothing but id, subset"):
        dataset("activitynet", lists, path="{name}.mp4")


def test_activitynets_segments_may_be_text(tmp_path: Path) -> None:
    videos = ACTIVITYNET | {"aaa": ("training", [("Up", "0.5", "1e1")])}
    mine = dataset("activitynet", write_activitynet(tmp_path / "anet.json", videos))
    assert mine.intervals("split1")["v_aaa.mp4"] == (Interval("Up", 0.5, 10, "seconds"),)


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (("train", [("Up", 0, 1)]), "xxx is in 'train', not in training, validation or testing"),
        (("training", [("Up|Left", 0, 1)]), r"a label of xxx holds \|, which joins labels"),
        (("training", [("Up", 2, 1)]), r"anet.json: database.xxx.annotations.0: .* ends before it starts; needed is"),
        (("training", [("Up", -1, 1)]), r"database.xxx.annotations.0.segment.0: Input should be greater than or equal"),
        (
            ("training", [("Up", 1, float("nan"))]),
            r"database.xxx.annotations.0.segment.1: Input should be a finite number",
        ),
        (("training", []), "v_xxx.mp4 has no label; give it one"),
        (("validation", [("Fly", 0, 1)]), "no training video of class Fly"),
    ],
)
def test_a_wrong_annotation_of_activitynet_is_named(tmp_path: Path, video: Any, message: str) -> None:
    mine = dataset("activitynet", write_activitynet(tmp_path / "anet.json", ACTIVITYNET | {"xxx": video}))
    with pytest.raises(InputError, match=message):
        mine.split("split1")


def test_a_wrong_file_of_activitynet_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"database: Field required; needed is the official form"):
        dataset("activitynet", write(tmp_path / "other.json", "{}")).rows("split1")
    with pytest.raises(InputError, match=r"holds no file for anet_anno_action.json; needed is one. Or name the"):
        dataset("activitynet", tmp_path).rows("split1")
    write_bmn(tmp_path)
    write(tmp_path / "video_info_new.csv", "video,subset", "v_aaa,training")
    with pytest.raises(InputError, match=r"v_-cc is in only one of anet_anno_action.json and video_info_new.csv"):
        dataset("activitynet", tmp_path).rows("split1")
    write(tmp_path / "anet_anno_action.json", json.dumps({"v_aaa": {}}))
    with pytest.raises(InputError, match=r"anet_anno_action.json: v_aaa.annotations: Field required"):
        dataset("activitynet", tmp_path).rows("split1")


# THUMOS14


def thumos14(lists: Path, **settings: Any) -> Dataset:
    return dataset("thumos14", lists, **{"exclude": [], **settings})


def name(subset: str, number: int) -> str:
    return f"video_{subset}_{number:07d}.mp4"


TESTED = [(name("test", number), label) for number, label in ((1, "Left"), (2, ""), (3, "Up|Left|Spin"), (4, "Up"))]


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """The official files of THUMOS14."""
    return write_thumos14(tmp_path / "lists")


@pytest.fixture
def ucf101(tmp_path: Path) -> dict[str, Any]:
    """Settings for training on UCF-101, whose lists have THUMOS14's classes."""
    folder = write_ucf101(tmp_path / "ucf101")
    names = ("Swing", "Up"), ("HandstandPushups", "Left"), ("HandStandPushups", "Left"), ("Archery", "Spin")
    for path in folder.iterdir():
        text = path.read_text()
        for given, new in names:
            text = text.replace(given, new)
        path.write_text(text)
    return {"train_on": "ucf101", "ucf101_lists": str(folder)}


def test_thumos14_trains_on_its_validation_set(lists: Path) -> None:
    with pytest.raises(InputError, match="no training video of class Spin"):
        thumos14(lists).split("split1")
    rows = {row.video: (row.label, row.subset) for row in thumos14(lists).rows("split1")}
    assert rows == {
        **{name("validation", number): ("|".join(labels), "train") for number, labels in VALIDATION.items()},
        **{video: (label, "test") for video, label in TESTED},
    }
    assert thumos14(lists).classes == ("Up", "Left", "Spin")


def test_thumos14_trains_on_ucf101(lists: Path, ucf101: dict[str, Any]) -> None:
    mine = thumos14(lists, **ucf101, ucf101_path="clips")
    train, test = rows_of(mine)
    # Training and test clips of one of its splits: all that there are.
    assert [video for video, _ in train] == [
        *("clips/Left/v_Left_g01_c01.avi", "clips/Left/v_Left_g02_c01.avi"),
        *("clips/Spin/v_Spin_g01_c01.avi", "clips/Spin/v_Spin_g02_c01.avi"),
        *("clips/Up/v_Up_g02_c01.avi", "clips/Up/v_Up_g02_c02.avi"),
    ]
    assert train[0][1] == "Left"
    assert mine.split("split1").train[0].group == "Left/g01"
    assert test == TESTED
    both, _ = rows_of(thumos14(lists, **ucf101 | {"train_on": "both"}))
    assert len(both) == 6 + len(VALIDATION)
    with pytest.raises(InputError, match="train_on: both needs ucf101_lists"):
        thumos14(lists, train_on="both")
    write(Path(ucf101["ucf101_lists"]) / "classInd.txt", "1 Up", "2 Left", "3 Spin", "4 Fly")
    with pytest.raises(InputError, match=r"has the class Fly, which is not in classInd\.txt of"):
        thumos14(lists, **ucf101).rows("split1")


def test_actions_of_thumos14_with_stretches_to_be_ignored(lists: Path, ucf101: dict[str, Any]) -> None:
    def actions(subset: str) -> dict[str, tuple[Interval, ...]]:
        ordered = (("Left", 0.2, 0.4), ("Up", 0.1, 0.3), ("Up", 0.3, 0.4))  # by file, then by line
        return {
            name(subset, 1): (Interval("", 0.0, 0.2, "seconds"),),
            name(subset, 3): tuple(Interval(*action, "seconds") for action in ordered),
        }

    assert thumos14(lists).intervals("split1") == actions("validation") | actions("test")
    assert thumos14(lists, **ucf101).intervals("split1") == actions("test")
    without = thumos14(lists, exclude=["video_test_0000003", "video_validation_0000001"])
    assert set(without.intervals("split1")) == {name("test", 1), name("validation", 3)}
    assert [row.video for row in without.rows("split1")] == [
        *(name("test", number) for number in (1, 2, 4)),
        *(name("validation", number) for number in (2, 3)),
    ]


def test_without_lists_of_actions_a_warning_says_so(lists: Path, caplog: pytest.LogCaptureFixture) -> None:
    (lists / "temporal_annotations_test").rename(lists / "elsewhere")
    assert set(thumos14(lists).intervals("split1")) == {name("validation", 1), name("validation", 3)}
    assert "temporal_annotations_test does not exist, so nothing is known of when the test videos" in caplog.text


def test_videos_that_most_papers_leave_out_must_be_there(lists: Path) -> None:
    with pytest.raises(
        InputError, match=r"test_set_final\.mat does not list video_test_0000270, which `exclude` names"
    ):
        dataset("thumos14", lists).rows("split1")
    with pytest.raises(InputError, match=r"exclude\.0: String should match pattern"):
        thumos14(lists, exclude=["video_3"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("video_test_0000001 1", r"Up_test.txt, line 1: expected a video, start and end in seconds, found"),
        ("video_test_0000001 1 b", r"Up_test.txt, line 1: expected a video, start and end"),
        ("video_test_0000001 2 1", r"line 1: the action is from 2 to 1 s; correct the line"),
        ("video_test_0000001 0 inf", r"line 1: the action is from 0 to inf s"),
        ("video_test_0000009 1 2", r"line 1: video_test_0000009 is not in test_set_final.mat; take both"),
    ],
)
def test_a_wrong_line_of_an_action_is_named(lists: Path, line: str, message: str) -> None:
    write(lists / "temporal_annotations_test" / "Up_test.txt", line)
    with pytest.raises(InputError, match=message):
        thumos14(lists).intervals("split1")


def test_actions_of_no_class_are_named(lists: Path) -> None:
    write(lists / "temporal_annotations_test" / "Fly_test.txt", "video_test_0000001 1 2")
    with pytest.raises(InputError, match="has an action 'Fly', which is no class"):
        thumos14(lists).intervals("split1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"videos": 1}, r"is no MATLAB file with the table test_videos \(KeyError"),
        ({"test_videos": {"video_name": "a"}}, r"video 1: needs a name, a background of YES or NO .* found 'a', 'NO'"),
        ({"test_videos": {"video_name": np.ones(2), "primary_action": "Up"}}, r"video 1: needs a name"),
        (
            {"test_videos": {"video_name": "a", "primary_action": "Up", "background_video": "maybe"}},
            r"found 'a', 'maybe' and \['Up'\]",
        ),
        (
            {"test_videos": {"video_name": "a", "primary_action": "Fly"}},
            r"found 'a', 'NO' and \['Fly'\]; take all files",
        ),
        (
            {"test_videos": {"video_name": "a", "primary_action": "Up", "secondary_actions": "Fly"}},
            r"video 1: needs a name,.* found 'a', 'NO' and \['Up', 'F', 'l', 'y'\]",
        ),
    ],
    ids=str,
)
def test_a_table_that_is_none_is_named(lists: Path, content: Any, message: str) -> None:
    path = lists / "test_set_final.mat"
    savemat(path, content)
    with pytest.raises(InputError, match=message):
        thumos14(lists).rows("split1")


def test_a_missing_table_is_named(lists: Path) -> None:
    (lists / "test_set_final.mat").unlink()
    with pytest.raises(InputError, match=r"test_set_final.mat cannot be read: No such file or directory; put it there"):
        thumos14(lists).rows("split1")


# Both


@pytest.mark.parametrize("kind", ["activitynet", "thumos14"])
def test_a_plan_without_videos_has_one_message(tmp_path: Path, lists: Path, ucf101: dict[str, Any], kind: str) -> None:
    settings: dict[str, Any] = {"lists": str(write_activitynet(tmp_path / "anet.json"))}
    if kind == "thumos14":
        settings = {"lists": str(lists), "exclude": [], **ucf101}
    raw = {"datasets": {"mine": {"kind": kind, "root": str(tmp_path / "videos"), **settings}}}
    with pytest.raises(InputError, match=r"the folder of its videos, .*videos, does not exist. Put the videos there"):
        Plan(raw).dataset("mine")
    (tmp_path / "videos").mkdir()
    with pytest.raises(InputError) as error:
        Plan(raw).dataset("mine")
    listed = {"activitynet": 4, "thumos14": 6 + 4}[kind]
    assert f"{listed} of the {listed} listed videos are not in {tmp_path / 'videos'}, first " in str(error.value)
    assert ("allow_missing to true" in str(error.value)) == (kind == "thumos14")
