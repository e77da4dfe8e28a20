"""Commands for people: runs, new videos, results, export, this machine."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from atw.commands.arguments import AsJson, Configfile, UsableThreads, complete_targets, given_path
from atw.files import InputError, json_text

app = typer.Typer()
_FURTHER = "atw.further"


class _WithFurther(TyperCommand):
    """Keeps arguments after `--` apart; click would add them to the last argument."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments before `--`."""
        place = args.index("--") if "--" in args else len(args)
        ctx.meta[_FURTHER] = args[place + 1 :]
        return super().parse_args(ctx, args[:place])


@app.command(cls=_WithFurther)
def run(
    context: typer.Context,
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            help="files to make; default: of a single dataset the result and page of its first split, else the summary "
            "of every dataset",
            autocompletion=complete_targets,
        ),
    ] = None,
    cores: Annotated[int | None, typer.Option(min=1, help="CPU cores to use; default: all")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="only say what would be done, and why")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="show Snakemake's own output, even on a terminal")] = False,
    all_splits: Annotated[
        bool, typer.Option("--all-splits", help="without a target: the summary of every dataset, even of a single one")
    ] = False,
) -> None:
    """Make results in the working folder, with its config.yaml: run Snakemake with the workflow of this package.

    A result that was asked for is printed at the end. Give other options of Snakemake after `--`. The exit status is
    Snakemake's, 2 if it refuses a target or an input, or 130 after Ctrl-C.

    Example: atw run --cores 4 results/demo/split1/fused.json -- --keep-incomplete
    """
    from atw import workflow

    options = [] if cores is None else ["--cores", str(cores)]
    options += ["--dry-run"] if dry_run else []
    further = context.meta[_FURTHER]
    if targets and all_splits:
        raise InputError("--all-splits is for a run without a target; name results/<dataset>/summary.json instead")
    targets = targets or workflow.default_targets(further, all_splits=all_splits)
    status = workflow.run(targets, [*options, *further], plain=plain)
    if status == 0 and not plain and workflow.shown(further) and not workflow.planned(options + further):
        _print_made(targets)
    raise typer.Exit(status)


def _print_made(targets: list[str]) -> None:
    """Print the results among the targets, and name the pages; what was made elsewhere is not found here."""
    from atw.evaluate.result import print_result

    for target in map(Path, targets):
        if target.name == "fused.json" and target.exists():
            print_result(target)
        elif target.suffix == ".html" and target.exists():
            print(f"for any browser: {target}")


@app.command()
def init(
    videos: Annotated[
        Path | None,
        typer.Argument(
            help="folder with a directory of videos for each class",
            show_default=False,
            parser=given_path,
            metavar="videos",
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="instead of a folder, a published dataset, such as ucf101", show_default=False)
    ] = None,
) -> None:
    """Write a config.yaml that fits the videos and this machine, and say why, how long it will take, and what is next.

    Example: atw init path/to/videos
    """
    from atw.extras import starting

    if (videos is None) == (dataset is None):
        raise InputError("give one: a folder of videos, or --dataset with the name of a published one")
    if videos:
        starting.write_for_videos(videos)
    elif dataset:
        starting.write_for_published(dataset)


@app.command()
def predict(
    videos: Annotated[
        list[Path],
        typer.Argument(
            help="videos or folders of them, trimmed or not, of any length",
            show_default=False,
            parser=given_path,
            metavar="videos",
        ),
    ],
    model: Annotated[Path, typer.Option(help="folder of a split, such as results/ucf101/split1", show_default=False)],
    top: Annotated[int, typer.Option(min=1, help="number of classes to print")] = 5,
    window: Annotated[float | None, typer.Option(help="seconds; also classify each window of this length")] = None,
    stride: Annotated[float | None, typer.Option(help="seconds from window to window; default: half a window")] = None,
    segments: Annotated[bool, typer.Option("--segments", help="also print when the video shows which class")] = False,
    render: Annotated[
        Path | None, typer.Option(help=".png: frames, attention and labels; .mp4: the video with label and attention")
    ] = None,
    device: Annotated[str, typer.Option(help="auto (the GPU if there is one), cpu or cuda")] = "auto",
    threads: UsableThreads = None,
    as_json: AsJson = False,
) -> None:
    """Classify new videos: on a terminal a few lines for each, else a line of JSON. Status 1: one could not be used.

    Example: atw predict video.mp4 --model results/demo/split1 --render video.png
    """
    from atw.extras.predict.asked import asked_videos, check_render, model_files

    given = asked_videos(videos)
    if render:
        check_render(render, given)
    model_files(model)
    from atw.extras.predict.command import predict as classify  # PyTorch takes seconds to load
    from atw.machine import usable_cores

    bad = classify(
        given,
        model,
        device=device,
        threads=threads or usable_cores(),
        top=top,
        window_seconds=window,
        stride_seconds=stride,
        segments=segments,
        picture=render,
        as_json=as_json or not sys.stdout.isatty(),
    )
    if bad:
        sys.exit(1)


