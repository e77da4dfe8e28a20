"""Kinetics and Something-Something; lists in archives; names with odd characters on their way to a shard."""

import io
import json
import subprocess
import tarfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest

from atw import config
from atw.datasets import Dataset
from atw.datasets.lists import list_names
from atw.datasets.scan import existing
from atw.files import InputError
from atw.preprocess.shard import make
from atw.shards import Shard
from tests.unit.archives import TAR_BOMBS, needs, write_tar_bomb
from tests.unit.lists import ODD_NAMES, write, write_hmdb51, write_ucf101
from tests.unit.preprocessed import MovingFrames, WriteMjpeg

HEADER = "label,youtube_id,time_start,time_end,split,is_cc"
TRAIN = ["massaging person's head,--abc_DEF12,7,17,train,0", '"petting animal (not cat)",1234567890a,110,120,train,0']
VALIDATE = [
    "massaging person's head,zyxwvutsrqp,0,10,validate,0",
    "petting animal (not cat),aaaaaaaaaaa,5,15,validate,0",
]


def dataset(root: Path, lists: Path, **keys: Any) -> Dataset:
    raw = {"datasets": {"mine": {"root": str(root), "lists": str(lists), **keys}}}
    return Dataset(config.location(config.load(raw), "mine"))


def write_kinetics(folder: Path, validate: str = "validate") -> Path:
    write(folder / "train.csv", HEADER, *TRAIN)
    write(folder / f"{validate}.csv", HEADER, *(row.replace("validate", validate) for row in VALIDATE))
    # The published test lists of some years have no labels; nobody asks for this one.
    write(folder / "test.csv", "youtube_id,time_start,time_end,split", "bbbbbbbbbbb,5,15,test")
    return folder


@pytest.mark.parametrize("validate", ["validate", "val"])
def test_kinetics_lists(tmp_path: Path, validate: str) -> None:
    mine = dataset(tmp_path, write_kinetics(tmp_path, validate), kind="kinetics")
    split = mine.split("split1")
    assert mine.split_names == ("split1",)
    assert split.classes == ("massaging person's head", "petting animal (not cat)")
    assert [(row.video, row.label, row.group) for row in split.train] == [
        ("massaging person's head/--abc_DEF12_000007_000017.mp4", "massaging person's head", "--abc_DEF12"),
        ("petting animal (not cat)/1234567890a_000110_000120.mp4", "petting animal (not cat)", "1234567890a"),
    ]
    assert [row.video for row in split.test] == [
        "massaging person's head/zyxwvutsrqp_000000_000010.mp4",
        "petting animal (not cat)/aaaaaaaaaaa_000005_000015.mp4",
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("{subset}/{label_underscored}/{id}.mkv", "train/massaging_person's_head/--abc_DEF12.mkv"),
        ("{subset}/{id}_{start}_{end}.mp4", "train/--abc_DEF12_000007_000017.mp4"),
    ],
)
def test_kinetics_clips_are_where_the_pattern_says(tmp_path: Path, path: str, expected: str) -> None:
    mine = dataset(tmp_path, write_kinetics(tmp_path), kind="kinetics", path=path)
    assert expected in [row.video for row in mine.split("split1").train]


def test_kinetics_in_one_file_tested_on_the_test_list(tmp_path: Path) -> None:
    test = [row.replace("validate", "test") for row in VALIDATE[:1]]
    path = write(tmp_path / "all.csv", HEADER, *TRAIN, *VALIDATE[1:], *test)
    split = dataset(tmp_path, path, kind="kinetics", test_on="test").split("split1")
    assert (len(split.train), len(split.test)) == (2, 1)
    assert split.test[0].video.startswith("massaging person's head/zyx")


def test_missing_kinetics_clips_are_normal(tmp_path: Path) -> None:
    mine = dataset(tmp_path / "clips", write_kinetics(tmp_path), kind="kinetics")
    write(tmp_path / "clips" / mine.rows("split1")[0].video, "one is enough")
    mine.require_videos()


