"""Explains errors of a configuration: their place, what is allowed there, and how to spell in YAML what was meant."""

import copy
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from atw.config.datasets import StreamOverrides, find_kind
from atw.config.settings import Sections
from atw.config.yaml_files import Document, RawConfig

_NUMBER = ("int_type", "float_type")
_TYPE = re.compile(r"\[key\]|int|(constrained-|literal\[|tuple\[).*")
_TRUE, _FALSE = ("true", "yes", "on", "y", "1"), ("false", "no", "off", "n", "0")


def explain(
    error: ValidationError,
    raw: Mapping[str, Any],
    model: type[BaseModel],
    documents: Sequence[Document],
    command_line: Mapping[str, Any],
) -> str:
    """Write one line per error.

    Args:
        error: the errors, from validation.
        raw: the whole configuration.
        model: of the whole configuration.
        documents: the files that were read, the winning one first.
        command_line: the part that Snakemake's `--config` gave.
    """
    names = " and ".join(document.name for document in documents) or "config.yaml"
    lines = [f"{names} {'are' if len(documents) > 1 else 'is'} not valid:"]
    for problem in error.errors():
        keys, value = _keys(problem), problem["input"]
        place, text = _place(keys, value, documents, command_line)
        where = place + ".".join(str(key) for key in keys)
        if problem["type"] == "extra_forbidden":
            colon = "; put a blank behind its colon" if ":" in str(keys[-1]) else ""
            allowed = _allowed(raw, model, problem["loc"])
            lines.append(f"  {where}: unknown key (value {value!r}){colon}; {allowed}")
        else:
            shown = "" if isinstance(value, dict) else f" (value {value!r})"
            message = problem["msg"].removeprefix("Value error, ") + shown + _spelling(problem["type"], value, text)
            lines.append(f"  {where}: {message}" if where else f"  {message}")
    return "\n".join(lines)


def with_nulls_read(raw: RawConfig, command_line: Mapping[str, Any]) -> RawConfig:
    """`raw` with each `null` of the command line, which Snakemake leaves a text, as None."""
    read = dict(raw)
    for key, value in command_line.items():
        if isinstance(value, Mapping) and isinstance(read.get(key), Mapping):
            read[key] = with_nulls_read(read[key], value)
        elif value in ("null", "~") and read.get(key) == value:
            read[key] = None
    return read


def with_texts_read(raw: RawConfig, command_line: Mapping[str, Any], error: ValidationError) -> RawConfig:
    """`raw` with texts of the command line that were refused as texts, read as YAML reads them in a file."""
    mended = copy.deepcopy(raw)
    for problem in error.errors():
        keys, value = _keys(problem), problem["input"]
        if (
            problem["type"] in (*_NUMBER, "bool_type")
            and isinstance(value, str)
            and _value(command_line, keys) == value
        ):
            *above, last = keys
            level = _value(mended, above)
            number = _number(value)
            if number is None:
                level[last] = yaml.safe_load(value)
            else:
                level[last] = int(value) if re.fullmatch(r"[-+]?[0-9]+", value) else number
    return mended


def _keys(problem: Any) -> list[int | str]:
    """The keys that lead to an error, without the types that pydantic puts between them."""
    return [part for part in problem["loc"] if not _TYPE.fullmatch(str(part))]


def _value(content: Any, keys: Sequence[int | str]) -> Any:
    for key in keys:
        try:
            content = content[key]
        except (KeyError, IndexError, TypeError):
            return None
    return content


def _place(
    keys: Sequence[int | str], value: object, documents: Sequence[Document], command_line: Mapping[str, Any]
) -> tuple[str, str]:
    """The place of the value, in words to put before its key, and the value as written there."""
    if keys and _value(command_line, keys) is not None:
        return "--config: ", ""
    for document in documents:
        place = document.place(keys, value) if keys else None
        if place:
            return f"{place.where}: ", place.text
    return "", ""


def _spelling(problem: str, value: object, text: str) -> str:
    """How to write the value that was probably meant."""
    if problem in _NUMBER and isinstance(value, str | float):
        number = _number(value) if isinstance(value, str) else value
        if number is None or (problem == "int_type" and not number.is_integer()):
            return ""
        return f"; write {_written(number)}" + (f", since YAML reads {text} as text" if text == value else "")
    if problem == "bool_type" and str(value).lower() in _TRUE + _FALSE:
        return f"; write {'true' if str(value).lower() in _TRUE else 'false'}"
    if problem in ("string_type", "literal_error") and text and not isinstance(value, str) and value is not None:
        return f'; write "{text}", with quotes, since YAML reads {text} as no text'
    if problem.endswith("_type") and isinstance(value, str) and re.match(r"\s*[\[{]", value):
        return "; leave out the quotes around it"
    if problem == "tuple_type" and isinstance(value, str) and value:
        return f"; write a list, [{value}]"
    return ""


def _number(text: str) -> float | None:
    """The number that a text stands for, with a comma for decimals or thousands, or a percent sign."""
    plain = text.strip()
    percent = plain.endswith("%")
    plain = plain.removesuffix("%").rstrip()
    if re.fullmatch(r"[-+]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]*)?", plain):
        plain = plain.replace(",", "")
    try:
        number = float(plain.replace(",", "."))
    except ValueError:
        return None
    return (number / 100 if percent else number) if math.isfinite(number) else None


def _written(number: float) -> str:
    """A number in YAML 1.1, whose exponents need a point before them and a sign."""
    if number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    mantissa, _, exponent = repr(number).partition("e")
    return repr(number) if not exponent else f"{mantissa}{'' if '.' in mantissa else '.0'}e{int(exponent):+03d}"


def _allowed(raw: Mapping[str, Any], model: Any, place: Sequence[int | str]) -> str:
    parts = iter(place[:-1])
    for part in parts:
        # datasets, experiments and streams are followed by a name.
        if part == "datasets":
            model = find_kind(raw["datasets"][next(parts)]["kind"])
        elif part in ("experiments", "streams"):
            next(parts)
            model = StreamOverrides if part == "experiments" else Sections
        else:
            model = Sections.model_fields[str(part)].annotation
    return "allowed here: " + ", ".join(model.model_fields)
