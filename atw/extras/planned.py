"""A dry run in words: which jobs would follow, and why."""

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from atw.config import UNREAD
from atw.extras.live import place

_LABELS = 3  # named of the jobs with one reason
_CHANGES = 4  # named of the settings that changed
_PARAMS = "Params have changed since last execution: "
# What Snakemake says, and what it means; the first that fits holds.
_REASONS = {
    "Missing output files": "not made yet",
    "Incomplete output files": "an earlier run broke off",
    "Set of input files has changed": "it takes other files than before",
    "Code has changed": "its rule is another one than before",
    "Updated input files": "a file that it takes is newer",
    "Input files updated by another job": "what it takes is made anew",
    "Forced execution": "asked for",
}
_NAMES = {"videos": "the videos of the split", "members": "its videos", "recipe": "the version of its computation"}


class Planned:
    """The jobs of a dry run."""

    def __init__(self) -> None:
        self._jobs: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))

    def add(self, rule: str, label: str, reason: str) -> None:
        """Note a job, which Snakemake would run for that reason."""
        self._jobs[rule][explain(reason)].append(label)

    def lines(self) -> list[str]:
        """Return what would be done, in the order of the pipeline; nothing if there is nothing to do."""
        count = sum(len(labels) for reasons in self._jobs.values() for labels in reasons.values())
        lines = [f"{count} job{'s' * (count != 1)} would run:"] if count else []
        for rule in sorted(self._jobs, key=place):
            for reason, labels in self._jobs[rule].items():
                more = f" and {len(labels) - _LABELS} more" if len(labels) > _LABELS else ""
                lines.append(f"  {rule} of {', '.join(labels[:_LABELS])}{more}: {reason}")
        return lines


def explain(reason: str) -> str:
    """Say in words why Snakemake would run a job; of changed settings, which and how."""
    before, found, params = reason.partition(_PARAMS)
    changes = list(dict.fromkeys(_changes(params)))
    if changes:
        more = f", and {len(changes) - _CHANGES} more" if len(changes) > _CHANGES else ""
        return "; ".join(changes[:_CHANGES]) + more
    other = "other settings than before" if found else before
    return next((meaning for text, meaning in _REASONS.items() if text in before), other)


def _changes(params: str) -> Iterator[str]:
    """The settings that differ between the two texts of Snakemake, each of which has the JSON of a job."""
    before, _, now = params.partition(" now: ")
    for old, new in zip(_objects(before), _objects(now), strict=False):
        yield from _differences(old, new, "")


def _objects(text: str) -> list[Any]:
    """The JSON objects in a text."""
    decoder, found, at = json.JSONDecoder(), [], text.find("{")
    while at >= 0:
        try:
            value, at = decoder.raw_decode(text, at)
            found.append(value)
        except ValueError:
            at += 1
        at = text.find("{", at)
    return found


def _differences(old: Any, new: Any, name: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))
    elif old != new and new != UNREAD:
        last = name.rpartition(".")[2]
        yield f"{_NAMES[last]} changed" if last in _NAMES else f"{name} was {json.dumps(old)}, is {json.dumps(new)}"
