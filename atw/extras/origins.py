"""The settings that a target is made with, and where each comes from: `atw config`."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rich import box
from rich.table import Table

from atw import config
from atw.files import json_text
from atw.flow import PRESETS
from atw.terminal import console


@dataclass(frozen=True)
class Origin:
    """The value of one setting for one stream.

    Args:
        stream: whose it is; empty for what all have in common.
        key: as config.yaml writes it, `section.name`.
        value: as config.yaml would hold it.
        source: a place in config.yaml, or whose default it is.
    """

    stream: str
    key: str
    value: Any
    source: str


@dataclass(frozen=True)
class Found:
    """What of config.yaml a target concerns."""

    target: str
    file: str
    dataset: str
    experiment: str
    settings: list[Origin]


def find(target: str, configfile: Path) -> Found:
    """Settings of every stream that a target concerns; of a shard those alone that its bytes depend on.

    Args:
        target: a file of the workflow, a dataset, or `dataset/experiments/name`.
        configfile: config.yaml, or what takes its place.

    Raises:
        InputError: the configuration is not valid, or has no such dataset or experiment.
    """
    document = config.read(configfile)
    loaded = config.load(document.content, [document])
    path = PurePosixPath(target)
    is_shard = path.is_relative_to(loaded.shards)
    for folder in (loaded.shards, "results", "data"):
        if path.is_relative_to(folder) and path != PurePosixPath(folder):
            path = path.relative_to(folder)
            break
    dataset, *rest = path.parts or (target,)
    experiment = rest[1] if rest[:1] == ["experiments"] and len(rest) > 1 else ""
    streams = [stream for stream in config.STREAMS if stream in rest] or list(config.STREAMS)
    settings = list(_common(loaded, document.content, dataset))
    for stream in streams:
        used = config.shard_settings(loaded, dataset, stream) if is_shard else None
        settings += _of_stream(loaded, dataset, stream, experiment, used)
    return Found(target, document.name, dataset, experiment, settings)


def _common(loaded: config.Config, raw: dict[str, Any], dataset: str) -> Iterator[Origin]:
    for key in ("seed", "shards"):
        yield Origin("", key, getattr(loaded, key), f"{loaded.file}: {key}" if key in raw else "default")
    given = loaded.dataset(dataset)
    for key, value in config.location(loaded, dataset).to_dict().items():
        if key != "name":
            source = f"{loaded.file}: datasets.{dataset}" if key in given.model_fields_set else "default"
            yield Origin("", f"datasets.{dataset}.{key}", value, source)


def _of_stream(
    loaded: config.Config, dataset: str, stream: str, experiment: str, used: config.ShardSettings | None
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


def show(found: Found, *, as_json: bool) -> None:
    """Print on stdout: a table in which streams with the same value share a row, or everything as JSON."""
    if as_json:
        print(json_text(asdict(found)))
        return
    everyone = {origin.stream for origin in found.settings} - {""}
    shared: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for origin in found.settings:
        shared[(origin.key, json.dumps(origin.value, ensure_ascii=False), origin.source)].append(origin.stream)
    of = f"{found.dataset}, experiment {found.experiment}" if found.experiment else found.dataset
    table = Table(
        title=f"{found.target}: settings of {of}; places are in {found.file}", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for name in ("setting", "streams", "value", "from"):
        table.add_column(name, overflow="fold", no_wrap=name == "setting")
    for (key, value, source), streams in sorted(shared.items(), key=lambda item: _place(item[0][0], found)):
        table.add_row(
            key,
            "" if set(streams) in ({""}, everyone) else ", ".join(streams),
            value,
            source.removeprefix(f"{found.file}: "),
        )
    console().print(table)


def _place(key: str, found: Found) -> int:
    return next(place for place, origin in enumerate(found.settings) if origin.key == key)
