"""Archives that tests write themselves: no free program writes RAR, whose stored entries are a header and the bytes."""

import gzip
import io
import os
import shutil
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

LINK, FILE, FOLDER = 0o120777, 0o100644, 0o040755


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skips a test where none of the programs is installed; never in CI, whose own script installs them."""
    missing = not any(map(shutil.which, programs)) and "CI" not in os.environ
    return pytest.mark.skipif(missing, reason=f"not installed: {', '.join(programs)}; see `.ci/install.sh rar`")


RAR = needs("bsdtar", "unar")


def write_rar(path: Path, entries: dict[str, bytes], modes: dict[str, int] | None = None) -> Path:
    """A RAR 2.9 archive of stored entries; `modes` makes an entry a folder or, with its target as content, a link."""
    blocks = [b"Rar!\x1a\x07\x00", _block(0x73, 0, bytes(6))]
    for name, content in entries.items():
        blocks.append(_file_block(_stored(name), content, (modes or {}).get(name, FILE), len(content)))
    path.write_bytes(b"".join([*blocks, _block(0x7B, 0x4000, b"")]))
    return path


def write_rar_of_declared_size(path: Path, name: str, size_bytes: int) -> Path:
    """A RAR archive whose one entry is said to have so many bytes."""
    blocks = [b"Rar!\x1a\x07\x00", _block(0x73, 0, bytes(6)), _file_block(_stored(name), b"x", FILE, size_bytes)]
    path.write_bytes(b"".join([*blocks, _block(0x7B, 0x4000, b"")]))
    return path


def _stored(name: str) -> bytes:
    return name.replace("/", "\\").encode()


def _file_block(name: bytes, content: bytes, mode: int, size_bytes: int) -> bytes:
    flags = 0x8000 | 0x100 | (0xE0 if mode == FOLDER else 0)
    body = struct.pack(
        "<IIBIIBBHI", len(content), size_bytes & 0xFFFFFFFF, 3, zlib.crc32(content), 0, 29, 0x30, len(name), mode
    )
    return _block(0x74, flags, body + struct.pack("<II", 0, size_bytes >> 32) + name) + content


def _block(kind: int, flags: int, body: bytes) -> bytes:
    rest = struct.pack("<BHH", kind, flags, 7 + len(body)) + body
    return struct.pack("<H", zlib.crc32(rest) & 0xFFFF) + rest


def write_zip(path: Path, entries: dict[str, bytes], modes: dict[str, int] | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (modes or {}).get(name, FILE) << 16
            archive.writestr(info, content)
    return path


def write_tar(path: Path, entries: dict[str, bytes], modes: dict[str, int] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            mode = (modes or {}).get(name, FILE)
            if mode == LINK:
                info.type, info.linkname = tarfile.SYMTYPE, content.decode()
                archive.addfile(info)
            elif mode == FOLDER:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def _header(kind: bytes, size: int, name: str = "x") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.USTAR_FORMAT)


def _pax(**records: str) -> bytes:
    """Further headers of the next entry."""
    info = tarfile.TarInfo("x")
    info.pax_headers = {f"GNU.sparse.{name}": value for name, value in records.items()}
    return info.create_pax_header(info.get_info(), "utf-8")


# By what they are: the first bytes of a tar archive, of which more follow than anyone would hold in memory.
TAR_BOMBS = {
    "a long name": _header(tarfile.GNUTYPE_LONGNAME, 600 << 20),
    "a long target": _header(tarfile.GNUTYPE_LONGLINK, 600 << 20),
    "attributes": _header(tarfile.XHDTYPE, 600 << 20),
    "attributes of all": _header(tarfile.XGLTYPE, 600 << 20),
    "holes": _header(tarfile.GNUTYPE_SPARSE, 600 << 20),
    "holes by attributes": _pax(major="1", minor="0", name="x", realsize="1")[: -tarfile.BLOCKSIZE]
    + _header(tarfile.REGTYPE, 600 << 20)
    + b"99999999\n",
}


def write_tar_bomb(path: Path, start: bytes) -> Path:
    """A tar archive of that beginning and 64 MiB of rows "1", which pack to next to nothing."""
    with gzip.open(path, "wb") as stream:
        stream.write(start)
        for _ in range(64):
            stream.write(b"1\n" * (1 << 19))
    return path


WRITERS = {"zip": write_zip, "tar": write_tar, "rar": write_rar}


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
