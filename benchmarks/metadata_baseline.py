"""How far the container's metadata alone predict the labels of a dataset: the confound to report beside an accuracy.

    python -m benchmarks.metadata_baseline shards/fightsurv/rgb data/fightsurv/split{split}.csv 3

Multinomial logistic regression on width, height, frames a second and frames of each video, standardised on the training
videos, fitted by L-BFGS with a small ridge; prints the test accuracy of every split and the pooled one.
"""

import csv
import sys
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

from atw.shards import Shard


def read_metadata(folder: Path) -> dict[str, list[float]]:
    features = {}
    for path in sorted(folder.glob("*.h5")):
        with Shard(path) as shard:
            for entry in shard.entries:
                features[entry.video] = [entry.width, entry.height, entry.fps, entry.decoded]
    return features


def fit(x: np.ndarray, y: np.ndarray, classes: int) -> np.ndarray:
    def loss(flat: np.ndarray) -> float:
        weights = flat.reshape(x.shape[1], classes)
        return float(-log_softmax(x @ weights, axis=1)[np.arange(len(y)), y].mean() + 1e-3 * (weights**2).sum())

    return minimize(loss, np.zeros(x.shape[1] * classes)).x.reshape(x.shape[1], classes)


def main(folder: str, pattern: str, splits: str) -> None:
    features = read_metadata(Path(folder))
    right = total = 0
    for split in range(1, int(splits) + 1):
        with Path(pattern.replace("{split}", str(split))).open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        classes = sorted({row["label"] for row in rows})
        x = np.array([features[row["path"]] for row in rows])
        y = np.array([classes.index(row["label"]) for row in rows])
        train = np.array([row["subset"] == "train" for row in rows])
        x = (x - x[train].mean(axis=0)) / (x[train].std(axis=0) + 1e-9)
        x = np.c_[x, np.ones(len(x))]
        weights = fit(x[train], y[train], len(classes))
        correct = (x[~train] @ weights).argmax(axis=1) == y[~train]
        print(f"split{split}: {correct.mean():.3f} of {len(correct)} test videos")
        right, total = right + int(correct.sum()), total + len(correct)
    print(f"pooled: {right / total:.3f} of {total}")


if __name__ == "__main__":
    main(*sys.argv[1:])
