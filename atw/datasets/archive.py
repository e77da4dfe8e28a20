"""Archives, which are foreign data: their entries one after another, and the folder that they are unpacked into.

ZIP and tar are read by the standard library. All others go through libarchive's `bsdtar`, which here only turns an
archive into a stream of tar, so that every entry is checked before it is written. `unar` is the second choice for
unpacking, after a look at its listing. Nothing is written outside the folder, and nothing but files and folders.
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal, Self

from atw.files import InputError

# Far above the official archives (7 GB, 13,320 files), far below what fills a disk by a few bytes of archive.
MAX_UNPACKED_BYTES = 100 * 10**9
MAX_ENTRIES = 1_000_000
MAX_HEADER_BYTES = 64 * 2**10  # before an entry of a tar archive: a long name, attributes
MAX_DIRECTORY_BYTES = 64 * 2**20  # the list of entries at the end of a ZIP archive; half a million have that much
MAX_LISTING_BYTES = 64 * 2**20  # the output of lsar; for 13,000 entries it has 10 MB
_MAX_PATH, _MAX_NAME = 4096, 255  # bytes, of Linux and its file systems
_MAX_MESSAGE = 2000  # characters of what a program says
_SHOWN = 60  # characters of a name that is too long
_PROGRAMS = ("bsdtar", "unar")
_ENVIRONMENT = {"LC_ALL": "C.UTF-8"}  # bsdtar refuses names that its locale cannot write

_FURTHER_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
# The standard library raises these for damaged, encrypted or unknown content; a ZIP with a password is a RuntimeError.
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, RuntimeError, ValueError)

Kind = Literal["file", "folder", "link", "device"]


class UnreadableError(Exception):
    """An archive cannot be read to its end; the message says why."""


@dataclass(frozen=True)
class ArchiveEntry:
    """An entry of an archive. `name` is as the archive has it, `open` gives its content, once."""

    name: str
    kind: Kind
    size_bytes: int
    open: Callable[[], IO[bytes] | None]


Handle = Callable[[ArchiveEntry], None]


def read_entries(archive: Path, handle: Handle) -> None:
    """Call `handle` with each entry of an archive, in their order.

    Raises:
        UnreadableError: the archive is damaged, of an unknown format, or asks for too much memory.
        InputError: its format needs a program that is not installed.
    """
    try:
        if zipfile.is_zipfile(archive):
            _read_zip(archive, handle)
        elif _is_tar(archive):
            with archive.open("rb") as stream:
                _read_tar(stream, handle)
        else:
            _read_with_bsdtar(archive, handle)
    except (*_DAMAGE, OSError) as error:
        # Damaged bzip2 is an OSError without a number, and a seek to where no file can be has EINVAL.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise UnreadableError(str(error)) from None


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a ZIP, tar or RAR archive into `folder`, which is made and must not exist.

    Raises:
        InputError: the archive is damaged, hostile, too large, of another format, or needs a program that is not
            installed. Then `folder` may hold a part of it.
    """
    folder.mkdir(parents=True)
    with archive.open("rb") as stream:
        start = stream.read(8)
    is_rar = start.startswith(b"Rar!\x1a\x07")
    if not is_rar and not zipfile.is_zipfile(archive) and not _is_tar(archive):
        raise InputError(
            f"{archive} is no ZIP, tar or RAR archive: it starts with {start!r}; delete it and fetch it again"
        )
    failures = []
    for name in require_program(archive) if is_rar else [""]:
        try:
            (_unpack_with_unar if name == "unar" else _unpack)(archive, folder)
            return
        except UnreadableError as error:
            failures.append(f"{name}: {error}" if name else str(error))
            shutil.rmtree(folder)
            folder.mkdir()
    other = f", or have another of the programs {', '.join(_PROGRAMS)} on PATH" if is_rar else ""
    raise InputError(f"{archive} cannot be unpacked: {'; '.join(failures)}; fetch it again{other}")


