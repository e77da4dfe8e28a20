import os
import random
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atw.datasets import archive as unpacking
from atw.datasets.archive import unpack
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

PROGRAMS = [pytest.param(name, marks=needs(name)) for name in ("bsdtar", "unar")]
KINDS = [pytest.param("rar", marks=RAR), "zip", "tar"]
ODD = "kick/#1 & ;![](it's)@+~ ü.avi"


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Leaves one program to unpack RAR with."""
    return lambda name: monkeypatch.setattr(unpacking, "_PROGRAMS", (name,))


@pytest.mark.parametrize("kind", KINDS)
def test_unpack(kind: str, tmp_path: Path) -> None:
    entries = {"kick/a.avi": b"A" * 1000, ODD: b"odd", "empty.txt": b""}
    archive = WRITERS[kind](tmp_path / f"a.{kind}", entries | {"kick/": b""}, {"kick/": FOLDER})
    unpack(archive, tmp_path / "out")
    assert tree(tmp_path / "out") == entries


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_program_unpacks_rar(program: str, only: Any, tmp_path: Path) -> None:
    only(program)
    archive = write_rar(tmp_path / "a.rar", {"kick/a.avi": b"A" * 1000, ODD: b"odd"})
    unpack(archive, tmp_path / "out")
    assert tree(tmp_path / "out") == {"kick/a.avi": b"A" * 1000, ODD: b"odd"}


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


@pytest.mark.parametrize("name", TAR_BOMBS)
def test_headers_of_a_tar_archive_take_no_memory(tmp_path: Path, name: str) -> None:
    archive = write_tar_bomb(tmp_path / "a.tar.gz", TAR_BOMBS[name])
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"a\.tar\.gz cannot be unpacked: .*(a header of 629145600|with holes)"):
            unpack(archive, tmp_path / "out")
        assert tracemalloc.get_traced_memory()[1] < 1 << 23
    finally:
        tracemalloc.stop()


def test_a_list_of_entries_out_of_proportion_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_zip(tmp_path / "a.zip", {f"{number}.avi": b"" for number in range(100)})
    monkeypatch.setattr("atw.datasets.archive.MAX_DIRECTORY_BYTES", 1000)
    with pytest.raises(InputError, match=r"a\.zip cannot be unpacked: its list of entries is larger than 1000 bytes"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("name", ["x" * 256, "/".join(["x"] * 2100)])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    archive = WRITERS[kind](tmp_path / f"a.{kind}", {name: b"x"})
    with pytest.raises(InputError, match="has too long a name"):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("program", PROGRAMS[1:])
def test_a_listing_out_of_proportion_is_refused(
    program: str, only: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(program)
    monkeypatch.setattr(unpacking, "MAX_LISTING_BYTES", 100)
    archive = write_rar(tmp_path / "a.rar", {"kick/a.avi": b"A"})
    with pytest.raises(InputError, match="its listing is larger than 100 bytes"):
        unpack(archive, tmp_path / "out")
