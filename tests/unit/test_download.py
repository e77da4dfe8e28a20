import fcntl
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atw.download import unpack as unpacking
from atw.download.dataset import download
from atw.download.fetch import fetch
from atw.download.official import OFFICIAL, official
from atw.download.unpack import unpack
from atw.files import InputError, file_digest
from tests.unit.archives import FOLDER, LINK, WRITERS, write_rar, write_rar_of_declared_size, write_zip
from tests.unit.web import Web, serve

CONTENT = bytes(range(256)) * 12_000  # 3 MB
PROGRAMS = [
    pytest.param(name, marks=pytest.mark.skipif(not shutil.which(name), reason=f"{name} is not installed"))
    for name in ("bsdtar", "unar")
]
RAR = pytest.mark.skipif(
    not (shutil.which("bsdtar") or shutil.which("unar")), reason="neither bsdtar nor unar is installed"
)
KINDS = [pytest.param("rar", marks=RAR), "zip", "tar"]
ODD = "kick/#1 & ;![](it's)@+~ ü.avi"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served/big.rar").write_bytes(CONTENT)
    with serve(tmp_path / "served") as server:
        yield server


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Leaves one program to unpack RAR with."""
    return lambda name: monkeypatch.setattr(unpacking, "_RAR_PROGRAMS", (name,))


def test_fetch(web: Web, tmp_path: Path) -> None:
    fetch(web.address("big.rar"), tmp_path / "big.rar")
    assert (tmp_path / "big.rar").read_bytes() == CONTENT
    assert not (tmp_path / "big.rar.part").exists()
    fetch(web.address("big.rar"), tmp_path / "big.rar")
    assert len(web.requests) == 1


def test_a_broken_transfer_goes_on(web: Web, tmp_path: Path) -> None:
    web.break_after = 1_300_000
    fetch(web.address("big.rar"), tmp_path / "big.rar", attempts=2, pause_seconds=0)
    assert (tmp_path / "big.rar").read_bytes() == CONTENT
    assert [wanted for _, wanted, _ in web.requests] == [None, "bytes=1300000-", "bytes=2600000-"]
    assert {condition for _, wanted, condition in web.requests if wanted} == {'"one"'}


@pytest.mark.parametrize("tag", ['"one"', "", 'W/"weak"'])
def test_a_changed_file_is_fetched_anew(web: Web, tmp_path: Path, tag: str) -> None:
    web.tag, web.break_after = tag, 1_000_000
    with pytest.raises(InputError, match="1000000 bytes are kept in"):
        _fail_after_first(web, tmp_path)
    new = CONTENT[::-1] + b"longer"
    (web.folder / "big.rar").write_bytes(new)
    web.tag, web.break_after = tag and '"two"', 0
    fetch(web.address("big.rar"), tmp_path / "big.rar", pause_seconds=0)
    assert (tmp_path / "big.rar").read_bytes() == new


def _fail_after_first(web: Web, tmp_path: Path) -> None:
    """The first answer ends early, and the server is gone afterwards."""
    original = web.finish_request

    def finish(request: Any, client_address: Any) -> None:
        if web.requests:
            request.close()
        else:
            original(request, client_address)

    web.finish_request = finish  # type: ignore[method-assign]
    try:
        fetch(web.address("big.rar"), tmp_path / "big.rar", attempts=1, pause_seconds=0)
    finally:
        web.finish_request = original  # type: ignore[method-assign]


def test_a_file_that_shrank_is_fetched_anew(web: Web, tmp_path: Path) -> None:
    web.tag, web.break_after = "", 1_000_000
    with pytest.raises(InputError):
        _fail_after_first(web, tmp_path)
    (web.folder / "big.rar").write_bytes(b"short")
    fetch(web.address("big.rar"), tmp_path / "big.rar", pause_seconds=0)
    assert (tmp_path / "big.rar").read_bytes() == b"short"


def test_another_address_starts_anew(web: Web, tmp_path: Path) -> None:
    (web.folder / "other.rar").write_bytes(b"other")
    fetch(web.address("big.rar"), tmp_path / "archive.rar")
    fetch(web.address("other.rar"), tmp_path / "archive.rar")
    assert (tmp_path / "archive.rar").read_bytes() == b"other"


def test_a_file_put_there_by_hand_is_taken(web: Web, tmp_path: Path) -> None:
    (tmp_path / "big.rar").write_bytes(b"by hand")
    (tmp_path / "big.rar.part").write_bytes(b"of unknown origin")
    fetch(web.address("big.rar"), tmp_path / "big.rar")
    assert (tmp_path / "big.rar").read_bytes() == b"by hand"
    assert web.requests == []


def test_a_killed_download_goes_on(web: Web, tmp_path: Path) -> None:
    target = tmp_path / "big.rar"
    web.seconds_a_block = 0.05
    code = "import sys, pathlib, atw.download.fetch as f; f.fetch(sys.argv[1], pathlib.Path(sys.argv[2]))"
    process = subprocess.Popen([sys.executable, "-c", code, web.address("big.rar"), str(target)])
    part = target.with_name("big.rar.part")
    deadline = time.monotonic() + 60
    while (not part.exists() or part.stat().st_size < 500_000) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    kept = part.stat().st_size
    assert 500_000 <= kept < len(CONTENT)
    assert not target.exists()
    web.seconds_a_block = 0
    fetch(web.address("big.rar"), target)
    assert target.read_bytes() == CONTENT
    assert web.requests[-1][1] == f"bytes={kept}-"


def test_what_cannot_be_fetched_is_explained(web: Web, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.rar: HTTP status 404"):
        fetch(web.address("none.rar"), tmp_path / "none.rar")
    web.say_length = False
    with pytest.raises(InputError, match="does not say how long"):
        fetch(web.address("big.rar"), tmp_path / "big.rar")
    web.page = "<html>This domain is for sale</html>"
    with pytest.raises(InputError, match="web page instead of an archive"):
        fetch(web.address("big.rar"), tmp_path / "big.rar")
    web.server_close()
    with pytest.raises(InputError, match="try again later"):
        fetch("http://127.0.0.1:9/a.rar", tmp_path / "a.rar", attempts=2, pause_seconds=0)


@pytest.mark.parametrize("kind", KINDS)
def test_unpack(kind: str, tmp_path: Path) -> None:
    entries = {"kick/a.avi": b"A" * 1000, ODD: b"odd", "empty.txt": b""}
    archive = WRITERS[kind](tmp_path / f"a.{kind}", entries | {"kick/": b""}, {"kick/": FOLDER})
    unpack(archive, tmp_path / "out")
    assert _tree(tmp_path / "out") == entries


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_program_unpacks_rar(program: str, only: Any, tmp_path: Path) -> None:
    only(program)
    archive = write_rar(tmp_path / "a.rar", {"kick/a.avi": b"A" * 1000, ODD: b"odd"})
    unpack(archive, tmp_path / "out")
    assert _tree(tmp_path / "out") == {"kick/a.avi": b"A" * 1000, ODD: b"odd"}


HOSTILE = {
    "parent": ({"../evil.avi": b"x"}, {}, r"'\.\./evil\.avi' would leave"),
    "deep parent": ({"kick/../../evil.avi": b"x"}, {}, r"'kick/\.\./\.\./evil\.avi' would leave"),
    "absolute": ({"/tmp/evil.avi": b"x"}, {}, "'/tmp/evil.avi' would leave"),
    "link": ({"kick": b"/etc"}, {"kick": LINK}, "'kick' is a link"),
    "line break": ({"a\nb.avi": b"x"}, {}, "would leave"),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("kind", ["zip", "tar", *[pytest.param(*p.values, marks=p.marks) for p in PROGRAMS]])
def test_a_hostile_archive_is_refused(kind: str, case: str, only: Any, tmp_path: Path) -> None:
    entries, modes, message = HOSTILE[case]
    if kind not in WRITERS:
        only(kind)
    (tmp_path / "deep/deeper").mkdir(parents=True)
    archive = WRITERS.get(kind, write_rar)(tmp_path / f"a.{kind}", {"good.avi": b"g"} | entries, modes)
    with pytest.raises(InputError, match=message):
        unpack(archive, tmp_path / "deep/deeper/out")
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and "out" not in path.parts]
    assert outside == [archive]


def test_devices_and_duplicates_are_refused(tmp_path: Path) -> None:
    for kind in ("zip", "tar"):
        archive = WRITERS[kind](tmp_path / f"a.{kind}", {"a": b"1", "./a": b"2"})
        with pytest.raises(InputError, match=r"'\./a' is there twice"):
            unpack(archive, tmp_path / kind)
    archive = write_zip(tmp_path / "device.zip", {"dev": b""}, {"dev": 0o020666})
    with pytest.raises(InputError, match="'dev' is a device"):
        unpack(archive, tmp_path / "device")
    archive = write_zip(tmp_path / "both.zip", {"a": b"1", "a/b": b"2"})
    with pytest.raises(InputError, match="'a/b' is a file and a folder"):
        unpack(archive, tmp_path / "both")


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_huge_declared_size_is_refused(program: str, only: Any, tmp_path: Path) -> None:
    only(program)
    archive = write_rar_of_declared_size(tmp_path / "huge.rar", "huge.avi", 1 << 45)
    with pytest.raises(InputError, match=r"'huge\.avi' has 35184372088832 bytes"):
        unpack(archive, tmp_path / "out")


def test_too_much_in_total_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_zip(tmp_path / "a.zip", {"a": bytes(600), "b": bytes(600)})
    monkeypatch.setattr(unpacking, "MAX_UNPACKED_BYTES", 1000)
    with pytest.raises(InputError, match="'b' has 600 bytes, which makes 1200 in total; the limit is 1000"):
        unpack(archive, tmp_path / "out")
    monkeypatch.setattr(unpacking, "MAX_ENTRIES", 1)
    with pytest.raises(InputError, match="more than 1 entries"):
        unpack(write_zip(tmp_path / "b.zip", {"a": b"", "b": b""}), tmp_path / "out2")


@RAR
def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    for kind in WRITERS:
        archive = WRITERS[kind](tmp_path / f"a.{kind}", {"a.avi": os.urandom(5000), "b.avi": os.urandom(5000)})
        archive.write_bytes(archive.read_bytes()[:6000])
        with pytest.raises(InputError, match=rf"a\.{kind} "):
            unpack(archive, tmp_path / kind)
    (tmp_path / "page.rar").write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(InputError, match="no ZIP, tar or RAR archive: it starts with b'<!DOCTYP'"):
        unpack(tmp_path / "page.rar", tmp_path / "page")


@pytest.mark.parametrize("kind", KINDS)
def test_damage_anywhere_ends_in_one_message(kind: str, tmp_path: Path) -> None:
    whole = WRITERS[kind](tmp_path / "whole", {"kick/a.avi": b"A" * 300, ODD: b"odd"}).read_bytes()
    rng = random.Random(0)
    refused = 0
    for number in range(30 if kind == "rar" else 300):
        content = bytearray(whole[: rng.randrange(1, len(whole))] if number % 2 else whole)
        for _ in range(3):
            content[rng.randrange(len(content))] = rng.randrange(256)
        (tmp_path / "bad").write_bytes(content)
        try:
            unpack(tmp_path / "bad", tmp_path / "in/out")
        except InputError:
            refused += 1
        assert {path.name for path in tmp_path.iterdir()} <= {"whole", "bad", "in"}
        assert {path.name for path in (tmp_path / "in").iterdir()} <= {"out"}
        shutil.rmtree(tmp_path / "in")
    assert refused > 10


def test_a_missing_program_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"neither bsdtar nor unar is on PATH.*apt install libarchive-tools"):
        unpack(write_rar(tmp_path / "a.rar", {"a": b""}), tmp_path / "out")


@given(st.text(min_size=1, max_size=12), st.text(min_size=1, max_size=5))
def test_no_name_leaves_the_folder(name: str, other: str) -> None:
    guard = unpacking._Guard(Path("a.zip"), Path())
    for entry in (name, f"{other}/{name}", f"../{name}", f"/{name}", f"{other}/../../{name}"):
        try:
            path = guard.place(entry, "folder", 0)
        except InputError:
            continue
        assert path.absolute().resolve().is_relative_to(Path.cwd().resolve())
        assert ".." not in path.parts


def _tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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


def _location(kind: str, root: Path, lists: Path, **more: Any) -> dict[str, Any]:
    return {"name": kind, "kind": kind, "root": str(root), "lists": str(lists), **more}


def _ucf(folder: Path, videos: dict[str, bytes] = UCF_VIDEOS) -> dict[str, str | None]:
    """Archives of the structure of UCF-101's, but the videos' in a format that needs no program."""
    folder.mkdir(exist_ok=True)
    return {
        "videos_from": str(WRITERS["tar"](folder / "UCF101.tar.gz", videos)),
        "lists_from": str(write_zip(folder / "lists.zip", UCF_LISTS)),
    }


def test_ucf101_from_files(tmp_path: Path) -> None:
    root = tmp_path / "data/ucf101"
    out = tmp_path / "data/downloads/ucf101.json"
    archives = _ucf(tmp_path / "archives")
    download(out, _location("ucf101", root, root / "ucfTrainTestlist"), archives)
    videos = {name.removeprefix("UCF-101/"): content for name, content in UCF_VIDEOS.items()}
    assert _tree(root) == videos | UCF_LISTS
    record = json.loads(out.read_text())["archives"]
    assert record["videos"]["sha256"] == file_digest(tmp_path / "archives/UCF101.tar.gz")
    assert sorted(path.name for path in root.parent.iterdir()) == ["downloads", "ucf101"]

    download(out, _location("ucf101", root, root / "ucfTrainTestlist"), {"videos_from": "gone", "lists_from": "gone"})
    assert json.loads(out.read_text())["archives"] == {}
    shutil.rmtree(root / "ucfTrainTestlist")
    download(out, _location("ucf101", root, root / "ucfTrainTestlist"), archives)
    assert list(json.loads(out.read_text())["archives"]) == ["lists"]
    assert _tree(root) == videos | UCF_LISTS


def test_two_archives_of_one_name(tmp_path: Path) -> None:
    archives = _ucf(tmp_path / "archives")
    for what in ("videos", "lists"):
        (tmp_path / "served" / what).mkdir(parents=True)
        shutil.copy(str(archives[f"{what}_from"]), tmp_path / "served" / what / "get")
    root = tmp_path / "data/ucf101"
    with serve(tmp_path / "served") as web:
        download(
            tmp_path / "data/downloads/ucf101.json",
            _location("ucf101", root, root / "ucfTrainTestlist"),
            {"videos_from": web.address("videos/get"), "lists_from": web.address("lists/get")},
        )
    assert len(_tree(root)) == 12 + len(UCF_LISTS)


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
        archives: dict[str, str | None] = {
            "videos_from": web.address("hmdb51_org.rar"),
            "lists_from": web.address("test_train_splits.rar"),
            "videos_sha256": file_digest(served / "hmdb51_org.rar"),
        }
        download(tmp_path / "downloads/hmdb51.json", _location("hmdb51", root, lists), archives)
    assert set(_tree(root)) == {f"{name}/{name}{end}" for name in HMDB_CLASSES for end in ("#1.avi", " [2].avi")}
    assert set(_tree(lists)) == {name.partition("/")[2] for name in HMDB_LISTS}


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
    named = {"LISTS": archives["lists_from"], "VIDEOS": archives["videos_from"], "FEW": few["videos_from"]}
    archives |= {key: named.get(value, value) for key, value in change.items()}
    out = tmp_path / "data/downloads/ucf101.json"
    location = _location("ucf101", root, root / "ucfTrainTestlist")
    with pytest.raises(InputError, match=message):
        download(out, location, archives)
    assert not out.exists()
    assert [path.name for path in root.parent.iterdir()] == ["downloads"]
    if "1 of the 12" in message:
        download(out, location | {"allow_missing": True}, archives)
        assert len(_tree(root)) == 11 + len(UCF_LISTS)


def test_rests_of_a_killed_run_do_no_harm(tmp_path: Path) -> None:
    root = tmp_path / "data/ucf101"
    rest = tmp_path / "data/.ucf101.videos.unpacking/UCF-101/Archery/v_Archery_g99_c01.avi"
    rest.parent.mkdir(parents=True)
    rest.write_bytes(b"half")
    root.mkdir()
    location = _location("ucf101", root, root / "ucfTrainTestlist")
    download(tmp_path / "data/downloads/ucf101.json", location, _ucf(tmp_path / "archives"))
    assert len(_tree(root)) == 12 + len(UCF_LISTS)
    assert not rest.exists()


def test_what_is_there_is_never_written_into(tmp_path: Path) -> None:
    root = tmp_path / "data/ucf101"
    root.mkdir(parents=True)
    (root / "mine.txt").write_text("mine")
    location = _location("ucf101", root, root / "ucfTrainTestlist")
    with pytest.raises(InputError, match=r"nothing is written into it\. Move it away"):
        download(tmp_path / "data/downloads/ucf101.json", location, _ucf(tmp_path / "archives"))
    assert _tree(root) == {"mine.txt": b"mine"}


def test_a_second_download_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "downloads/ucf101"
    folder.mkdir(parents=True)
    location = _location("ucf101", tmp_path / "ucf101", tmp_path / "lists")
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another process downloads into"):
            download(tmp_path / "downloads/ucf101.json", location, _ucf(tmp_path / "archives"))


def test_the_official_addresses() -> None:
    for name, known in OFFICIAL.items():
        assert official("mine", name) is known
        assert {address.partition("/")[0] for address in (known.page, known.videos, known.lists)} == {"https:"}
    with pytest.raises(InputError, match="dataset mine is of kind folder, which has no official archives"):
        official("mine", "folder")


def test_the_command_refuses_with_status_2(tmp_path: Path) -> None:
    location = json.dumps(_location("folder", tmp_path, tmp_path))
    command = [sys.executable, "-m", "atw", "download", str(tmp_path / "out.json"), "--dataset", location]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 2
    assert "no official archives" in run.stderr
    assert "Traceback" not in run.stderr
