"""List files in a folder, or in an archive that is read without being unpacked.

ZIP and tar need nothing but Python. RAR, in which HMDB-51 is published, is handed to libarchive's `bsdtar`.
"""

import contextlib
import functools
import io
import lzma
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Literal, Self

from atw.files import InputError

_SUFFIXES = (".txt", ".csv", ".json")
_MAX_MESSAGE = 2000  # bytes of what bsdtar says
_MOST_MESSAGES = 2**20  # bytes of a program's messages that are looked at
_MAX_BYTES = 512 * 2**20  # of all lists of an archive; those of Kinetics-700 have 40 MB
_MAX_HEADER = 64 * 2**10  # of what stands before an entry of a tar archive: a long name, attributes
_MAX_DIRECTORY = 64 * 2**20  # of the list of entries at the end of a ZIP archive; half a million have that much

_FURTHER_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
# OSError is what damaged bzip2 is to Python, and RuntimeError a ZIP with a password.
_DAMAGES = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    OSError,
)


class _Entry(tarfile.TarInfo):
    """An entry of a tar archive whose headers cannot be of any size: the library would read them whole."""

    def _proc_member(self, opened: tarfile.TarFile) -> Self:
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise ValueError(f"entry {self.name!r} is a file with holes")
        if self.type in _FURTHER_HEADERS and self.size > _MAX_HEADER:
            raise ValueError(f"an entry has a header of {self.size} bytes, more than {_MAX_HEADER}")
        return super()._proc_member(opened)  # type: ignore[misc,no-any-return]

    def _proc_gnusparse_10(self, *_: object) -> None:
        raise ValueError(f"entry {self.name!r} is a file with holes")


class _Bounded(io.BufferedReader):
    """A file of which nothing large is read at once, as a ZIP archive's list of entries would be."""

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(_MAX_DIRECTORY + 1 if size is None or not 0 <= size <= _MAX_DIRECTORY else size)
        if len(content) > _MAX_DIRECTORY:
            raise ValueError(f"its list of entries is larger than {_MAX_DIRECTORY} bytes")
        return content


def open_tar(stream: IO[bytes], mode: Literal["r:*", "r|*"]) -> tarfile.TarFile:
    """A tar archive of whomever, compressed or not; `entries` goes through it.

    Raises:
        tarfile.TarError: it is none.
        ValueError: it asks for memory.
    """
    return tarfile.open(fileobj=stream, mode=mode, tarinfo=_Entry)


def entries(opened: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The entries in their order; none is kept, for there may be any number."""
    while (entry := opened.next()) is not None:
        yield entry
        opened.members.clear()  # type: ignore[attr-defined]


@contextlib.contextmanager
def open_zip(archive: Path) -> Iterator[zipfile.ZipFile]:
    """A ZIP archive of whomever; ValueError where its list of entries is out of all proportion."""
    with _Bounded(io.FileIO(archive)) as stream, zipfile.ZipFile(stream) as opened:
        yield opened


def list_names(lists: Path) -> list[str]:
    """Names of the list files in a folder or archive, sorted; in an archive folders are looked through."""
    try:
        if lists.is_file():
            return sorted(_members_of(lists))
        return sorted(path.name for path in lists.iterdir() if _is_list(path.name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(
            f"the lists in {lists} cannot be read: {error.strerror}; correct `lists` in config.yaml, or look "
            "whether its drive is there and its permissions are right"
        ) from None


def list_file(lists: Path, name: str) -> bytes:
    """The content of one list file.

    Raises:
        FileNotFoundError: the folder or archive has no such file.
        InputError: the archive cannot be read.
    """
    if not lists.is_file():
        return (lists / name).read_bytes()
    members = _members_of(lists)
    if name not in members:
        raise FileNotFoundError(name)
    return members[name]


def _is_list(name: str) -> bool:
    """Whether a path is that of a list; macOS puts a `._train.csv` of its own beside each, or below __MACOSX."""
    path = PurePosixPath(name)
    return path.suffix in _SUFFIXES and not path.name.startswith(".") and "__MACOSX" not in path.parts


def _members_of(archive: Path) -> dict[str, bytes]:
    status = archive.stat()
    return _members(archive, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=4)
def _members(archive: Path, _mtime_ns: int, _size: int) -> dict[str, bytes]:
    """Lists by their names without folders; one more argument of `lru_cache` for each way to notice a new archive."""
    found: dict[str, bytes] = {}
    try:
        for name, content in _read(archive):
            short = PurePosixPath(name).name
            if found.setdefault(short, content) != content:
                raise InputError(f"{archive} holds two different files {short}: unpack it and name the right folder")
    except _DAMAGES as error:
        raise InputError(f"{archive} cannot be read: {error}; get the archive again, or unpack it by hand") from None
    return found


def _read(archive: Path) -> Iterator[tuple[str, bytes]]:
    if zipfile.is_zipfile(archive):
        with open_zip(archive) as zipped:
            lists = [entry for entry in zipped.infolist() if _is_list(entry.filename)]
            if sum(entry.file_size for entry in lists) > _MAX_BYTES:
                raise ValueError(f"its lists have more than {_MAX_BYTES} bytes")
            for entry in lists:
                with zipped.open(entry) as stream:
                    yield entry.filename, b"".join(iter(functools.partial(stream.read, 1 << 20), b""))
        return
    with archive.open("rb") as stream:
        try:
            packed = open_tar(stream, "r:*")
        except tarfile.TarError:
            packed = open_tar(io.BytesIO(_as_tar(archive)), "r:*")
        with packed:
            yield from _read_tar(packed)


def _read_tar(packed: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    total = 0
    for member in entries(packed):
        listing = packed.extractfile(member) if member.isfile() and _is_list(member.name) else None
        if listing:
            total += member.size
            if total > _MAX_BYTES:
                raise ValueError(f"its lists have more than {_MAX_BYTES} bytes")
            yield member.name, listing.read()


def _as_tar(archive: Path) -> bytes:
    program = shutil.which("bsdtar")
    if program is None:
        raise InputError(
            f"{archive} is neither a folder nor a ZIP or tar archive, and bsdtar, which reads RAR and others, is not "
            "there: install libarchive's tools (Debian and Ubuntu: libarchive-tools; conda: libarchive), or unpack the "
            "archive and name its folder as `lists`"
        )
    # @ makes the entries of an archive those of the new one; an absolute path is no option.
    command = [program, "-cf", "-", "--format=pax", f"@{archive.resolve()}"]
    try:
        status, content, messages = output_of(command, most_bytes=_MAX_BYTES)
    except OverflowError:
        raise InputError(
            f"{archive} unpacks to more than {_MAX_BYTES} bytes: is it the archive of the lists?"
        ) from None
    if status:
        message = messages[:_MAX_MESSAGE].decode(errors="replace").strip()
        raise InputError(f"{archive} cannot be read: {message}; get the archive again, or unpack it by hand")
    return content


def output_of(
    command: Sequence[str], *, most_bytes: int, env: Mapping[str, str] | None = None
) -> tuple[int, bytes, bytes]:
    """Exit status of a program that reads an archive, what it wrote, and its messages.

    Raises:
        OverflowError: it wrote more than `most_bytes`.
    """
    # A pipe for the messages would fill while the content is read, and both sides wait.
    with (
        tempfile.TemporaryFile() as messages,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages, env=env
        ) as program,
    ):
        assert program.stdout is not None
        content = program.stdout.read(most_bytes + 1)
        if len(content) > most_bytes:
            program.kill()
            raise OverflowError
        status = program.wait()
        messages.seek(0)
        return status, content, messages.read(_MOST_MESSAGES)
