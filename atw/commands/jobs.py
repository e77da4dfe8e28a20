"""The workflow's stages: each command makes one file, and gets exactly the settings it depends on as JSON.

The workflow calls these commands; the examples make it print the command lines.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from atw.commands.arguments import ComputeText, DatasetText, Gpus, Out, SettingsText, Shards, Threads
from atw.terminal import log_usage

app = typer.Typer()


@app.command(rich_help_panel="Stages of the workflow")
def render(out: Out, settings: SettingsText, threads: Threads = 1) -> None:
    """Render the videos of one split of a demo dataset, and their list.

    Example: atw run --dry-run data/demo/split1.csv -- --printshellcmds
    """
    from atw import config
    from atw.extras.demo.render import write_dataset

    write_dataset(out.parent, config.RenderSettings.from_json(settings), processes=threads)


@app.command(rich_help_panel="Stages of the workflow")
def download(
    out: Out,
    dataset: DatasetText,
    archives: Annotated[str, typer.Option(help="JSON of addresses or files that replace the official ones")] = "{}",
) -> None:
    """Download and unpack videos and lists of UCF-101 or HMDB-51, if they are missing.

    Example: atw run data/downloads/ucf101.json
    """
    from atw.config import Archives, Location
    from atw.extras.download.prepare import download as fetch_and_unpack

    fetch_and_unpack(out, Location.from_json(dataset), Archives.model_validate_json(archives))


@app.command(rich_help_panel="Stages of the workflow")
@log_usage()
def shard(
    out: Out,
    settings: SettingsText,
    dataset: DatasetText,
    flow: Annotated[Path | None, typer.Option(help="flow shard of the same videos, for the stream warped")] = None,
    threads: Threads = 1,
    gpus: Gpus = 0,
) -> None:
    """Write one shard of one stream: decode, compute, encode.

    Example: atw run --dry-run shards/demo/rgb/00000.h5 -- --printshellcmds
    """
    from atw import config, datasets
    from atw.preprocess.shard import make

    given = datasets.Dataset.from_json(dataset)
    make(out, config.read_shard_settings(settings), given, flow_path=flow, threads=threads, gpus=gpus)


@app.command(rich_help_panel="Stages of the workflow")
def audit(out: Out, shards: Shards, settings: SettingsText, dataset: DatasetText) -> None:
    """List the quarantined and repaired videos of a split. Too many quarantined videos are an error.

    Example: atw run --dry-run results/demo/split1/quarantine.csv -- --printshellcmds
    """
    from atw import config, datasets
    from atw.preprocess.audit import audit as write_audit

    write_audit(out, shards, config.AuditSettings.from_json(settings), datasets.Dataset.from_json(dataset))


@app.command(rich_help_panel="Stages of the workflow")
def quarantine(
    out: Out, audits: Annotated[list[Path], typer.Argument(help="quarantine.csv of each split", show_default=False)]
) -> None:
    """List the quarantined and repaired videos of a dataset.

    Example: atw run --dry-run results/demo/quarantine.csv -- --printshellcmds
    """
    from atw.preprocess.audit import merge

    merge(out, audits)


@app.command(rich_help_panel="Stages of the workflow")
@log_usage()
def train(
    out: Out,
    shards: Shards,
    settings: SettingsText,
    dataset: DatasetText,
    audit: Annotated[str, typer.Option(help="JSON of the audit's settings, for a first check of bad videos")],
    compute: ComputeText,
    threads: Threads = 1,
    gpus: Gpus = 0,
) -> None:
    """Train the network of one stream, and write history.jsonl beside the model.

    Example: atw run --dry-run results/demo/split1/rgb/model.pt -- --printshellcmds
    """
    from atw import config, datasets
    from atw.preprocess.audit import judge
    from atw.train.launch import launch

    given = datasets.Dataset.from_json(dataset)
    judge(shards, config.AuditSettings.from_json(audit), given)
    launch(
        out,
        config.TrainSettings.from_json(settings),
        given,
        shards,
        config.Compute.model_validate_json(compute),
        threads=threads,
        gpus=gpus,
    )


@app.command(rich_help_panel="Stages of the workflow")
@log_usage()
def score(
    out: Out,
    shards: Shards,
    model: Annotated[Path, typer.Option(help="trained network")],
    settings: SettingsText,
    dataset: DatasetText,
    compute: ComputeText,
    threads: Threads = 1,
    gpus: Gpus = 0,
    held_out: Annotated[bool, typer.Option("--held-out", help="score the held-out training videos")] = False,
) -> None:
    """Score the test videos of one stream, or the held-out ones.

    Example: atw run --dry-run results/demo/split1/rgb/scores.h5 -- --printshellcmds
    """
    from atw import config, datasets
    from atw.evaluate.score import score_videos

    score_videos(
        out,
        model,
        config.ScoreSettings.from_json(settings),
        datasets.Dataset.from_json(dataset),
        shards,
        config.Compute.model_validate_json(compute),
        threads=threads,
        gpus=gpus,
        subset="held_out" if held_out else "test",
    )


@app.command(rich_help_panel="Stages of the workflow")
@log_usage()
def fuse(
    out: Out,
    scores: Annotated[list[Path], typer.Argument(help="score files", show_default=False)],
    settings: SettingsText,
) -> None:
    """Fuse the streams' scores and write the result with its provenance.

    Example: atw run --dry-run results/demo/split1/fused.json -- --printshellcmds
    """
    from atw import config
    from atw.evaluate.result import write_result

    write_result(out, scores, config.FuseSettings.from_json(settings))


@app.command(rich_help_panel="Stages of the workflow")
def detect(
    out: Out,
    scores: Annotated[list[Path], typer.Argument(help="scores.h5 of each stream", show_default=False)],
    result: Annotated[Path, typer.Option(help="fused.json of these scores", show_default=False)],
    settings: SettingsText,
) -> None:
    """Write when each test video shows which class (docs/detections.md).

    Example: atw run --dry-run results/demo/split1/detections.json -- --printshellcmds
    """
    from atw import config
    from atw.evaluate.detected import write_detections
    from atw.evaluate.result import read_result

    fusion = read_result(result).fusion
    given = config.DetectSettings.from_json(settings)
    write_detections(out, scores, given.detect, weights=fusion.weights, on=fusion.on)


@app.command(rich_help_panel="Stages of the workflow")
def summary(
    out: Out,
    fused: Annotated[list[Path], typer.Argument(help="results to average", show_default=False)],
    settings: SettingsText,
) -> None:
    """Average the results of several splits.

    Example: atw run --dry-run results/demo/summary.json -- --printshellcmds
    """
    from atw import config
    from atw.evaluate.result import write_summary

    # The settings hold the recipe alone: a raised recipe makes Snakemake run the job again.
    config.RecipeSettings.from_json(settings)
    write_summary(out, fused)


@app.command(rich_help_panel="Stages of the workflow")
def table(
    out: Out,
    inputs: Annotated[list[Path], typer.Argument(help="score files; for Table 4, a summary.json", show_default=False)],
    settings: SettingsText,
) -> None:
    """Write a table of the paper with its numbers beside ours, as JSON, CSV, HTML, LaTeX and Markdown.

    Example: atw run --dry-run results/demo/tables/table1.json -- --printshellcmds
    """
    from atw import config
    from atw.extras.tables.results import write_table

    write_table(out, inputs, config.read_table_settings(settings))


@app.command(rich_help_panel="Stages of the workflow")
def consensus(
    out: Out,
    scores: Annotated[list[Path], typer.Argument(help="scores.h5 of each row, seed, split and stream")],
    settings: SettingsText,
) -> None:
    """Compare the consensus functions on a dataset over seeds and splits, as JSON and Markdown.

    Example: atw run --dry-run results/demo/tables/consensus.json -- --printshellcmds
    """
    from atw import config
    from atw.extras.tables.consensus_table import write_consensus_table

    write_consensus_table(out, scores, config.ConsensusTableSettings.from_json(settings))


@app.command(rich_help_panel="Stages of the workflow")
def attention(
    out: Out,
    scores: Annotated[list[Path], typer.Argument(help="scores.h5 of each stream", show_default=False)],
    frames: Annotated[Path, typer.Option(help="folder of the dataset's rgb shards", show_default=False)],
    video: Annotated[list[str] | None, typer.Option(help="id of a video to show; default: drawn at random")] = None,
    count: Annotated[
        int, typer.Option(min=1, max=50, help="number of random videos, among those classified correctly")
    ] = 4,
    stream: Annotated[
        str, typer.Option(help="stream with its weights above the frames; default: the least uniform")
    ] = "",
    settings: SettingsText = "{}",
) -> None:
    """Draw the attention of a split (.png), and write its numbers (.json).

    Example: atw run --dry-run results/demo/split1/attention.png -- --printshellcmds
    """
    from atw import config
    from atw.extras.drawing.attention_picture import write_attention
    from atw.extras.drawing.scored_videos import VideoSelection

    given = VideoSelection.of(config.AttentionSettings.from_json(settings)) if settings != "{}" else VideoSelection()
    write_attention(out, scores, frames, replace(given, videos=video or (), count=count, stream=stream))


@app.command(rich_help_panel="Stages of the workflow")
def films(
    out: Annotated[Path, typer.Argument(help="folder of the films", show_default=False)],
    scores: Annotated[list[Path], typer.Argument(help="scores.h5 of each stream", show_default=False)],
    frames: Annotated[Path, typer.Option(help="folder of the dataset's rgb shards", show_default=False)],
    detections: Annotated[Path, typer.Option(help="detections.json of these scores", show_default=False)],
    settings: SettingsText,
) -> None:
    """Write films of some test videos (.mp4), with known actions, detections and attention below the frames.

    Example: atw run --dry-run results/demo/split1/films -- --printshellcmds
    """
    from atw import config
    from atw.extras.drawing.scored_films import write_films
    from atw.extras.drawing.scored_videos import VideoSelection

    write_films(out, scores, frames, detections, VideoSelection.of(config.AttentionSettings.from_json(settings)))


@app.command(rich_help_panel="Stages of the workflow")
def report(
    out: Out,
    result: Annotated[Path, typer.Option(help="fused.json, with its streams' folders beside it", show_default=False)],
    shards: Annotated[Path, typer.Option(help="folder of the dataset's shards", show_default=False)],
    quarantine: Annotated[Path, typer.Option(help="quarantine.csv of the split", show_default=False)],
    logs: Annotated[Path, typer.Option(help="folder of the workflow's logs, which have the times")] = Path("logs"),
    settings: SettingsText = "{}",
) -> None:
    """Write the report of a result: one page that opens offline and helps to judge the result.

    Example: atw report report.html --result results/demo/split1/fused.json --shards shards/demo --quarantine \
results/demo/split1/quarantine.csv
    """
    from atw import config
    from atw.extras.report.page import write_report

    compared = config.PageSettings.from_json(settings).compare
    write_report(
        out,
        result,
        shards=shards,
        quarantine=quarantine,
        logs=logs,
        compared={name: Path(path) for name, path in compared.items()},
    )
