"""How strongly an attention that is still uniform is pushed to prefer some snippets: why it stays uniform, or does not.

    python -m benchmarks.attention_gradient results/demo/experiments/consensus-gated/split1/*/scores.h5

If A = sum w_i a_i are the scores of a video, p their softmax and y its labels, the loss has the gradient

    dL / de_i = w_i (p - y) . (a_i - A)

in the energy e_i of a snippet. Where all its snippets have the same scores there is none, whatever the learning rate.
Printed are means over the test videos, at uniform weights w_i = 1/M, of which a consensus gives another training: M
times the size of this gradient, averaged over the snippets; and the standard deviation within a video of the score of
its class less the best of the others.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from scipy.special import softmax

from atw.evaluate.scores import read_scores, snippet_reader
from atw.files import InputError
from benchmarks.report import Table, show


class Push(NamedTuple):
    """Means over videos: M times the gradient of an energy, and how much the margin differs from snippet to snippet."""

    gradient: float
    spread: float


def of_video(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> Push:
    """Measure one video from the scores of its snippets [M, K] and its labels [K], of which there is one at least."""
    mean = scores.mean(axis=0)
    wrong = softmax(mean) - labels / labels.sum()
    margin = scores[:, labels].max(axis=1) - scores[:, ~labels].max(axis=1)
    return Push(float(np.abs((scores - mean) @ wrong).mean()), float(margin.std()))


def measure(path: Path) -> Push:
    """Measure a score file; several crops of a snippet are averaged.

    Raises:
        InputError: it is none, or no video has a label.
    """
    scores = read_scores(path)
    rows = np.flatnonzero(scores.truth.any(axis=1)).tolist()
    if not rows:
        raise InputError(f"{path} has no video with a label; give scores of videos that show classes")
    with snippet_reader(path) as read:
        found = [
            of_video(read(row)[:, : scores.snippets[row]].mean(axis=0, dtype=np.float64), scores.truth[row])
            for row in rows
        ]
    return Push(*np.mean(found, axis=0).tolist())


def main(arguments: Sequence[str]) -> int:
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        lines = [[path, *(f"{number:.3f}" for number in measure(Path(path)))] for path in arguments]
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    show(Console(), [Table("attention at uniform weights", ("scores", "gradient", "spread of the margin"), lines)])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
