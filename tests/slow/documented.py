"""What the documentation tells people to type: commands, Python, settings; and which commands no test runs."""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from markdown_it import MarkdownIt

from tests.rules.conftest import REPOSITORY

# All but configuration.md, which is written from the models of the settings and has no command.
PAGES = [
    *sorted(REPOSITORY.glob("*.md")),
    *(REPOSITORY / name for name in ("envs/README.md", "examples/README.md")),
    *sorted(path for path in (REPOSITORY / "docs").rglob("*.md") if path.name != "configuration.md"),
]

Kind = Literal["command", "python", "settings", "text"]
PROGRAM = re.compile(
    r"([A-Z_]+=\S+ )*"  # variables before a command
    r"(apt|atw|chmod|conda|cp|dnf|docker|export|make|mkdir|pip|podman|pytest|python|ray|scancel|sinfo|snakemake|source"
    r"|squeue|tail|tensorboard|\(umask|\.ci/\w+\.sh|envs/[\w-]+\.sh)( |$)"
)
COMMENT = re.compile(r"\s{2,}#.*$")


@dataclass(frozen=True)
class Piece:
    """A command with its continued lines, or a whole block of something else."""

    kind: Kind
    text: str
    page: str
    line: int


def pieces(page: Path) -> list[Piece]:
    """All that a page shows as code, from top to bottom: indented and fenced blocks, and commands within sentences."""
    name = page.relative_to(REPOSITORY).as_posix()
    found = []
    for token in MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8")):
        line = token.map[0] + 1 if token.map else 0
        if page.name == "commands.md":  # written by typer: fences are synopses, examples are sentences
            if token.type == "inline" and token.content.startswith("Example: "):
                example = html.unescape(token.content.removeprefix("Example: ").partition("\n")[0])
                found.append(Piece("command", example, name, line))
        elif token.type in ("code_block", "fence"):
            found += [Piece(kind, text, name, line) for kind, text in _of_block(token.content)]
        elif token.type == "inline":
            codes = [child.content for child in token.children or () if child.type == "code_inline"]
            # Two words are the name of a command, not its call.
            called = [code for code in codes if PROGRAM.match(code) and len(code.split()) > 2]
            found += [Piece("command", code, name, line) for code in called]
    return found


def _of_block(content: str) -> Iterator[tuple[Kind, str]]:
    if re.match(r"(import|from|with|def|for) |predictor\.|seconds, ", content):
        yield "python", content
        return
    for part in content.strip().split("\n\n"):
        if PROGRAM.match(part):
            for command in re.sub(r"\\\n\s*", "", part).splitlines():
                yield "command", COMMENT.sub("", command)
        else:
            yield "settings" if _is_settings(part) else "text", part


def _is_settings(content: str) -> bool:
    try:
        found = yaml.safe_load(content)
    except yaml.YAMLError:
        return False
    return isinstance(found, dict) and all(re.fullmatch(r"\w+", key) for key in found)


# Planned only: what takes hours or another machine. Everything up to the first job is done, and the jobs are counted.
PLANNED = {
    "snakemake --cores 2 results/demo/tables/table1.json results/demo/tables/table3.json",
    "atw ray -- snakemake --cores 32 --resources gpu=8 -- results/ucf101/split1/fused.json",
    "atw ray -- atw run --cores 32 results/ucf101/split1/fused.json -- --resources gpu=8",
    "snakemake --cores 32 --resources gpu=4 -- results/ucf101/split1/fused.json",
    "atw run --cores 32 results/ucf101/split1/fused.json",
    "atw run --cores 32 results/ucf101/split1/fused.json -- --rerun-incomplete",
    "atw run --cores 32 results/ucf101/summary.json results/hmdb51/summary.json",
    "atw run --cores 32 results/ucf101/tables/table1.json",
    "atw run --cores 32 results/hmdb51/tables/table4.json",
    "snakemake --workflow-profile profiles/slurm results/ucf101/split1/fused.json",
    "snakemake --workflow-profile profiles/slurm --until frames flow warped -- results/ucf101/split1/fused.json",
    "snakemake --workflow-profile profiles/slurm --cache -- results/ucf101/split1/fused.json",
    "snakemake --workflow-profile profiles/slurm --rerun-incomplete results/ucf101/split1/fused.json",
    "atw run results/ucf101/split1/fused.json -- --workflow-profile profiles/slurm",
    "RAY_AUTH_MODE=token RAY_ADDRESS=first:6379 snakemake --cores 64 --resources gpu=16 -- "
    "results/ucf101/split1/fused.json",
}

