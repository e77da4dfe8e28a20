"""Archives: read as lists and unpacked, whatever their format, and refused where they are hostile or damaged."""

import io
import os
import random
import shutil
import subprocess
import tarfile
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atw.datasets import archive as archives
from atw.datasets.archive import unpack
from atw.datasets.lists import list_names
from atw.files import InputError
from tests.unit.archives import (
    FOLDER,
    LINK,
    RAR,
    TAR_BOMBS,
    WRITERS,
    needs,
    tree,
    write_rar,
    write_rar_of_declared_size,
    write_tar_bomb,
    write_zip,
)
from tests.unit.lists import dataset, write, write_hmdb51, write_ucf101

PROGRAMS = [pytest.param(name, marks=needs(name)) for name in ("bsdtar", "unar")]
KINDS = [pytest.param("rar", marks=RAR), "zip", "tar"]
ODD = "kick/#1 & ;![](it's)@+~ ü.avi"
RAR_START = b"Rar!\x1a\x07\x01\x00"


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Leaves one of the programs on PATH."""

    def leave(name: str) -> None:
        folder = tmp_path / "programs"
        folder.mkdir()
        for program in (name, *(["lsar"] if name == "unar" else [])):
            (folder / program).symlink_to(shutil.which(program) or "")
        monkeypatch.setenv("PATH", str(folder))

    return leave


# Unpacked


@pytest.mark.parametrize("kind", KINDS)
def test_unpack(kind: str, tmp_path: Path) -> None:
    entries = {"kick/a.avi": b"A" * 1000, ODD: b"odd", "empty.txt": b""}
    archive = WRITERS[kind](tmp_path / f"a.{kind}", entries | {"kick/": b""}, {"kick/": FOLDER})
    unpack(archive, tmp_path / "out")
    assert tree(tmp_path / "out") == entries


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_program_unpacks_rar_and_refuses_a_huge_size(program: str, only: Any, tmp_path: Path) -> None:
    only(program)
    unpack(write_rar(tmp_path / "a.rar", {"kick/a.avi": b"A" * 1000, ODD: b"odd"}), tmp_path / "out")
    assert tree(tmp_path / "out") == {"kick/a.avi": b"A" * 1000, ODD: b"odd"}
    with pytest.raises(InputError, match=r"'huge\.avi' has 35184372088832 bytes"):
        unpack(write_rar_of_declared_size(tmp_path / "huge.rar", "huge.avi", 1 << 45), tmp_path / "huge")


HOSTILE = {
    "parent": ({"../evil.avi": b"x"}, {}, r"'\.\./evil\.avi' would leave"),
    "deep parent": ({"kick/../../evil.avi": b"x"}, {}, r"'kick/\.\./\.\./evil\.avi' would leave"),
    "absolute": ({"/tmp/evil.avi": b"x"}, {}, "'/tmp/evil.avi' would leave"),
    "link": ({"kick": b"/etc"}, {"kick": LINK}, "'kick' is a link"),
    "line break": ({"a\nb.avi": b"x"}, {}, "would leave"),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("kind", ["zip", "tar", *PROGRAMS])
def test_a_hostile_archive_is_refused(kind: str, case: str, only: Any, tmp_path: Path) -> None:
    entries, modes, message = HOSTILE[case]
    if kind not in WRITERS:
        only(kind)
    (tmp_path / "in/deep").mkdir(parents=True)
    archive = WRITERS.get(kind, write_rar)(tmp_path / f"in/a.{kind}", {"good.avi": b"g"} | entries, modes)
    with pytest.raises(InputError, match=message):
        unpack(archive, tmp_path / "in/deep/out")
    assert [path for path in (tmp_path / "in").rglob("*") if path.is_file() and "out" not in path.parts] == [archive]


@pytest.mark.parametrize(
    ("kinds", "entries", "modes", "message"),
    [
        (("zip", "tar"), {"a": b"1", "./a": b"2"}, {}, r"'\./a' is there twice"),
        (("zip",), {"dev": b""}, {"dev": 0o020666}, "'dev' is a device"),
        (("zip",), {"a": b"1", "a/b": b"2"}, {}, "'a/b' is a file and a folder"),
        (("zip", "tar"), {"x" * 256: b"x"}, {}, "has too long a name"),
        (("zip", "tar"), {"/".join(["x"] * 2100): b"x"}, {}, "has too long a name"),
    ],
)
def test_what_no_folder_can_hold_is_refused(
    tmp_path: Path, kinds: tuple[str, ...], entries: dict[str, bytes], modes: dict[str, int], message: str
) -> None:
    for kind in kinds:
        with pytest.raises(InputError, match=message):
            unpack(WRITERS[kind](tmp_path / f"a.{kind}", entries, modes), tmp_path / kind)


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("MAX_UNPACKED_BYTES", 1000, "'b' has 600 bytes, which makes 1200 in total; the limit is 1000"),
        ("MAX_ENTRIES", 1, "more than 1 entries"),
        ("MAX_DIRECTORY_BYTES", 50, r"a\.zip cannot be unpacked: its list of entries is larger than 50 bytes"),
    ],
)
def test_limits_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, message: str) -> None:
    monkeypatch.setattr(archives, limit, value)
    with pytest.raises(InputError, match=message):
        unpack(write_zip(tmp_path / "a.zip", {"a": bytes(600), "b": bytes(600)}), tmp_path / "out")


@pytest.mark.parametrize("program", PROGRAMS[1:])
def test_a_listing_out_of_proportion_is_refused(
    program: str, only: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(program)
    monkeypatch.setattr(archives, "MAX_LISTING_BYTES", 100)
    with pytest.raises(InputError, match="its listing is larger than 100 bytes"):
        unpack(write_rar(tmp_path / "a.rar", {"kick/a.avi": b"A"}), tmp_path / "out")


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


def test_a_damaged_header_of_gzip_is_one_message(tmp_path: Path) -> None:
    """It says that 32,767 bytes of other fields follow; Python 3.11.2 fails on what follows in place of them."""
    (tmp_path / "bad.tar.gz").write_bytes(b"\x1f\x8b\x08\x04" + bytes(6) + b"\xff\x7f" + b"\xff" * 40_000)
    with pytest.raises(InputError, match=r"bad\.tar\.gz "):
        unpack(tmp_path / "bad.tar.gz", tmp_path / "out")


@RAR
def test_a_cut_archive_and_a_web_page_are_named(tmp_path: Path) -> None:
    for kind in WRITERS:
        archive = WRITERS[kind](tmp_path / f"a.{kind}", {"a.avi": os.urandom(5000), "b.avi": os.urandom(5000)})
        archive.write_bytes(archive.read_bytes()[:6000])
        with pytest.raises(InputError, match=rf"a\.{kind} "):
            unpack(archive, tmp_path / kind)
    (tmp_path / "page.rar").write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(InputError, match="no ZIP, tar or RAR archive: it starts with b'<!DOCTYP'"):
        unpack(tmp_path / "page.rar", tmp_path / "page")


@given(st.text(min_size=1, max_size=12), st.text(min_size=1, max_size=5))
def test_no_name_leaves_the_folder(name: str, other: str) -> None:
    guard = archives._Guard(Path("a.zip"), Path())
    for entry in (name, f"{other}/{name}", f"../{name}", f"/{name}", f"{other}/../../{name}"):
        try:
            path = guard.place(entry, "folder", 0)
        except InputError:
            continue
        assert path.absolute().resolve().is_relative_to(Path.cwd().resolve())
        assert ".." not in path.parts


@pytest.mark.parametrize("name", TAR_BOMBS)
def test_headers_of_a_tar_archive_take_no_memory(tmp_path: Path, name: str) -> None:
    archive = write_tar_bomb(tmp_path / "a.tar.gz", TAR_BOMBS[name])
    tracemalloc.start()
    try:
        for read in (list_names, lambda archive: unpack(archive, tmp_path / "out")):
            with pytest.raises(InputError, match=r"a\.tar\.gz cannot be .*: .*(a header of 629145600|with holes)"):
                read(archive)
        assert tracemalloc.get_traced_memory()[1] < 1 << 23
    finally:
        tracemalloc.stop()


def test_a_missing_program_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    archive = write_rar(tmp_path / "a.rar", {"a": b""})
    with pytest.raises(InputError, match=r"neither bsdtar nor unar is on PATH.*apt install libarchive-tools"):
        unpack(archive, tmp_path / "out")
    with pytest.raises(InputError, match=r"a.rar is neither .*bsdtar.* is not installed: install .*libarchive-tools"):
        list_names(archive)


# Read as lists


def pack(folder: Path, archive: Path) -> Path:
    """The files of a folder, and what macOS adds to archives."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            for path in sorted(folder.iterdir()):
                zipped.write(path, f"some/folder/{path.name}")
                zipped.writestr(f"__MACOSX/some/folder/._{path.name}", "no list")
                zipped.writestr(f"__MACOSX/{path.name}", "no list")
    elif archive.suffix == ".7z":
        subprocess.run(["bsdtar", "-cf", archive, "--format=7zip", "-C", folder.parent, folder.name], check=True)
    else:
        with tarfile.open(archive, "w:gz") as packed:
            packed.add(folder, "some/folder")
    return archive


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", pytest.param(".7z", marks=needs("bsdtar"))])
@pytest.mark.parametrize(("kind", "writer"), [("ucf101", write_ucf101), ("hmdb51", write_hmdb51)])
def test_lists_are_read_from_their_archive(tmp_path: Path, kind: str, writer: Any, suffix: str) -> None:
    plain = dataset(kind, writer(tmp_path / "plain"))
    folder = writer(tmp_path / "lists")
    for path in sorted(folder.iterdir()):
        write(folder / f"._{path.name}", "what macOS adds beside a list")
    packed = dataset(kind, pack(folder, tmp_path / f"lists{suffix}"))
    for mine in (dataset(kind, folder), packed):
        assert [mine.split(name) for name in mine.split_names] == [plain.split(name) for name in plain.split_names]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lists", f"lists{suffix}", "plain"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"other.txt": "x"}, r"lists.zip/classInd.txt does not exist"),
        ({"a/classInd.txt": "1 Swing", "b/classInd.txt": "1 Golf"}, "holds two different files classInd.txt"),
    ],
)
def test_an_archive_without_the_lists_or_with_two_is_named(
    tmp_path: Path, entries: dict[str, str], message: str
) -> None:
    archive = write_zip(tmp_path / "lists.zip", {name: text.encode() for name, text in entries.items()})
    with pytest.raises(InputError, match=message):
        _ = dataset("ucf101", archive).classes


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_archive_of_lists_is_named(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "lists.zip", "w", method) as zipped:
        zipped.writestr("classInd.txt", "".join(f"{number} Class{number * 7919 % 1000}\n" for number in range(1, 500)))
    whole = (tmp_path / "lists.zip").read_bytes()
    for at in range(48, 120, 8):
        path = tmp_path / f"{at}.zip"
        path.write_bytes(whole[:at] + bytes(byte ^ 255 for byte in whole[at : at + 8]) + whole[at + 8 :])
        with pytest.raises(InputError, match=r"\.zip cannot be read: .*get the archive again"):
            _ = dataset("ucf101", path).classes