@pytest.mark.parametrize(
    ("file", "lines", "message"),
    [
        ("train.csv", ["label,youtube_id"], "train.csv, line 1: no column split, time_end, time_start"),
        ("train.csv", [HEADER, "a,b,c,d,train,0"], "train.csv, line 2: needs a label.*whole seconds"),
        ("train.csv", [HEADER, "a,b,1,2,training,0"], "line 2: .*split of train, validate or test"),
        ("train.csv", [HEADER, "a,b,1"], "line 2: needs a label, a youtube_id"),
        ("train.csv", [HEADER, "a,../../../b,1,2,train,0"], "line 2: the path .* stay inside it"),
        ("train.csv", [HEADER, '"a,b'], "not a CSV file"),
        ("train.csv", [HEADER, *TRAIN, TRAIN[0]], "is listed twice"),
        ("train.csv", [HEADER, *TRAIN, VALIDATE[0].replace(",0,10,validate", ",9,19,train")], "is in both subsets"),
        ("kinetics_val.csv", [HEADER], "kinetics_val.csv and validate.csv both list the videos of validate"),
    ],
    ids=str,
)
def test_a_wrong_kinetics_list_is_named(tmp_path: Path, file: str, lines: list[str], message: str) -> None:
    write(write_kinetics(tmp_path) / file, *lines)
    with pytest.raises(InputError, match=message):
        dataset(tmp_path, tmp_path, kind="kinetics").rows("split1")


def test_a_missing_kinetics_list_is_named(tmp_path: Path) -> None:
    (write_kinetics(tmp_path) / "train.csv").unlink()
    with pytest.raises(InputError, match=r"no CSV file lists the videos of train; needed is one file, such as train"):
        dataset(tmp_path, tmp_path, kind="kinetics").rows("split1")


SOMETHING: dict[str, Any] = {
    "labels": {"Putting something on something": "1", "Holding something": "0"},
    "train": [
        {"id": "78", "label": "holding a pen", "template": "Holding [something]", "placeholders": ["a pen"]},
        {"id": "9", "label": "putting", "template": "Putting [something] on [something]"},
    ],
    "validation": [{"id": "80", "label": "holding it", "template": "Holding [something]"}],
}


def write_something(folder: Path, prefix: str = "something-something-v2-", **changed: Any) -> Path:
    for name, content in (SOMETHING | changed).items():
        write(folder / f"{prefix}{name}.json", json.dumps(content))
    return folder


