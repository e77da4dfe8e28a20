"""Loads config.yaml and merges its layers.

The layers, each of which overrides those before it: the defaults, the sections of config.yaml, its `streams:`, the
recipe of the dataset, its sections, its `streams:`, the sections of the experiment, its `streams:`.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator

from atw.config import paper
from atw.config.datasets import AnyDataset, DatasetKind, StreamOverrides
from atw.config.explain import explain, with_nulls_read, with_texts_read
from atw.config.recipes import RECIPES_BY_NAME
from atw.config.sections import PLAIN, STREAMS, Consensus, ConsensusTable, Model, Stream
from atw.config.settings import SECTIONS, STREAM_DEFAULTS, Sections, Settings
from atw.config.yaml_files import Document, RawConfig
from atw.files import InputError


def consensus_experiment(name: Consensus, repeat: int = 0) -> str:
    """Return the experiment of a consensus function in the table `consensus`, and of its n-th repetition."""
    return f"consensus-{name}" + f"+seed{repeat}" * bool(repeat)


def _base(experiment: str) -> tuple[str, int]:
    """Return the experiment that `NAME+seedN` repeats, and N; without a repetition, N is 0."""
    name, plus, repeat = experiment.partition("+seed")
    if plus and not re.fullmatch("[1-9][0-9]{0,5}", repeat):
        raise InputError(f"experiment {experiment!r}: after +seed comes a number from 1 on, as in {name}+seed1")
    return name, int(repeat or 0)


class Experiment(StreamOverrides):
    """A named set of overrides; its results stand beside the plain ones and reuse their shards."""

    @model_validator(mode="before")
    @classmethod
    def _has_settings(cls, given: Any) -> Any:
        if given is None:
            raise ValueError("an experiment needs settings; write them below its name, or take it out")
        return given

    @model_validator(mode="after")
    def _shards_are_shared(self) -> "Experiment":
        for section in ("preprocess", "flow", "warp"):
            if getattr(self, section).model_fields_set:
                raise ValueError(
                    f"an experiment cannot change {section}: all experiments read the same shards; "
                    "make it a dataset of its own instead"
                )
        return self


# The experiments of tables, which no config.yaml has to list.
TABLE_EXPERIMENTS = {name: Experiment.model_validate(given) for name, given in paper.EXPERIMENTS.items()} | {
    consensus_experiment(name): Experiment(model=Model(consensus=name)) for name in get_args(Consensus)
}


class Config(StreamOverrides):
    """The content of config.yaml."""

    seed: int = Field(0, ge=0, lt=2**63, description="seed for sampling, initialisation, splits and intervals")
    shards: str = Field("shards", min_length=1, description="folder of the shards; may be shared by several people")
    datasets: dict[str, AnyDataset]
    experiments: dict[str, Experiment] = {}
    consensus_table: ConsensusTable = ConsensusTable()
    _file: str = PrivateAttr("config.yaml")

    def model_post_init(self, context: Any) -> None:
        """Keep the names of the files, which validation gets as its context."""
        self._file = context or self._file

    @property
    def file(self) -> str:
        """Name of the file or files, for messages."""
        return self._file

    @field_validator("datasets", "experiments")
    @classmethod
    def _names_fit_paths(cls, named: dict[str, Any]) -> dict[str, Any]:
        for name in named:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) or name in ("experiments", "tables"):
                raise ValueError(
                    f"{name!r} cannot name a folder: use letters, digits, - and _ (not experiments, tables)"
                )
        return named

    @field_validator("experiments")
    @classmethod
    def _names_of_tables_are_taken(cls, named: dict[str, Experiment]) -> dict[str, Experiment]:
        if PLAIN in named:
            raise ValueError(f"{PLAIN} is the result without an experiment; choose another name")
        for name in named.keys() & TABLE_EXPERIMENTS.keys():
            raise ValueError(f"{name} is an experiment of the tables, see docs/evaluation.md; choose another name")
        return named

    @model_validator(mode="after")
    def _every_combination_is_valid(self) -> "Config":
        for dataset in self.datasets:
            for experiment in ("", *self.experiments):
                for stream in STREAMS:
                    effective(self, dataset, stream, experiment)
        return self

    def dataset(self, name: str) -> DatasetKind:
        """The dataset of that name; an unknown name is an error that lists the known ones."""
        if name not in self.datasets:
            known = ", ".join(sorted(self.datasets))
            raise InputError(f"dataset {name!r} is not in {self.file} under `datasets:`; known datasets: {known}")
        return self.datasets[name]

    def experiment(self, name: str) -> Experiment:
        """The experiment of that name, of config.yaml or of the tables; an unknown name is an error.

        `NAME+seedN` is `NAME` with another seed, see `seed_of`.
        """
        name, _ = _base(name)
        found = self.experiments.get(name) or TABLE_EXPERIMENTS.get(name)
        if found is None:
            known = ", ".join(sorted(self.experiments)) or "none"
            raise InputError(
                f"experiment {name!r} is not in {self.file} under `experiments:`; known experiments: {known}; "
                "those of the tables are in docs/evaluation.md"
            )
        return found

    def seed_of(self, experiment: str) -> int:
        """The seed of the trainings of an experiment ("" is none): `seed`, and N more for `NAME+seedN`."""
        return self.seed + _base(experiment)[1]


def load(raw: RawConfig, documents: Sequence[Document] = (), command_line: Mapping[str, Any] | None = None) -> Config:
    """Validate the content of config.yaml.

    Args:
        raw: the content, with the changes of the command line.
        documents: the files it was read from, the winning one first.
        command_line: the part that Snakemake's `--config` gave; numbers inside braces are texts there.

    Raises:
        InputError: a key or value is not allowed; the message names it, its place and what is allowed.
    """
    file = " and ".join(document.name for document in documents)
    given = command_line or {}
    raw = with_nulls_read(raw, given)
    try:
        return Config.model_validate(raw, context=file)
    except ValidationError as error:
        raw = with_texts_read(raw, given, error)
    try:
        return Config.model_validate(raw, context=file)
    except ValidationError as error:
        raise InputError(explain(error, raw, Config, documents, given)) from None


def effective(config: Config, dataset: str, stream: Stream, experiment: str = "") -> Settings:
    """The settings of one stream of a dataset in an experiment ("" is none), merged in the documented order.

    Raises:
        InputError: an unknown dataset or experiment, or settings that are impossible only together.
    """
    merged = _merged(config, dataset, stream, experiment)
    values = {name: {key: value for key, (value, _) in keys.items()} for name, keys in merged.items()}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        place = f"dataset {dataset}, stream {stream}" + (f", experiment {experiment}" if experiment else "")
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        of_recipe = [
            f"{section}.{key}"
            for section, keys in merged.items()
            for key, (_, source) in keys.items()
            if source.startswith("recipe ") and f"{section}.{key} is " in message
        ]
        if of_recipe:
            message += f". {of_recipe[0]} is set by recipe {config.dataset(dataset).recipe}: set it in the dataset"
        raise InputError(f"{config.file} is not valid:\n  {place}: {message}") from None


def sources(config: Config, dataset: str, stream: Stream, experiment: str = "") -> dict[str, dict[str, str]]:
    """The source of each setting of `effective`, by section and key: a place in config.yaml, or a default."""
    merged = _merged(config, dataset, stream, experiment)
    return {
        name: {key: merged[name][key][1] if key in merged[name] else "default" for key in type(section).model_fields}
        for name, section in Settings()
    }


def _merged(config: Config, dataset: str, stream: Stream, experiment: str) -> dict[str, dict[str, tuple[Any, str]]]:
    """By section and key, the winning value and its source; settings that no layer names are left out."""
    merged: dict[str, dict[str, tuple[Any, str]]] = {name: {} for name in SECTIONS}
    for source, layer in _layers(config, dataset, stream, experiment):
        for name in SECTIONS:
            section = getattr(layer, name)
            merged[name].update({key: (getattr(section, key), source(name)) for key in section.model_fields_set})
    return merged


def _layers(
    config: Config, dataset: str, stream: Stream, experiment: str
) -> Iterator[tuple[Callable[[str], str], Sections]]:
    """Yield each layer, the most general first, with a function that names the source of its sections."""
    yield lambda _: f"default of {stream}", STREAM_DEFAULTS[stream]
    if (name := _base(experiment)[0]) in paper.BACKBONES:
        backbone = Sections(model=Model(backbone=paper.BACKBONES[name]))
        yield lambda _: f"the paper's backbone of {experiment}", backbone
    own = config.dataset(dataset)
    named: list[tuple[str, StreamOverrides]] = [(f"{config.file}: ", config)]
    if own.recipe:
        named.append((f"recipe {own.recipe}: ", RECIPES_BY_NAME[own.recipe]))
    named.append((f"{config.file}: datasets.{dataset}.", own))
    if experiment:
        file = config.file if _base(experiment)[0] in config.experiments else "atw/config/paper.py"
        named.append((f"{file}: experiments.{experiment}.", config.experiment(experiment)))
    for place, overrides in named:
        yield place.__add__, overrides
        if stream in overrides.streams:
            yield f"{place}streams.{stream}.".__add__, overrides.streams[stream]