def test_large_lists_of_an_archive_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atw.datasets.lists.MAX_LISTS_BYTES", 1000)
    for kind in ("zip", "tar"):
        archive = WRITERS[kind](tmp_path / f"lists.{kind}", {"a.csv": bytes(600), "b.csv": bytes(600)})
        with pytest.raises(InputError, match="its lists have more than 1000 bytes"):
            list_names(archive)


def test_a_folder_of_lists_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "lists").symlink_to("lists")
    with pytest.raises(InputError, match=r"the lists in .*/lists cannot be read: Too many levels"):
        list_names(tmp_path / "lists")
    with pytest.raises(InputError, match=r"the lists in .*/xxx.* cannot be read: File name too long; correct `lists`"):
        list_names(tmp_path / ("x" * 300))


@pytest.mark.parametrize("status", [0, 1])
def test_a_talkative_bsdtar_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    folder = write_hmdb51(tmp_path / "lists")
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as packed:
        packed.add(folder, "lists")
    (tmp_path / "as.tar").write_bytes(stream.getvalue())
    archive = tmp_path / "it's lists.rar"
    archive.write_bytes(RAR_START)
    script = tmp_path / "bsdtar"
    # More than a pipe holds; it gives up by itself, so that the test ends if nobody reads it.
    talk = """timeout 5 sh -c 'head -c 1000000 /dev/zero | tr "\\0" w >&2' || exit 3"""
    wanted = f'[ "$4" = "@{archive}" ] || exit 4'
    script.write_text(f'#!/bin/sh\n{wanted}\n{talk}\ncat "{tmp_path}/as.tar"; exit {status}\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    mine = dataset("hmdb51", archive)
    if status:
        with pytest.raises(InputError, match=r"lists.rar cannot be read: www") as error:
            mine.rows("split1")
        assert len(str(error.value)) < 5000
    else:
        assert mine.rows("split1") == dataset("hmdb51", folder).rows("split1")
