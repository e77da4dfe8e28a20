"""Which shard a video belongs to, and what makes a shard or a split another one."""

import dataclasses
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atw.datasets import Dataset, contents
from atw.files import file_digest
from tests.unit.lists import GOOD, dataset, write, write_folder, write_ucf101

# A video must stay in its shard, or everything is computed again: the first 8 bytes of SHA-256 modulo the count.
SHARD_OF = {
    "Swing/v_Swing_g01_c01.avi": {1: "00000", 16: "00010", 52: "00014"},
    "clap/#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi": {1: "00000", 16: "00012", 52: "00036"},
    "é/ü ñ.mp4": {1: "00000", 16: "00007", 52: "00015"},
}


@pytest.mark.parametrize("count", [1, 16, 52])
def test_shard_membership_is_stable(tmp_path: Path, count: int) -> None:
    rows = [f'"{video}",x,train' for video in SHARD_OF]
    mine = dataset("folder", write_folder(tmp_path / "list.csv", *rows, header="path,label,subset"))
    for video, shards in SHARD_OF.items():
        assert video in [row.video for row in mine.members(shards[count], count)]


@settings(max_examples=30)
@given(
    names=st.sets(st.from_regex(r"[a-z]{1,3}/[a-z0-9]{1,6}\.mp4", fullmatch=True), min_size=1), count=st.integers(1, 9)
)
def test_every_video_is_in_exactly_one_shard(
    tmp_path_factory: pytest.TempPathFactory, names: set[str], count: int
) -> None:
    path = tmp_path_factory.mktemp("lists") / "list.csv"
    mine = dataset(
        "folder", write_folder(path, *(f"{name},x,train" for name in sorted(names)), header="path,label,subset")
    )
    shards = mine.shard_names("split1", count)
    assert len(shards) <= count
    assert sorted(row.video for shard in shards for row in mine.members(shard, count)) == sorted(names)
    for shard in shards:
        videos = [row.video for row in mine.members(shard, count)]
        assert videos == sorted(videos)


def test_a_shard_without_videos_is_no_shard_of_the_split(tmp_path: Path) -> None:
    mine = dataset("folder", write_folder(tmp_path / "list.csv", *GOOD))
    names = mine.shard_names("split1", 1000)
    assert len(names) == 4
    assert mine.members("00999" if "00999" not in names else "00998", 1000) == []


def test_splits_that_share_videos_share_shards(tmp_path: Path) -> None:
    write_folder(tmp_path / "list1.csv", "1.mp4,x,train", "2.mp4,x,test", header="path,label,subset")
    write_folder(tmp_path / "list2.csv", "3.mp4,x,train", "1.mp4,x,test", header="path,label,subset")
    mine = dataset("folder", tmp_path / "list{split}.csv")
    assert mine.shard_names("split1", 1) == mine.shard_names("split2", 1) == ["00000"]
    assert [row.video for row in mine.members("00000", 1)] == ["1.mp4", "2.mp4", "3.mp4"]


def digests(lists: Path, root: Path, count: int) -> dict[str, str]:
    mine = dataset("folder", lists, root)
    return {shard: mine.members_digest(shard, count) for shard in mine.shard_names("split1", count)}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {shard for shard in before | after if before.get(shard) != after.get(shard)}


def test_what_happens_to_a_video_touches_its_shard_only(tmp_path: Path) -> None:
    rows = [f"v{number}.mp4,x,train" for number in range(20)]
    lists, count = tmp_path / "list.csv", 5
    for number in range(21):
        write(tmp_path / f"v{number}.mp4", "0123456789")

    def listed(*lines: str) -> dict[str, str]:
        return digests(write_folder(lists, *lines, header="path,label,subset"), tmp_path, count)

    before = listed(*rows)
    assert len(before) == count
    shard_of = {row.video: name for name in before for row in dataset("folder", lists).members(name, count)}
    assert changed(before, listed(*reversed(rows))) == set()
    assert changed(before, listed("v0.mp4,x,test", *rows[1:])) == set()  # a shard knows nothing of subsets
    assert changed(before, listed("v0.mp4,y,train", *rows[1:])) == {shard_of["v0.mp4"]}
    assert changed(before, listed(*rows[1:])) == {shard_of["v0.mp4"]}
    assert len(changed(before, listed(*rows, "v20.mp4,x,train"))) == 1
    write(tmp_path / "v7.mp4", "01234567890")
    assert changed(before, listed(*rows)) == {shard_of["v7.mp4"]}
    (tmp_path / "v7.mp4").unlink()
    assert changed(before, listed(*rows)) == {shard_of["v7.mp4"]}


