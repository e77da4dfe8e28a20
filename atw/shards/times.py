"""When the frames of a shard's videos are shown, checked as everything in a shard is."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from atw.hdf5 import read_whole
from atw.shards.layout import Entry, times_digest
from atw.videos.times import Times


def read_times(file: h5py.File, attributes: Mapping[str, Any], entries: Sequence[Entry]) -> dict[str, Times]:
    """The times of all videos of a shard, those of quarantined ones without a frame.

    Raises:
        ValueError: they are damaged or impossible, in words.
    """
    offsets = read_whole(file, "time_offset", np.int64, (len(entries) + 1,))
    edges = read_whole(file, "time", np.float64, (None,))
    if times_digest(offsets, edges) != attributes["times"]:
        raise ValueError("the checksum of the times differs")
    if offsets[0] != 0 or offsets[-1] != len(edges) or (np.diff(offsets) < 0).any():
        raise ValueError("the offsets of the times are impossible")
    lacking = attributes["stream"] != "rgb"  # a field fewer than frames
    found = {}
    for entry, (first, end) in zip(entries, pairwise(offsets.tolist()), strict=True):
        frames = entry.count + lacking if entry.count else 0
        own = edges[first:end]
        if not _possible(own, frames) or not 0 <= entry.fps < np.inf:
            raise ValueError(f"the times of {entry.video} are impossible")
        found[entry.video] = Times.of(own, frames=frames, fps=entry.fps)
    return found


def _possible(edges: NDArray[np.float64], frames: int) -> bool:
    if not len(edges):
        return True
    rises = bool(frames and len(edges) == frames + 1 and np.isfinite(edges).all() and (np.diff(edges) >= 0).all())
    return rises and edges[0] == 0 and bool(edges[-1] > 0)