@pytest.mark.parametrize("prefix", ["something-something-v2-", ""])
def test_something_lists(tmp_path: Path, prefix: str) -> None:
    split = dataset(tmp_path, write_something(tmp_path, prefix), kind="somethingv2").split("split1")
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
        ({"train": {}}, "train.json: expected a list"),
        ({"train": [{"id": 3, "template": "Holding [something]"}]}, "train.json, video 1: expected an object"),
        ({"train": [{"id": "3", "template": "Eating [something]"}]}, "video 1: class 'Eating something' is not in"),
        ({"train": [{"id": "../3", "template": "Holding [something]"}]}, "video 1: the path '../3.webm' must"),
    ],
    ids=str,
)
def test_a_wrong_something_list_is_named(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataset(tmp_path, write_something(tmp_path, **changed), kind="somethingv2").rows("split1")


def test_something_lists_that_are_absent_or_no_json_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no something-something-v2-labels.json: put the dataset's lists there"):
        dataset(tmp_path, tmp_path, kind="somethingv2").rows("split1")
    write(write_something(tmp_path) / "something-something-v2-train.json", "[")
    with pytest.raises(InputError, match=r"train.json: not JSON"):
        dataset(tmp_path, tmp_path, kind="somethingv2").rows("split1")
    write(tmp_path / "something-something-v2-train.json", "[" * 100_000)
    with pytest.raises(InputError, match=r"train.json: .* too deeply nested"):
        dataset(tmp_path, tmp_path, kind="somethingv2").rows("split1")


def test_something_numbers_may_be_numbers(tmp_path: Path) -> None:
    labels = {"Putting something on something": 1, "Holding something": "0"}
    mine = dataset(tmp_path, write_something(tmp_path, labels=labels), kind="somethingv2")
    assert mine.classes == ("Holding something", "Putting something on something")


def pack(folder: Path, archive: Path) -> Path:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            for path in sorted(folder.iterdir()):
                zipped.write(path, f"ucfTrainTestlist/{path.name}")
            zipped.writestr("__MACOSX/ucfTrainTestlist/._classInd.txt", "no list")
    else:
        with tarfile.open(archive, "w:gz") as packed:
            packed.add(folder, "some/folder")
    return archive


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
@pytest.mark.parametrize(("kind", "writer"), [("ucf101", write_ucf101), ("hmdb51", write_hmdb51)])
def test_lists_are_read_from_their_archive(tmp_path: Path, kind: str, writer: Any, suffix: str) -> None:
    folder = writer(tmp_path / "lists")
    archive = pack(folder, tmp_path / f"lists{suffix}")
    plain, packed = (dataset(tmp_path, lists, kind=kind) for lists in (folder, archive))
    assert [packed.split(name) for name in packed.split_names] == [plain.split(name) for name in plain.split_names]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lists", f"lists{suffix}"]


def test_an_archive_without_the_lists_is_named(tmp_path: Path) -> None:
    write(tmp_path / "lists" / "other.txt", "x")
    archive = pack(tmp_path / "lists", tmp_path / "lists.zip")
    with pytest.raises(InputError, match=r"lists.zip/classInd.txt does not exist"):
        dataset(tmp_path, archive, kind="ucf101").rows("split1")


def test_an_archive_with_two_files_of_a_name_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "lists.zip", "w") as zipped:
        zipped.writestr("a/classInd.txt", "1 Swing")
        zipped.writestr("b/classInd.txt", "1 Golf")
    with pytest.raises(InputError, match=r"holds two different files classInd.txt"):
        dataset(tmp_path, tmp_path / "lists.zip", kind="ucf101").rows("split1")


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    content = bytearray(pack(write_ucf101(tmp_path / "lists"), tmp_path / "lists.zip").read_bytes())
    content[80:90] = bytes(10)
    (tmp_path / "lists.zip").write_bytes(content)
    with pytest.raises(InputError, match=r"lists.zip cannot be read: .*get the archive again"):
        dataset(tmp_path, tmp_path / "lists.zip", kind="ucf101").rows("split1")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("at", range(40, 120, 8))
def test_other_compressions_in_a_damaged_zip_are_named(tmp_path: Path, method: int, at: int) -> None:
    with zipfile.ZipFile(tmp_path / "lists.zip", "w", method) as zipped:
        zipped.writestr("classInd.txt", "".join(f"{number} Class{number * 7919 % 1000}\n" for number in range(1, 500)))
    content = bytearray((tmp_path / "lists.zip").read_bytes())
    content[at : at + 8] = bytes(byte ^ 255 for byte in content[at : at + 8])
    (tmp_path / "lists.zip").write_bytes(content)
    with pytest.raises(InputError, match=r"lists.zip cannot be read: .*get the archive again"):
        _ = dataset(tmp_path, tmp_path / "lists.zip", kind="ucf101").classes


@pytest.mark.parametrize("packed", ["", "lists.zip", "lists.tar.gz"])
@pytest.mark.parametrize("kind", ["kinetics", "hmdb51"])
def test_files_that_macos_adds_are_no_lists(tmp_path: Path, kind: str, packed: str) -> None:
    writer = write_kinetics if kind == "kinetics" else write_hmdb51
    plain = dataset(tmp_path, writer(tmp_path / "plain"), kind=kind)
    folder = writer(tmp_path / "mac")
    for path in sorted(folder.iterdir()):
        (folder / f"._{path.name}").write_bytes(b"\0\5\x16\7")
        write(folder / "__MACOSX" / path.name, "resources")
        write(folder / "__MACOSX" / f"._{path.name}", "resources")
    lists = folder
    if packed == "lists.zip":
        with zipfile.ZipFile(tmp_path / packed, "w") as zipped:
            for path in sorted(folder.rglob("*")):
                zipped.write(path, path.relative_to(folder))
        lists = tmp_path / packed
    elif packed:
        lists = pack(folder, tmp_path / packed)
    assert dataset(tmp_path, lists, kind=kind).rows("split1") == plain.rows("split1")