@pytest.fixture
def looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two videos of equal size and times in one shard, looked at once; which files are read after that."""
    write_folder(tmp_path / "list.csv", "a.mp4,x,train", "b.mp4,x,test", header="path,label,subset")
    for name in "ab":
        write(tmp_path / f"{name}.mp4", f"content {name}")
        os.utime(tmp_path / f"{name}.mp4", ns=(10**18, 10**18))
    read: list[str] = []

    def noted(path: Path) -> str:
        read.append(path.name)
        return file_digest(path)

    monkeypatch.setattr(contents, "file_digest", noted)
    look(tmp_path)
    assert sorted(read) == ["a.mp4", "b.mp4"]
    read.clear()
    return read


def look(folder: Path) -> str:
    """The digest of the shard, as another process would compute it."""
    location = dataset("folder", folder / "list.csv", folder).location
    return Dataset(location, kept=folder / "kept").members_digest("00000", 1)


def test_a_video_is_read_once_and_again_when_it_looks_otherwise(tmp_path: Path, looked_at: list[str]) -> None:
    before = look(tmp_path)
    assert looked_at == []
    (tmp_path / "a.mp4").touch()
    assert look(tmp_path) == look(tmp_path) == before
    assert looked_at == ["a.mp4"]
    write(tmp_path / "a.mp4", "another a")  # as long as before
    assert look(tmp_path) == look(tmp_path) != before
    write(tmp_path / "a.mp4", "content a")
    assert look(tmp_path) == before
    assert looked_at == ["a.mp4"] * 3


def test_videos_that_change_places_are_noticed_though_size_and_times_stay(tmp_path: Path, looked_at: list[str]) -> None:
    before = look(tmp_path)
    for old, new in (("a", "c"), ("b", "a"), ("c", "b")):
        (tmp_path / f"{old}.mp4").rename(tmp_path / f"{new}.mp4")
    assert {path.stat().st_mtime_ns for path in tmp_path.glob("*.mp4")} == {10**18}
    assert look(tmp_path) != before


@pytest.mark.parametrize("kept", ["", "[]", '{"a.mp4": 1}', '{"a.mp4": [[1], "x"]}', '{"a.mp4": [[1, 2, 3], "x"]}'])
def test_what_is_kept_may_be_damaged(tmp_path: Path, looked_at: list[str], kept: str) -> None:
    before = look(tmp_path)
    (tmp_path / "kept/mine/00000.json").write_text(kept)
    assert look(tmp_path) == before
    assert sorted(looked_at) == ["a.mp4", "b.mp4"]


def test_where_nothing_can_be_kept_the_digest_is_the_same(
    tmp_path: Path, looked_at: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = look(tmp_path)
    shutil.rmtree(tmp_path / "kept")
    write(tmp_path / "kept", "in the way")
    assert look(tmp_path) == before
    assert "the videos of mine will be read again next time: cannot write" in caplog.text
    assert dataset("folder", tmp_path / "list.csv", tmp_path).members_digest("00000", 1) == before


def test_what_is_no_file_has_no_content(tmp_path: Path, looked_at: list[str]) -> None:
    digests = set()
    for make in (lambda path: None, os.mkfifo, os.mkdir, lambda path: path.symlink_to("nowhere")):
        path = tmp_path / "a.mp4"
        path.unlink(missing_ok=True)
        make(path)
        digests.add(look(tmp_path))
        if path.is_dir():
            path.rmdir()
    assert len(digests) == 1
    assert looked_at == []
    write(tmp_path / "a.mp4", "content a")
    assert look(tmp_path) not in digests


def test_what_cannot_be_read_has_no_content_until_it_can(
    tmp_path: Path, looked_at: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = look(tmp_path)
    (tmp_path / "a.mp4").touch()
    with monkeypatch.context() as broken:
        broken.setattr(contents, "file_digest", lambda path: path.read_text() + Path("/nowhere").read_text())
        assert look(tmp_path) != before
    assert look(tmp_path) == before


def test_long_reading_is_told(
    tmp_path: Path, looked_at: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(contents, "_TELL_SECONDS", -1)
    (tmp_path / "a.mp4").touch()
    look(tmp_path)
    assert "reading the videos of mine: 0.0 GB" in caplog.text


def test_moving_the_videos_changes_no_digest(tmp_path: Path) -> None:
    lists = write_folder(tmp_path / "list.csv", *GOOD)
    for root in ("here", "there"):
        for row in GOOD:
            write(tmp_path / root / row.partition(",")[0], row)
    assert digests(lists, tmp_path / "here", 3) == digests(lists, tmp_path / "there", 3)


def test_a_splits_digest_follows_videos_labels_subsets_and_class_order(tmp_path: Path) -> None:
    plain = dataset("ucf101", write_ucf101(tmp_path)).split("split1")
    variants = [
        plain,
        dataclasses.replace(plain, classes=plain.classes[::-1]),
        dataclasses.replace(plain, train=plain.train[1:]),
        dataclasses.replace(plain, train=(dataclasses.replace(plain.train[0], label="Swing"), *plain.train[1:])),
        dataclasses.replace(plain, train=(dataclasses.replace(plain.train[0], subset="test"), *plain.train[1:])),
        dataclasses.replace(plain, train=(dataclasses.replace(plain.train[0], video="x"), *plain.train[1:])),
    ]
    assert len({variant.digest for variant in variants}) == len(variants)
    renamed = dataclasses.replace(plain, name="split2", train=tuple(plain.train))
    assert renamed.digest == plain.digest
