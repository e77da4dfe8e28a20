"""Downloads of datasets: archives are fetched or found, unpacked beside their places, checked by the lists, renamed.

The videos appear under their name in one step, and so do the lists. Nothing is ever written into an existing folder of
videos, and what exists is not fetched.
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from atw.config import Archives, DownloadableDataset, Location, all_kinds
from atw.datasets import Dataset
from atw.datasets.archive import require_program, unpack
from atw.extras.download.fetch import fetch
from atw.files import InputError, file_digest, write_json
from atw.locks import locked

_VIDEOS = "*/*.avi"
log = logging.getLogger("atw")


@dataclass(frozen=True)
class Source:
    """Where an archive comes from.

    Args:
        given: http or https address, or path of an existing file.
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

    def as_file(self, folder: Path) -> Path:
        """Return the archive as a file; a remote one is fetched into `folder`."""
        remedy = (
            f"Get the archive in another way (its page is {self.page}) and set {self.setting} in config.yaml to the "
            "path of the file, or to an address that works"
        )
        if not self.remote:
            if not Path(self.given).is_file():
                raise InputError(
                    f"{self.setting}: {self.given} is neither a file nor an http or https address. {remedy}"
                )
            return Path(self.given)
        folder.mkdir(exist_ok=True)
        try:
            fetch(self.given, folder / self.name)
        except InputError as error:
            raise InputError(f"{error}. {remedy}") from None
        return folder / self.name

    def described(self, path: Path) -> dict[str, str | int]:
        """Return the record of the archive in the file `path`, whose checksum must be the expected one."""
        sha256 = file_digest(path)
        if self.sha256 and sha256 != self.sha256:
            raise InputError(
                f"{path} has SHA-256 {sha256}, and {self.setting.removesuffix('_from')}_sha256 asks for {self.sha256}: "
                "delete the file to have it fetched again, or correct the setting"
            )
        return {"from": self.given, "bytes": path.stat().st_size, "sha256": sha256}


def download(out: Path, location: Location, archives: Archives) -> None:
    """Put the videos and lists of an official dataset where its `root` and `lists` say, if they do not exist.

    Args:
        out: JSON file that records which archives were used; fetched files stay in `videos` and `lists` of the
            folder of its name without the suffix, and are not fetched again.
        location: of the dataset.
        archives: take the place of the official ones.

    Raises:
        InputError: an archive cannot be had, is not the right one, or does not hold the listed videos.
    """
    place = _Place.of(location)
    folder = out.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, f"downloading into {folder}"):
        sources = place.missing(archives)
        for source in sources.values():
            if source.name.lower().endswith(".rar"):
                require_program(source.given)
        files = {part: source.as_file(folder / part) for part, source in sources.items()}
        used = {part: source.described(files[part]) for part, source in sources.items()}
        if files:
            place.install(files)
        else:
            log.info("videos are in %s and lists in %s: nothing to download", place.root, place.lists)
        names = {"dataset": location.name, "root": str(place.root), "lists": str(place.lists)}
        write_json(out, {**names, "archives": used})


@dataclass(frozen=True)
class _Place:
    """Where a dataset's videos and lists belong."""

    location: Location
    settings: DownloadableDataset

    @classmethod
    def of(cls, location: Location) -> "_Place":
        settings = location.settings
        if not isinstance(settings, DownloadableDataset):
            known = " or ".join(name for name, kind in all_kinds() if issubclass(kind, DownloadableDataset))
            raise InputError(
                f"dataset {location.name} is of kind {settings.kind}, which has no official archives; those that can "
                f"be downloaded are of kind {known}"
            )
        return cls(location, settings)

    @property
    def root(self) -> Path:
        return Path(self.settings.root)

    @property
    def lists(self) -> Path:
        return Path(self.settings.lists)

    def missing(self, archives: Archives) -> dict[str, Source]:
        """Return the archives of the parts, `videos` and `lists`, that do not exist."""
        name, addresses = self.location.name, self.settings.addresses
        sources = {}
        if not any(self.root.glob(_VIDEOS)):
            self._require_free_root()
            address, sha256 = archives.videos_from or addresses.videos, archives.videos_sha256
            sources["videos"] = Source(address, f"datasets.{name}.videos_from", sha256, addresses.page)
        if not self.lists.is_file() and not any(self.lists.glob(addresses.list_files)):
            address, sha256 = archives.lists_from or addresses.lists, archives.lists_sha256
            sources["lists"] = Source(address, f"datasets.{name}.lists_from", sha256, addresses.page)
        return sources

    def install(self, files: dict[str, Path]) -> None:
        """Unpack the archives of the parts and give their contents the final names."""
        root, lists = self.root, self.lists
        lists_inside = "videos" in files and lists.is_relative_to(root)
        with contextlib.ExitStack() as stack:
            new_root, new_lists = root, lists
            if "lists" in files:
                # Lists that belong below the videos' folder come there before it has its name.
                staging = stack.enter_context(_staging(root if lists_inside else lists, "lists"))
                new_lists = _unpacked(files["lists"], staging, self.settings.addresses.list_files)
            if "videos" in files:
                new_root = _unpacked(files["videos"], stack.enter_context(_staging(root, "videos")), _VIDEOS)
            self._require_listed_videos(self.location.replaced(root=str(new_root), lists=str(new_lists)), files)
            if "lists" in files and lists_inside:
                (new_root / lists.relative_to(root)).parent.mkdir(parents=True, exist_ok=True)
                new_lists = new_lists.rename(new_root / lists.relative_to(root))
            # After a power cut, too, a folder under its final name holds whole files.
            os.sync()
            if "lists" in files and not lists_inside:
                new_lists.rename(lists)
            if "videos" in files:
                new_root.rename(root)

    def _require_free_root(self) -> None:
        if self.root.exists() and (not self.root.is_dir() or any(self.root.iterdir())):
            name = self.location.name
            raise InputError(
                f"dataset {name}: {self.root} exists, without videos of the form {_VIDEOS}, and nothing is written "
                f"into it. Move it away, or set datasets.{name}.root in config.yaml to the folder of the classes"
            )

    def _require_listed_videos(self, unpacked: Location, files: dict[str, Path]) -> None:
        missing, listed = Dataset(unpacked).missing_videos()
        if missing:
            raise InputError(
                f"{' and '.join(str(path) for path in files.values())}: {len(missing)} of the {listed} listed videos "
                f"are not there, first {', '.join(missing[:3])}. Set datasets.{unpacked.name}.videos_from or "
                f"lists_from to other archives, or datasets.{unpacked.name}.allow_missing to true to do without these "
                "videos"
            )


@contextlib.contextmanager
def _staging(place: Path, part: str) -> Iterator[Path]:
    """Give the name of a folder beside `place`, on the same disk, that exists neither before nor afterwards."""
    folder = place.parent / f".{place.name}.{part}.unpacking"
    shutil.rmtree(folder, ignore_errors=True)
    if os.path.lexists(folder):
        raise InputError(f"{folder} is in the way and cannot be removed; look who made it, and delete it")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unpacked(archive: Path, folder: Path, pattern: str) -> Path:
    """Unpack an archive and return its folder, at most one below the top, in which `pattern` matches.

    HMDB-51 is an archive of archives, one for each class, which are unpacked in their turn.
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
    for candidate in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        if any(candidate.glob(pattern)):
            return candidate
    raise InputError(f"{archive} holds no {pattern}, so it is another archive than was asked for")
