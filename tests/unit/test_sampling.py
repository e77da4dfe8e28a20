from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atw.data import sampling
from atw.files import InputError

EVERY_LENGTH = range(1, 401)


@pytest.mark.parametrize("stack", [1, 5, 10])
@pytest.mark.parametrize("segments", range(1, 9))
def test_training_starts_stay_in_their_segments_for_every_length(segments: int, stack: int) -> None:
    for positions in EVERY_LENGTH:
        starts, again = (
            sampling.training_starts(positions, segments=segments, stack=stack, rng=np.random.default_rng(positions))
            for _ in range(2)
        )
        assert (starts == again).all()
        assert starts.shape == (segments,)
        assert starts.dtype == np.int64
        assert (np.diff(starts) >= 0).all()
        assert starts.min() >= 0
        assert starts.max() + stack <= max(positions, stack)
        length = positions // segments
        if length >= stack:
            for k, start in enumerate(starts):
                assert k * length <= start <= (k + 1) * length - stack
        else:
            assert list(starts) == [max(0, min(k * length, positions - stack)) for k in range(segments)]


def test_training_starts_reach_every_start_of_a_segment_equally_often() -> None:
    rng = np.random.default_rng(1)
    drawn = np.stack([sampling.training_starts(41, segments=4, stack=5, rng=rng) for _ in range(6000)])
    for k in range(4):
        values, counts = np.unique(drawn[:, k], return_counts=True)
        assert list(values) == [10 * k + offset for offset in range(6)]
        assert abs(counts - 1000).max() < 150


def test_training_starts_repeat_under_a_seed_and_differ_between_seeds() -> None:
    def draw(seed: int) -> list[int]:
        rng = np.random.default_rng(seed)
        return sampling.training_starts(400, segments=8, stack=5, rng=rng).tolist()

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


@pytest.mark.parametrize(
    ("positions", "segments", "stack", "starts"),
    [
        (20, 4, 5, [0, 5, 10, 15]),  # segments as long as the stack leave no choice
        (12, 4, 5, [0, 3, 6, 7]),  # the last is moved back into the video
        (7, 4, 5, [0, 1, 2, 2]),
        (5, 4, 5, [0, 0, 0, 0]),
        (3, 4, 5, [0, 0, 0, 0]),
        (4, 4, 1, [0, 1, 2, 3]),
        (3, 4, 1, [0, 0, 0, 0]),
    ],
)
def test_training_starts_where_there_is_no_choice(positions: int, segments: int, stack: int, starts: list[int]) -> None:
    rng = np.random.default_rng(0)
    assert sampling.training_starts(positions, segments=segments, stack=stack, rng=rng).tolist() == starts


