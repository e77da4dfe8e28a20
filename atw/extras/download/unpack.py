"""Archives, which are foreign data: nothing of one is written outside its folder, and nothing but files and folders.

ZIP and tar are read by the standard library. RAR needs a program: bsdtar, which here only turns the archive into a
stream of tar, so that every entry is still checked before it is written; or unar, after a look at its listing.
"""

import contextlib
import errno
import functools
import io
import json
import lzma
import os
import re
import shutil
import stat
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any

from atw.datasets.archive import entries, open_tar, open_zip, output_of
from atw.files import InputError

# Far above the official archives (7 GB, 13,320 files), far below what fills a disk by a few bytes of archive.
MAX_UNPACKED_BYTES = 100 * 10**9
MAX_ENTRIES = 1_000_000
_MAX_PATH, _MAX_NAME = 4096, 255  # bytes, of Linux and its file systems
_MAX_LISTING = 64 * 2**20  # bytes that lsar may say; of 13,000 entries it says 10 MB
_SHOWN = 60  # characters of a name that is too long
_RAR_PROGRAMS = ("bsdtar", "unar")
# What the standard library raises for damaged, encrypted or unknown content.
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, RuntimeError, ValueError)
_ENVIRONMENT = os.environ | {"LC_ALL": "C.UTF-8"}  # bsdtar refuses names that its locale cannot write


class _UnreadableError(Exception):
    """A program could not read an archive to its end."""


class _Guard:
    """Checks the entries of one archive, in their order, against the folder they go to."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self._archive = archive
        self._folder = folder
        self._limit_bytes = min(MAX_UNPACKED_BYTES, shutil.disk_usage(folder).free)
        self._bytes = self._entries = 0
        self._files: set[PurePosixPath] = set()

    def place(self, name: str, kind: str, size_bytes: int) -> Path:
        """Where an entry goes; `kind` is "file", "folder", or what it is else."""
        path = PurePosixPath(name)
        shown = f"{self._archive}: entry {name!r}"
        too_long = len(os.fsencode(name)) > _MAX_PATH or any(len(os.fsencode(part)) > _MAX_NAME for part in path.parts)
        if too_long:
            raise InputError(
                f"{self._archive}: entry {name[:_SHOWN]!r}... has too long a name; do not use this archive"
            )
        if not name or path.is_absolute() or ".." in path.parts or re.search(r"[\\\x00-\x1f]|^[A-Za-z]:", name):
            raise InputError(f"{shown} would leave the folder it is unpacked to; do not use this archive")
        if kind not in ("file", "folder"):
            raise InputError(f"{shown} is a {kind}, not a file or folder; do not use this archive")
        self._bytes += size_bytes
        self._entries += 1
        if self._bytes > self._limit_bytes:
            raise InputError(
                f"{shown} has {size_bytes} bytes, which makes {self._bytes} in total; the limit is "
                f"{self._limit_bytes}, what the disk has free or {MAX_UNPACKED_BYTES} at most"
            )
        if self._entries > MAX_ENTRIES:
            raise InputError(f"{self._archive} has more than {MAX_ENTRIES} entries; do not use this archive")
        if path in self._files:
            raise InputError(f"{shown} is there twice; do not use this archive")
        if kind == "file":
            self._files.add(path)
        return self._folder / path

    def write(self, name: str, kind: str, size_bytes: int, open_content: Callable[[], IO[bytes] | None]) -> None:
        """Check an entry, then write it; nothing of a refused one is decompressed."""
        path = self.place(name, kind, size_bytes)
        try:
            if kind == "folder":
                path.mkdir(parents=True, exist_ok=True)
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as stream, open_content() or io.BytesIO() as content:
                shutil.copyfileobj(content, stream, 1 << 20)
        except (FileExistsError, NotADirectoryError):
            raise InputError(f"{self._archive}: entry {name!r} is a file and a folder; do not use it") from None


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a ZIP, tar or RAR archive into `folder`, which is made and must not exist.

    Raises:
        InputError: the archive is damaged, hostile, too large, of another format, or needs a program that is not there.
            Then `folder` may hold a part of it.
    """
    folder.mkdir(parents=True)
    try:
        {"rar": _unpack_rar, "zip": _unpack_zip, "tar": _unpack_tar}[_format(archive)](archive, folder)
    except (*_DAMAGE, OSError) as error:
        # A seek to where no file can be, or a decompressor; every other error of the system is the disk's.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise InputError(f"{archive} cannot be unpacked: {error}; fetch it again") from None


def rar_programs(archive: str) -> list[str]:
    """The programs on PATH that unpack RAR archives; an error that says where to get one when there is none."""
    found = [name for name in _RAR_PROGRAMS if shutil.which(name)]
    if found:
        return found
    raise InputError(
        f"{archive} is a RAR archive, and neither {' nor '.join(_RAR_PROGRAMS)} is on PATH. One of them comes with "
        "`apt install libarchive-tools` or `apt install unar` (Debian, Ubuntu), `dnf install bsdtar` (Fedora), "
        "`conda install -c conda-forge libarchive` (bsdtar); macOS has bsdtar"
    )