@app.command()
def flow(
    video: Annotated[Path, typer.Argument(help="video to decode", show_default=False)],
    out: Annotated[
        Path | None, typer.Option(help="shard to write, an HDF5 file (docs/shards.md); default: only the preview")
    ] = None,
    preview: Annotated[
        Path | None, typer.Option(help=".mp4: frames beside coloured flow; .png: a sheet of 16 fields")
    ] = None,
    preset: Annotated[str, typer.Option(help="opencv4, opencv24, fast or faster")] = "opencv4",
    backend: Annotated[str, typer.Option(help="see `atw doctor`; auto uses the fastest backend that works")] = "auto",
    threads: UsableThreads = None,
    width: Annotated[int | None, typer.Option(help="pixels; default: the video's")] = None,
    height: Annotated[int | None, typer.Option(help="pixels; default: the video's")] = None,
    warped: Annotated[bool, typer.Option("--warped", help="remove the camera's motion")] = False,
    bound: Annotated[float, typer.Option(help="pixels; displacements beyond it are clipped")] = 20.0,
    picture_stream: Annotated[
        int, typer.Option(help="video stream to use if the file has several, counted from 0")
    ] = 0,
) -> None:
    """Compute the optical flow of one video.

    Example: atw flow video.mp4 --out flow.h5 --preview flow.mp4
    """
    from atw.extras.flow_preview import check_paths, write_preview
    from atw.machine import usable_cores
    from atw.preprocess.single import FlowOptions, write_flow

    if (width is None) != (height is None):
        raise InputError("only one of --width and --height is given; give both, or none for the size of the video")
    if out is None and preview is None:
        raise InputError("nothing to write: give --out for a shard, --preview for a film or a picture, or both")
    check_paths(video, out, preview)
    options = FlowOptions(
        preset=preset,
        backend=backend,
        bound=bound,
        picture_stream=picture_stream,
        size=None if width is None or height is None else (width, height),
        warped=warped,
        threads=threads or usable_cores(),
    )
    with tempfile.TemporaryDirectory() as folder:
        shard = out or Path(folder) / "flow.h5"
        write_flow(video, shard, options)
        if preview:
            write_preview(video, shard, preview)


@app.command()
def profiles(
    name: Annotated[str | None, typer.Argument(help="profile to copy; default: list all", show_default=False)] = None,
) -> None:
    """Copy a profile of the package, which says where jobs run, into profiles/, to be edited there.

    Example: atw profiles slurm
    """
    from atw import workflow

    if name is None:
        print("\n".join(workflow.profile_names()))
    else:
        out = workflow.copy_profile(name)
        print(f"wrote {out}: edit its config.yaml; then `atw run TARGET -- --workflow-profile {out}`")


@app.command()
def weights(
    backbone: Annotated[str, typer.Argument(help="a network, by its name in docs/networks.md", show_default=False)],
) -> None:
    """Fetch the published ImageNet weights of a network into weights/, and check them.

    A broken transfer goes on at the next call. Nothing else downloads weights.

    Example: atw weights mobilenet_v2
    """
    from atw.extras.download.published import fetch_weights

    print(fetch_weights(backbone))