def test_a_folder_of_lists_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "lists").symlink_to("lists")
    with pytest.raises(InputError, match=r"the lists in .*/lists cannot be read: Too many levels"):
        dataset(tmp_path, tmp_path / "lists", kind="hmdb51").rows("split1")
    with pytest.raises(InputError, match=r"the lists in .*/xxx.* cannot be read: File name too long; correct `lists`"):
        dataset(tmp_path, tmp_path / ("x" * 300), kind="hmdb51").rows("split1")


def test_a_rar_archive_without_libarchive_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lists.rar").write_bytes(b"Rar!\x1a\x07\x01\x00")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        InputError, match=r"lists.rar is neither .*bsdtar.* is not installed: install .*libarchive-tools"
    ):
        dataset(tmp_path, tmp_path / "lists.rar", kind="hmdb51").rows("split1")


def test_other_archives_go_through_bsdtar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_hmdb51(tmp_path / "lists")
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as packed:
        packed.add(folder, "lists")
    (tmp_path / "as.tar").write_bytes(plain.getvalue())
    archive = tmp_path / "it's lists.rar"
    archive.write_bytes(b"Rar!\x1a\x07\x01\x00")
    script = tmp_path / "bsdtar"
    script.write_text(
        f'#!/bin/sh\n[ "$4" = "@{archive}" ] && exec cat "{tmp_path}/as.tar"\necho "wrong: $4" >&2; exit 1\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert dataset(tmp_path, archive, kind="hmdb51").rows("split1") == dataset(tmp_path, folder, kind="hmdb51").rows(
        "split1"
    )
    other = tmp_path / "other.rar"
    other.write_bytes(b"Rar!\x1a\x07\x01\x00")
    with pytest.raises(InputError, match=r"other.rar cannot be read: wrong"):
        dataset(tmp_path, other, kind="hmdb51").rows("split1")


