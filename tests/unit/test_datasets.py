import dataclasses
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atw.datasets import Dataset, from_json
from atw.files import InputError

OFFICIAL_LISTS = Path(__file__).parents[3] / "shared" / "data" / "official_lists"

# Names as they stand in the official lists, or with the characters that occur there.
ODD_NAMES = [
    "#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi",
    "Ben & Jerry;rm -rf!_smile_h_cm_np1_fr_bad_1.avi",
    "[1] (2) @home + ~tilde_sword_u_cm_np2_le_med_3.avi",
    "It's a kick_f_cm_np1_ba_bad_0.avi",
    "double  space_f_cm_np1_ba_bad_0.avi",
]


def write(path: Path, *lines: str, end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


def dataset(kind: str, lists: Path, root: Path | str = "nowhere") -> Dataset:
    return Dataset({"name": "mine", "kind": kind, "root": str(root), "lists": str(lists)})


def write_ucf101(folder: Path, end: str = "\r\n") -> Path:
    write(folder / "classInd.txt", "1 Swing", "2 HandstandPushups", "3 Archery", end=end)
    for split in ("01", "02", "03"):
        write(
            folder / f"trainlist{split}.txt",
            "Swing/v_Swing_g02_c01.avi 1",
            "Swing/v_Swing_g02_c02.avi 1",
            "HandstandPushups/v_HandStandPushups_g02_c01.avi 2",
            "Archery/v_Archery_g02_c01.avi 3 ",
            end=end,
        )
        write(
            folder / f"testlist{split}.txt",
            "HandstandPushups/v_HandStandPushups_g01_c01.avi",
            "Archery/v_Archery_g01_c01.avi",
            "",
            end=end,
        )
    return folder


def write_hmdb51(folder: Path) -> Path:
    for split in ("1", "2", "3"):
        write(folder / f"sword_exercise_test_split{split}.txt", "a_0.avi 1 ", "a_1.avi 2 ", "a_2.avi 0 ")
        write(folder / f"sword_test_split{split}.txt", *(f"{name} {1 + i % 2} " for i, name in enumerate(ODD_NAMES)))
        write(folder / f"kick_ball_test_split{split}.txt", "b_0.avi 1 ", "b_1.avi 2 ", end="\r\n")
        write(folder / f"kick_test_split{split}.txt", "a_0.avi 2 ", "a_1.avi 1 ")
    return folder


def write_folder(path: Path, *rows: str, header: str = "path,label,subset,group") -> Path:
    return write(path, header, *rows)


GOOD = ("a/1.mp4,fight,train,g1", "b/1.mp4,calm,train,g2", "a/2.mp4,fight,test,g3", "b/2.mp4,calm,test,g4")


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
    assert len({variant.digest() for variant in variants}) == len(variants)
    renamed = dataclasses.replace(plain, name="split2", train=tuple(plain.train))
    assert renamed.digest() == plain.digest()


def demo(**sizes: int) -> Dataset:
    given: dict[str, Any] = {"train_per_class": 3, "test_per_class": 2, **sizes}
    return Dataset({"name": "demo", "kind": "demo", "root": "data/demo", **given})


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


def test_absent_videos_are_asked_for_before_anything_runs(tmp_path: Path) -> None:
    lists = write_folder(tmp_path / "list.csv", *GOOD)
    with pytest.raises(InputError, match=r"absent, does not exist. .*datasets.mine.root"):
        dataset("folder", lists, tmp_path / "absent").require_videos()
    allowing = Dataset({"name": "mine", "kind": "folder", "root": tmp_path, "lists": str(lists), "allow_missing": True})
    for refused in (dataset("folder", lists, tmp_path), allowing):
        with pytest.raises(InputError, match=r"4 of the 4 listed videos are not in .*first a/1.mp4.*allow_missing"):
            refused.require_videos()
    write(tmp_path / "b" / "2.mp4", "one video is enough to begin where that is allowed: the others are quarantined")
    with pytest.raises(InputError, match=r"3 of the 4 listed videos are not in"):
        dataset("folder", lists, tmp_path).require_videos()
    allowing.require_videos()


def test_a_dataset_comes_back_from_the_command_line(tmp_path: Path) -> None:
    path = write_folder(tmp_path / "list.csv", *GOOD)
    text = f'{{"name": "mine", "kind": "folder", "root": "r", "lists": "{path}"}}'
    assert from_json(text).rows("split1") == dataset("folder", path).rows("split1")
