"""Which frames a prediction looks at: the whole video and windows of it, and the snippets in each of them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from atw.data import sampling
from atw.files import InputError
from atw.videos.decode import BadVideoError
from atw.videos.times import Times

_LONGEST_SECONDS = 1e9  # 30 years


class Span(NamedTuple):
    """Frames of a video from `first` on."""

    first: int
    frames: int


def check_window(window_seconds: float | None, stride_seconds: float | None) -> None:
    """Raise InputError for a length or a stride that is not above 0, and a stride without a window."""
    if stride_seconds is not None and window_seconds is None:
        raise InputError(f"a stride of {stride_seconds:g} s without a window; give the length of the window too")
    for name, seconds in (("window", window_seconds), ("stride", stride_seconds)):
        if seconds is not None and not 0 < seconds < _LONGEST_SECONDS:
            raise InputError(f"the {name} is {seconds:g} s; give a number above 0, and below {_LONGEST_SECONDS:g}")


def frames_in(window_seconds: float, fps: float, refusal: type[Exception]) -> int:
    """Return how many frames a window has on average; raise `refusal` if they are fewer than two, so no motion."""
    length = round(window_seconds * fps)
    if length < 2:
        raise refusal(
            f"a window of {window_seconds:g} s has {length} frames at {fps:g} frames/s and needs 2: take a longer one"
        )
    return length


def windows(times: Times, *, window_seconds: float, stride_seconds: float | None) -> list[Span]:
    """Windows that together cover a video; the last one ends with it, however near the one before.

    A window has the frames from the change of frames nearest to its start to the one nearest to its end, and at least
    two, so it may be longer in a pause. Long pauses make windows of the same frames, which are one. A stride of None is
    half a window. A video shorter than the window is one window.

    Raises:
        BadVideoError: the window has fewer than two frames of this video on average, so no motion.
    """
    length = frames_in(window_seconds, times.frames / times.seconds, BadVideoError)
    if window_seconds >= times.seconds or length >= times.frames:
        return [Span(0, times.frames)]
    starts = _starts(times, window_seconds, window_seconds / 2 if stride_seconds is None else stride_seconds)
    first, end = times.nearest(starts), times.nearest(starts + window_seconds)
    first = np.minimum(first, times.frames - 2)
    end = np.maximum(end, first + 2)
    spans = [Span(one, other - one) for one, other in zip(first.tolist(), end.tolist(), strict=True)]
    return list(dict.fromkeys(spans))


def _starts(times: Times, window_seconds: float, stride_seconds: float) -> NDArray[np.float64]:
    """When windows start, seconds: only those where a frame comes or goes, because a pause may be of any length."""
    halfway = (times.edges[:-1] + times.edges[1:]) / 2
    moments = np.concatenate([[0.0], halfway, halfway - window_seconds])
    numbers = np.unique(np.ceil(np.maximum(moments, 0.0) / stride_seconds - 1e-9))
    last = times.seconds - window_seconds
    starts = numbers * stride_seconds
    return np.append(starts[starts < last], last)


def stacks(span: Span, *, stream: str, snippets: int, stack: int) -> NDArray[np.int64]:
    """The frames (rgb) or fields of each snippet of a span, spread as in a test video of its own: int64 [M, L]."""
    positions = span.frames if stream == "rgb" else span.frames - 1
    starts = sampling.test_starts(positions, snippets=snippets, stack=stack)
    return span.first + sampling.stack_indices(starts, stack=stack, positions=positions)


def seconds_of(stacks: NDArray[np.int64], times: Times, *, stream: str) -> NDArray[np.float64]:
    """Start and end of each snippet [M, L], as of `middle_seconds`: [M, 2]."""
    shown: NDArray[np.float64] = times.edges[np.stack([stacks[:, 0], stacks[:, -1] + 1 + (stream != "rgb")], axis=1)]
    return shown


def middle_seconds(stacks: NDArray[np.int64], times: Times, *, stream: str) -> NDArray[np.float64]:
    """The middle of the time for which each snippet [M, L] is shown; field p leads from frame p to frame p + 1."""
    return times.middle(stacks[:, 0], stacks[:, -1] + (stream != "rgb"))
