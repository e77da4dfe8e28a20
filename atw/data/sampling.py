"""Which positions of a video make its snippets: index arithmetic alone, no pixels.

A position is a frame (rgb: n frames are n positions) or a flow field (flow and warped: n frames give n - 1 fields, and
field p leads from frame p to frame p + 1). A snippet starts at a position and takes `stack` of them in a row: 1 for
rgb. Everything counts from 0.

Each stream divides its own positions, so segment k of a flow stream starts at most k positions before segment k of rgb.

In a video of fewer positions than the stack, and only there, a snippet repeats its last position.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from atw.files import InputError

MOST_SNIPPETS = 400
_SNIPPET_SECONDS = 0.5


def training_starts(positions: int, *, segments: int, stack: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw one start from each of `segments` equal parts of a video: int64 [segments], in order.

    Segments are d = positions // segments long. With d >= stack the start is uniform among those whose stack stays
    inside the segment. Otherwise it is the segment's first position, moved back where the stack would pass the end of
    the video.
    """
    _check(positions=positions, segments=segments, stack=stack)
    length = positions // segments
    first = np.arange(segments, dtype=np.int64) * length
    if length < stack:
        return np.minimum(first, max(positions - stack, 0))
    return first + rng.integers(length - stack + 1, size=segments)


def snippet_count(asked: int | Literal["auto"], *, seconds: float, segments: int) -> int:
    """Say how many snippets a test video has.

    `auto` is one for each half second that the video lasts, so that nothing short is stepped over, at most
    `MOST_SNIPPETS`; but as many as a training has of a video, `segments`, at least.
    """
    if asked != "auto":
        return asked
    return max(segments, min(half_seconds(seconds), MOST_SNIPPETS))


def half_seconds(seconds: float) -> int:
    """Count the half seconds that have begun: with so many snippets, nothing short is stepped over."""
    return math.ceil(seconds / _SNIPPET_SECONDS - 1e-9)  # times are rounded


def test_starts(positions: int, *, snippets: int, stack: int) -> NDArray[np.int64]:
    """Spread `snippets` starts evenly over a video: int64 [snippets], in order, the same at each call.

    The starts that keep the stack inside the video are cut into `snippets` equal parts and the centre of each is taken,
    so a start occurs more than once where there are fewer starts than snippets.
    """
    _check(positions=positions, snippets=snippets, stack=stack)
    starts = max(positions - stack, 0) + 1
    # The centre (m + 1/2) starts / snippets in integers: no rounding can differ between machines.
    return (2 * np.arange(snippets, dtype=np.int64) + 1) * starts // (2 * snippets)


def stack_indices(starts: NDArray[np.int64], *, stack: int, positions: int) -> NDArray[np.int64]:
    """Give the positions of each snippet: int64 [len(starts), stack]; `starts` come from the functions above."""
    _check(positions=positions, stack=stack)
    indices: NDArray[np.int64] = starts[:, None] + np.arange(stack, dtype=np.int64)
    return indices.clip(max=positions - 1)


def frame_spans(starts: NDArray[np.int64], *, stack: int, positions: int, fields: bool) -> NDArray[np.int64]:
    """Give the first frame that each snippet shows, and the one after its last: int64 [len(starts), 2].

    `fields` says whether positions are flow fields: a stack of 5 fields from field p on shows the frames p to p + 5.
    """
    _check(positions=positions, stack=stack)
    return np.stack([starts, starts + min(stack, positions) + fields], axis=1)


def _check(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise InputError(f"{name} {count}: sampling needs at least 1; leave out videos without frames or fields")
