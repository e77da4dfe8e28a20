"""Datasets: which videos there are, their classes, splits and shards. The workflow imports it, so it imports little."""

from atw.datasets.dataset import Dataset, NoVideosError, Split

__all__ = ["Dataset", "NoVideosError", "Split"]
