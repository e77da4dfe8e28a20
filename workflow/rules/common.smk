# What the rules ask of the configuration and of the datasets' lists. Only the two light parts of the package are imported:
# this file is read again in every remote job.

import functools
import json
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

import atw.config
from atw.datasets import Dataset
from atw.files import InputError


def explained(function):
    """Turn a wrong input into one message in Snakemake's own form, without a traceback."""

    @functools.wraps(function)
    def wrapper(*args):
        try:
            return function(*args)
        except InputError as error:
            raise WorkflowError(str(error)) from None

    return wrapper


CONFIG = explained(atw.config.load)(config)
STREAMS = "|".join(atw.config.STREAMS)
RUN = r"[^/]+(/experiments/[^/]+)?"
DEMOS = [name for name, dataset in CONFIG.datasets.items() if dataset.kind == "demo"]


def get_names(wildcards):
    """Dataset and experiment of a job ("" is none)."""
    dataset, _, experiment = wildcards.get("run", wildcards.get("dataset")).partition("/experiments/")
    return dataset, experiment


@explained
@functools.cache
def get_dataset(name):
    """A dataset of config.yaml whose videos are there."""
    dataset = Dataset(atw.config.location(CONFIG, name))
    dataset.require_videos()
    return dataset


def get_location(wildcards):
    """JSON for --dataset: where videos and lists are, which no result depends on."""
    return json.dumps(atw.config.location(CONFIG, get_names(wildcards)[0]))


@explained
def get_render_settings(wildcards):
    return json.dumps(atw.config.render_settings(CONFIG, wildcards.dataset, int(wildcards.number)))


@explained
def get_shard_settings(wildcards, stream):
    """JSON of all that a shard depends on, the names and sizes of its videos included."""
    settings = atw.config.shard_settings(CONFIG, wildcards.dataset, stream)
    members = get_dataset(wildcards.dataset).members_digest(wildcards.shard, settings["preprocess"]["shards"])
    return json.dumps(settings | {"shard": wildcards.shard, "members": members})


@explained
def get_rendered(wildcards):
    """The rendered videos that a shard of a demo dataset needs; found videos are no files of the workflow."""
    if wildcards.dataset not in DEMOS:
        return []
    count = atw.config.effective(CONFIG, wildcards.dataset, "rgb").preprocess.shards
    return f"data/{wildcards.dataset}/split{int(wildcards.shard) // count + 1}.csv"


@explained
def get_split_shards(wildcards):
    """The shards that hold the videos of a split."""
    dataset = get_names(wildcards)[0]
    count = atw.config.effective(CONFIG, dataset, "rgb").preprocess.shards
    names = get_dataset(dataset).shard_names(wildcards.split, count)
    return [f"{CONFIG.shards}/{dataset}/{wildcards.stream}/{shard}.h5" for shard in names]


@explained
def find_weights(dataset, experiment, stream):
    """The file of ImageNet weights, None when the network starts from scratch."""
    path = atw.config.train_settings(CONFIG, dataset, stream, experiment)["model"]["weights"]
    if path and not Path(path).is_file():
        raise InputError(
            f"weights file {path} does not exist: put the ImageNet weights of the backbone there, name another file "
            "as model.weights in config.yaml, or leave it empty to train from scratch"
        )
    return path


def get_weights(wildcards):
    return find_weights(*get_names(wildcards), wildcards.stream) or []


@explained
def get_stage_settings(wildcards, stage):
    """JSON of all that training or scoring depends on, the split's lists included."""
    dataset, experiment = get_names(wildcards)
    settings = getattr(atw.config, f"{stage}_settings")(CONFIG, dataset, wildcards.stream, experiment)
    split = get_dataset(dataset).split(wildcards.split)
    return json.dumps(settings | {"split": split.name, "videos": split.digest()})


@explained
def require_inputs(wildcards, split):
    """Refuse wrong inputs of a result here, at the target: deeper in the graph Snakemake would keep an older file instead."""
    dataset, experiment = get_names(wildcards)
    get_dataset(dataset).split(split)
    streams = atw.config.fused_streams(CONFIG, dataset, experiment)
    for stream in streams:
        find_weights(dataset, experiment, stream)
    return streams


def get_scores(wildcards):
    """The score files of the streams that take part in the fusion."""
    streams = require_inputs(wildcards, wildcards.split)
    return expand("results/{{run}}/{{split}}/{stream}/scores.h5", stream=streams)


@explained
def get_fuse_settings(wildcards):
    return json.dumps(atw.config.fuse_settings(CONFIG, *get_names(wildcards)))


@explained
def get_all_splits(wildcards):
    """The result of every split of a run."""
    names = get_dataset(get_names(wildcards)[0]).split_names
    for name in names:
        require_inputs(wildcards, name)
    return expand("results/{run}/{split}/fused.json", run=wildcards.run, split=names)


def get_all_summaries(wildcards):
    """The mean over the splits of every dataset whose videos are there; the others are named."""
    targets = []
    for name in CONFIG.datasets:
        try:
            get_dataset(name)
        except WorkflowError as error:
            print(f"left out of `all`: {error}", file=sys.stderr)
        else:
            targets.append(f"results/{name}/summary.json")
    return targets


@explained
def get_compute_settings(wildcards):
    dataset, experiment = get_names(wildcards)
    return atw.config.effective(CONFIG, dataset, wildcards.get("stream", "rgb"), experiment).compute


def get_preprocess_threads(wildcards):
    return get_compute_settings(wildcards).preprocess_threads


def get_train_threads(wildcards):
    return get_compute_settings(wildcards).train_threads


def get_compute(wildcards):
    """JSON for --compute: what changes the speed and no result, so not in params."""
    return get_compute_settings(wildcards).model_dump_json()


def get_gpus(wildcards):
    """GPUs to reserve; `auto` reserves one, and the stage stays on the CPU where there is none."""
    gpus = get_compute_settings(wildcards).gpus
    return 1 if gpus == "auto" else gpus
