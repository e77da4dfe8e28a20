"""When videos show their actions: columns of a list, a list of its own, and what a demo writes with its videos."""

from pathlib import Path

import pytest

from atw.config import Interval
from atw.datasets import Dataset
from atw.files import InputError
from atw.plan import Plan
from tests.unit.lists import dataset, write


def test_actions_in_columns_of_the_list_are_in_frames(tmp_path: Path) -> None:
    path = write(
        tmp_path / "split1.csv",
        "path,label,subset,action_first,action_last",
        *("a.avi,a,train,3,9", "b.avi,a,test,,", ".//c.avi,a,test, 0 ,0"),
    )
    assert dataset("folder", path).intervals("split1") == {
        "a.avi": (Interval("a", 3, 9, "frames"),),
        "c.avi": (Interval("a", 0, 0, "frames"),),
    }
    write(path, "path,label,subset", "a.avi,a,train", "b.avi,a,test")
    assert dataset("folder", path).intervals("split1") == {}
    assert dataset("folder", path).intervals_digest("split1") == ""


ACTIONS = ("b.avi,run,.5,2.25", "a.avi,jump,0,1", "b.avi, jump ,3,4e1", "b.avi,,5,6")


def with_actions(folder: Path, *lines: str, head: str = "path,label,start,end", columns: str = "") -> Dataset:
    write(
        folder / "split1.csv", f"path,label,subset{columns}", *("a.avi,jump,train", "c.avi,run,train", "b.avi,run,test")
    )
    write(folder / "split2.csv", "path,label,subset", *("a.avi,jump,test", "c.avi,run,test", "b.avi,run,train"))
    lists = [folder / name for name in ("split{split}.csv", "actions.csv")]
    write(lists[1], head, *lines)
    return dataset("folder", lists[0], intervals=str(lists[1]))


def test_a_list_of_actions_is_in_seconds_and_of_all_splits(tmp_path: Path) -> None:
    mine = with_actions(tmp_path, *ACTIONS)
    first = mine.intervals("split1")
    assert first == {
        "a.avi": (Interval("jump", 0, 1, "seconds"),),
        "b.avi": (
            Interval("run", 0.5, 2.25, "seconds"),
            Interval("jump", 3, 40, "seconds"),
            Interval("", 5, 6, "seconds"),
        ),
    }
    assert mine.intervals("split2") == first
    digests = {with_actions(tmp_path, *ACTIONS[:count]).intervals_digest("split1") for count in (2, 3, 4)}
    assert len(digests) == 3
    assert with_actions(tmp_path, *ACTIONS).intervals_digest("split1") in digests
    with pytest.raises(InputError, match="dataset mine has no split3"):
        mine.intervals("split3")


def test_a_change_of_the_list_scores_again_and_trains_nothing(tmp_path: Path) -> None:
    def settings(*lines: str) -> tuple[str, str]:
        given = with_actions(tmp_path, *lines).location.settings.location_settings()
        raw = {"datasets": {"mine": given | {"root": str(root)}}, "model": {"weights": None}}
        plan = Plan(raw)
        return plan.train_settings("mine", "split1", "rgb").to_json(), plan.score_settings(
            "mine", "split1", "rgb"
        ).to_json()

    root = tmp_path / "videos"
    for name in ("a.avi", "b.avi", "c.avi"):
        write(root / name)
    none, before, after = settings(), settings(*ACTIONS[:1]), settings(*ACTIONS)
    assert none[0] == before[0] == after[0]
    assert len({none[1], before[1], after[1]}) == 3
    assert "actions" not in none[1]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["z.avi,run,0,1"], "mine, split1: actions of z.avi are listed, which is in no list; correct its path"),
        (["a.avi,ran,0,1"], "a.avi has an action 'ran', which is no class"),
        (["a.avi,run,0,1", "a.avi,run,0,1.0"], r"actions.csv, line 3: the action is .* as a line before it says"),
        (["a.avi,run,1,1"], "from start '1' to end '1'; give the start before the end, in seconds from 0"),
        (["a.avi,run,2,1"], "give the start before the end"),
        (["a.avi,run,-1,1"], "give the start before the end"),
        (["a.avi,run,nan,1"], "give the start before the end"),
        (["a.avi,run,0,inf"], "give the start before the end"),
        (["a.avi,run,,"], "line 2: the action is from start '' to end ''; give two numbers of seconds"),
        (["a.avi,run,soon,1"], "give two numbers of seconds"),
    ],
)
def test_a_list_of_actions_that_cannot_be_is_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        with_actions(tmp_path, *lines).intervals("split1")


def test_actions_are_in_one_place(tmp_path: Path) -> None:
    mine = with_actions(tmp_path, head="path,start,end")
    with pytest.raises(InputError, match=r"actions\.csv, line 1: no column label"):
        mine.intervals("split1")
    mine = with_actions(tmp_path, *ACTIONS)
    columns = ("path,label,subset,action_first,action_last", "a.avi,jump,train,1,2", "b.avi,jump,test,,")
    write(tmp_path / "split1.csv", *columns)
    with pytest.raises(InputError, match=r"both in .*actions\.csv and in the columns .*split1\.csv; leave out"):
        mine.intervals("split1")
    write(tmp_path / "split1.csv", *columns[:2], "b.avi,jump,test,x,9")
    with pytest.raises(InputError, match=r"line 3: the action is from action_first 'x' to action_last '9'; give two"):
        mine.intervals("split1")
    write(tmp_path / "split1.csv", *columns[:2], "b.avi,jump,test,9,8")
    with pytest.raises(InputError, match="give the action_first before the action_last, in frames from 0"):
        mine.intervals("split1")


def test_the_actions_of_a_demo_are_rendered_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = dataset("demo", train_per_class=1, test_per_class=1)
    assert mine.intervals_digest("split2") == ""  # known before they are rendered
    with pytest.raises(
        InputError, match=r"data/mine/split2\.csv, .* does not exist; make it with `atw run data/mine/s"
    ):
        mine.intervals("split2")
    video = mine.rows("split2")[0].video
    write(tmp_path / "data/mine/split2.csv", "path,label,subset,action_first,action_last", f"{video},bow,test,3,9")
    assert mine.intervals("split2") == {video: (Interval("bow", 3, 9, "frames"),)}