@app.command()
def show(
    result: Annotated[Path, typer.Argument(help="a fused.json, or its folder", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Print the accuracies of a result as a table.

    Example: atw show results/demo/split1/fused.json
    """
    from atw.evaluate.compare import result_paths
    from atw.evaluate.result import print_result, read_result

    found, *others = result_paths(result)
    if others:
        raise InputError(f"{result} has the results of splits; give one, as {found}")
    if as_json:
        print(json_text(read_result(found).to_dict()))
    else:
        print_result(found)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="a fused.json, its folder, or a folder of splits", show_default=False)],
    second: Annotated[Path, typer.Argument(help="another, on the same test videos", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Test whether two results differ: McNemar's exact test, and the interval of the difference.

    Example: atw compare results/demo/split1 results/demo/experiments/average/split1
    """
    from atw.evaluate.compare import compare_results, print_comparison

    compared = compare_results(first, second)
    if as_json:
        print(json_text(compared.to_dict()))
    else:
        print_comparison(compared)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="a model.pt", show_default=False)],
    out: Annotated[Path, typer.Option(help="file to write: .onnx, or .pt2 for torch-export", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Write a trained network for other programs, and compare it with the original.

    Example: atw export results/demo/split1/rgb/model.pt --out rgb.onnx
    """
    from atw.extras.export import TOLERANCE, export_model

    worst = export_model(model, out)
    if as_json:
        print(json_text({"out": str(out), "largest_difference": worst, "allowed": TOLERANCE}))
        return
    print(f"{out}: largest difference from the original {worst:.2g} (allowed: {TOLERANCE:g})")


@app.command(context_settings={"allow_interspersed_args": False})
def ray(
    command: Annotated[
        list[str], typer.Argument(help="program and its arguments, such as atw run ...", show_default=False)
    ],
    cpus: Annotated[int | None, typer.Option(min=1, help="CPUs that Ray assigns; default: all cores")] = None,
    gpus: Annotated[int | None, typer.Option(min=0, help="GPUs that Ray assigns; default: all")] = None,
) -> None:
    """Run a command, such as `atw run`, whose trainings share this machine's GPUs, each with its own.

    Example: atw ray -- atw run --cores 32 results/ucf101/split1/fused.json -- --resources gpu=8
    """
    from atw.machine import usable_cores
    from atw.train.ray.shared import run_with_ray

    sys.exit(run_with_ray(command, cpus=cpus or usable_cores(), gpus=gpus))


@app.command()
def plan(
    target: Annotated[
        str,
        typer.Argument(
            help="such as results/ucf101/split1/fused.json", show_default=False, autocompletion=complete_targets
        ),
    ],
    configfile: Configfile = Path("config.yaml"),
    cores: Annotated[int | None, typer.Option(min=1, help="as for snakemake; default: all cores")] = None,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs that jobs may hold at the same time")] = 1,
    as_json: AsJson = False,
) -> None:
    """Estimate the work left for a target, measured on this machine. Only lists are written.

    Example: atw plan results/ucf101/split1/fused.json --cores 32 --gpus 3
    """
    from atw.extras.cost import estimate
    from atw.machine import usable_cores

    found = estimate.estimate(target, configfile, cores=cores or usable_cores(), gpus=gpus)
    estimate.show(found, as_json=as_json)


@app.command("config")
def config_(
    target: Annotated[
        str,
        typer.Argument(
            help="a file of the workflow, a dataset, or dataset/experiments/name",
            show_default=False,
            autocompletion=complete_targets,
        ),
    ],
    configfile: Configfile = Path("config.yaml"),
    as_json: AsJson = False,
) -> None:
    """Print the settings of a target, and where each value comes from.

    Example: atw config results/demo/experiments/average/split1/fused.json
    """
    from atw.extras import origins

    found = origins.find(target, configfile)
    origins.show(found, as_json=as_json)


@app.command()
def doctor(
    as_json: AsJson = False,
    measure: Annotated[bool, typer.Option(help="measure the flow backends, some seconds each")] = True,
) -> None:
    """Report what this machine can do, and how fast it computes flow. Status 1: atw cannot work here.

    Example: atw doctor --no-measure
    """
    from atw.extras import doctor as machine

    report = machine.examine(measure=measure)
    machine.show(report, as_json=as_json)
    if not machine.works(report):
        sys.exit(1)


@app.command()
def settings(as_json: AsJson = False) -> None:
    """Print the reference of all settings, docs/configuration.md; with --json the schema of config.yaml.

    Example: atw settings --json > config.schema.json
    """
    from atw.extras.reference import markdown, schema

    print(json_text(schema()) if as_json else markdown().rstrip("\n"))
