"""Names that look the same and are not: labels, and the paths of files."""

import functools
import os
import unicodedata
from collections.abc import Iterable

from atw.files import InputError

_UNSEEN = dict.fromkeys(map(ord, "\u00ad\u200b\u2060\ufeff"))  # soft hyphen and marks without width


@functools.lru_cache(maxsize=10_000)
def plain(text: str) -> str:
    """`text` in Unicode's composed form (NFC), without unseen marks, with one common blank for each run of blanks."""
    return " ".join(unicodedata.normalize("NFC", text.translate(_UNSEEN)).split())


def require_distinct(labels: Iterable[str], place: str, remedy: str) -> None:
    """Refuse labels that are two to a program and one to the eye, as `Jump` and `jump`.

    Raises:
        InputError: with both spellings.
    """
    known: dict[str, str] = {}
    for label in sorted(set(labels)):
        visible = "".join(character for character in label if unicodedata.category(character) != "Cf")
        other = known.setdefault(unicodedata.normalize("NFKC", plain(visible)).casefold(), label)
        if other != label:
            raise InputError(f"{place}: {other!a} and {label!a} would be two classes, and look like one; {remedy}")


def spelled(root: str, video: str) -> str:
    """The path as the file system spells it: a Mac decomposes letters with accents, a list may have blanks at its ends.

    What is not there under any spelling comes back without those blanks.
    """
    if (video.isascii() and video == video.strip()) or os.path.lexists(f"{root}/{video}"):
        return video
    found = ""
    for part in video.strip().split("/"):
        if not os.path.lexists(f"{root}/{found}{part}"):
            part = _other_spelling(f"{root}/{found}", part)
        found += f"{part}/"
    return found[:-1]


def path_key(video: str) -> str:
    """What the spellings of one path have in common."""
    return unicodedata.normalize("NFC", video.strip())


def _other_spelling(folder: str, name: str) -> str:
    for form in ("NFC", "NFD"):
        other = unicodedata.normalize(form, name)
        if os.path.lexists(f"{folder}/{other}"):
            return other
    return name
