"""A training as one of Ray's workers runs it, without Ray: `python -m benchmarks.scale.training_job JOB.json`."""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from atw import config
from atw.data.reader import Shards
from atw.datasets import Dataset
from atw.train import loop
from atw.train.modelfile import save_model


def main(job_path: Path) -> None:
    job = json.loads(job_path.read_text(encoding="utf-8"))
    out, settings = Path(job["out"]), config.TrainSettings.model_validate(job["settings"])
    compute = config.Compute(gpus=0, loaders=1)
    split = Dataset.from_json(job["dataset"]).split(settings.split)
    task = loop.Task(settings, compute, split, [Path(path) for path in job["shards"]], None)
    record = loop.build_network(task).to_record()
    digests = Shards(task.shard_paths, settings.shards).digests
    kept: list[dict[str, Any]] = []
    history = out.with_name("history.jsonl")
    loop.run(task, device=torch.device("cpu"), rank=0, world=1, state=None, history_path=history, save=kept.append)
    used = compute.model_dump() | {"microbatch": kept[-1]["microbatch"]}
    provenance = {"shards": digests, "shard_settings": settings.shards.to_dict(), "hardware": "CPU", "compute": used}
    save_model(out, task, record, loop.final_parameters(kept[-1]), provenance, history)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
