"""MATLAB's files: what SciPy writes, and SciPy's reader as the reference; damage and what is refused."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from atw.datasets import matlab
from atw.datasets.matlab import read_table
from atw.files import InputError

NAMES = ("a", "text", "a_longer_name")
# SciPy cannot tell an empty text in a cell from no text.
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=0xFFFF, exclude_categories=["Cs"]), min_size=1, max_size=9)
VALUES = st.one_of(TEXT, st.lists(TEXT, min_size=1, max_size=3), st.integers(0, 300), st.floats(0, 1))
ROWS = st.lists(st.fixed_dictionaries(dict.fromkeys(NAMES, VALUES)), min_size=1, max_size=4)


def save(path: Path, rows: list[dict[str, Any]], **options: Any) -> None:
    table = np.empty((1, len(rows)), [(name, "O") for name in NAMES])
    for number, row in enumerate(rows):
        values = [row[name] for name in NAMES]
        table[0, number] = tuple(np.array([one], object) if isinstance(one, list) else one for one in values)
    savemat(path, {"before": np.arange(5), "table": table, "after": "text"}, **options)


def by_scipy(value: Any) -> Any:
    if value.dtype.kind == "O":
        return [by_scipy(each) for each in value.ravel(order="F")]
    return str(value[0]) if value.dtype.kind == "U" else None


@given(ROWS, st.booleans())
def test_tables_are_read_as_by_scipy(tmp_path_factory: pytest.TempPathFactory, rows: Any, compress: bool) -> None:
    path = tmp_path_factory.mktemp("matlab") / "table.mat"
    save(path, rows, do_compression=compress)
    found = read_table(path, "table")
    assert found == [{name: by_scipy(row[name]) for name in NAMES} for row in loadmat(path)["table"][0]]
    assert found == [
        {name: value if isinstance(value, str | list) else None for name, value in row.items()} for row in rows
    ]


ROW = {"a": "up", "text": ["left", "up"], "a_longer_name": 3}


def test_files_of_machines_of_the_other_byte_order_are_read(tmp_path: Path) -> None:
    """The same table as MATLAB on such a machine writes it, by hand."""

    def element(kind: int, data: bytes) -> bytes:
        return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)

    def array(kind: int, rows: int, columns: int, name: bytes, *content: bytes) -> bytes:
        head = element(6, struct.pack(">II", kind, 0)), element(5, struct.pack(">ii", rows, columns)), element(1, name)
        return element(14, b"".join((*head, *content)))

    up = array(4, 1, 2, b"", element(4, "up".encode("utf-16-be")))
    left = array(4, 1, 4, b"", element(4, "left".encode("utf-16-be")))
    names = b"".join(name.encode().ljust(32, b"\0") for name in NAMES)
    number = array(6, 1, 1, b"", element(9, struct.pack(">d", 3)))
    length = struct.pack(">HHI", 4, 5, 32)  # of at most 4 bytes: size, kind and content in 8 bytes
    fields = (length, element(1, names), up, array(1, 1, 2, b"", left, up), number)
    table = array(2, 1, 1, b"table", *fields)
    (tmp_path / "t.mat").write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(">H", 0x100) + b"MI" + table)
    assert read_table(tmp_path / "t.mat", "table") == [{"a": "up", "text": ["left", "up"], "a_longer_name": None}]
    assert str(loadmat(tmp_path / "t.mat")["table"][0, 0]["text"][0, 0][0]) == "left"


@pytest.mark.parametrize("compress", [False, True])
def test_damage_is_told_and_never_ends_in_another_error(tmp_path: Path, compress: bool) -> None:
    path = tmp_path / "table.mat"
    save(path, [ROW] * 3, do_compression=compress)
    whole = path.read_bytes()
    told = 0
    rng = np.random.default_rng(0)
    for number in range(600):
        damaged = bytearray(whole)
        damaged[rng.integers(124, len(whole))] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged if number % 2 else whole[: rng.integers(len(whole))])
        try:
            read_table(path, "table")
        except InputError as error:
            told += 1
            assert "is no MATLAB file with the table table" in str(error) and "get it again" in str(error)
    assert told > 300  # every file that was cut off


def test_what_is_no_table_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.mat"
    for content, message in (
        (b"", "its header is another"),
        (b"\x89HDF" + bytes(200), "its header is another"),  # of version 7.3
        (b"MATLAB".ljust(126) + b"IM", "KeyError: 'table'"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_table(path, "table")
    for value in (np.ones(3), "text", ["text"]):
        savemat(path, {"table": np.array(value, object) if isinstance(value, list) else value})
        with pytest.raises(InputError, match="that is no table"):
            read_table(path, "table")
    save(path, [ROW])
    content = bytearray(path.read_bytes())
    place = content.index(struct.pack("<II", 6, 8) + struct.pack("<I", 2))
    content[place + 8] = 16  # a struct becomes a function
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"it holds a function or an object \(class 16\)"):
        read_table(path, "table")
    monkeypatch.setattr(matlab, "MAX_BYTES", 10**5)
    for parts, size in ((1, 10**6), (2, 6 * 10**4)):
        packed = zlib.compress(bytes(size), 1)
        part = struct.pack("<II", 15, len(packed)) + packed
        path.write_bytes(b"MATLAB".ljust(126) + b"IM" + parts * part)
        with pytest.raises(InputError, match="its parts have more than 100000 bytes"):
            read_table(path, "table")
    with pytest.raises(InputError, match="No such file or directory; put it there"):
        read_table(tmp_path / "other.mat", "table")