@pytest.mark.parametrize("status", [0, 1])
def test_a_talkative_bsdtar_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    folder = write_hmdb51(tmp_path / "lists")
    with tarfile.open(tmp_path / "as.tar", "w") as packed:
        packed.add(folder, "lists")
    archive = tmp_path / "lists.rar"
    archive.write_bytes(b"Rar!\x1a\x07\x01\x00")
    script = tmp_path / "bsdtar"
    # More than a pipe holds; it gives up by itself, so that the test ends where nobody reads it.
    talk = """timeout 5 sh -c 'head -c 1000000 /dev/zero | tr "\\0" w >&2' || exit 3"""
    script.write_text(f'#!/bin/sh\n{talk}\ncat "{tmp_path}/as.tar"; exit {status}\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    mine = dataset(tmp_path, archive, kind="hmdb51")
    if status:
        with pytest.raises(InputError, match=r"lists.rar cannot be read: www") as error:
            mine.rows("split1")
        assert len(str(error.value)) < 5000
    else:
        assert mine.rows("split1") == dataset(tmp_path, folder, kind="hmdb51").rows("split1")


@needs("bsdtar")
def test_a_7z_archive_is_read_by_libarchive(tmp_path: Path) -> None:
    folder = write_hmdb51(tmp_path / "lists")
    archive = tmp_path / "lists.7z"
    subprocess.run(["bsdtar", "-cf", archive, "--format=7zip", "-C", tmp_path, "lists"], check=True)
    assert dataset(tmp_path, archive, kind="hmdb51").rows("split1") == dataset(tmp_path, folder, kind="hmdb51").rows(
        "split1"
    )


def test_present_finds_files_and_nothing_else(tmp_path: Path) -> None:
    for name in ("top.avi", "a/1.avi", "a/b/2.avi", "a/folder.avi/x"):
        write(tmp_path / name, "x")
    (tmp_path / "a/link.avi").symlink_to(tmp_path / "top.avi")
    (tmp_path / "a/dead.avi").symlink_to(tmp_path / "nothing")
    asked = ["top.avi", "a/1.avi", "a/b/2.avi", "a/folder.avi", "a/link.avi", "a/dead.avi", "a/3.avi", "c/1.avi"]
    asked.append("top.avi/1.avi")
    assert existing(str(tmp_path), asked) == {"top.avi", "a/1.avi", "a/b/2.avi", "a/link.avi"}


def test_odd_names_reach_the_shard(tmp_path: Path, moving_frames: MovingFrames, write_mjpeg: WriteMjpeg) -> None:
    lists = write_hmdb51(tmp_path / "lists")
    raw = {
        "datasets": {"odd": {"kind": "hmdb51", "root": str(tmp_path / "videos"), "lists": str(lists)}},
        "preprocess": {"width": 48, "height": 40, "shards": 1},
        "evaluate": {"crop": 40},
    }
    plan = config.load(raw)
    mine = Dataset(config.location(plan, "odd"))
    names = [f"sword/{name}" for name in ODD_NAMES]
    for seed, name in enumerate(names):
        write_mjpeg(tmp_path / "videos" / name, moving_frames(7 + seed, seed=seed))
    given = config.shard_settings(plan, "odd", "rgb")
    given = given.of_shard("00000", mine.members_digest("00000", 1))
    make(tmp_path / "00000.h5", given, mine, flow_path=None, threads=1)
    with Shard(tmp_path / "00000.h5") as shard:
        counts = {entry.video: entry.count for entry in shard.entries if entry.video in names}
    assert counts == {name: 7 + seed for seed, name in enumerate(names)}


def test_trailing_blanks_of_kinetics_make_no_class_and_no_path(tmp_path: Path) -> None:
    header = "label,youtube_id,time_start,time_end,split "
    write(tmp_path / "train.csv", header, "high jump ,a,0,10,train", "high  jump,b ,0,10,train", end=" \r\n")
    write(tmp_path / "val.csv", header, "high\u00a0jump,c,0,10, val")
    mine = dataset(Path("r"), tmp_path, kind="kinetics", path="{id}_{start}.mp4")
    assert mine.classes == ("high jump",)
    assert [row.video for row in mine.rows("split1")] == ["a_000000.mp4", "b_000000.mp4", "c_000000.mp4"]


def test_a_something_class_or_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    def labelled(text: str) -> Dataset:
        write(tmp_path / "labels.json", text)
        return dataset(Path("r"), tmp_path, kind="somethingv2")

    with pytest.raises(InputError, match=r"labels.json, line 2: 'A' stands twice, first in line 1"):
        _ = labelled('{"A": "0",\n "A": "1"}').classes
    with pytest.raises(InputError, match="class 'A' is listed twice"):
        _ = labelled('{"A": "0", "A ": "1"}').classes
    with pytest.raises(InputError, match="'A' and 'a' would be two classes"):
        _ = labelled('{"A": "0", "a": "1"}').classes


@pytest.mark.parametrize("name", TAR_BOMBS)
def test_headers_of_an_archive_of_lists_take_no_memory(tmp_path: Path, name: str) -> None:
    archive = write_tar_bomb(tmp_path / "lists.tar.gz", TAR_BOMBS[name])
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"lists\.tar\.gz cannot be read: .*(a header of 629145600|with holes)"):
            list_names(archive)
        assert tracemalloc.get_traced_memory()[1] < 1 << 23
    finally:
        tracemalloc.stop()


def test_large_lists_of_an_archive_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atw.datasets.lists.MAX_LISTS_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "lists.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.csv", bytes(1001))
    with tarfile.open(tmp_path / "lists.tar.gz", "w:gz") as packed:
        entry = tarfile.TarInfo("a.csv")
        entry.size = 1001
        packed.addfile(entry, io.BytesIO(bytes(1001)))
    for name in ("lists.zip", "lists.tar.gz"):
        with pytest.raises(InputError, match="its lists have more than 1000 bytes"):
            list_names(tmp_path / name)
