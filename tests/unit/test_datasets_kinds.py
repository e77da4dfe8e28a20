"""Kinds of datasets: those of other distributions, and what a job is told of a dataset."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atw import config
from atw.config import Archives, Location
from atw.datasets import Dataset
from atw.extras.download.prepare import download
from atw.extras.reference import markdown, schema
from atw.files import InputError
from atw.plan import Plan
from atw.preprocess.audit import audit
from atw.preprocess.shard import make
from tests.unit.archives import write_zip
from tests.unit.lists import write

KIND = """
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from atw.config import DatasetKind, ListedVideo
from atw.datasets.lists import checked_video, read_lines


class Halves(DatasetKind):
    about: ClassVar[str] = "Half of the videos train."
    title: ClassVar[str] = "Halves"

    kind: Literal["{kind}"]
    root: str = Field(description="folder of the videos")
    allow_missing: bool = Field(True, description="whether videos may be missing")

    def count_splits(self, name):
        return 1

    def draw_splits(self, name):
        videos = sorted(path.name for path in Path(self.root).iterdir())
        lines = [f"{{video}} {{('train', 'test')[number % 2]}}" for number, video in enumerate(videos)]
        Path("half.txt").write_text("\\n".join(lines))
        return videos

    def read_list(self, name, split):
        rows = [line.split() for line in read_lines(Path(), "half.txt")]
        return [ListedVideo(checked_video(video, "half.txt"), "all", subset) for video, subset in rows]
"""
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Installs a distribution with one module that registers a kind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "site")

    def install(kind: str, code: str, *, target: str = "Halves", distribution: str = "") -> None:
        name = distribution or f"dist_{kind}"
        write(tmp_path / f"site/{name}.py", code)
        information = tmp_path / f"site/{name}-1.0.dist-info"
        write(information / "METADATA", "Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0")
        write(information / "entry_points.txt", "[atw.datasets]", f"{kind} = {name}:{target}")

    return install


def test_a_kind_of_another_distribution_is_read_drawn_and_audited(tmp_path: Path, install: Install) -> None:
    install("halves", KIND.format(kind="halves"))
    for number in range(4):
        write(tmp_path / f"videos/{number}.avi")
    raw = {
        "datasets": {"mine": {"kind": "halves", "root": "videos", "train": {"batch": 3}}},
        "preprocess": {"shards": 1},
    }
    plan = Plan(raw)
    split = plan.dataset("mine").split("split1")
    assert [[row.video for row in rows] for rows in (split.train, split.test)] == [
        ["0.avi", "2.avi"],
        ["1.avi", "3.avi"],
    ]
    assert split.classes == ("all",)
    assert (plan.rendered("mine", "split1"), plan.dataset("mine").intervals("split1")) == ([], {})
    table = plan.table_settings("mine", "1")
    assert config.find_kind(table.kind).title == "Halves"
    text = plan.location("mine").to_json()
    assert text == '{"name": "mine", "root": "videos", "kind": "halves", "allow_missing": true}'
    mine = Dataset.from_json(text)
    shard = config.shard_settings(plan.config, "mine", "rgb").of_shard("00000", mine.members_digest("00000", 1))
    make(Path("0.h5"), shard, mine, flow_path=None, threads=1)
    settings = config.audit_settings(plan.config, "mine", split="split1", videos=split.digest)
    audit(Path("bad.csv"), [Path("0.h5")], settings.model_copy(update={"quarantine_limit": 1.0}), mine)
    assert len(Path("bad.csv").read_text().splitlines()) == 1 + 4
    assert "## A dataset of kind `halves`\n\nHalf of the videos train.\n\n| key" in markdown()
    assert schema()["$defs"]["Halves"]["properties"]["kind"]["const"] == "halves"
    with pytest.raises(
        InputError, match=r"datasets\.mine\.rot: unknown key \(value 1\); allowed here: .*, root, allow"
    ):
        config.load({"datasets": {"mine": {"kind": "halves", "root": "videos", "rot": 1}}})
    with pytest.raises(
        InputError, match=r"the kinds are ucf101, .*, somethingv2, activitynet, thumos14, folder, demo, halves"
    ):
        config.load({"datasets": {"mine": {"kind": "quarters"}}})


def test_a_kind_of_another_distribution_is_downloaded(tmp_path: Path, install: Install) -> None:
    code = """
from typing import ClassVar, Literal

from atw.config import Addresses, DownloadableDataset, ListedVideo


class Fetched(DownloadableDataset):
    addresses: ClassVar[Addresses] = Addresses("page", "videos", "lists", "all.txt")

    kind: Literal["fetched"]

    def count_splits(self, name):
        return 1

    def read_list(self, name, split):
        return [ListedVideo(f"a/{number}.avi", "a", subset) for number, subset in enumerate(("train", "test"))]
