"""Batch norms folded into convolutions: time and memory of an update and of a forward pass, beside the plain network.

    python -m benchmarks.folding [--write]

One core, a few minutes. --write writes docs/benchmarks/folding.md.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from atw.config import Model, Sampling
from atw.model.network import VideoNetwork
from atw.train.devices import activation_bytes, autocast
from benchmarks.flow import timing
from benchmarks.report import Table, number, show, write_page

PAGE = Path("docs/benchmarks/folding.md")
CPU = torch.device("cpu")
ROUNDS = 5
CLASSES = 101
# Network, side of its input, videos of an update of 4 snippets each.
CASES = (("mobilenet_v2", 80, 8), ("mobilenet_v2", 112, 8), ("resnet18", 112, 8), ("resnet50", 112, 4))
METHOD = (
    "Flow networks with random weights and `partial_bn: first`, N = 4. An update is forward, loss and backward, of "
    "random videos in memory; scoring is a forward pass in evaluation mode without gradients.",
    "Plain and folded networks have the same weights and take turns on one core; figures are medians of the rounds, "
    "by CPU time. The ratio is the plain network's time divided by the folded one's: above 1, folding is faster.",
    "Memory is what autograd keeps of a further video, counted (`atw.train.devices.activation_bytes`).",
)


def network(name: str, *, folded: bool) -> VideoNetwork:
    torch.manual_seed(0)
    model = Model(backbone=name, weights=None, partial_bn="first")
    if folded:
        return VideoNetwork(model, Sampling(), stream="flow", classes=CLASSES)
    with patch("atw.model.network.fold_norms"):
        return VideoNetwork(model, Sampling(), stream="flow", classes=CLASSES)


def update(built: VideoNetwork, snippets: Tensor, labels: Tensor, precision: str) -> None:
    built.zero_grad()
    with autocast(precision, CPU):
        logits = built(snippets).logits
    F.cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]


def compared(run: Callable[[VideoNetwork], object], plain: VideoNetwork, folded: VideoNetwork) -> tuple[float, float]:
    """The seconds that `run` takes with the folded network, and how many times as many with the plain one."""
    runs = {name: lambda _, built=built: run(built) for name, built in (("plain", plain), ("folded", folded))}
    seconds = timing.in_turn(runs, 1, ROUNDS)
    return float(seconds["folded"][0]), timing.ratio(seconds["plain"], seconds["folded"])


def row(name: str, side: int, videos: int, precision: str) -> list[str]:
    both = [network(name, folded=folded).train() for folded in (False, True)]
    snippets = torch.randint(0, 256, (videos, 4, 10, side, side), dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (videos,))
    seconds, ratio = compared(lambda built: update(built, snippets, labels, precision), *both)
    kept = [activation_bytes(built, tuple(snippets.shape[1:]), precision, CPU) / 1e6 for built in both]
    cells = [name, f"{side} px, {precision}", number(videos / seconds), f"{ratio:.2f}"]
    cells += [number(kept[1]), f"{kept[1] / kept[0]:.2f}"]
    if precision != "fp32":
        return [*cells, "", ""]  # scores are always computed in fp32
    seconds, ratio = compared(lambda built: built.score(snippets, chunk=4 * videos), *both)
    return [*cells, number(videos / seconds), f"{ratio:.2f}"]


def main(given: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.folding", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE}")
    asked = parser.parse_args(given)
    torch.set_num_threads(1)
    rows = [row(*case, precision) for case in CASES for precision in ("fp32", "bf16")]
    columns = ("network", "input", "videos/s trained", "ratio", "MB per video", "of plain", "videos/s scored", "ratio")
    tables = [Table("folded batch norms, one core", columns, rows)]
    show(Console(), tables)
    if asked.write:
        write_page(PAGE, "Folded batch norms", "python -m benchmarks.folding --write", tables, METHOD)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
