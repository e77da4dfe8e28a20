"""Submit a job script of Snakemake's as a Kubernetes job, and print the job's name."""

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

import yaml


def manifest(script: str, *, threads: int, mem_mb: int, gpus: int) -> dict[str, Any]:
    """job.yaml with the job's command and what it may use: its memory and GPUs, and at least its cores."""
    job: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("job.yaml").read_text(encoding="utf-8"))
    container = job["spec"]["template"]["spec"]["containers"][0]
    container["command"] = ["/bin/sh", script]
    memory = {"memory": f"{mem_mb}M"}
    accelerators = {"nvidia.com/gpu": str(gpus)} if gpus else {}
    container["resources"] = {"requests": {"cpu": str(threads), **memory}, "limits": {**memory, **accelerators}}
    return job


def main() -> None:
    """Read the command line that config.yaml gives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--mem-mb", type=int, required=True)
    parser.add_argument("--gpus", type=int, required=True)
    parser.add_argument("script", help="on the shared volume, by its absolute path")
    given = parser.parse_args()
    job = manifest(given.script, threads=given.threads, mem_mb=given.mem_mb, gpus=given.gpus)
    command = ["kubectl", "create", "--filename", "-", "--output", "jsonpath={.metadata.name}"]
    created = subprocess.run(command, input=json.dumps(job), stdout=subprocess.PIPE, text=True, check=True)
    print(created.stdout.strip())


if __name__ == "__main__":
    main()
