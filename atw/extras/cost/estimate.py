"""Estimate what a target takes: bytes, hours of cores and GPUs, and time."""

import math
import os
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NamedTuple, cast

from rich import box
from rich.filesize import decimal
from rich.table import Table

from atw import config, workflow
from atw.data import sampling
from atw.extras.cost import rates
from atw.extras.cost.rates import Rate, VideoSample
from atw.files import InputError, json_text
from atw.plan import Plan
from atw.terminal import console
from atw.videos.times import USUAL_FPS

_NOT_COUNTED = (
    "not counted: starting processes, and some 20 s of Ray for each training with several workers; whatever else this "
    "machine does while it is measured makes the estimate too high"
)


class PendingFiles(NamedTuple):
    """Files that are to be made, and the rules that make others."""

    shards: list[Path]
    models: list[Path]
    scores: list[Path]
    quick: list[str]


@dataclass(frozen=True)
class StageCost:
    """What a stage takes for one dataset, or for one stream of a dataset or experiment.

    Args:
        stage: frames, flow, warped, train or score.
        of: the dataset; for networks dataset, experiment and stream.
        jobs: number of files to be made.
        videos: in the shards or lists; a video in several splits counts several times.
        amount: number of items to work on.
        unit: what the items are.
        bytes: left on disk; 0 if too few to count.
        hours: of all jobs one after the other; in preprocessing, on one core each.
        cores: per job; 0 if the time of a GPU counts.
        side_by_side: jobs that run at the same time; in preprocessing, cores or GPUs.
    """

    stage: str
    of: str
    jobs: int
    videos: int
    amount: int
    unit: str
    bytes: float
    hours: float
    cores: int
    side_by_side: int


@dataclass(frozen=True)
class Estimate:
    """What is left to do for a target, the `quick` stages among it, and notes on how the numbers were found."""

    target: str
    cores: int
    gpus: int
    rows: list[StageCost]
    quick: list[str]
    notes: list[str]

    @property
    def elapsed_hours(self) -> float:
        """Add up preprocessing, which fills all cores, and the rounds of trainings and scorings side by side."""
        elapsed = sum(row.hours / row.side_by_side for row in self.rows if row.stage not in ("train", "score"))
        for stage in ("train", "score"):
            rows = [row for row in self.rows if row.stage == stage]
            if rows:
                jobs = sum(row.jobs for row in rows)
                rounds = math.ceil(jobs / min(row.side_by_side for row in rows))
                longest = max(row.hours / row.jobs for row in rows)
                elapsed += max(rounds * sum(row.hours for row in rows) / jobs, longest)
        return elapsed


def estimate(target: str, configfile: Path, *, cores: int, gpus: int) -> Estimate:
    """Estimate what a target takes on this machine, with so many cores and GPUs.

    Raises:
        InputError: Snakemake refuses the target, or no video of the dataset can be decoded.
    """
    documents = workflow.configuration(configfile)
    files = pending_files(target, configfile)
    plan = Plan(config.merged(documents), documents, estimate=True)
    costs = _Costs(plan, cores=cores, gpus=gpus)
    costs.add_shards(files.shards)
    costs.add_networks("train", files.models)
    costs.add_networks("score", files.scores)
    return Estimate(target, cores, gpus, costs.rows, files.quick, [*plan.lacking.values(), *costs.notes, _NOT_COUNTED])


def pending_files(target: str, configfile: Path) -> PendingFiles:
    """Ask Snakemake, in the working folder, which files it would make for a target. Nothing is made.

    Raises:
        InputError: nothing makes the target, or an input is wrong.
    """
    if not target:
        raise InputError("the target is empty; name a file, such as results/ucf101/split1/fused.json")
    workflow.require_writable()
    command = workflow.command([target], ["--configfile", str(configfile), "--summary"])
    with tempfile.TemporaryDirectory() as folder:
        refusal = Path(folder) / "refusal"
        given = os.environ | {workflow.ESTIMATE: "1", workflow.REFUSAL: str(refusal)}
        run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=given)
        if run.returncode and refusal.exists():
            raise InputError(refusal.read_text(encoding="utf-8"))
    if "MissingRuleException" in run.stderr:
        raise InputError(workflow.unknown_target(target))
    if run.returncode:
        # The text before the reason is the same in every run, the text after it names lines of the workflow.
        reason = run.stderr.rpartition("Building DAG of jobs...")[2].partition("\nTraceback")[0].strip()
        raise InputError(f"Snakemake cannot plan {target}:\n{reason or run.stderr.strip().splitlines()[-1]}")
    files = PendingFiles([], [], [], [])
    by_rule = {
        **dict.fromkeys(("frames", "flow", "warped"), files.shards),
        "train": files.models,
        **dict.fromkeys(("score", "score_held_out"), files.scores),
    }
    for line in run.stdout.splitlines():
        path, _, rule, *_, state = line.split("\t")
        if state != "update pending" or path.endswith("history.jsonl"):
            continue
        if rule in by_rule:
            by_rule[rule].append(Path(path))
        elif rule not in files.quick:
            files.quick.append(rule)
    return files


