"""Splits drawn from a folder with a directory per class."""

import csv
import logging
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
from atw.files import InputError
from atw.plan import Plan
from tests.unit.drawn import VIDEOS, drawn, raw, touch


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


def test_lists_drawn_with_fewer_endings_stay(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    drawn(root, extensions=[".avi"])
    touch(root / "a" / "new.vob")
    drawn(root, extensions=[".avi", ".vob"])
    assert "1 videos came after its splits were drawn and are left out, first a/new.vob" in caplog.text


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
