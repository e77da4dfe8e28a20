"""Something-Something V2: JSON lists; one split, tested on validation; label order is that of the labels file."""

import re
from pathlib import Path
from typing import Any, Literal

from atw.datasets.archive import list_names
from atw.datasets.listed import Listed, Location, checked_video, read_json
from atw.datasets.names import plain
from atw.files import InputError


def classes(location: Location) -> tuple[str, ...]:
    """The class names by their numbers: templates without brackets, `Holding something next to something`."""
    place, content = _load(Path(location["lists"]), "labels")
    if not isinstance(content, dict):
        raise InputError(f"{place}: expected an object of class names and their numbers")
    numbers = {_number(number, name, place): name for name, number in content.items()}
    if sorted(numbers) != list(range(len(content))):
        raise InputError(f"{place}: the numbers of the classes must be 0 to {len(content) - 1}, each once")
    return tuple(plain(numbers[number]) for number in range(len(content)))


def listed(location: Location, split: int) -> list[Listed]:
    """The videos of train and validation, `root/<id>.webm`."""
    folder = Path(location["lists"])
    known = set(classes(location))
    rows = []
    subsets: tuple[tuple[str, Literal["train", "test"]], ...] = (("train", "train"), ("validation", "test"))
    for name, subset in subsets:
        place, content = _load(folder, name)
        if not isinstance(content, list):
            raise InputError(f"{place}: expected a list of videos")
        for number, entry in enumerate(content, start=1):
            here = f"{place}, video {number}"
            if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("id", "template")):
                raise InputError(f"{here}: expected an object with `id` and `template`, found {str(entry)[:80]!r}")
            label = plain(entry["template"].replace("[", "").replace("]", ""))
            if label not in known:
                raise InputError(f"{here}: class {label!r} is not in the labels file; take both from one release")
            rows.append(Listed(checked_video(f"{entry['id']}.webm", here), label, subset))
    return rows


def _load(folder: Path, what: str) -> tuple[str, Any]:
    """Where a list is, and its content; releases name it with a prefix or without."""
    names = list_names(folder)
    name = next((name for name in (f"something-something-v2-{what}.json", f"{what}.json") if name in names), None)
    if name is None:
        raise InputError(
            f"{folder} holds no something-something-v2-{what}.json: put the dataset's lists there, or correct `lists` "
            "in config.yaml"
        )
    return f"{folder / name}", read_json(folder, name)


def _number(number: Any, name: str, place: str) -> int:
    """The number of a class, which the official labels have as text."""
    # A bool is an int to Python.
    if isinstance(number, int) and not isinstance(number, bool):
        return number
    if isinstance(number, str) and re.fullmatch("[0-9]{1,9}", number):
        return int(number)
    raise InputError(f"{place}: the number of class {name!r} must be a whole number, found {str(number)[:40]!r}")