"""
    install("fetched", code, target="Fetched")
    plan = Plan({"datasets": {"mine": {"kind": "fetched", "root": "videos", "lists": "lists"}}})
    with pytest.raises(InputError, match=r"videos, does not exist\..* or run `atw run data/downloads/mine\.json`"):
        plan.dataset("mine")
    archives = plan.downloadable["mine"].archives()
    assert archives == Archives()
    videos, lists = write_zip(tmp_path / "v.zip", {"a/0.avi": b"0", "a/1.avi": b"1"}), tmp_path / "l.zip"
    write_zip(lists, {"all.txt": b""})
    given = archives.model_copy(update={"videos_from": str(videos), "lists_from": str(lists)})
    download(tmp_path / "mine.json", plan.location("mine"), given)
    assert plan.dataset("mine").split("split1").test[0].video == "a/1.avi"


@pytest.mark.parametrize(
    ("kind", "code", "target", "message"),
    [
        (
            "broken",
            "import nowhere_to_be_found",
            "Halves",
            "from dist_broken:Halves of dist_broken: ModuleNotFoundError",
        ),
        ("empty", "", "Halves", "from dist_empty:Halves of dist_empty: AttributeError"),
        ("other", "", "__name__", "dist_other:__name__ of dist_other is no subclass of atw.config.DatasetKind"),
        ("base", "from atw.config import DatasetKind", "DatasetKind", "is no subclass .* with a method `read_list`"),
    ],
)
def test_a_broken_entry_point_names_itself(install: Install, kind: str, code: str, target: str, message: str) -> None:
    install(kind, code, target=target)
    config.load({"datasets": {"mine": {"kind": "demo"}}})  # only who asks for it is told
    with pytest.raises(InputError, match=f"the kind of datasets {kind}.*{message}"):
        config.load({"datasets": {"mine": {"kind": kind}}})


def test_two_distributions_cannot_have_one_kind(install: Install) -> None:
    for distribution in ("one", "two"):
        install("twice", KIND.format(kind="twice"), distribution=distribution)
    with pytest.raises(InputError, match=r"called twice: (one|two):Halves of (one|two), .*; uninstall all but one"):
        config.load({"datasets": {"mine": {"kind": "twice"}}})


def test_a_location_comes_back_from_the_command_line() -> None:
    for settings in ({"kind": "demo", "test_per_class": 3}, {"kind": "folder", "root": "r", "extensions": [".avi"]}):
        location = config.location(config.load({"datasets": {"mine": settings}}), "mine")
        assert Location.from_json(location.to_json()) == location


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", "{}", '{"name": "mine"}', '{"name": "mine", "kind": "none"}'),
        *('{"name": "mine", "kind": "folder"}', '{"name": "mine", "kind": "demo", "root": "elsewhere"}'),
    ],
)
def test_what_is_no_location_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--dataset: .*let the workflow give the JSON"):
        Location.from_json(text)


def demo(**sizes: int) -> Dataset:
    given: dict[str, Any] = {"name": "demo", "kind": "demo", "train_per_class": 3, "test_per_class": 2, **sizes}
    return Dataset.from_json(json.dumps(given))


def test_demo_splits_share_no_video_and_no_shard() -> None:
    mine = demo()
    videos: set[str] = set()
    shards: set[str] = set()
    for name in mine.split_names:
        split = mine.split(name)
        assert (len(split.train), len(split.test), len(split.classes)) == (24, 16, 8)
        names = {row.video for row in (*split.train, *split.test)}
        own = set(mine.shard_names(name, 4))
        assert {row.video for shard in own for row in mine.members(shard, 4)} == names
        assert videos.isdisjoint(names)
        assert shards.isdisjoint(own)
        videos |= names
        shards |= own
    assert len(mine.split_names) == 3
    assert shards <= {f"{number:05d}" for number in range(12)}


def test_demo_videos_need_not_exist_to_be_planned() -> None:
    mine = demo()
    mine.require_videos()
    assert mine.members_digest("00000", 2) == demo().members_digest("00000", 2)
    assert mine.members_digest("00000", 2) != demo(test_per_class=9).members_digest("00000", 2)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("b.avi val", r"dataset mine, split1: b.avi is in the subset 'val'; it must be train or test"),
        ("b.avi", r"dataset mine, split1: its list cannot be read: ValueError: .*correct the list, or the kind halves"),
    ],
)
def test_wrong_lines_of_another_kind_are_errors(tmp_path: Path, install: Install, line: str, message: str) -> None:
    install("halves", KIND.format(kind="halves"))
    write(tmp_path / "half.txt", "a.avi train", line)
    loaded = config.load({"datasets": {"mine": {"kind": "halves", "root": "videos"}}})
    with pytest.raises(InputError, match=message):
        Dataset(config.location(loaded, "mine")).rows("split1")


def test_a_kind_without_lists_has_no_split(tmp_path: Path, install: Install) -> None:
    install("nothing", KIND.format(kind="nothing").replace("return 1", "return 0"))
    loaded = config.load({"datasets": {"mine": {"kind": "nothing", "root": "videos"}}})
    with pytest.raises(InputError, match="dataset mine has no split1; its splits are none: its kind finds no lists"):
        Dataset(config.location(loaded, "mine")).rows("split1")
