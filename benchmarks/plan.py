"""How long a dry run of a dataset as large as Kinetics-400 takes, and how much memory.

    python -m benchmarks.plan [videos]

Writes lists of 306,245 clips unless told otherwise, in 400 classes, of which one clip is there, as after a download
that has only begun; then `snakemake --dry-run` plans three streams to fused.json. Prints seconds and peak memory.
"""

import csv
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

_REPOSITORY = Path(__file__).parents[1]
_CLASSES = 400
_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split", "is_cc")


def write_dataset(folder: Path, videos: int) -> None:
    """Lists of the official form, 5 clips to train on for each to test on, and a configuration with 256 a shard."""
    lists = folder / "lists"
    lists.mkdir()
    for subset, kept in (("train", range(5)), ("validate", range(5, 6))):
        with (lists / f"{subset}.csv").open("w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream)
            table.writerow(_COLUMNS)
            for number in range(videos):
                if number // _CLASSES % 6 in kept:
                    label, start = f"doing thing number {number % _CLASSES}", number % 290
                    table.writerow((label, f"clip-{number:06d}", start, start + 10, subset, 0))
    first = folder / "videos" / "doing thing number 0" / "clip-000000_000000_000010.mp4"
    first.parent.mkdir(parents=True)
    first.write_bytes(b"a plan looks at no frame")
    kinetics = {"kind": "kinetics", "root": "videos", "lists": "lists", "preprocess": {"shards": -(-videos // 256)}}
    config = {"datasets": {"kinetics400": kinetics | {"model": {"weights": None}}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")


def main(videos: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        write_dataset(Path(name), videos)
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(_REPOSITORY / "Snakefile"), "--dry-run"]
        command += ["--quiet", "all", "--cores", "2", "results/kinetics400/split1/fused.json"]
        environment = os.environ | {"PYTHONPATH": str(_REPOSITORY)}
        begin = time.perf_counter()
        subprocess.run(command, cwd=name, env=environment, check=True)
        seconds = time.perf_counter() - begin
    mebibytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{videos} videos planned in {seconds:.1f} s, peak memory {mebibytes:.0f} MiB")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2] or ("306245",)))
