"""The command line: one command a stage of the workflow, each with exactly the settings it depends on as JSON."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from atw.files import InputError, printable

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Three-stream action recognition with temporal attention. The workflow calls these stages; "
    "run `snakemake --cores 2 results/demo/split1/fused.json` for all of them in order.",
)

shards_app = typer.Typer(no_args_is_help=True, help="Look into shards, check them, take videos out of them.")
app.add_typer(shards_app, name="shards")

Out = Annotated[Path, typer.Argument(help="file to write", show_default=False)]
SettingsText = Annotated[str, typer.Option("--settings", help="JSON of the settings that this stage depends on")]
DatasetText = Annotated[str, typer.Option("--dataset", help="JSON that says where videos and lists are")]
ComputeText = Annotated[str, typer.Option("--compute", help="JSON of the `compute` section")]
Shards = Annotated[list[Path], typer.Argument(help="shards of the split's videos", show_default=False)]
AnyShards = Annotated[list[Path], typer.Argument(help="shards, or folders of shards", show_default=False)]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads to use")]
Gpus = Annotated[int, typer.Option(min=0, help="GPUs reserved for this job")]


@app.command()
def render(out: Out, settings: SettingsText, threads: Threads = 1) -> None:
    """Render the videos of one split of a demo dataset, and their list."""
    from atw import config
    from atw.datasets.render import write_dataset

    given = config.load_json(settings)
    sizes = {name: given[name] for name in ("split", "train_per_class", "test_per_class", "seed")}
    write_dataset(out.parent, **sizes, processes=threads)


@app.command()
def download(
    out: Out,
    dataset: DatasetText,
    archives: Annotated[
        str, typer.Option(help="JSON of the addresses or files to take instead of the official")
    ] = "{}",
) -> None:
    """Fetch and unpack the videos and lists of UCF-101 or HMDB-51, unless they are there."""
    from atw import config
    from atw.download.dataset import download as fetch_and_unpack

    fetch_and_unpack(out, config.load_json(dataset), config.load_json(archives))


@app.command()
def shard(
    out: Out,
    settings: SettingsText,
    dataset: DatasetText,
    flow: Annotated[Path | None, typer.Option(help="flow shard of the same videos (stream warped)")] = None,
    threads: Threads = 1,
    gpus: Gpus = 0,
) -> None:
    """Write one shard of one stream: decode, compute, encode."""
    from atw import config, datasets
    from atw.preprocess.shard import make

    given = datasets.from_json(dataset)
    make(out, config.load_json(settings), given, flow_path=flow, threads=threads, gpus=gpus)


@app.command()
def audit(out: Out, shards: Shards, settings: SettingsText, dataset: DatasetText) -> None:
    """List the quarantined and repaired videos of a split; refuse to go on when they are too many."""
    from atw import config, datasets
    from atw.preprocess import audit

    audit.audit(out, shards, config.load_json(settings), datasets.from_json(dataset))


@app.command()
def quarantine(
    out: Out, audits: Annotated[list[Path], typer.Argument(help="quarantine.csv of each split", show_default=False)]
) -> None:
    """List the quarantined and repaired videos of a dataset."""
    from atw.preprocess.audit import merge

    merge(out, audits)


@app.command()
def train(
    out: Out,
    shards: Shards,
    settings: SettingsText,
    dataset: DatasetText,
    compute: ComputeText,
    threads: Threads = 1,
    gpus: Gpus = 0,
) -> None:
    """Train the network of one stream; history.jsonl is written beside the model."""
    from atw import config, datasets
    from atw.train.launch import launch

    launch(
        out,
        config.load_json(settings),
        datasets.from_json(dataset),
        shards,
        config.Compute.model_validate_json(compute),
        threads=threads,
        gpus=gpus,
    )


@app.command()
def score(
    out: Out,
    shards: Shards,
    model: Annotated[Path, typer.Option(help="trained network")],
    settings: SettingsText,
    dataset: DatasetText,
    compute: ComputeText,
    threads: Threads = 1,
    gpus: Gpus = 0,
    held_out: Annotated[bool, typer.Option("--held-out", help="score the training videos that were held out")] = False,
) -> None:
    """Score the test videos of one stream, or the held-out ones."""
    from atw import config, datasets
    from atw.evaluate.score import score_videos

    score_videos(
        out,
        model,
        config.load_json(settings),
        datasets.from_json(dataset),
        shards,
        config.Compute.model_validate_json(compute),
        threads=threads,
        gpus=gpus,
        subset="held_out" if held_out else "test",
    )


@app.command()
def fuse(
    out: Out,
    scores: Annotated[list[Path], typer.Argument(help="score files", show_default=False)],
    settings: SettingsText,
) -> None:
    """Fuse the streams' scores and write the result with its provenance."""
    from atw import config
    from atw.evaluate.result import write_result

    write_result(out, scores, config.load_json(settings))