def require_program(archive: Path | str) -> list[str]:
    """Return the programs on PATH that unpack RAR archives.

    Raises:
        InputError: there is none; the message says where to get one.
    """
    installed = [name for name in _PROGRAMS if shutil.which(name)]
    if installed:
        return installed
    raise InputError(
        f"{archive} is a RAR archive, and neither {' nor '.join(_PROGRAMS)} is on PATH. One of them comes with "
        "`apt install libarchive-tools` or `apt install unar` (Debian, Ubuntu), `dnf install bsdtar` (Fedora), "
        "`conda install -c conda-forge libarchive` (bsdtar); macOS has bsdtar"
    )


class _BoundedFile(io.BufferedReader):
    """A file of which no large part is read at once, such as the list of entries that a ZIP archive claims to have."""

    def read(self, size: int | None = -1, /) -> bytes:
        bounded = MAX_DIRECTORY_BYTES + 1 if size is None or not 0 <= size <= MAX_DIRECTORY_BYTES else size
        content = super().read(bounded)
        if len(content) > MAX_DIRECTORY_BYTES:
            raise ValueError(f"its list of entries is larger than {MAX_DIRECTORY_BYTES} bytes")
        return content


def _read_zip(archive: Path, handle: Handle) -> None:
    with _BoundedFile(io.FileIO(archive)) as stream, zipfile.ZipFile(stream) as opened:
        for info in opened.infolist():
            # The upper half of the attributes holds a Unix mode, or nothing.
            mode = info.external_attr >> 16
            kind: Kind = "folder" if info.is_dir() else "file"
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                kind = "link" if stat.S_ISLNK(mode) else "device"
            handle(ArchiveEntry(info.filename, kind, info.file_size, functools.partial(opened.open, info)))


class _BoundedTarInfo(tarfile.TarInfo):
    """An entry of a tar archive whose headers have a limit: the library would read them whole."""

    def _proc_member(self, opened: tarfile.TarFile) -> Self:
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise ValueError(f"entry {self.name!r} is a file with holes")
        if self.type in _FURTHER_HEADERS and self.size > MAX_HEADER_BYTES:
            raise ValueError(f"an entry has a header of {self.size} bytes, more than {MAX_HEADER_BYTES}")
        return super()._proc_member(opened)  # type: ignore[misc,no-any-return]

    def _proc_gnusparse_10(self, *_: object) -> None:
        raise ValueError(f"entry {self.name!r} is a file with holes")


def _is_tar(archive: Path) -> bool:
    try:
        with archive.open("rb") as stream:
            _open_tar(stream).close()
    except tarfile.TarError:
        return False
    except (*_DAMAGE, OSError):
        pass  # it begins like one; what is wrong with it shows when it is read
    return True


def _open_tar(stream: IO[bytes]) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=stream, mode="r|*", tarinfo=_BoundedTarInfo)
    except AttributeError:  # of tarfile itself, in Python 3.11.2, if the header of gzip is damaged
        raise EOFError("the header of gzip is damaged") from None


def _read_tar(stream: IO[bytes], handle: Handle) -> None:
    with _open_tar(stream) as opened:
        while (member := opened.next()) is not None:
            kind: Kind = "device"
            if member.isdir():
                kind = "folder"
            elif member.issym() or member.islnk():
                kind = "link"
            elif member.isreg() and not member.issparse():
                kind = "file"
            handle(ArchiveEntry(member.name, kind, member.size, functools.partial(opened.extractfile, member)))
            # The library keeps all entries, and there may be any number of them.
            opened.members.clear()  # type: ignore[attr-defined]


def _read_with_bsdtar(archive: Path, handle: Handle) -> None:
    if shutil.which("bsdtar") is None:
        raise InputError(
            f"{archive} is neither a folder nor a ZIP or tar archive, and bsdtar, which reads RAR and others, is not "
            "installed: install libarchive's tools (Debian and Ubuntu: libarchive-tools; conda: libarchive), or "
            "unpack the archive by hand"
        )
    # @ makes the entries of an archive those of the new one; an absolute path is no option.
    broken = ""
    with _running("bsdtar", "-cf", "-", "--format=pax", f"@{archive.absolute()}") as program:
        try:
            _read_tar(program.output, handle)
            program.output.read()
        except _DAMAGE as error:
            broken = str(error)
    if program.status or broken:
        raise UnreadableError(program.messages or broken or f"bsdtar ends with status {program.status}")


