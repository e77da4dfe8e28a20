"""How well numbers of snippets find the known actions, against loops."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from atw.data.actions import Actions, interval_auc, mass_inside

NUMBERS = arrays.arrays(np.float32, (3, 6), elements=st.integers(0, 3))
CHOSEN = arrays.arrays(np.bool_, (3, 6), elements=st.booleans())


@given(NUMBERS, CHOSEN, CHOSEN)
def test_auc_is_the_share_of_pairs_in_order(values: Any, inside: Any, counted: Any) -> None:
    areas = []
    for row, within, counts in zip(values, inside, counted, strict=True):
        pairs = [(a, b) for a in row[within & counts] for b in row[~within & counts]]
        if pairs:
            areas.append(sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs))
    area = interval_auc(values, inside, counted)
    assert area == (pytest.approx(sum(areas) / len(areas)) if areas else None)


@given(NUMBERS, CHOSEN, CHOSEN)
def test_mass_inside_is_a_share_of_what_counts(values: Any, inside: Any, counted: Any) -> None:
    for row, within, counts, share in zip(values, inside, counted, mass_inside(values, inside, counted), strict=True):
        total = row[counts].sum()
        assert share == pytest.approx(row[within & counts].sum() / total if total else 0)


def test_snippets_lie_where_their_middles_do() -> None:
    starts = np.arange(5.0)
    seconds = np.tile(np.stack([starts, starts + 1], axis=1), (3, 1, 1))  # middles .5, 1.5, ... of three videos
    own = np.ones((3, 5), np.bool_)
    own[0, 4] = False
    actions = Actions.of([(0, 1, 0.5, 1.4), (0, 0, 3.6, 9), (0, -1, 1.5, 1.5), (2, -1, 0, 9)])
    inside, counted = actions.locate(seconds, own)
    assert np.flatnonzero(inside[0]).tolist() == [0, 4]
    assert np.flatnonzero(counted[0]).tolist() == [0, 2, 3]  # an ignored stretch, and no snippet of the video's own
    assert not inside[1:].any()
    assert not counted[1:].any()  # nothing is known of them
