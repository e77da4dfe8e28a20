"""The archives of UCF-101 and HMDB-51, from files and servers to the folders of their datasets."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from atw.config import Archives, Location
from atw.datasets.official import HMDB51, UCF101
from atw.extras.download.prepare import download
from atw.files import InputError, file_digest
from atw.locks import locked
from tests.conftest import OtherUser
from tests.unit.archives import RAR, WRITERS, tree, write_rar, write_zip
from tests.unit.web import serve

UCF_LISTS = {"ucfTrainTestlist/classInd.txt": b"1 Archery\r\n2 HandstandPushups\r\n"} | {
    f"ucfTrainTestlist/{subset}list0{split}.txt": "".join(
        f"{name}/v_{name.replace('stand', 'Stand')}_g{group:02d}_c01.avi{end}\r\n"
        for name, end in (("Archery", " 1" * (subset == "train")), ("HandstandPushups", " 2" * (subset == "train")))
    ).encode()
    for split in (1, 2, 3)
    for subset, group in (("train", split), ("test", split + 3))
}
UCF_VIDEOS = {
    f"UCF-101/{name}/v_{name.replace('stand', 'Stand')}_g{group:02d}_c01.avi": f"{name} {group}".encode() * 9000
    for name in ("Archery", "HandstandPushups")
    for group in range(1, 7)
}
HMDB_CLASSES = ("kick", "kick_ball")
HMDB_LISTS = {
    f"testTrainMulti_7030_splits/{name}_test_split{split}.txt": f"{name}#1.avi 1 \n{name} [2].avi 2 \n".encode()
    for name in HMDB_CLASSES
    for split in (1, 2, 3)
}


def _location(kind: str, root: Path, lists: Path, **more: Any) -> Location:
    return Location.from_json(json.dumps({"name": kind, "kind": kind, "root": str(root), "lists": str(lists), **more}))


def _ucf(folder: Path, videos: dict[str, bytes] = UCF_VIDEOS) -> Archives:
    """Archives of the structure of UCF-101's, but the videos' in a format that needs no program."""
    folder.mkdir(exist_ok=True)
    return Archives(
        videos_from=str(WRITERS["tar"](folder / "UCF101.tar.gz", videos)),
        lists_from=str(write_zip(folder / "lists.zip", UCF_LISTS)),
    )


def test_ucf101_from_files(tmp_path: Path) -> None:
    root = tmp_path / "data/ucf101"
    out = tmp_path / "data/downloads/ucf101.json"
    archives = _ucf(tmp_path / "archives")
    download(out, _location("ucf101", root, root / "ucfTrainTestlist"), archives)
    videos = {name.removeprefix("UCF-101/"): content for name, content in UCF_VIDEOS.items()}
    assert tree(root) == videos | UCF_LISTS
    record = json.loads(out.read_text())["archives"]
    assert record["videos"]["sha256"] == file_digest(tmp_path / "archives/UCF101.tar.gz")
    assert sorted(path.name for path in root.parent.iterdir()) == ["downloads", "ucf101"]

    download(out, _location("ucf101", root, root / "ucfTrainTestlist"), Archives(videos_from="gone", lists_from="gone"))
    assert json.loads(out.read_text())["archives"] == {}
    shutil.rmtree(root / "ucfTrainTestlist")
    download(out, _location("ucf101", root, root / "ucfTrainTestlist"), archives)
    assert list(json.loads(out.read_text())["archives"]) == ["lists"]
    assert tree(root) == videos | UCF_LISTS


def test_two_archives_of_one_name(tmp_path: Path) -> None:
    archives = _ucf(tmp_path / "archives")
    for what in ("videos", "lists"):
        (tmp_path / "served" / what).mkdir(parents=True)
        shutil.copy(str(getattr(archives, f"{what}_from")), tmp_path / "served" / what / "get")
    root = tmp_path / "data/ucf101"
    with serve(tmp_path / "served") as web:
        download(
            tmp_path / "data/downloads/ucf101.json",
            _location("ucf101", root, root / "ucfTrainTestlist"),
            Archives(videos_from=web.address("videos/get"), lists_from=web.address("lists/get")),
        )
    assert len(tree(root)) == 12 + len(UCF_LISTS)


@RAR
def test_hmdb51_from_a_server(tmp_path: Path) -> None:
    served = tmp_path / "served"
    served.mkdir()
    inner = {}
    for name in HMDB_CLASSES:
        clips = {f"{name}/{name}#1.avi": name.encode() * 5000, f"{name}/{name} [2].avi": b"second"}
        inner[f"{name}.rar"] = write_rar(served / "inner.rar", clips).read_bytes()
    write_rar(served / "hmdb51_org.rar", inner)
    write_rar(served / "test_train_splits.rar", HMDB_LISTS)
    root, lists = tmp_path / "videos/hmdb51", tmp_path / "elsewhere/lists"
    with serve(served) as web:
        web.break_after = 40_000
        archives = Archives(
            videos_from=web.address("hmdb51_org.rar"),
            lists_from=web.address("test_train_splits.rar"),
            videos_sha256=file_digest(served / "hmdb51_org.rar"),
        )
        download(tmp_path / "downloads/hmdb51.json", _location("hmdb51", root, lists), archives)
    assert set(tree(root)) == {f"{name}/{name}{end}" for name in HMDB_CLASSES for end in ("#1.avi", " [2].avi")}
    assert set(tree(lists)) == {name.partition("/")[2] for name in HMDB_LISTS}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"videos_sha256": "0" * 64}, "has SHA-256 .* and datasets.ucf101.videos_sha256 asks for 0000"),
        ({"videos_from": "none.zip"}, "datasets.ucf101.videos_from: none.zip is neither a file nor"),
        ({"videos_from": "ftp://host/a.zip"}, "ftp://host/a.zip is neither a file nor an http"),
        ({"videos_from": "LISTS"}, r"lists.zip holds no \*/\*.avi"),
        ({"lists_from": "VIDEOS"}, "UCF101.tar.gz holds no classInd.txt"),
        ({"videos_from": "FEW"}, r"1 of the 12 listed videos are not there, first Archery/v_Archery_g01_c01.avi"),
    ],
)
def test_nothing_is_left_of_what_cannot_be_used(change: dict[str, str], message: str, tmp_path: Path) -> None:
    root = tmp_path / "data/ucf101"
    archives = _ucf(tmp_path / "archives")
    few = _ucf(tmp_path / "few", {name: UCF_VIDEOS[name] for name in list(UCF_VIDEOS)[1:]})
    named = {"LISTS": archives.lists_from, "VIDEOS": archives.videos_from, "FEW": few.videos_from}
    archives = archives.model_copy(update={key: named.get(value, value) for key, value in change.items()})
    out = tmp_path / "data/downloads/ucf101.json"
    location = _location("ucf101", root, root / "ucfTrainTestlist")
    with pytest.raises(InputError, match=message):
        download(out, location, archives)
    assert not out.exists()
    assert [path.name for path in root.parent.iterdir()] == ["downloads"]
    if "1 of the 12" in message:
        download(out, location.replaced(allow_missing=True), archives)
        assert len(tree(root)) == 11 + len(UCF_LISTS)


def test_rests_of_a_killed_run_do_no_harm(tmp_path: Path) -> None:
    root = tmp_path / "data/ucf101"
    rest = tmp_path / "data/.ucf101.videos.unpacking/UCF-101/Archery/v_Archery_g99_c01.avi"
    rest.parent.mkdir(parents=True)
    rest.write_bytes(b"half")
    root.mkdir()
    location = _location("ucf101", root, root / "ucfTrainTestlist")
    download(tmp_path / "data/downloads/ucf101.json", location, _ucf(tmp_path / "archives"))
    assert len(tree(root)) == 12 + len(UCF_LISTS)
    assert not rest.exists()


def test_what_is_there_is_never_written_into(tmp_path: Path) -> None:
    root = tmp_path / "data/ucf101"
    root.mkdir(parents=True)
    (root / "mine.txt").write_text("mine")
    location = _location("ucf101", root, root / "ucfTrainTestlist")
    with pytest.raises(InputError, match=r"nothing is written into it\. Move it away"):
        download(tmp_path / "data/downloads/ucf101.json", location, _ucf(tmp_path / "archives"))
    assert tree(root) == {"mine.txt": b"mine"}


def test_a_second_download_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "downloads/ucf101"
    folder.mkdir(parents=True)
    location = _location("ucf101", tmp_path / "ucf101", tmp_path / "lists")
    with locked(folder, "idle"), ThreadPoolExecutor(1) as pool:
        second = pool.submit(download, tmp_path / "downloads/ucf101.json", location, _ucf(tmp_path / "archives"))
        with pytest.raises(InputError, match=rf"process {os.getpid()} on .* is downloading into {folder}: wait until"):
            second.result(timeout=30)


@pytest.mark.parametrize("name", ["downloads/.ucf101.lock", ".ucf101.videos.unpacking"])
def test_planted_links_are_refused(tmp_path: Path, other_user: OtherUser, name: str) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/secret").write_text("of root alone")
    other_user.run(f"mkdir -p downloads; ln -s {tmp_path}/secrets {name}")
    location = _location("ucf101", other_user.folder / "ucf101", other_user.folder / "lists")
    with pytest.raises(InputError, match=rf"{name}.* look who made it"):
        download(other_user.folder / "downloads/ucf101.json", location, _ucf(tmp_path / "archives"))
    assert tree(tmp_path / "secrets") == {"secret": b"of root alone"}


def test_the_official_addresses() -> None:
    for known in (UCF101.addresses, HMDB51.addresses):
        assert {address.partition("/")[0] for address in (known.page, known.videos, known.lists)} == {"https:"}


def test_the_command_refuses_with_status_2(tmp_path: Path) -> None:
    location = _location("folder", tmp_path, tmp_path).to_json()
    command = [sys.executable, "-m", "atw", "download", str(tmp_path / "out.json"), "--dataset", location]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2
    assert "no official archives" in run.stderr
    assert "Traceback" not in run.stderr