def _format(archive: Path) -> str:
    with archive.open("rb") as stream:
        start = stream.read(8)
    if start.startswith(b"Rar!\x1a\x07"):
        return "rar"
    if zipfile.is_zipfile(archive):
        return "zip"
    with contextlib.suppress(tarfile.TarError), archive.open("rb") as stream, open_tar(stream, "r|*"):
        return "tar"
    raise InputError(f"{archive} is no ZIP, tar or RAR archive: it starts with {start!r}; delete it and fetch it again")


def _unpack_zip(archive: Path, folder: Path) -> None:
    guard = _Guard(archive, folder)
    with open_zip(archive) as opened:
        for info in opened.infolist():
            mode = info.external_attr >> 16
            kind = "folder" if info.is_dir() else "file"
            # The upper half holds a Unix mode, or nothing.
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                kind = "link" if stat.S_ISLNK(mode) else "device"
            guard.write(info.filename, kind, info.file_size, functools.partial(opened.open, info))


def _unpack_tar(archive: Path, folder: Path) -> None:
    with archive.open("rb") as stream:
        _write_tar(_Guard(archive, folder), stream)


def _write_tar(guard: _Guard, stream: IO[bytes]) -> None:
    with open_tar(stream, "r|*") as opened:
        for member in entries(opened):
            kind = "device"
            if member.isdir():
                kind = "folder"
            elif member.issym() or member.islnk():
                kind = "link"
            elif member.isreg() and not member.issparse():
                kind = "file"
            guard.write(member.name, kind, member.size, functools.partial(opened.extractfile, member))


def _unpack_rar(archive: Path, folder: Path) -> None:
    failures = []
    for name in rar_programs(archive.name):
        try:
            (_by_bsdtar if name == "bsdtar" else _by_unar)(archive, folder)
            return
        except _UnreadableError as error:
            failures.append(f"{name}: {error}")
            shutil.rmtree(folder)
            folder.mkdir()
    raise InputError(
        f"{archive} cannot be unpacked ({'; '.join(failures)}); fetch it again, or have another of the programs "
        f"{', '.join(_RAR_PROGRAMS)} on PATH"
    )


def _by_bsdtar(archive: Path, folder: Path) -> None:
    command = ["bsdtar", "--create", "--format", "pax", "--file", "-", f"@{archive.absolute()}"]
    with tempfile.TemporaryFile() as messages:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=messages, env=_ENVIRONMENT) as program:
            assert program.stdout is not None
            broken = ""
            try:
                _write_tar(_Guard(archive, folder), program.stdout)
                program.stdout.read()
            except _DAMAGE as error:
                broken = str(error)
            finally:
                program.stdout.close()
        messages.seek(0)
        said = messages.read().decode(errors="replace").strip()
    if program.returncode or broken:
        raise _UnreadableError(said or broken)


def _by_unar(archive: Path, folder: Path) -> None:
    listing: dict[str, Any] = json.loads(_output("lsar", "-json", str(archive.absolute())))
    guard = _Guard(archive, folder)
    for entry in listing["lsarContents"]:
        kind = "folder" if entry.get("XADIsDirectory") else "file"
        for key, word in (
            ("XADIsLink", "link"),
            ("XADIsHardLink", "link"),
            ("XADIsCharacterDevice", "device"),
            ("XADIsBlockDevice", "device"),
            ("XADIsFIFO", "device"),
        ):
            kind = word if entry.get(key) else kind
        guard.place(str(entry["XADFileName"]), kind, int(entry.get("XADFileSize", 0)))
    if listing.get("lsarError"):
        raise _UnreadableError(f"lsar reports error {listing['lsarError']}")
    _output("unar", "-quiet", "-no-directory", "-output-directory", str(folder.absolute()), str(archive.absolute()))
    # The listing was one reading of the archive and the unpacking another one.
    guard = _Guard(archive, folder)
    for path in folder.rglob("*"):
        status = path.lstat()
        kind = (
            "folder" if stat.S_ISDIR(status.st_mode) else "file" if stat.S_ISREG(status.st_mode) else "link or device"
        )
        guard.place(path.relative_to(folder).as_posix(), kind, 0)


def _output(*command: str) -> str:
    try:
        status, said, messages = output_of(command, most_bytes=_MAX_LISTING, env=_ENVIRONMENT)
    except OverflowError:
        raise ValueError(f"its listing is larger than {_MAX_LISTING} bytes") from None
    if status:
        raise _UnreadableError((messages or said).decode(errors="replace").strip()[-500:])
    return said.decode(errors="replace")
