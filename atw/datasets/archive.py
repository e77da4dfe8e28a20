"""List files in a folder, or in an archive that is read without being unpacked.

ZIP and tar need nothing but Python. RAR, in which HMDB-51 is published, is handed to libarchive's `bsdtar`.
"""

import functools
import io
import shutil
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from atw.files import InputError

_SUFFIXES = (".txt", ".csv", ".json")
_MAX_BYTES = 512 * 2**20  # of all lists of an archive; those of Kinetics-700 have 40 MB


def list_names(lists: Path) -> list[str]:
    """Names of the list files in a folder or archive, sorted; in an archive folders are looked through."""
    if lists.is_file():
        return sorted(_members_of(lists))
    try:
        return sorted(path.name for path in lists.iterdir() if path.suffix in _SUFFIXES)
    except FileNotFoundError:
        return []


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


def _members_of(archive: Path) -> dict[str, bytes]:
    status = archive.stat()
    return _members(archive, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=4)
def _members(archive: Path, _mtime_ns: int, _size: int) -> dict[str, bytes]:
    """Lists by their names without folders; one more argument of `lru_cache` for each way to notice a new archive."""
    found: dict[str, bytes] = {}
    total = 0
    try:
        for name, content in _read(archive):
            total += len(content)
            if total > _MAX_BYTES:
                raise InputError(f"the lists in {archive} are larger than {_MAX_BYTES} bytes: is it the right file?")
            short = PurePosixPath(name).name
            if found.setdefault(short, content) != content:
                raise InputError(f"{archive} holds two different files {short}: unpack it and name the right folder")
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{archive} cannot be read: {error}; get the archive again, or unpack it by hand") from None
    return found


def _read(archive: Path) -> Iterator[tuple[str, bytes]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for entry in zipped.infolist():
                if entry.filename.endswith(_SUFFIXES):
                    with zipped.open(entry) as stream:
                        yield entry.filename, stream.read(_MAX_BYTES + 1)
        return
    whole = archive if tarfile.is_tarfile(archive) else io.BytesIO(_as_tar(archive))
    with tarfile.open(whole) if isinstance(whole, Path) else tarfile.open(fileobj=whole) as packed:
        for member in packed:
            listing = packed.extractfile(member) if member.isfile() and member.name.endswith(_SUFFIXES) else None
            if listing:
                yield member.name, listing.read(_MAX_BYTES + 1)


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
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        content = process.stdout.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            process.kill()
            raise InputError(f"{archive} unpacks to more than {_MAX_BYTES} bytes: is it the archive of the lists?")
        message = process.stderr.read().decode(errors="replace").strip()
    if process.returncode:
        raise InputError(f"{archive} cannot be read: {message}; get the archive again, or unpack it by hand")
    return content