@app.command()
def summary(
    out: Out,
    fused: Annotated[list[Path], typer.Argument(help="results to average", show_default=False)],
    settings: SettingsText,
) -> None:
    """Average the results of several splits."""
    from atw import config
    from atw.evaluate.result import write_summary

    config.load_json(settings)
    write_summary(out, fused)


@app.command()
def show(result: Annotated[Path, typer.Argument(help="a fused.json", show_default=False)]) -> None:
    """Print the accuracies of a result as a table."""
    from atw.evaluate.result import print_result

    print_result(result)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="a fused.json, its folder, or a folder of splits", show_default=False)],
    second: Annotated[Path, typer.Argument(help="another, on the same test videos", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Say whether two results differ: McNemar's exact test, and the interval of the difference."""
    from atw.evaluate.compare import compare_results, print_comparison

    found = compare_results(first, second)
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print_comparison(found)


@app.command()
def table(
    out: Out,
    inputs: Annotated[list[Path], typer.Argument(help="score files; for Table 4 a summary.json", show_default=False)],
    settings: SettingsText,
) -> None:
    """Write a table of the paper, its numbers beside ours; CSV and HTML are written beside the JSON."""
    from atw import config
    from atw.evaluate.tables import write_table

    write_table(out, inputs, config.load_json(settings))


@app.command()
def attention(
    out: Out,
    scores: Annotated[list[Path], typer.Argument(help="scores.h5 of each stream", show_default=False)],
    frames: Annotated[Path, typer.Option(help="folder of the dataset's rgb shards", show_default=False)],
    intervals: Annotated[
        Path | None, typer.Option(help="CSV with path, action_first, action_last (frames from 0)")
    ] = None,
    video: Annotated[list[str] | None, typer.Option(help="id of a video to show; drawn unless given")] = None,
    count: Annotated[int, typer.Option(min=1, max=50, help="videos to draw, of those classified correctly")] = 4,
    stream: Annotated[str, typer.Option(help="whose weights stand above the frames; the first unless given")] = "",
    settings: SettingsText = "{}",
) -> None:
    """Draw the attention of a split (.png), with its numbers beside it (.json)."""
    from atw import config
    from atw.figures.attention import Choice, write_attention

    given = config.load_json(settings)
    fusion = {name: given[name] for name in ("seed", "weights", "on") if name in given}
    choice = Choice(videos=video or (), count=count, stream=stream, **fusion)
    write_attention(out, scores, frames, choice, intervals=intervals)


@app.command()
def predict(
    videos: Annotated[list[Path], typer.Argument(help="videos, trimmed or not, of any length", show_default=False)],
    model: Annotated[Path, typer.Option(help="folder of a split, as results/ucf101/split1", show_default=False)],
    top: Annotated[int, typer.Option(min=1, help="classes to name")] = 5,
    window: Annotated[float | None, typer.Option(help="seconds; classify each window of that length too")] = None,
    stride: Annotated[float | None, typer.Option(help="seconds from window to window; half a window")] = None,
    render: Annotated[
        Path | None, typer.Option(help=".png: frames, attention, labels; .mp4: drawn in the film")
    ] = None,
    device: Annotated[str, typer.Option(help="auto (the GPU where there is one), cpu or cuda")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all cores unless given")] = None,
) -> None:
    """Classify new videos: a line of JSON each on stdout. Status 1: some could not be used."""
    from atw.doctor.machine import usable_cores
    from atw.predict.command import Wishes
    from atw.predict.command import predict as classify

    wishes = Wishes(top=top, window_seconds=window, stride_seconds=stride, render=render)
    if classify(videos, model, wishes, device=device, threads=threads or usable_cores()):
        sys.exit(1)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="a model.pt", show_default=False)],
    out: Annotated[Path, typer.Option(help="file to write: .onnx, or .pt2 for torch-export", show_default=False)],
    form: Annotated[str, typer.Option("--format", help="onnx or torch-export")] = "onnx",
) -> None:
    """Write a trained network for other programs, and compare it with the original."""
    from atw.train.export import TOLERANCE, export_model

    worst = export_model(model, out, form)
    print(f"{out}: largest difference from the original {worst:.2g} (allowed: {TOLERANCE:g})")


