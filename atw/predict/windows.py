"""Which frames a prediction looks at: the whole video and windows of it, and the snippets in each. Index arithmetic."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from atw.data import sampling
from atw.files import InputError


class Span(NamedTuple):
    """Frames of a video from `first` on."""

    first: int
    frames: int


def check_window(window_seconds: float | None, stride_seconds: float | None) -> None:
    """Raise InputError for a length or a stride that is not above 0, and a stride without a window."""
    if stride_seconds is not None and window_seconds is None:
        raise InputError(f"a stride of {stride_seconds:g} s without a window; give the length of the window too")
    for name, seconds in (("window", window_seconds), ("stride", stride_seconds)):
        if seconds is not None and not 0 < seconds < float("inf"):
            raise InputError(f"the {name} is {seconds:g} s; give a number above 0")


def windows(frames: int, *, window_seconds: float, stride_seconds: float | None, fps: float) -> list[Span]:
    """Windows that together cover a video; the last one ends with it, however near the one before.

    A stride of None is half a window. A video shorter than the window is one window.

    Raises:
        InputError: the window has fewer than two frames of this video, so no motion.
    """
    length = round(window_seconds * fps)
    if length < 2:
        raise InputError(
            f"a window of {window_seconds:g} s has {length} frames at {fps:g} frames/s and needs 2: take a longer one"
        )
    if length >= frames:
        return [Span(0, frames)]
    stride = max(1, round((window_seconds / 2 if stride_seconds is None else stride_seconds) * fps))
    firsts = list(range(0, frames - length, stride))
    return [Span(first, length) for first in (*firsts, frames - length)]


def stacks(span: Span, *, stream: str, snippets: int, stack: int) -> NDArray[np.int64]:
    """The frames (rgb) or fields of each snippet of a span, spread as in a test video of its own: int64 [M, L]."""
    positions = span.frames if stream == "rgb" else span.frames - 1
    starts = sampling.test_starts(positions, snippets=snippets, stack=stack)
    return span.first + sampling.stack_indices(starts, stack=stack, positions=positions)


def middle_seconds(stacks: NDArray[np.int64], *, stream: str, fps: float) -> NDArray[np.float64]:
    """When the middle of each snippet [M, L] is shown; field p leads from frame p to frame p + 1."""
    last = stacks[:, -1] + (stream != "rgb")
    seconds: NDArray[np.float64] = ((stacks[:, 0] + last) / 2 + 0.5) / fps
    return seconds
