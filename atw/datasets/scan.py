"""Folders of videos on disk: which of the listed files exist, under which spelling, and what else a folder holds.

Folders are listed once, instead of a question for each of very many files.
"""

import errno
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from atw.datasets.lists import plain, require_distinct
from atw.files import InputError

_TRAIN = {"train", "training", "trn"}
_TEST = {
    *("test", "testing", "tst", "val", "valid", "validate", "validation", "dev", "development"),
    *("eval", "evaluate", "evaluation", "holdout", "heldout"),
}
_FOLD = re.compile(r"(fold|split|part|partition|subset|cv|chunk|shard|batch)[0-9]+")
# What network drives, systems and archives put beside files; names are compared without case.
_EXTRAS = {
    *("@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot", "$recycle.bin", "recycler"),
    *("__macosx", "lost+found", "system volume information", "network trash folder", "temporary items"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini"),
}
_SHOWN = 10  # names in a message

_Identity = tuple[int, int]  # device and inode


def existing(root: str, names: Iterable[str]) -> set[str]:
    """Return those of the paths, relative to `root` with forward slashes, that are files.

    Raises:
        InputError: a folder or a link cannot be read.
    """
    wanted: dict[str, set[str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        wanted.setdefault(folder, set()).add(file)
    files: set[str] = set()
    for folder, own in wanted.items():
        path, prefix = f"{root}/{folder}", f"{folder}/" if folder else ""
        try:
            with os.scandir(path) as entries:
                files.update(prefix + entry.name for entry in entries if entry.name in own and entry.is_file())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise unreadable(str(error.filename or path), error) from None
    return files


def spelled(root: str, video: str) -> str:
    """Return the path as the file system spells it.

    A Mac decomposes letters with accents, and a list may have blanks at its ends. A path that exists under no spelling
    comes back without those blanks.
    """
    if (video.isascii() and video == video.strip()) or os.path.lexists(f"{root}/{video}"):
        return video
    path = ""
    for part in video.strip().split("/"):
        forms = (part, unicodedata.normalize("NFC", part), unicodedata.normalize("NFD", part))
        path += next((form for form in forms if os.path.lexists(f"{root}/{path}{form}")), part) + "/"
    return path[:-1]


def unreadable(path: str, error: OSError) -> InputError:
    """Return the error for a file or folder of the videos that the system cannot read."""
    text = path.rstrip("/").encode(errors="backslashreplace").decode()
    return InputError(
        f"{text} cannot be read: {error.strerror}; look whether its drive is there and its permissions are "
        "right, or take it away from the videos"
    )


@dataclass
class FolderContent:
    """What a folder with a directory per class holds; paths are relative to it and sorted, hidden names are skipped.

    Args:
        videos: files that a list can name.
        left_out: files that are no videos or that no list can name, each with the reason.
        endings: how many files have each other ending.
        classes: the directories directly below the folder.
    """

    videos: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    endings: Counter[str] = field(default_factory=Counter)
    classes: list[str] = field(default_factory=list)

    @property
    def empty(self) -> list[str]:
        """Classes without a video."""
        filled = {video.partition("/")[0] for video in self.videos}
        return [name for name in self.classes if name not in filled]


def scan(root: Path, extensions: Sequence[str]) -> FolderContent:
    """Look through `root`. Links are followed, but not to a folder that leads to them.

    Raises:
        InputError: a folder cannot be read, or two paths lead to the same folder of videos.
    """
    content = FolderContent()
    wanted = tuple(extension.lower() for extension in extensions)
    first_paths: dict[_Identity, str] = {}
    to_do: list[tuple[str, frozenset[_Identity]]] = [("", frozenset())]
    while to_do:
        prefix, above = to_do.pop()
        own = identity(f"{root}/{prefix}")
        if own in above:
            continue
        known = len(content.videos)
        for entry in _entries(f"{root}/{prefix}"):
            name = prefix + entry.name
            if _kind(entry) == "folder":
                if not _can_be_listed(entry.name):
                    content.left_out.append(f"{name!r} (a name that cannot stand in a list)")
                    continue
                to_do.append((f"{name}/", above | {own}))
                if not prefix:
                    content.classes.append(name)
            else:
                _add_file(entry, name, wanted, content)
        if len(content.videos) > known and first_paths.setdefault(own, prefix) != prefix:
            raise InputError(
                f"{root}: {first_paths[own].rstrip('/')} and {prefix.rstrip('/')} are the same directory, so one "
                "video would be two; take one of the links away"
            )
    for names in (content.videos, content.left_out, content.classes):
        names.sort()
    return content


def require_classes(content: FolderContent, root: Path, extensions: Sequence[str]) -> None:
    """Refuse a folder that splits cannot be drawn from.

    Raises:
        InputError: there are fewer than two classes, or the directories are those of a split and not classes.
    """
    remedy = "name the folder that holds the classes as root, or write the lists by hand and name them as `lists`"
    if _is_layout(content.classes):
        raise InputError(
            f"{root}: the directories {shown(content.classes)} are subsets of a split, not classes, and each would be "
            f"taken for a class: {remedy}"
        )
    endings = ", ".join(extensions)
    if not content.videos:
        if not content.classes and content.left_out:
            raise InputError(
                f"{root} has no folder for each class. If it is the folder of one class, give the one above it; else "
                f"sort its videos into {root}/<class>/. Left out: {shown(content.left_out)}"
            )
        left_out = f" Left out: {shown(content.left_out)}." if content.left_out else ""
        raise InputError(
            f"{root}: no file in a directory of a class, {root}/<class>/..., ends in one of {endings}; put the videos "
            f"there, or correct `extensions` in config.yaml.{left_out}"
        )
    filled = sorted(set(content.classes) - set(content.empty))
    if len(filled) < 2:
        empty = f"; no file in {shown(content.empty)} ends in one of {endings}" if content.empty else ""
        raise InputError(
            f"{root}: only one class has videos, {filled[0]}{empty}. Two classes are the least: put the videos of "
            f"another one there, correct `extensions` in config.yaml, or {remedy}"
        )
    labels: dict[str, str] = {}
    for name in filled:
        other = labels.setdefault(plain(name), name)
        if other != name or not plain(name):
            raise InputError(
                f"{root}: without the blanks around it, which belong to no label, the name of the directory {name!r} "
                + (f"is that of {other!r}" if plain(name) else "is empty")
                + "; rename the directory"
            )
    require_distinct(labels, str(root), "rename one of the directories, or move its videos into the other")


def _is_layout(names: Sequence[str]) -> bool:
    """Whether directories are those of subsets or folds: `train` and `eval`, `fold1` and `fold2`."""
    words = {re.sub(r"[\W_]+", "", name.casefold()) for name in names}
    bare = {re.sub(r"(set|data|split|videos?|clips)?[0-9]*$", "", word) or word for word in words}
    subsets = bare & (_TRAIN | _TEST)
    folds = [word for word in words if _FOLD.fullmatch(word)]
    return bool(subsets & _TEST and len(subsets) > 1) or len(folds) > 1


def shown(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _add_file(entry: os.DirEntry[str], name: str, wanted: tuple[str, ...], content: FolderContent) -> None:
    kind = _kind(entry)
    # A broken link says not even whether it was a folder.
    if kind != "broken link" and not name.lower().endswith(wanted):
        if kind == "file":
            ending = Path(name).suffix.lower()
            content.endings[ending if re.fullmatch(r"\.\w{1,10}", ending) else "none"] += 1
        return
    if not _can_be_listed(entry.name):
        content.left_out.append(f"{name!r} (a name that cannot stand in a list)")
    elif kind != "file":
        content.left_out.append(f"{name!r} ({kind})")
    elif "/" not in name:
        content.left_out.append(f"{name!r} (in no directory of a class)")
    else:
        content.videos.append(name)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not is_extra(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise unreadable(folder, error) from None


def is_extra(name: str) -> bool:
    """Whether a name is hidden, or one that network drives, systems and archives put beside files."""
    return name.startswith(".") or name.casefold() in _EXTRAS


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise unreadable(entry.path, error) from None
    return "broken link" if entry.is_symlink() else "no regular file"


def identity(folder: str) -> _Identity:
    """What is the same for all paths to a folder; InputError if it cannot be read."""
    try:
        status = Path(folder).stat()
    except OSError as error:
        raise unreadable(folder, error) from None
    return status.st_dev, status.st_ino


def _can_be_listed(name: str) -> bool:
    """Whether a list can hold the name: backslashes are refused there, and what is no text or controls a terminal."""
    return "\\" not in name and not any(unicodedata.category(character) in ("Cc", "Cs") for character in name)
