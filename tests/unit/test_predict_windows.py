"""Which frames and fields a prediction looks at: blocks of pairs, windows, snippets and their times."""

import numpy as np
import pytest

from atw.extras.predict.items import blocks_of
from atw.extras.predict.windows import Span, middle_seconds, seconds_of, stacks, windows
from atw.videos.times import NO_TIMES, Times


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        ([], []),
        ([4], [(4, 1)]),
        ([0, 1, 2, 5, 6, 9], [(0, 3), (5, 2), (9, 1)]),
        ([0, 1, 2, 3, 4, 5, 6], [(0, 3), (3, 3), (6, 1)]),
    ],
)
def test_blocks_of_pairs(positions: list[int], expected: list[tuple[int, int]]) -> None:
    wanted = {"rgb": [3], "flow": positions[::2], "warped": positions}
    assert list(blocks_of(wanted, longest=3)) == expected


@pytest.mark.parametrize(
    ("frames", "window", "stride", "expected"),
    [
        (100, 2.0, None, [(0, 50), (25, 50), (50, 50)]),
        (101, 2.0, 2.0, [(0, 50), (50, 50), (51, 50)]),  # the last ends with the video
        (40, 2.0, None, [(0, 40)]),
        (50, 2.0, 1.0, [(0, 50)]),
        (6, 0.16, 0.001, [(0, 4), (1, 4), (2, 4)]),  # a stride of less than a frame is one frame
    ],
)
def test_windows(frames: int, window: float, stride: float | None, expected: list[tuple[int, int]]) -> None:
    assert windows(even(frames), window_seconds=window, stride_seconds=stride) == expected


def test_windows_of_a_variable_rate_cover_the_time_that_they_say() -> None:
    rng = np.random.default_rng(0)
    times = Times(np.concatenate([[0.0], np.cumsum(rng.choice([0.04, 0.08, 0.2], 200))]), "file")
    found = windows(times, window_seconds=2.0, stride_seconds=1.0)
    for number, span in enumerate(found[:-1]):
        start, end = times.stretch(span.first, span.first + span.frames - 1)
        assert (start, end) == (pytest.approx(number, abs=0.101), pytest.approx(number + 2, abs=0.101))
    assert found[-1].first + found[-1].frames == 200
    assert len(found) == int(np.ceil(times.seconds - 2)) + 1


def test_a_pause_makes_windows_longer_and_fewer() -> None:
    # 50 frames in two seconds, one that stays for an hour, and 50 more.
    pause = Times(np.concatenate([np.arange(51) / 25, 3600 + np.arange(2, 53) / 25]), "file")
    found = windows(pause, window_seconds=100.0, stride_seconds=1.0)
    assert all(span.frames >= 2 for span in found)
    assert len(found) == len(set(found)) < 20
    assert (found[0].first, found[-1].first + found[-1].frames) == (0, 101)
    endless = Times(np.append(np.arange(100) / 25, 1e15), "file")  # a file may say so
    assert len(windows(endless, window_seconds=1e14, stride_seconds=0.01)) < 1000


def test_stacks_stay_inside_their_span() -> None:
    # 6 frames from frame 10 are 5 fields, 10 to 14: stacks of 3 start at 10, 11 or 12.
    assert stacks(Span(10, 6), stream="flow", snippets=3, stack=3).tolist() == [
        [10, 11, 12],
        [11, 12, 13],
        [12, 13, 14],
    ]
    assert stacks(Span(10, 3), stream="flow", snippets=1, stack=3).tolist() == [[10, 11, 11]]
    assert stacks(Span(10, 2), stream="rgb", snippets=2, stack=1).tolist() == [[10], [11]]


def test_middles() -> None:
    # Frame 10 at 25 frames/s is shown from 0.40 to 0.44 s; fields 10 to 12 are of the frames 10 to 13.
    assert middle_seconds(np.array([[10]]), even(20), stream="rgb") == pytest.approx([0.42])
    assert middle_seconds(np.array([[10, 11, 12]]), even(20), stream="flow") == pytest.approx([0.48])


def test_start_and_end_of_snippets() -> None:
    # Fields 10 to 12 lead from frame 10 to frame 13, which is shown until 0.56 s.
    assert seconds_of(np.array([[10]]), even(20), stream="rgb") == pytest.approx(np.array([[0.40, 0.44]]))
    assert seconds_of(np.array([[10, 11, 12]]), even(20), stream="flow") == pytest.approx(np.array([[0.40, 0.56]]))


def even(frames: int) -> Times:
    return Times.of(NO_TIMES, frames=frames, fps=25.0)
