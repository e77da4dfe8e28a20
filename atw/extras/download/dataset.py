"""Downloading a dataset: archives fetched or found, unpacked beside their places, checked against the lists, renamed.

The videos appear under their name in one step, and so do the lists. Nothing is ever written into a folder of videos
that is there; what is there is not fetched.
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from atw.datasets import Dataset
from atw.datasets.listed import Location
from atw.extras.download.fetch import fetch
from atw.extras.download.official import Official, official
from atw.extras.download.unpack import rar_programs, unpack
from atw.files import InputError, file_digest, write_json
from atw.locks import locked

_VIDEOS = "*/*.avi"
log = logging.getLogger("atw")


@dataclass(frozen=True)
class Source:
    """Where an archive comes from.

    Args:
        given: http or https address, or path of a file that is there.
        setting: its full name in config.yaml, for messages.
        sha256: hexadecimal; None is not known.
        page: for people, the dataset's own page.
    """

    given: str
    setting: str
    sha256: str | None
    page: str

    @property
    def name(self) -> str:
        """File name of the archive."""
        return Path(urlsplit(self.given).path if self.remote else self.given).name or "archive"

    @property
    def remote(self) -> bool:
        """Whether it is fetched."""
        return self.given.lower().startswith(("http://", "https://"))


def download(out: Path, location: Location, archives: dict[str, str | None]) -> None:
    """Put the videos and lists of an official dataset where its `root` and `lists` say, if they are not there.

    Args:
        out: JSON file that records which archives were used; what is fetched stays in `videos` and `lists` of the
            folder of its name without the suffix, and is not fetched again.
        location: what `atw.config.location` gives.
        archives: the settings `videos_from`, `videos_sha256`, `lists_from` and `lists_sha256`.

    Raises:
        InputError: an archive cannot be had, is not what it should be, or does not hold what the lists name.
    """
    known = official(location["name"], location["kind"])
    folder = out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, f"downloading into {folder}"):
        root, lists = Path(location["root"]), Path(location["lists"])
        sources = {}
        if not any(root.glob(_VIDEOS)):
            _require_free(root, location["name"])
            sources["videos"] = _source("videos", known.videos, location["name"], archives, known.page)
        if not lists.is_file() and not any(lists.glob(known.list_files)):
            sources["lists"] = _source("lists", known.lists, location["name"], archives, known.page)
        for source in sources.values():
            if source.name.lower().endswith(".rar"):
                rar_programs(source.given)
        files = {what: _archive(source, folder / what) for what, source in sources.items()}
        used = {what: _described(source, files[what]) for what, source in sources.items()}
        if files:
            _install(files, location, known)
        else:
            log.info("videos are in %s and lists in %s: nothing to download", root, lists)
        write_json(out, {"dataset": location["name"], "root": str(root), "lists": str(lists), "archives": used})


def _source(what: str, address: str, name: str, archives: dict[str, str | None], page: str) -> Source:
    given = archives.get(f"{what}_from") or address
    return Source(given, f"datasets.{name}.{what}_from", archives.get(f"{what}_sha256"), page)


def _require_free(root: Path, name: str) -> None:
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(
            f"dataset {name}: {root} is there, without videos of the form {_VIDEOS}, and nothing is written into it. "
            f"Move it away, or set datasets.{name}.root in config.yaml to the folder of the classes"
        )


def _archive(source: Source, folder: Path) -> Path:
    """The archive as a file; a fetched one is in `folder`."""
    remedy = (
        f"Get the archive in another way (its page is {source.page}) and set {source.setting} in config.yaml to the "
        "path of the file, or to an address that works"
    )
    if source.remote:
        folder.mkdir(exist_ok=True)
        path = folder / source.name
        try:
            fetch(source.given, path)
        except InputError as error:
            raise InputError(f"{error}. {remedy}") from None
    else:
        path = Path(source.given)
        if not path.is_file():
            raise InputError(
                f"{source.setting}: {source.given} is neither a file nor an http or https address. {remedy}"
            )
    return path


def _described(source: Source, path: Path) -> dict[str, Any]:
    sha256 = file_digest(path)
    if source.sha256 and sha256 != source.sha256:
        raise InputError(
            f"{path} has SHA-256 {sha256}, and {source.setting.removesuffix('_from')}_sha256 asks for {source.sha256}: "
            "delete the file to have it fetched again, or correct the setting"
        )
    return {"from": source.given, "bytes": path.stat().st_size, "sha256": sha256}


def _install(files: dict[str, Path], location: Location, known: Official) -> None:
    """Unpack `files` ("videos", "lists" or both) and give what is in them its final names."""
    root, lists = Path(location["root"]), Path(location["lists"])
    inside = "videos" in files and lists.is_relative_to(root)
    with contextlib.ExitStack() as stack:
        new_root, new_lists = root, lists
        if "lists" in files:
            # Lists that belong below the videos' folder come there before it has its name.
            staging = stack.enter_context(_staging(root if inside else lists, "lists"))
            new_lists = _unpacked(files["lists"], staging, known.list_files)
        if "videos" in files:
            staging = stack.enter_context(_staging(root, "videos"))
            new_root = _unpacked(files["videos"], staging, _VIDEOS)
        _require_listed(location | {"root": str(new_root), "lists": str(new_lists)}, files)
        if "lists" in files and inside:
            (new_root / lists.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
            new_lists = new_lists.rename(new_root / lists.relative_to(root))
        # After a power cut, too, a folder under its final name holds whole files.
        os.sync()
        if "lists" in files and not inside:
            new_lists.rename(lists)
        if "videos" in files:
            new_root.rename(root)


@contextlib.contextmanager
def _staging(place: Path, what: str) -> Iterator[Path]:
    """The name of a folder beside `place`, on the same disk, which is not there before and not afterwards."""
    folder = place.parent / f".{place.name}.{what}.unpacking"
    shutil.rmtree(folder, ignore_errors=True)
    if os.path.lexists(folder):
        raise InputError(f"{folder} is in the way and cannot be removed; look who made it, and delete it")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unpacked(archive: Path, folder: Path, pattern: str) -> Path:
    """The folder of an archive, at most one below the top, in which `pattern` matches.

    HMDB-51 is an archive of archives, one a class, which are unpacked in their turn.
    """
    log.info("unpacking %s", archive)
    unpack(archive, folder)
    for inner in sorted(folder.rglob("*.rar")):
        unpack(inner, folder / ".inner")
        inner.unlink()
        for path in (folder / ".inner").iterdir():
            if (folder / path.name).exists():
                raise InputError(f"{archive}: {path.name} is in {inner.name} and in another of its archives")
            path.rename(folder / path.name)
        (folder / ".inner").rmdir()
    for found in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        if any(found.glob(pattern)):
            return found
    raise InputError(f"{archive} holds no {pattern}, so it is another archive than was asked for")


def _require_listed(location: Location, files: dict[str, Path]) -> None:
    missing, listed = Dataset(location).missing_videos()
    if missing:
        name = location["name"]
        raise InputError(
            f"{' and '.join(str(path) for path in files.values())}: {len(missing)} of the {listed} listed videos "
            f"are not there, first {', '.join(missing[:3])}. Set datasets.{name}.videos_from or lists_from to other "
            f"archives, or datasets.{name}.allow_missing to true to do without these videos"
        )
