"""A training as one of Ray's workers runs it, without Ray: `python -m benchmarks.scale.training_job JOB.json`."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from atw import config
from atw.datasets import Dataset
from atw.model.modelfile import Provenance, TrainedModel, save_model, software, training_record
from atw.train import loop
from atw.train.devices import Worker
from atw.train.task import TrainingTask


def main(job_path: Path) -> None:
    job = json.loads(job_path.read_text(encoding="utf-8"))
    out, settings = Path(job["out"]), config.TrainSettings.model_validate(job["settings"])
    compute = config.Compute(gpus=0, loaders=1)
    split = Dataset.from_json(job["dataset"]).split(settings.split)
    task = TrainingTask(settings, compute, split, [Path(path) for path in job["shards"]], None)
    kept: list[dict[str, Any]] = []
    history = out.with_name("history.jsonl")
    loop.run(task, Worker(torch.device("cpu")), state=None, history_path=history, save=kept.append)
    provenance = Provenance(
        shards=task.shards.digests,
        shard_settings=settings.shards.to_dict(),
        hardware="CPU",
        compute=compute.model_dump() | {"microbatch": kept[-1]["microbatch"]},
        software=software(),
    )
    network = loop.build_network(task)
    model = TrainedModel(network, split.classes, settings, training_record(history), provenance)
    save_model(out, model, loop.final_parameters(kept[-1]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
