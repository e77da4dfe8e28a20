"""The job graph of the demo as text. `pytest tests/golden --update-golden` writes it anew, for a person to look at."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "target",
    ["results/demo/split1/fused.json", "results/demo/experiments/average/summary.json", "shards/demo/warped/00005.h5"],
)
def test_job_graph(target: str, tmp_path: Path, update_golden: bool) -> None:
    (tmp_path / "config.yaml").write_text((REPOSITORY / "config.yaml").read_text())
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--cores", "2"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    run = subprocess.run(
        [*command, "--dry-run", target], cwd=tmp_path, capture_output=True, text=True, env=environment, check=True
    )
    jobs = re.findall(r"rule (\w+):\n(?:    input: (.*)\n)?    output: (.*)\n", run.stdout + run.stderr)
    text = "".join(f"{rule}: {inputs or '-'} -> {outputs}\n" for rule, inputs, outputs in sorted(jobs))
    golden = Path(__file__).parent / (target.replace("/", "-") + ".txt")
    if update_golden:
        golden.write_text(text)
    assert text == golden.read_text()
