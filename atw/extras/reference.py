"""`atw settings`: the reference of all settings (docs/configuration.md), made from the models that check them."""

import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from atw.config import RECIPES_BY_NAME, STREAM_DEFAULTS, Config, Settings, StreamOverrides, all_kinds

_HEAD = """# Configuration

All settings, written by `atw settings` from the models in `atw/config/`. A key without a default is required.

A section can be at the top of config.yaml, for all datasets, or under `streams:`, for one stream. Both are also
possible in a dataset or an experiment. The later value wins, in this order: defaults, config.yaml, its `streams:`,
the dataset's `recipe`, the dataset, its `streams:`, experiment, its `streams:`.

`preprocess`, `flow` and `warp` are the same for all streams and experiments, because these share their shards.

An experiment is a named set of sections under `experiments:`; its results are in
`results/{dataset}/experiments/{name}`.

Files are YAML 1.1 or JSON. Anchors, aliases and `<<` are allowed, up to 100,000 values once aliases are replaced.
Repeated keys, `010` (octal) and `1:30` (base 60) are refused. Write `0.001` or `1.0e-3`, because `1e-3` is text, and
put quotes around names such as `"no"` and `"2026"`. Error messages name file, line and column.
"""


def markdown() -> str:
    """Return the whole reference."""
    sections = {name: field for name, field in Config.model_fields.items() if name == "consensus_table"}
    sections |= Settings.model_fields
    parts = [_HEAD, "## Top level\n", _table(Config, {"datasets", "experiments", *sections, "streams"})]
    kinds: dict[tuple[str, str], list[str]] = {}
    for name, kind in all_kinds():
        table = _table(kind, {"kind", *StreamOverrides.model_fields})
        kinds.setdefault((kind.about, table), []).append(f"`{name}`")  # some kinds have the same settings
    for (about, table), names in kinds.items():
        parts += [f"## A dataset of kind {' or '.join(names)}\n", f"{about}\n", table]
    for recipe, given in RECIPES_BY_NAME.items():
        parts += [f"## What `recipe: {recipe}` stands for\n", _as_yaml(given)]
    for name, section in sections.items():
        model: Any = section.annotation
        parts += [f"## `{name}`\n", f"{inspect.getdoc(model)}\n", _table(model, set(), name)]
    return "\n".join(parts)


def schema() -> dict[str, object]:
    """Return the JSON schema of config.yaml, for editors."""
    return Config.model_json_schema()


def _as_yaml(given: StreamOverrides) -> str:
    content = yaml.safe_dump(given.model_dump(mode="json", exclude_unset=True), sort_keys=False)
    return textwrap.indent(content, "    ")


def _table(model: type[BaseModel], left_out: set[str], section: str = "") -> str:
    rows = ["| key | default | meaning and unit |", "| --- | --- | --- |"]
    for name, field in model.model_fields.items():
        if name not in left_out:
            rows.append(f"| `{name}` | {_default(field, section, name)} | {field.description}{_limits(field)} |")
    return "\n".join(rows) + "\n"


def _default(field: FieldInfo, section: str, name: str) -> str:
    if field.is_required():
        return "required"
    of_flow = STREAM_DEFAULTS["flow"].model_dump(exclude_unset=True).get(section, {}).get(name)
    return _value(field.default) + (f"; flow, warped: {_value(of_flow)}" if of_flow is not None else "")


def _value(value: Any) -> str:
    if value is None:
        return "empty"
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def _limits(field: FieldInfo) -> str:
    limits = [text for constraint in field.metadata for text in _limit(constraint)]
    choices = getattr(field.annotation, "__args__", ())
    if choices and all(isinstance(choice, str | int) for choice in choices):
        limits.append("one of " + ", ".join(f"`{choice}`" for choice in choices))
    return f" ({', '.join(limits)})" if limits else ""


def _limit(constraint: Any) -> Iterator[str]:
    for attribute, words in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below")):
        value = getattr(constraint, attribute, None)
        if value is not None:
            yield f"{words} {value}"