def test_segments_of_rgb_and_flow_begin_at_most_their_number_apart() -> None:
    for frames in range(2, 401):
        for segments in range(1, 9):
            rgb = np.arange(segments) * (frames // segments)
            flow = sampling.training_starts(
                frames - 1, segments=segments, stack=(frames - 1) // segments or 1, rng=np.random.default_rng(0)
            )
            assert ((rgb - flow >= 0) & (rgb - flow <= np.arange(segments))).all()


@pytest.mark.parametrize(
    ("positions", "snippets", "stack", "starts"),
    [
        (10, 5, 1, [1, 3, 5, 7, 9]),
        (9, 3, 1, [1, 4, 7]),
        (10, 1, 1, [5]),
        (12, 4, 5, [1, 3, 5, 7]),
        (2, 4, 1, [0, 0, 1, 1]),
        (4, 3, 5, [0, 0, 0]),
        (1, 2, 1, [0, 0]),
    ],
)
def test_test_starts_by_table(positions: int, snippets: int, stack: int, starts: list[int]) -> None:
    assert sampling.test_starts(positions, snippets=snippets, stack=stack).tolist() == starts


@pytest.mark.parametrize("stack", [1, 5, 10])
def test_eighty_test_starts_are_inside_ordered_even_and_symmetric_for_every_length(stack: int) -> None:
    for positions in EVERY_LENGTH:
        starts = sampling.test_starts(positions, snippets=80, stack=stack)
        last = max(positions - stack, 0)
        assert starts.shape == (80,)
        assert starts.dtype == np.int64
        assert starts.min() >= 0
        assert starts.max() <= last
        gaps = np.diff(starts)
        assert gaps.min() >= 0
        assert gaps.max() - gaps.min() <= 1
        assert abs(starts + starts[::-1] - last).max() <= 1
        if positions - stack + 1 <= 80:
            assert set(starts) == set(range(last + 1))


@given(positions=st.integers(1, 10**6), snippets=st.integers(1, 200), stack=st.integers(1, 20))
def test_test_starts_are_the_centres_of_equal_parts(positions: int, snippets: int, stack: int) -> None:
    count = max(positions - stack + 1, 1)
    starts = sampling.test_starts(positions, snippets=snippets, stack=stack)
    # start <= (m + 1/2) count / snippets < start + 1, in integers
    for m, start in enumerate(starts.tolist()):
        assert 2 * snippets * start <= (2 * m + 1) * count < 2 * snippets * (start + 1)


@pytest.mark.parametrize("stack", [1, 5, 10])
def test_stacks_are_consecutive_and_repeat_only_in_videos_shorter_than_a_stack(stack: int) -> None:
    for positions in EVERY_LENGTH:
        starts = sampling.test_starts(positions, snippets=7, stack=stack)
        indices = sampling.stack_indices(starts, stack=stack, positions=positions)
        assert indices.shape == (7, stack)
        assert indices.dtype == np.int64
        assert (indices[:, 0] == starts).all()
        assert indices.max() < positions
        repeats = (np.diff(indices, axis=1) == 0).any()
        assert repeats == (positions < stack)
        assert np.isin(np.diff(indices, axis=1), [0, 1]).all()


def test_a_short_video_repeats_its_last_field() -> None:
    assert sampling.stack_indices(np.array([0]), stack=5, positions=3).tolist() == [[0, 1, 2, 2, 2]]


def test_sampling_refuses_what_cannot_be_sampled() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="positions 0"):
        sampling.training_starts(0, segments=4, stack=1, rng=rng)
    with pytest.raises(InputError, match="segments 0"):
        sampling.training_starts(9, segments=0, stack=1, rng=rng)
    with pytest.raises(InputError, match="snippets -1"):
        sampling.test_starts(9, snippets=-1, stack=1)
    with pytest.raises(InputError, match="stack 0"):
        sampling.stack_indices(np.array([0]), stack=0, positions=9)


@pytest.mark.parametrize(
    ("starts", "stack", "positions", "fields", "spans"),
    [
        ([0, 3, 9], 1, 10, False, [[0, 1], [3, 4], [9, 10]]),  # 10 frames
        ([0, 5], 5, 10, True, [[0, 6], [5, 11]]),  # 10 fields between 11 frames
        ([0, 0], 5, 2, True, [[0, 3], [0, 3]]),  # the last field is repeated, and 3 frames are all
        ([1], 1, 2, True, [[1, 3]]),
    ],
)
def test_the_frames_that_a_snippet_shows(
    starts: list[int], stack: int, positions: int, fields: bool, spans: list[list[int]]
) -> None:
    found = sampling.frame_spans(np.array(starts), stack=stack, positions=positions, fields=fields)
    assert found.tolist() == spans


@pytest.mark.parametrize(
    ("asked", "seconds", "segments", "count"),
    [
        (80, 1.0, 4, 80),
        ("auto", 0.1, 4, 4),
        ("auto", 2.0, 4, 4),
        ("auto", 2.0000000001, 4, 4),
        ("auto", 2.04, 4, 5),
        ("auto", 199.9, 4, 400),
        ("auto", 3600.0, 4, 400),
        ("auto", 3600.0, 500, 500),
    ],
)
def test_the_number_of_snippets(asked: Any, seconds: float, segments: int, count: int) -> None:
    assert sampling.snippet_count(asked, seconds=seconds, segments=segments) == count


@given(st.integers(1, 5000), st.sampled_from([1, 5, 10]))
def test_a_snippet_for_each_half_second_steps_over_nothing(positions: int, stack: int) -> None:
    """At 25 positions per second: from the first one to the last, less than 13 lie between two snippets' starts."""
    count = sampling.snippet_count("auto", seconds=positions / 25, segments=1)
    starts = sampling.test_starts(positions, snippets=count, stack=stack)
    gaps = np.diff([-1, *starts.tolist(), max(positions - stack, 0) + 1])
    assert gaps.max() <= 13


@pytest.mark.parametrize(("seconds", "count"), [(0.04, 1), (0.5, 1), (4.0, 8), (4.04, 9), (3600.0, 7200)])
def test_half_seconds_that_have_begun(seconds: float, count: int) -> None:
    assert sampling.half_seconds(seconds) == count
