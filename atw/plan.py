"""Answers the workflow's questions before anything runs: settings, shards and inputs of each job.

A run is a dataset, or an experiment on it: `ucf101`, `ucf101/experiments/average`. Every remote job imports this
module, so it imports little.
"""

import contextlib
import functools
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from atw import config
from atw.config import STREAMS, Compute, Config, DownloadableDataset, Stream, imagenet, paper
from atw.datasets import Dataset
from atw.datasets.contents import KEPT
from atw.datasets.demo import Demo
from atw.files import InputError

NVIDIA_DEVICE = Path("/dev/nvidiactl")
# One of them is there where PyTorch can have a GPU: of NVIDIA's driver, of Windows' below Linux, of AMD's.
GPU_DEVICES = (NVIDIA_DEVICE, Path("/dev/dxg"), Path("/dev/kfd"))


class Plan:
    """The jobs that a configuration describes.

    Args:
        raw: the content of config.yaml.
        documents: the files it was read from, the winning one first; messages name them.
        command_line: the part of it that Snakemake's `--config` gave.
        estimate: nothing will run, so a network may lack its first weights; `lacking` says which.

    Raises:
        InputError: here and in every method, if the user has to correct something.
    """

    def __init__(
        self,
        raw: config.RawConfig,
        documents: Sequence[config.Document] = (),
        command_line: Mapping[str, Any] | None = None,
        *,
        estimate: bool = False,
    ) -> None:
        self.config: Config = config.load(raw, documents, command_line)
        self.in_all = [name for name, given in self.config.datasets.items() if given.in_all]
        self.demos = {name: given for name, given in self.config.datasets.items() if isinstance(given, Demo)}
        self.downloadable = {
            name: given for name, given in self.config.datasets.items() if isinstance(given, DownloadableDataset)
        }
        self._require_place_of_shards()
        self._datasets: dict[str, Dataset] = {}
        self.lacking: dict[str, str] = {}
        self._runs, self._estimate = False, estimate

    def start(self) -> None:
        """Note that jobs run from now on, so that settings of shards name the contents of their videos.

        Until then, videos are read only if their shard exists and they have changed: a dry run or an estimate of a new
        dataset reads no video.
        """
        self._runs = True

    def _require_place_of_shards(self) -> None:
        shards = Path(self.config.shards)
        with contextlib.suppress(OSError):  # a machine that only submits need not see them
            place = next(path for path in (shards, *shards.parents, Path()) if path.exists())
            if not place.is_dir():
                raise InputError(f"shards is {shards}, and {place} is no folder; name another place")

    def dataset(self, name: str) -> Dataset:
        """The dataset of that name, checked: its videos exist. Draws the splits of a folder without lists."""
        if name not in self._datasets:
            dataset = Dataset(config.location(self.config, name), kept=KEPT)
            dataset.draw_splits()
            dataset.require_videos()
            self._datasets[name] = dataset
        return self._datasets[name]

    def location(self, run: str) -> config.Location:
        """Where the videos and lists of a run are; no result depends on it."""
        return config.location(self.config, _names(run)[0])

    def render_settings(self, dataset: str, split: str) -> config.RenderSettings:
        """Settings of the rendered videos of a split, numbered from 1."""
        return self.demos[dataset].render_settings(split=int(split), seed=self.config.seed)

    def shard_settings(self, dataset: str, stream: Stream, shard: str) -> config.ShardSettings:
        """Settings of a shard, with a digest of the names and contents of its videos."""
        settings = self._of_shards(dataset, stream)
        made = Path(self._shard(dataset, stream, shard)).exists()
        if isinstance(settings, config.WarpedShards) and not made:
            settings.require_masks()
        count = settings.preprocess.shards
        if not self.dataset(dataset).members(shard, count):
            raise InputError(f"dataset {dataset} has no video in shard {shard} of {count}; ask for one of its shards")
        known = self._runs or self.dataset(dataset).generated or made
        return settings.of_shard(shard, self._members_digest(dataset, shard, count) if known else config.UNREAD)

    def shards(self, run: str, split: str, stream: str) -> list[str]:
        """Paths of the shards that hold the videos of a split."""
        dataset = _names(run)[0]
        names = self.dataset(dataset).shard_names(split, self._shard_count(dataset))
        return [self._shard(dataset, stream, name) for name in names]

    def audited_shards(self, dataset: str, split: str) -> list[str]:
        """Paths of the shards that tell which videos are bad: those of one stream that the result needs."""
        return self.shards(dataset, split, config.fuse_settings(self.config, dataset, "").streams[0])

    def audit_settings(self, run: str, split: str) -> config.AuditSettings:
        """Settings of the list of quarantined videos of a split."""
        return config.audit_settings(self.config, _names(run)[0], **self._split(run, split))

    def audit(self, run: str, split: str) -> str:
        """Path of the list of quarantined videos of a run; experiments share that of their dataset."""
        return f"results/{_names(run)[0]}/{split}/quarantine.csv"

    def weights(self, run: str, stream: Stream) -> str | None:
        """The file of ImageNet weights that a network starts from; None for random weights."""
        dataset, experiment = _names(run)
        model = self._effective(dataset, stream, experiment).model
        if not model.weights_path:
            return None
        try:
            return imagenet.find_weights(model.weights_path, model.backbone)
        except InputError as error:
            if not self._estimate:
                raise
            self.lacking[model.weights_path] = str(error)
            return None

    def train_settings(self, run: str, split: str, stream: Stream) -> config.TrainSettings:
        """Settings of a trained network, with the path of its first weights."""
        dataset, experiment = _names(run)
        if len(classes := self.dataset(dataset).classes) == 1:
            raise InputError(
                f"dataset {dataset}: {classes[0]!r} is the only class, and a network needs two to choose between; add "
                "videos that show something else"
            )
        settings = config.train_settings(self.config, dataset, stream, experiment, **self._split(run, split))
        return settings.starting_from(self.weights(run, stream))

    def score_settings(self, run: str, split: str, stream: Stream) -> config.ScoreSettings:
        """Settings of the scores of a stream."""
        dataset, experiment = _names(run)
        actions = self.dataset(dataset).intervals_digest(split)
        return config.score_settings(
            self.config, dataset, stream, experiment, **self._split(run, split), actions=actions
        )

    def fuse_settings(self, run: str) -> config.FuseSettings:
        """Settings of a fused result."""
        return config.fuse_settings(self.config, *_names(run))

    def detect_settings(self, run: str) -> config.DetectSettings:
        """Settings of the detections of a result."""
        return config.detect_settings(self.config, *_names(run))

    def attention_settings(self, run: str) -> config.AttentionSettings:
        """Settings of the picture of attention."""
        return config.attention_settings(self.config, *_names(run))

    def rendered(self, run: str, split: str) -> list[str]:
        """The list of a demo's rendered videos, which says when they show their actions; other datasets have none."""
        dataset = _names(run)[0]
        return [f"data/{dataset}/{split}.csv"] if dataset in self.demos else []

    def rendered_of_shard(self, dataset: str, shard: str) -> list[str]:
        """The same for a shard: splits of a demo share no video, and so no shard."""
        return self.rendered(dataset, f"split{int(shard) // self._shard_count(dataset) + 1}")

    def frames_of_shard(self, dataset: str, shard: str) -> list[str]:
        """The shard of frames that a shard of flow or warped flow is computed from, if it is not from the videos."""
        return [self._shard(dataset, "rgb", shard)] if self._of_shards(dataset, "flow").frames else []

    def frames_folder(self, run: str) -> str:
        """Folder of the shards of frames."""
        return f"{self.shards_folder(run)}/rgb"

    def shards_folder(self, run: str) -> str:
        """Folder of the shards of a dataset, with one folder per stream."""
        return f"{self.config.shards}/{_names(run)[0]}"

    def report_shards(self, run: str, split: str) -> list[str]:
        """Paths of the shards that the page of a result shows: frames, and those of its streams."""
        streams = dict.fromkeys(["rgb", *self.fused_streams(run, split)])
        return [path for stream in streams for path in self.shards(run, split, stream)]

    def page_settings(self, run: str, split: str) -> config.PageSettings:
        """Settings of the page of a result, with the results that it is compared with."""
        dataset, experiment = _names(run)
        found = {}
        for name in self._effective(dataset, "rgb", experiment).page.compare:
            other = "" if name == config.PLAIN else name
            if other != experiment:
                self.fused_streams(_run(dataset, other), split)
                found[name] = f"results/{_run(dataset, other)}/{split}/fused.json"
        return config.PageSettings(recipe=config.RECIPES["report"], compare=found)

    def compared_results(self, run: str, split: str) -> list[str]:
        """Paths of the results that the page of a result compares it with."""
        return list(self.page_settings(run, split).compare.values())

    def fused_streams(self, run: str, split: str) -> list[Stream]:
        """The streams of a result, after a check that all its inputs exist.

        The check is made here, at the target: further down the graph Snakemake would keep an older file instead.
        """
        dataset, experiment = _names(run)
        share = self._effective(dataset, "rgb", experiment).train.held_out
        self.dataset(dataset).split(split).held_out(share, seed=self.config.seed)
        streams = self.fuse_settings(run).streams
        for stream in streams:
            self.weights(run, stream)
        return streams

    def score_files(self, run: str) -> list[str]:
        """Names of the score files per stream from which a result is fused."""
        return ["scores.h5"] if self.fuse_settings(run).choose == "none" else ["scores.h5", "held_out.h5"]

    def splits(self, run: str) -> list[str]:
        """The splits of a run, after a check that all their inputs exist."""
        names = self.dataset(_names(run)[0]).split_names
        for name in names:
            self.fused_streams(run, name)
        return list(names)

    def table_inputs(self, dataset: str, number: str) -> list[str]:
        """The files from which a table of the paper is made: score files, and the summary for Table 4."""
        if number == "4":
            self.splits(dataset)
            return [f"results/{dataset}/summary.json"]
        self._split(dataset, paper.SPLIT)
        paths = []
        for experiment in self._table_runs(dataset, int(number)).values():
            run = _run(dataset, experiment)
            for stream in self._table_streams(dataset, int(number)):
                self.weights(run, stream)
                paths.append(f"results/{run}/{paper.SPLIT}/{stream}/scores.h5")
        return list(dict.fromkeys(paths))

    def table_audit(self, dataset: str, number: str) -> str:
        """The list of quarantined videos that a table needs; Table 4 needs none, since its summary did."""
        return "" if number == "4" else self.audit(dataset, paper.SPLIT)

    def table_settings(self, dataset: str, number: str) -> config.TableSettings:
        """Settings of a table of the paper."""
        common: dict[str, Any] = {
            "recipe": config.RECIPES["table"],
            "table": int(number),
            "dataset": dataset,
            "kind": self.config.dataset(dataset).kind,
        }
        fusion = self.fuse_settings(dataset)
        if number == "4":
            models = {stream: self._effective(dataset, stream).model for stream in fusion.streams}
            return config.SplitsTableSettings(
                **common,
                networks={
                    stream: config.TableNetwork(backbone=model.backbone, weights=model.weights_path)
                    for stream, model in models.items()
                },
            )
        return config.RunsTableSettings(  # without `choose`: tables keep the configured weights
            **common,
            seed=fusion.seed,
            weights=fusion.weights,
            add=fusion.add,
            split=paper.SPLIT,
            experiments=self._table_runs(dataset, int(number)),
        )

    def consensus_table_settings(self, dataset: str) -> config.ConsensusTableSettings:
        """Settings of the table `consensus`."""
        fusion, table = self.fuse_settings(dataset), self.config.consensus_table
        splits = self.dataset(dataset).split_names[: table.splits]
        return config.ConsensusTableSettings(  # without `choose`: tables keep the configured weights
            recipe=config.RECIPES["consensus_table"],
            dataset=dataset,
            kind=self.config.dataset(dataset).kind,
            seed=fusion.seed,
            weights=fusion.weights,
            add=fusion.add,
            splits=splits,
            against=table.against,
            rows={
                name: (
                    self._same_run(dataset, config.consensus_experiment(name), fusion.streams),
                    *(config.consensus_experiment(name, repeat) for repeat in range(1, table.seeds)),
                )
                for name in table.rows
            },
        )

    def consensus_table_audits(self, dataset: str) -> list[str]:
        """The lists of quarantined videos that the table `consensus` needs."""
        return [self.audit(dataset, split) for split in self.consensus_table_settings(dataset).splits]

    def consensus_table_inputs(self, dataset: str) -> list[str]:
        """The score files from which the table `consensus` is made."""
        settings, paths = self.consensus_table_settings(dataset), list[str]()
        for experiment in dict.fromkeys(name for names in settings.rows.values() for name in names):
            run = _run(dataset, experiment)
            for split in settings.splits:
                streams = self.fused_streams(run, split)
                paths += [f"results/{run}/{split}/{stream}/scores.h5" for stream in streams]
        return paths

    def _table_streams(self, dataset: str, number: int) -> list[Stream]:
        weights = self.fuse_settings(dataset).weights
        needed = {stream for column in paper.TABLES[number].columns_of(weights) for stream in column.streams}
        if not needed:
            raise InputError(f"table{number} is of a stream without weight in {dataset}: give it one in fusion.weights")
        return [stream for stream in STREAMS if stream in needed]

    def _table_runs(self, dataset: str, number: int) -> dict[str, str]:
        """For each experiment of a table, the one whose scores serve for it."""
        streams = self._table_streams(dataset, number)
        return {row.experiment: self._same_run(dataset, row.experiment, streams) for row in paper.TABLES[number].rows}

    def _same_run(self, dataset: str, experiment: str, streams: Sequence[Stream]) -> str:
        """The first experiment ("" is none) whose scores are the same."""
        return next(
            name
            for name in ("", *self.config.experiments, *config.TABLE_EXPERIMENTS)
            if all(config.same_scores(self.config, dataset, stream, experiment, name) for stream in streams)
        )

    def compute(self, run: str, stream: Stream) -> Compute:
        """The resources that a job may use."""
        dataset, experiment = _names(run)
        return self._effective(dataset, stream, experiment).compute

    def gpus(self, run: str, stream: Stream, *, here: bool) -> int:
        """GPUs that a job of training or scoring reserves.

        `auto` reserves one per worker; `here`, where the jobs run on this machine, only if it may have one: else jobs
        would wait for each other. Without a GPU the stage runs on the CPU.
        """
        compute = self.compute(run, stream)
        if compute.gpus != "auto":
            return compute.gpus
        return compute.workers if not here or any(device.exists() for device in GPU_DEVICES) else 0

    def flow_gpus(self, dataset: str) -> int:
        """GPUs that a job of flow or warped flow reserves.

        `auto` reserves one if this machine has one and numba-cuda is installed. On a cluster the job runs on another
        machine: name the backend there.
        """
        backend = self._effective(dataset, "flow").flow.backend
        if backend == "auto":
            return int(NVIDIA_DEVICE.exists() and importlib.util.find_spec("numba_cuda") is not None)
        return int(backend in config.ON_GPU)

    # A plan asks for the same settings for thousands of jobs.
    @functools.cache  # noqa: B019
    def _effective(self, dataset: str, stream: Stream, experiment: str = "") -> config.Settings:
        return config.effective(self.config, dataset, stream, experiment)

    @functools.cache  # noqa: B019
    def _of_shards(self, dataset: str, stream: Stream) -> config.ShardSettings:
        return config.shard_settings(self.config, dataset, stream)

    @functools.cache  # noqa: B019 - one look at each file serves all streams
    def _members_digest(self, dataset: str, shard: str, count: int) -> str:
        return self.dataset(dataset).members_digest(shard, count)

    def _shard(self, dataset: str, stream: str, name: str) -> str:
        return f"{self.config.shards}/{dataset}/{stream}/{name}.h5"

    def _shard_count(self, dataset: str) -> int:
        return self._effective(dataset, "rgb").preprocess.shards

    def _split(self, run: str, split: str) -> dict[str, str]:
        known = self.dataset(_names(run)[0]).split(split)
        return {"split": known.name, "videos": known.digest}


def _run(dataset: str, experiment: str) -> str:
    """The run of an experiment ("" is none)."""
    return f"{dataset}/experiments/{experiment}" if experiment else dataset


def _names(run: str) -> tuple[str, str]:
    """The dataset and the experiment ("" is none) of a run."""
    dataset, _, experiment = run.partition("/experiments/")
    return dataset, experiment