@dataclass
class _Program:
    """A program that reads an archive; `status` and `messages` are known once it has ended."""

    output: IO[bytes]
    status: int = 0
    messages: str = ""


@contextlib.contextmanager
def _running(*command: str) -> Iterator[_Program]:
    # A pipe for the messages would fill while the output is read, and both sides would wait.
    with tempfile.TemporaryFile() as messages:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages, env=os.environ | _ENVIRONMENT
        ) as process:
            assert process.stdout is not None
            program = _Program(process.stdout)
            yield program
        program.status = process.returncode
        messages.seek(0)
        program.messages = messages.read(_MAX_MESSAGE).decode(errors="replace").strip()


class _Guard:
    """Checks the entries of one archive, in their order, against the folder they go to."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self._archive = archive
        self._folder = folder
        self._limit_bytes = min(MAX_UNPACKED_BYTES, shutil.disk_usage(folder).free)
        self._bytes = self._entries = 0
        self._files: set[PurePosixPath] = set()

    def place(self, name: str, kind: str, size_bytes: int) -> Path:
        """Return where an entry goes."""
        path = PurePosixPath(name)
        entry = f"{self._archive}: entry {name!r}"
        if len(os.fsencode(name)) > _MAX_PATH or any(len(os.fsencode(part)) > _MAX_NAME for part in path.parts):
            raise InputError(
                f"{self._archive}: entry {name[:_SHOWN]!r}... has too long a name; do not use this archive"
            )
        if not name or path.is_absolute() or ".." in path.parts or re.search(r"[\\\x00-\x1f]|^[A-Za-z]:", name):
            raise InputError(f"{entry} would leave the folder it is unpacked to; do not use this archive")
        if kind not in ("file", "folder"):
            raise InputError(f"{entry} is a {kind}, not a file or folder; do not use this archive")
        self._bytes += size_bytes
        self._entries += 1
        if self._bytes > self._limit_bytes:
            raise InputError(
                f"{entry} has {size_bytes} bytes, which makes {self._bytes} in total; the limit is "
                f"{self._limit_bytes}, what the disk has free or {MAX_UNPACKED_BYTES} at most"
            )
        if self._entries > MAX_ENTRIES:
            raise InputError(f"{self._archive} has more than {MAX_ENTRIES} entries; do not use this archive")
        if path in self._files:
            raise InputError(f"{entry} is there twice; do not use this archive")
        if kind == "file":
            self._files.add(path)
        return self._folder / path

    def write(self, entry: ArchiveEntry) -> None:
        """Check an entry, then write it; the content of a refused one is not decompressed."""
        path = self.place(entry.name, entry.kind, entry.size_bytes)
        try:
            if entry.kind == "folder":
                path.mkdir(parents=True, exist_ok=True)
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as stream, entry.open() or io.BytesIO() as content:
                shutil.copyfileobj(content, stream, 1 << 20)
        except (FileExistsError, NotADirectoryError):
            raise InputError(f"{self._archive}: entry {entry.name!r} is a file and a folder; do not use it") from None


def _unpack(archive: Path, folder: Path) -> None:
    read_entries(archive, _Guard(archive, folder).write)


def _unpack_with_unar(archive: Path, folder: Path) -> None:
    try:
        listing = json.loads(_output("lsar", "-json", str(archive.absolute())))
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
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UnreadableError(str(error)) from None
    if listing.get("lsarError"):
        raise UnreadableError(f"lsar reports error {listing['lsarError']}")
    _output("unar", "-quiet", "-no-directory", "-output-directory", str(folder.absolute()), str(archive.absolute()))
    # The program read the archive once for the listing and once more to unpack it.
    guard = _Guard(archive, folder)
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        kind = "folder" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "link or device"
        guard.place(path.relative_to(folder).as_posix(), kind, 0)


def _output(*command: str) -> str:
    with _running(*command) as program:
        said = program.output.read(MAX_LISTING_BYTES + 1)
    if len(said) > MAX_LISTING_BYTES:
        raise UnreadableError(f"its listing is larger than {MAX_LISTING_BYTES} bytes")
    text = said.decode(errors="replace")
    if program.status:
        raise UnreadableError(program.messages or text.strip()[-500:] or f"status {program.status}")
    return text
