"""Tables in MATLAB's files (MAT-File Format, MathWorks, levels 5 to 7.2): structs, cells and text.

SciPy reads these files, too, but a damaged one ends its process, and every job of the workflow would import NumPy.
Numbers are not needed here and not read. Nothing of a file is run: functions and objects are refused.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from atw.files import InputError

Value = str | list["Value"] | list[dict[str, "Value"]] | None
"""A text; the values of a cell array; the rows of a struct array; None for numbers, and for text of several rows."""

MAX_BYTES = 16 * 2**20  # of a file, and of its parts when decompressed; the official ones have 1.4 MB
_HEADER_BYTES = 128
_MATRIX, _COMPRESSED = 14, 15  # kinds of elements; these hold text:
_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
_CELL, _STRUCT, _TEXT = 1, 2, 4  # classes of arrays
_NUMBERS = range(6, 16)


def read_table(path: Path, name: str) -> list[dict[str, Value]]:
    """Return the rows of the struct array of that name.

    Raises:
        InputError: the file is missing, damaged, of another form, or has no such array.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        table = _variables(content)[name]
        if not isinstance(table, list) or not all(isinstance(row, dict) for row in table):
            raise ValueError("that is no table")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; put it there, or correct `lists`") from None
    except (ValueError, LookupError, struct.error, zlib.error, RecursionError) as error:
        raise InputError(
            f"{path} is no MATLAB file with the table {name} ({type(error).__name__}: {error}); get it again"
        ) from None
    return [row for row in table if isinstance(row, dict)]


def _variables(content: bytes) -> dict[str, Value]:
    orders = {b"IM": "<", b"MI": ">"}
    order = orders.get(content[_HEADER_BYTES - 2 : _HEADER_BYTES])
    if order is None or len(content) > MAX_BYTES:
        raise ValueError("its header is another" if order is None else f"it has more than {MAX_BYTES} bytes")
    found, left = {}, MAX_BYTES
    for kind, data in _elements(memoryview(content)[_HEADER_BYTES:], order):
        if kind == _COMPRESSED:
            unpacked = zlib.decompressobj().decompress(data, left + 1)
            left -= len(unpacked)
            if left < 0:
                raise ValueError(f"its parts have more than {MAX_BYTES} bytes")
            kind, data = next(_elements(memoryview(unpacked), order), (0, data))
        if kind == _MATRIX:
            name, value = _array(data, order)
            found[name] = value
    return found


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yield kind and content of each element; those of at most 4 bytes have both numbers of their tag in one."""
    place = 0
    while place < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, place)
        start = place + 8
        if kind >> 16:
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
        end = start + size
        if end > len(data) or (start == place + 4 and size > 4):
            raise ValueError("an element is larger than what holds it")
        yield kind, data[start:end]
        place = end if kind == _COMPRESSED else place + 8 + -(-(end - place - 8) // 8) * 8


def _array(data: memoryview, order: str) -> tuple[str, Value]:
    """Return name and value of an array, which in a cell or struct has no name."""
    if not data:
        return "", None
    (_, flags), (_, dimensions), (_, name), *content = _elements(data, order)
    kind = struct.unpack_from(f"{order}I", flags)[0] & 0xFF
    return bytes(name).decode("latin-1"), _value(kind, dimensions, content, order)


def _value(kind: int, dimensions: memoryview, content: list[tuple[int, memoryview]], order: str) -> Value:
    if kind in _NUMBERS:
        return None
    if kind == _TEXT:
        rows = struct.unpack_from(f"{order}i", dimensions)[0]
        encoding = _ENCODINGS[content[0][0]]
        byte_order = {"<": "-le", ">": "-be"}[order] if encoding == "utf-16" else ""
        return bytes(content[0][1]).decode(encoding + byte_order) if rows <= 1 else None
    if kind == _CELL:
        return [_array(data, order)[1] for _, data in content]
    if kind == _STRUCT:
        length = struct.unpack_from(f"{order}i", content[0][1])[0]
        if length < 1:
            raise ValueError(f"names of fields have {length} characters")
        text = bytes(content[1][1]).decode("latin-1")
        names = [text[first : first + length].partition("\0")[0] for first in range(0, len(text), length)]
        values = [_array(data, order)[1] for _, data in content[2:]]
        step = max(len(names), 1)
        return [dict(zip(names, values[first : first + step], strict=True)) for first in range(0, len(values), step)]
    raise ValueError(f"it holds a function or an object (class {kind})")
