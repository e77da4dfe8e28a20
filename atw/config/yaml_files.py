"""Reads configuration files, with the place of each value, and refuses text that YAML 1.1 would misread.

Snakemake reads the same files again; of two equal keys it silently keeps the last.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from atw.config import jsontext
from atw.files import InputError

_MAX_NODES = 100_000  # once every alias is replaced by what it stands for
_MERGE = "tag:yaml.org,2002:merge"
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")

# The content of a configuration file before validation.
RawConfig = dict[str, Any]


@dataclass(frozen=True)
class Position:
    """The place of a value.

    Args:
        where: file, line and column, in words.
        text: the value as written, if it is one word without quotes; else empty.
    """

    where: str
    text: str


@dataclass(frozen=True)
class Document:
    """A configuration file.

    Args:
        name: path of the file, as given.
        content: its content, not yet validated.
        root: its content with places; None for JSON.
    """

    name: str
    content: RawConfig
    root: yaml.MappingNode | None

    def place(self, keys: Sequence[int | str], value: object) -> Position | None:
        """The place of the setting with these keys, if this file sets it to `value` or its key is the fault."""
        found: Any = self.content
        for key in keys:
            try:
                found = found[key]
            except (KeyError, IndexError, TypeError):
                return None
        if found is not value and found != value and keys[-1:] != [value]:  # NaN is not equal to itself
            return None
        node = self._node(keys)
        if node is None:
            return Position(self.name, "")
        plain = isinstance(node, yaml.ScalarNode) and node.style is None
        return Position(_where(self.name, node.start_mark), node.value if plain else "")

    def _node(self, keys: Sequence[int | str]) -> yaml.Node | None:
        node: Any = self.root
        for key in keys:
            if isinstance(node, yaml.SequenceNode) and isinstance(key, int):
                node = node.value[key]
            elif isinstance(node, yaml.MappingNode):
                # From the end, for what `<<` merged into it stands before.
                node = next((value for name, value in reversed(node.value) if name.value == str(key)), None)
            else:
                return None
        return node  # type: ignore[no-any-return]


def read(path: Path) -> Document:
    """Read a configuration in YAML or JSON.

    Raises:
        InputError: it is neither, has a key twice, is huge once its aliases are replaced, or has a misleading number.
    """
    name = str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{name} does not exist; `atw run` writes one, --configfile names another") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{name} cannot be read as a configuration: {error}") from None
    try:
        content, root = _parsed(name, text)
    except RecursionError:
        raise InputError(f"{name} cannot be read as a configuration: it is too deeply nested") from None
    if not isinstance(content, dict):
        raise InputError(f"{name} holds no settings; docs/configuration.md lists what may stand there")
    return Document(name, content, root)


def read_all(paths: Iterable[Path]) -> tuple[Document, ...]:
    """Read those of the files that exist, each once."""
    return tuple(read(path) for path in {path.resolve(): path for path in paths if path.exists()}.values())


def merged(documents: Iterable[Document]) -> RawConfig:
    """The content of all files, the winning one first, as Snakemake merges them."""
    content: RawConfig = {}
    for document in reversed(tuple(documents)):
        content = _over(content, document.content)
    return content


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = dict(below)
    for key, value in above.items():
        known = both.get(key)
        both[key] = _over(known, value) if isinstance(value, dict) and isinstance(known, dict) else value
    return both


def _parsed(name: str, text: str) -> tuple[Any, Any]:
    try:
        return jsontext.parse(text, name), None  # first, as Snakemake does: JSON may be indented with tabs
    except ValueError:
        pass
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return None, None
        _limit(name, root)
        for node in _each(root):
            _check(name, node, loader)
        return loader.construct_document(root), root
    except yaml.MarkedYAMLError as error:
        raise InputError(_unreadable(name, text, error)) from None
    except yaml.YAMLError as error:
        raise InputError(f"{name} cannot be read as a configuration: {error}") from None


def _limit(name: str, root: yaml.Node) -> None:
    """Refuse aliases that multiply or never end, before anything is built from them."""
    sizes: dict[yaml.Node, int | None] = {}

    def size(node: yaml.Node) -> int:
        if node not in sizes:
            sizes[node] = None
            sizes[node] = 1 + sum(map(size, _children(node)))
        known = sizes[node]
        if known is None:
            raise InputError(f"{_where(name, node.start_mark)}: an alias in here stands for all of it; take it out")
        if known > _MAX_NODES:
            raise InputError(
                f"{_where(name, node.start_mark)}: with its aliases replaced by what they stand for, this is more than "
                f"{_MAX_NODES:,} values; write fewer aliases of aliases"
            )
        return known

    size(root)


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _each(root: yaml.Node) -> Iterator[yaml.Node]:
    """Yield every node once, in the order of the file."""
    known, todo = {root}, [root]
    while todo:
        node = todo.pop()
        yield node
        new = [child for child in _children(node) if child not in known]
        known.update(new)
        todo += reversed(new)


def _check(name: str, node: yaml.Node, loader: yaml.SafeLoader) -> None:
    if isinstance(node, yaml.MappingNode):
        _no_key_twice(name, node, loader)
    elif isinstance(node, yaml.ScalarNode) and node.tag != _MERGE:
        where = _where(name, node.start_mark)
        try:
            value = loader.construct_object(node)
        except ValueError as error:
            raise InputError(
                f"{where}: {node.value} looks like a number or a date, and is none ({error}); put quotes around text"
            ) from None
        if node.style is None and node.tag in _NUMBERS:
            octal = re.fullmatch(r"[-+]?0[0-9_]+", node.value)
            if octal or ":" in node.value:
                meant = node.value.replace("_", "").lstrip("+-0") if octal else ""
                raise InputError(
                    f"{where}: YAML reads {node.value} as {value}, for "
                    + ("a zero in front means octal" if octal else "colons mean base 60")
                    + f"; write {f'{meant}, ' if meant else ''}{value}, or put quotes around text"
                )


def _no_key_twice(name: str, node: yaml.MappingNode, loader: yaml.SafeLoader) -> None:
    known: dict[object, yaml.Node] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise InputError(
                f"{_where(name, key.start_mark)}: a key must be one word, and here stands a list or mapping"
            )
        if key.value != key.value.strip():
            raise InputError(
                f"{_where(name, key.start_mark)}: there are blanks that YAML does not know as such (a no-break blank?) "
                f"beside the key {key.value!a}; type common blanks"
            )
        content = key.value if key.tag == _MERGE else loader.construct_object(key)
        first = known.setdefault(content, key)
        if first is not key:
            raise InputError(
                f"{_where(name, key.start_mark)}: {key.value} stands twice, first in line {first.start_mark.line + 1}; "
                "YAML would drop the first without a word: put both into one"
            )


def _where(name: str, mark: yaml.Mark) -> str:
    return f"{name}, line {mark.line + 1}, column {mark.column + 1}"


def _unreadable(name: str, text: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return f"{name} cannot be read as a configuration: {error.problem}"
    lines = text.split("\n")
    line = lines[mark.line] if mark.line < len(lines) else ""
    indent = line[: len(line) - len(line.lstrip())]
    at = mark.column if line[mark.column : mark.column + 1] == "\t" else indent.find("\t")
    if at >= 0:
        return f"{name}, line {mark.line + 1}, column {at + 1}: a tab, which YAML does not take: type blanks instead"
    context = f" {error.context}" if error.context else ""
    return f"{_where(name, mark)}: no YAML:{context} {error.problem}"
