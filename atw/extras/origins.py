"""`atw config`: the settings of a target, and where each of them comes from."""

import contextlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rich import box
from rich.table import Table

from atw import config, workflow
from atw.datasets.dataset import Dataset
from atw.files import InputError, json_text
from atw.flow import PRESETS
from atw.terminal import console

_FILES = re.compile(
    r"(fused|summary|attention|detections)\.json|attention\.png|(quarantine|split\d+)\.csv|report\.html|model\.pt"
    r"|history\.jsonl|(scores|held_out)\.h5|\d{5}\.h5|table[1-4]\.\w+|consensus\.(json|md)"
)
"""Names of the files that the workflow makes."""


@dataclass(frozen=True)
class Origin:
    """A setting with its key as in config.yaml, and the place or default it comes from; `stream` is "" if common."""

    stream: str
    key: str
    value: Any
    source: str


@dataclass(frozen=True)
class TargetSettings:
    """All settings of a target, and the configuration file they are from."""

    target: str
    file: str
    dataset: str
    experiment: str
    settings: list[Origin]


def find(target: str, configfile: Path) -> TargetSettings:
    """Find the settings of every stream of a target; for a shard, only those that its bytes depend on.

    Args:
        target: a file of the workflow, a dataset, or `dataset/experiments/name`.
        configfile: config.yaml, or the file used instead.

    Raises:
        InputError: the configuration is not valid, or has no such dataset or experiment, the lists that are there have
            no such split, or the workflow makes no file of that name.
    """
    documents = workflow.configuration(configfile)
    raw = config.merged(documents)
    loaded = config.load(raw, documents)
    path = PurePosixPath(target)
    is_file = path.suffix and len(path.parts) > 1 and path.parent.name != "experiments"
    if path.parts[:1] == ("weights",) or path.is_relative_to("data/downloads"):
        raise InputError(f"{target} depends on no settings; give a file of results, data or {loaded.shards}")
    if is_file and not _FILES.fullmatch(path.name):
        raise InputError(workflow.unknown_target(target))
    is_shard = path.is_relative_to(loaded.shards)
    for folder in (loaded.shards, "results", "data"):
        if path.is_relative_to(folder) and path != PurePosixPath(folder):
            path = path.relative_to(folder)
            break
    dataset, *rest = path.parts or (target,)
    experiment = rest[1] if rest[:1] == ["experiments"] and len(rest) > 1 else ""
    streams = [stream for stream in config.STREAMS if stream in rest] or list(config.STREAMS)
    settings = list(_common(loaded, raw, dataset))
    split = PurePosixPath(*(rest[2:] if experiment else rest)[:1]).stem
    if re.fullmatch(r"split\d+", split):
        _require_split(Dataset(config.location(loaded, dataset)), split)
    for stream in streams:
        used = config.shard_settings(loaded, dataset, stream) if is_shard else None
        settings += _of_stream(loaded, dataset, stream, experiment, used)
    return TargetSettings(target, loaded.file, dataset, experiment, settings)


def _require_split(dataset: Dataset, split: str) -> None:
    known: tuple[str, ...] = ()
    with contextlib.suppress(InputError):  # settings can be asked for before there are lists
        known = dataset.split_names
    if known:
        dataset.require_split(split)


def _common(loaded: config.Config, raw: config.RawConfig, dataset: str) -> Iterator[Origin]:
    for key in ("seed", "shards"):
        yield Origin("", key, getattr(loaded, key), f"{loaded.file}: {key}" if key in raw else "default")
    given = loaded.dataset(dataset)
    own = {"in_all": given.in_all, "recipe": given.recipe} | config.location(loaded, dataset).to_dict()
    for key, value in own.items():
        if key != "name":
            source = f"{loaded.file}: datasets.{dataset}" if key in given.model_fields_set else "default"
            yield Origin("", f"datasets.{dataset}.{key}", value, source)


def _of_stream(
    loaded: config.Config, dataset: str, stream: config.Stream, experiment: str, used: config.ShardSettings | None
) -> Iterator[Origin]:
    settings = config.effective(loaded, dataset, stream, experiment)
    preset = PRESETS[settings.flow.preset]
    for section, keys in config.sources(loaded, dataset, stream, experiment).items():
        for key, source in keys.items():
            if used is not None and not hasattr(getattr(used, section, None), key):
                continue
            value = settings.model_dump(mode="json")[section][key]
            if section == "flow" and value is None:
                value, source = getattr(preset, key), f"preset {settings.flow.preset}"
            yield Origin(stream, f"{section}.{key}", value, source)


def show(found: TargetSettings, *, as_json: bool) -> None:
    """Print the settings as JSON, or as a table in which streams with the same value share a row."""
    if as_json:
        print(json_text(asdict(found)))
        return
    everyone = {origin.stream for origin in found.settings} - {""}
    rows: dict[str, dict[tuple[str, str], list[str]]] = defaultdict(lambda: defaultdict(list))
    for origin in found.settings:
        value = json.dumps(origin.value, ensure_ascii=False)
        rows[origin.key][value, origin.source.removeprefix(f"{found.file}: ")].append(origin.stream)
    run = f"{found.dataset}, experiment {found.experiment}" if found.experiment else found.dataset
    title = f"{found.target}: settings of {run}; places are in {found.file}"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("setting", "streams", "value", "from"):
        table.add_column(name, overflow="fold", no_wrap=name == "setting")
    for key, shared in rows.items():
        for (value, source), streams in shared.items():
            table.add_row(key, "" if set(streams) in ({""}, everyone) else ", ".join(streams), value, source)
    console().print(table)