@app.command()
def flow(
    video: Annotated[Path, typer.Argument(help="video to decode", show_default=False)],
    out: Annotated[Path, typer.Option(help="shard to write: an HDF5 file, see docs/shards.md", show_default=False)],
    preview: Annotated[
        Path | None, typer.Option(help=".mp4: frames beside flow in colours; .png: a sheet of 16 fields")
    ] = None,
    preset: Annotated[str, typer.Option(help="opencv4, opencv24 or fast")] = "opencv4",
    backend: Annotated[str, typer.Option(help="see `atw doctor`; auto takes the fastest usable one")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="pairs in work at a time; all cores unless given")] = None,
    width: Annotated[int | None, typer.Option(min=16, max=4096, help="pixels; the video's unless given")] = None,
    height: Annotated[int | None, typer.Option(min=16, max=4096, help="pixels; the video's unless given")] = None,
    warped: Annotated[bool, typer.Option("--warped", help="take the camera's motion out")] = False,
    bound: Annotated[float, typer.Option(help="pixels; displacements beyond it are clipped")] = 20.0,
) -> None:
    """Compute the optical flow of one video."""
    from atw.doctor.machine import usable_cores
    from atw.preprocess.preview import check_paths, write_preview
    from atw.preprocess.single import Choice, write_flow

    if (width is None) != (height is None):
        raise InputError("only one of --width and --height is given; give both, or none for the size of the video")
    check_paths(video, out, preview)
    choice = Choice(preset=preset, backend=backend, bound=bound, warped=warped, threads=threads or usable_cores())
    write_flow(video, out, choice, size=(width, height) if width and height else None)
    if preview:
        write_preview(video, out, preview)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
    measure: Annotated[bool, typer.Option(help="time the flow backends, some seconds each")] = True,
) -> None:
    """Say what this machine can do, and how fast it computes flow."""
    from atw.doctor import examine, show

    report = examine(measure=measure)
    show(report, as_json=as_json)
    if not report["works"]:
        sys.exit(1)


@app.command()
def settings() -> None:
    """Print the reference of all settings, docs/configuration.md."""
    from atw.reference import markdown

    print(markdown(), end="")


@shards_app.command("info")
def shards_info(
    paths: AnyShards, as_json: Annotated[bool, typer.Option("--json", help="for programs, with more")] = False
) -> None:
    """Say what shards hold: videos, items, settings, sizes. Status 1: one cannot be read."""
    from atw.shards.inspect import info

    _exit_with(info(paths, as_json=as_json))


@shards_app.command("verify")
def shards_verify(paths: AnyShards) -> None:
    """Check every byte of shards. Status 0: whole, 1: damage, each named with its remedy."""
    from atw.shards.inspect import verify

    count, damage = verify(paths)
    _exit_with(damage)
    print(f"{count} shards are whole")


@shards_app.command("export")
def shards_export(
    paths: AnyShards,
    out: Annotated[Path, typer.Option(help="folder to write to", show_default=False)],
    video: Annotated[list[str] | None, typer.Option(help="id of a video; all unless given")] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="frames: jpg (as stored) or png; flow: flo (px) or png-flow (stored levels)"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace an earlier export")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="keep the videos that are there, and go on with the others")
    ] = False,
) -> None:
    """Write frames or flow fields as files, a folder a video: OUT/dataset/stream/id."""
    from atw.shards.export import export

    exported = export(paths, out, videos=video or (), form=form, overwrite=overwrite, skip_existing=skip_existing)
    there = f", {len(exported.kept)} of them from before" if exported.kept else ""
    print(f"{len(exported.written) + len(exported.kept)} videos in {out}{there}")


def _exit_with(messages: list[str]) -> None:
    for message in messages:
        print(f"damaged: {printable(message)}", file=sys.stderr)
    if messages:
        sys.exit(1)


def main() -> None:
    """Run a command; wrong input exits with status 2 and one message, without a traceback."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        app()
    except InputError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        print(f"error: {error.strerror}: {error.filename or 'no file named'}", file=sys.stderr)
        sys.exit(os.EX_IOERR)


if __name__ == "__main__":
    main()