class _Costs:
    """Collects the rows; each dataset is sampled once."""

    def __init__(self, plan: Plan, *, cores: int, gpus: int) -> None:
        self._plan, self._cores, self._gpus = plan, cores, gpus
        self._samples: dict[str, VideoSample] = {}
        self.rows: list[StageCost] = []
        self.notes: list[str] = []

    def add_shards(self, paths: Sequence[Path]) -> None:
        """Add the costs of shards/{dataset}/{stream}/{shard}.h5."""
        groups: dict[tuple[str, int], list[str]] = defaultdict(list)
        for path in paths:
            groups[path.parts[-3], config.STREAMS.index(path.parts[-2])].append(path.stem)
        for (name, number), shards in sorted(groups.items()):
            stream = config.STREAMS[number]
            settings = config.shard_settings(self._plan.config, name, stream)
            dataset = self._plan.dataset(name)
            videos = sum(len(dataset.members(shard, settings.preprocess.shards)) for shard in shards)
            sample = self._sample(name, settings.preprocess)
            items = round(videos * (sample.mean - (stream != "rgb")))
            gpus = 0 if stream == "rgb" else self._plan.flow_gpus(name)
            rate = rates.preprocessing(settings, sample, gpus=gpus)
            stage, unit = ("frames", "frames") if stream == "rgb" else (stream, "pairs")
            self._add(stage, name, len(shards), videos, items, unit, rate)

    def _sample(self, name: str, preprocess: config.FrameSettings | config.FieldSettings) -> VideoSample:
        if name not in self._samples:
            sample = rates.sample_videos(self._plan.dataset(name), preprocess, seed=self._plan.config.seed)
            self._samples[name] = sample
            self.notes.append(
                f"{name}: {sample.mean:.0f} frames a video, by {len(sample.frames)} of them; numbers of frames and "
                f"pairs are right to about {sample.error:.0%}"
            )
        return self._samples[name]

    def add_networks(self, stage: Literal["train", "score"], paths: Sequence[Path]) -> None:
        """Add the costs of results/{run}/{split}/{stream}/model.pt, or of the score files there."""
        groups: dict[tuple[str, config.Stream], list[str]] = defaultdict(list)
        for path in paths:
            groups["/".join(path.parts[1:-3]), cast(config.Stream, path.parts[-2])].append(path.parts[-3])
        for (run, stream), splits in sorted(groups.items()):
            compute = self._plan.compute(run, stream)
            settings = self._plan.train_settings(run, splits[0], stream)
            dataset = self._plan.dataset(run.partition("/")[0])
            listed = [dataset.split(split) for split in splits]
            if stage == "train":
                videos = sum(len(split.train) for split in listed)
                amount, unit = settings.train.iterations * settings.train.batch * len(splits), "samples"
                rate = rates.training(settings, compute, listed[0])
            else:
                videos = sum(len(split.test) for split in listed)
                evaluate = self._plan.score_settings(run, splits[0], stream).evaluate
                snippets = self._snippets(evaluate, settings)
                amount, unit = videos * snippets * evaluate.crops, "snippets"
                rate = rates.scoring(settings, compute, listed[0])
            self._add(stage, f"{run} {stream}", len(splits), videos, amount, unit, rate, compute.train_threads)

    def _snippets(self, evaluate: config.Evaluate, settings: config.TrainSettings) -> int:
        """Snippets of a test video; one that needs its length gets the mean length, at the usual frame rate."""
        if evaluate.snippets != "auto":
            return evaluate.snippets
        frames = self._sample(settings.dataset, settings.shards.preprocess).mean
        return sampling.snippet_count("auto", seconds=frames / USUAL_FPS, segments=settings.sampling.segments)

    def _add(
        self, stage: str, of: str, jobs: int, videos: int, amount: int, unit: str, rate: Rate, threads: int = 1
    ) -> None:
        threads = min(threads, self._cores)  # as Snakemake does
        side_by_side = max(self._gpus, 1) if rate.on_gpu else self._cores // threads
        hours = amount * rate.seconds / 3600
        cores = 0 if rate.on_gpu else threads
        size = amount * rate.bytes
        self.rows.append(StageCost(stage, of, jobs, videos, amount, unit, size, hours, cores, side_by_side))


def show(found: Estimate, *, as_json: bool) -> None:
    """Print the estimate as JSON or as a table."""
    if as_json:
        print(json_text(asdict(found) | {"elapsed_hours": found.elapsed_hours}))
        return
    terminal = console()
    if not found.rows:
        left = f"is made in seconds; left are {', '.join(found.quick)}" if found.quick else "is there, and up to date"
        terminal.print(f"{found.target} {left}.")
        return
    table = Table(title=found.target, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("stage", "of", "jobs", "videos", "amount", "on disk", "core time", "GPU time"):
        table.add_column(name, justify="left" if name in ("stage", "of") else "right", overflow="fold")
    for row in found.rows:
        size = decimal(round(row.bytes)) if row.bytes else ""
        spent = (duration(row.hours * row.cores), "") if row.cores else ("", duration(row.hours))
        table.add_row(row.stage, row.of, f"{row.jobs:,}", f"{row.videos:,}", f"{row.amount:,} {row.unit}", size, *spent)
    terminal.print(table)
    where = f"{found.cores} cores" + ("" if all(row.cores for row in found.rows) else f" and {found.gpus} GPUs")
    size = decimal(round(sum(row.bytes for row in found.rows)))
    terminal.print(f"About {duration(found.elapsed_hours)} on {where}, and {size} on disk.")
    for note in found.notes:
        terminal.print(note)


def duration(hours: float) -> str:
    """Format a time in the largest unit that gives at least 2."""
    for unit, per_hour in (("days", 1 / 24), ("h", 1.0), ("min", 60.0)):
        if hours * per_hour >= 2:
            return f"{hours * per_hour:.1f} {unit}"
    return f"{hours * 3600:.0f} s"
