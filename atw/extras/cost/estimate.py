"""Amounts times rates: what a target takes, in bytes, hours of cores and GPUs, and time."""

from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from rich.filesize import decimal
from rich.table import Table

from atw import config
from atw.extras.cost import rates
from atw.extras.cost.footage import Footage, sample
from atw.extras.cost.pending import pending
from atw.extras.cost.rates import Rate
from atw.files import json_text
from atw.plan import Plan
from atw.terminal import console

_NOT_COUNTED = (
    "not counted: starting processes, and some 20 s of Ray for each training; whatever else this machine does while it "
    "is measured makes the estimate too high"
)


@dataclass(frozen=True)
class Row:
    """One stage of one stream.

    Args:
        stage: frames, flow, warped, train or score.
        of: dataset; of networks dataset, experiment and stream.
        jobs: how many of them are to be made.
        videos: of the shards or lists, those of every split counted.
        amount: items to be worked on.
        unit: what they are.
        bytes: that it leaves on disk, 0 for what is not worth counting.
        hours: of one job after the other, on one core each in preprocessing.
        cores: of a job, 0 where it is its GPU that counts.
        side_by_side: jobs that run at the same time; in preprocessing cores, or GPUs.
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
    """What is left to do for a target, and on what the numbers rest."""

    target: str
    cores: int
    gpus: int
    rows: list[Row]
    notes: list[str]

    @property
    def elapsed_hours(self) -> float:
        """Of preprocessing, training and scoring one after the other, jobs of each side by side."""
        elapsed = 0.0
        for stages in (("frames", "flow", "warped"), ("train",), ("score",)):
            rows = [row for row in self.rows if row.stage in stages]
            spread = sum(row.hours / row.side_by_side for row in rows)
            longest = max((row.hours / row.jobs for row in rows if row.stage in ("train", "score")), default=0.0)
            elapsed += max(spread, longest)
        return elapsed


def estimate(target: str, configfile: Path, *, cores: int, gpus: int) -> Estimate:
    """Estimate what a target takes on this machine, with so many cores and GPUs.

    Raises:
        InputError: Snakemake refuses the target, or no video of the dataset can be decoded.
    """
    document = config.read(configfile)
    todo = pending(target, configfile)
    plan = Plan(document.content, [document])
    work = _Work(plan, cores=cores, gpus=gpus)
    work.add_shards(todo.shards)
    work.add_models(todo.models)
    work.add_scores(todo.scores)
    return Estimate(target, cores, gpus, work.rows, [*work.notes, _NOT_COUNTED])


class _Work:
    """Collects the rows; each dataset is looked at once."""

    def __init__(self, plan: Plan, *, cores: int, gpus: int) -> None:
        self._plan, self._cores, self._gpus = plan, cores, gpus
        self._footage: dict[str, Footage] = {}
        self.rows: list[Row] = []
        self.notes: list[str] = []

    def add_shards(self, paths: list[Path]) -> None:
        groups: dict[tuple[str, str], list[str]] = defaultdict(list)
        for path in paths:
            groups[path.parts[-3], path.parts[-2]].append(path.stem)
        for (name, stream), shards in sorted(
            groups.items(), key=lambda item: (item[0][0], config.STREAMS.index(item[0][1]))
        ):
            settings = config.shard_settings(self._plan.config, name, stream)
            dataset = self._plan.dataset(name)
            count = settings.preprocess.shards
            videos = sum(len(dataset.members(shard, count)) for shard in shards)
            footage = self._look(name, settings.preprocess)
            items = round(videos * (footage.mean - (stream != "rgb")))
            gpus = 0 if stream == "rgb" else self._plan.flow_gpus(name)
            rate = rates.preprocessing(settings, footage, gpus=gpus)
            stage, unit = ("frames", "frames") if stream == "rgb" else (stream, "pairs")
            self._add(stage, name, len(shards), videos, items, unit, rate)

    def _look(self, name: str, preprocess: config.FrameSettings | config.FieldSettings) -> Footage:
        if name not in self._footage:
            footage = self._footage[name] = sample(self._plan.dataset(name), preprocess, seed=self._plan.config.seed)
            self.notes.append(
                f"{name}: {footage.mean:.0f} frames a video, by {len(footage.frames)} of them; numbers of frames and "
                f"pairs are right to about {footage.error:.0%}"
            )
        return self._footage[name]

    def add_models(self, paths: list[Path]) -> None:
        for (run, stream), splits in _by_run(paths).items():
            compute = self._plan.compute(run, stream)
            settings = self._plan.train_settings(run, splits[0], stream)
            dataset = self._plan.dataset(run.partition("/")[0])
            videos = sum(len(dataset.split(split).train) for split in splits)
            samples = settings.train.iterations * settings.train.batch * len(splits)
            rate = rates.training(settings, compute, dataset.split(splits[0]))
            self._add("train", f"{run} {stream}", len(splits), videos, samples, "samples", rate, compute.train_threads)

    def add_scores(self, paths: list[Path]) -> None:
        for (run, stream), splits in _by_run(paths).items():
            compute = self._plan.compute(run, stream)
            evaluate = self._plan.score_settings(run, splits[0], stream).evaluate
            dataset = self._plan.dataset(run.partition("/")[0])
            videos = sum(len(dataset.split(split).test) for split in splits)
            settings = self._plan.train_settings(run, splits[0], stream)
            rate = rates.scoring(settings, compute, dataset.split(splits[0]))
            snippets = videos * evaluate.snippets * evaluate.crops
            self._add(
                "score", f"{run} {stream}", len(splits), videos, snippets, "snippets", rate, compute.train_threads
            )

    def _add(
        self, stage: str, of: str, jobs: int, videos: int, amount: int, unit: str, rate: Rate, threads: int = 1
    ) -> None:
        threads = min(threads, self._cores)  # as Snakemake gives them
        side_by_side = max(self._gpus, 1) if rate.on_gpu else self._cores // threads
        hours = amount * rate.seconds / 3600
        cores = 0 if rate.on_gpu else threads
        self.rows.append(Row(stage, of, jobs, videos, amount, unit, amount * rate.bytes, hours, cores, side_by_side))


def _by_run(paths: list[Path]) -> dict[tuple[str, config.Stream], list[str]]:
    """Splits by run and stream, of results/{run}/{split}/{stream}/... ."""
    found: dict[tuple[str, config.Stream], list[str]] = defaultdict(list)
    for path in paths:
        found["/".join(path.parts[1:-3]), cast(config.Stream, path.parts[-2])].append(path.parts[-3])
    return dict(sorted(found.items()))


def show(found: Estimate, *, as_json: bool) -> None:
    """Print the estimate as a table, or for programs."""
    if as_json:
        content = asdict(found) | {"elapsed_hours": found.elapsed_hours}
        print(json_text(content))
        return
    terminal = console()
    if not found.rows:
        terminal.print(f"{found.target} is there, and up to date.")
        return
    table = Table(title=found.target)
    for name in ("stage", "of", "jobs", "videos", "amount", "on disk", "of a core", "of a GPU"):
        table.add_column(name, justify="left" if name in ("stage", "of") else "right")
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
    """In the largest unit of which there are at least two."""
    for unit, of_hour in (("days", 1 / 24), ("h", 1.0), ("min", 60.0)):
        if hours * of_hour >= 2:
            return f"{hours * of_hour:.1f} {unit}"
    return f"{hours * 3600:.0f} s"
