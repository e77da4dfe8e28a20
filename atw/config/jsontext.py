"""JSON that people write or download: a name that stands twice in an object is refused, where Python keeps the last."""

import json
import re
from collections import Counter
from typing import Any

from atw.files import InputError

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:\n]')


class _RepeatedError(Exception):
    pass


def parse(text: str, place: str) -> Any:
    """The content of `text`.

    Args:
        text: of a whole file.
        place: the file, for messages.

    Raises:
        InputError: a name stands twice in one object; the message has both lines.
        ValueError: it is no JSON.
        RecursionError: it is nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except _RepeatedError as error:
        name = str(error)
        first, second = _lines(text, name)
        raise InputError(
            f"{place}, line {second}: {name!r} stands twice, first in line {first}; keep one of them"
        ) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise _RepeatedError(Counter(name for name, _ in pairs).most_common(1)[0][0])
    return content


def _lines(text: str, name: str) -> tuple[int, int]:
    """The lines, from 1, in which `name` first stands a second time in one object, the earlier one first."""
    levels: list[dict[str, int]] = []
    line, last = 1, ""
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token == "\n":
            line += 1
            continue
        if token in "{[":
            levels.append({})
        elif token in "}]":
            levels.pop()
        elif token == ":" and (key := json.loads(last)) == name:
            first = levels[-1].setdefault(key, match.start())
            if first != match.start():
                return text.count("\n", 0, first) + 1, line
        last = token
    raise AssertionError(f"{name!r} is not there twice")