# Not run, by the reason.
EXCEPTIONS = {
    "installs, or runs these tests": {
        "make demo",  # its two commands are run here as README has them
        "make test test-slow",
        ".ci/install.sh rar slurm chromium",
        "source .venv/bin/activate",
        "pip install /path/to/atw",  # tests/slow/test_package.py installs the wheel
        "pip install 'atw[cuda]'",
        "pip install 'atw[export]'",
        "python -m build",
        "pip install tensorboard",
        "pip install build",
        "pip install pre-commit",
        "pip install --force-reinstall --no-deps opencv-contrib-python-headless",
        "apt install libarchive-tools",
        "apt install unar",
        "dnf install bsdtar",
        "conda install -c conda-forge libarchive",
    },
    "needs a GPU's toolkit, or a container engine": {
        "envs/opencv-cuda.sh 9.0 dist",
        "pip install --no-deps --force-reinstall dist/opencv_*.whl dist/nvidia_npp-*.whl",
        "podman build --file envs/Containerfile --tag atw .",
        "podman build --file envs/Containerfile --tag atw --build-arg OPENCV=9.0 .",
        "podman run --rm --device nvidia.com/gpu=all atw",
        'podman run --rm --device nvidia.com/gpu=all --userns keep-id --user "$(id -u)" --volume "$PWD:/work" '
        "atw run results/demo/split1/fused.json",
        'docker run --rm --gpus all --user "$(id -u)" --volume "$PWD:/work" atw run results/demo/split1/fused.json',
    },
    "needs a cluster, or is for its administrator": {
        'sinfo -o "%P %c %m %G %l"',
        'squeue --me --format "%i %P %T %M %k"',
        "squeue --me",
        "atw profiles slurm",  # tests/unit/test_starting.py copies one
        "scancel <those of this run>",
        "mkdir -p /group/shared/atw/shards && chgrp -R lab /group/shared/atw && chmod -R g+rwXs /group/shared/atw",
        "export SNAKEMAKE_OUTPUT_CACHE=/group/shared/atw/cache",  # tests/slow/test_cache.py has one
        "export RAY_AUTH_MODE=token",
        # Listen to the network; tests/slow/test_ray_nodes.py starts such nodes on loopback. mktemp fills in XXXXXX.
        "ray start --head --block --port=6379 --dashboard-host=127.0.0.1 --disable-usage-stats "
        '--temp-dir="$(mktemp -d /tmp/ray-XXXXXX)/ray"',
        'ray start --block --address=first:6379 --disable-usage-stats --temp-dir="$(mktemp -d /tmp/ray-XXXXXX)/ray"',
    },
    "needs videos and weights that have to be fetched": {
        "atw weights mobilenet_v2",
        "atw weights bninception",
        "atw weights resnet50",
        "atw init path/to/videos",  # tests/slow/test_package.py does, and the next
        "atw run",
        "atw run --all-splits",
        "atw init --dataset ucf101",  # tests/unit/test_starting.py does
        "snakemake --cores 2 --configfile examples/badminton.yaml -- results/badminton/tables/consensus.json",
        "snakemake --cores 2 --configfile examples/bags.yaml -- results/bags5/tables/consensus.json",
        "snakemake --cores 2 --configfile examples/fightsurv.yaml -- results/fightsurv/tables/consensus.json",
        "snakemake --cores 2 --configfile examples/tennis7.yaml -- results/tennis7/tables/consensus.json",
        "python examples/make_bags.py data/fightsurv fight data/bags5 --clips 5",  # tests/unit/test_bags.py does
        "python -m benchmarks.metadata_baseline shards/fightsurv/rgb 'data/fightsurv/split{split}.csv' 3",
    },
    "measures for minutes and writes its page": {
        "make gpu-check",
        "python -m benchmarks.codecs FOLDER_OF_FLOW --write",
        "python -m benchmarks.decode_once --videos FOLDER --truth FOLDER --write",
        "python -m benchmarks.camera FOLDER_OF_VIDEOS --videos 16 --write",
        "python -m benchmarks.flow --write",
        "python -m benchmarks.folding --write",
        "python -m benchmarks.reader FOLDER_OF_VIDEOS --videos 30 --samples 60 --write",
        "python -m benchmarks.scale FOLDER_OF_VIDEOS --write",
        "python -m benchmarks.training FOLDER_OF_VIDEOS --videos 24 --write",
    },
    "reads the scores of many trainings": {
        "python -m benchmarks.action_share results/demo-untrimmed/tables/consensus-warped.json --stream warped --write",
    },
    "goes on until it is ended": {
        "tensorboard --logdir logs/tensorboard",
        "tail -f logs/train/ucf101/split1/rgb.log",
    },
    "is a part of a command, or stands for many": {
        "atw compare A B",
        "atw detections score",
        "atw ray -- COMMAND",
        "atw ray --gpus 4",
        "python -m benchmarks.same_run BEFORE AFTER",
    },
}

# Blocks that are neither commands nor Python nor settings, by how they begin.
TEXTS = {
    '{"results"': "files of detections and of their truth",
    "{masks}/": "paths",
    "videos/\n": "paths",
    "path,label,subset,group": "a list of videos",
    "[project.entry-points": "an entry of pyproject.toml",
    "config.yaml -> atw/config": "a drawing",
    "fused = sum over streams": "a formula",
    "s_ik = M w_i p_ik": "a formula",
    "(p + z²/2n": "a formula",
    "∂L/∂e_i": "a formula",
    "flowchart LR": "a drawing",
}
