"""The benchmark of the action's share: which snippets it takes, and that its numbers are the table's."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from atw.data.actions import Actions
from atw.evaluate.scores import score_writer
from atw.extras.tables.consensus_table import write_consensus_table
from atw.files import InputError
from benchmarks import action_share
from tests.unit.scored import LABELS, VIDEOS, scored, table_settings

M = 8
ROWS = ("average", "gated", "max")


@given(st.data())
def test_a_cut_is_the_stretch_around_the_action(data: st.DataObject) -> None:
    length = data.draw(st.integers(1, 40))
    first = data.draw(st.integers(0, length - 1))
    last = data.draw(st.integers(first, length - 1))
    inside = (np.arange(length) >= first) & (np.arange(length) <= last)
    share = data.draw(st.floats(inside.mean(), 1))
    bag = action_share.cut(inside, 3, share)
    numbers = [place.number for place in bag]
    assert numbers == list(range(numbers[0], numbers[-1] + 1)) and numbers[0] <= first and last <= numbers[-1] < length
    assert [place.inside for place in bag] == inside[numbers].tolist()
    assert len(bag) == max(round(inside.sum() / share), inside.sum())
    before, behind = first - numbers[0], numbers[-1] - last
    assert abs(before - behind) <= 1 or numbers[0] == 0 or numbers[-1] == length - 1


def test_a_joined_video_shows_no_other_action() -> None:
    inside = [np.arange(5 + number) == number for number in range(4)]
    bag = action_share.join(inside, 2, 3)
    assert sum(place.inside for place in bag) == 1
    assert sorted({place.row for place in bag}) == [0, 1, 2, 3]
    assert len(bag) == len(set(bag)) == sum(map(len, inside)) - 3
    assert {(place.row, place.number) for place in bag}.isdisjoint({(0, 0), (1, 1), (3, 3)})


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table of two seeds and two splits, of snippets that know a little, most of all inside the actions."""
    rng = np.random.default_rng(0)
    results = tmp_path / "results" / "mine"
    middles = np.arange(M) + 0.5
    spans = [(row, int(LABELS[row]), float(row % 6 + 0.2), float(row % 6 + 2.2)) for row in range(len(VIDEOS))]
    inside = np.array([[start <= middle <= end for middle in middles] for _, _, start, end in spans])
    paths = []
    for row in ROWS:
        for seed in ("", "+seed1"):
            for split in ("split1", "split2"):
                logits = rng.normal(size=(len(VIDEOS), 1, M, 2))
                logits[np.arange(len(VIDEOS)), 0, :, LABELS] += inside
                energies = rng.normal(size=(len(VIDEOS), 1, M)) + inside[:, None] if row == "gated" else np.zeros(1)
                weights = softmax(np.broadcast_to(energies, (len(VIDEOS), 1, M)), axis=2)
                total = np.einsum("vcm,vcmk->vk", weights, logits)
                if row == "max":
                    total = logits.max(axis=2)[:, 0]
                    own = logits[np.arange(len(VIDEOS)), :, :, total.argmax(axis=1)]
                    weights = (own == own.max(axis=2, keepdims=True)).astype(float)
                path = results / "experiments" / f"{row}{seed}" / split / "flow" / "scores.h5"
                one = scored(
                    [],
                    stream="flow",
                    experiment=f"{row}{seed}",
                    split=split,
                    video_logits=total.astype(np.float32),
                    attention=weights.astype(np.float32),
                    attention_logits=np.broadcast_to(energies, weights.shape).astype(np.float32),
                    snippets=np.full(len(VIDEOS), M, np.int32),
                    probability=np.zeros((len(VIDEOS), M), np.float32),
                    positions=np.zeros((len(VIDEOS), M), np.int32),
                    seconds=np.tile(np.stack([middles - 0.5, middles + 0.5], axis=1), (len(VIDEOS), 1, 1)),
                    actions=Actions.of(spans),
                    quarantined=[],
                )
                with score_writer(path, logits.shape) as writer:
                    writer.add(range(len(VIDEOS)), logits.astype(np.float32))
                    writer.finish(one)
                paths.append(path)
    weights_of_streams = {"rgb": 0, "flow": 1, "warped": 0}
    settings = table_settings(rows=ROWS, weights=weights_of_streams, against=["average"], seed=0)
    out = results / "tables" / "consensus.json"
    write_consensus_table(out, paths, settings)
    return out


def test_videos_as_they_are_have_the_numbers_of_the_table(table: Path) -> None:
    found = {(one.row, one.kind): one for one in action_share.results(table, "flow")}
    assert len(found) == len(ROWS) * (len(action_share.CUTS) + 1 + len(action_share.JOINED))
    for row in json.loads(table.read_text())["rows"]:
        own, cell = found[row["consensus"], "as it is"], row["cells"]["flow"]
        assert own.share == pytest.approx(2 / M)
        assert (own.top1, list(own.top1_ci95)) == (cell["top1"], cell["top1_ci95"])
        assert own.weights_auc == pytest.approx(cell["auc"])
        if row["consensus"] != "average":
            less = own.less_average
            assert less is not None
            assert json.loads(json.dumps(less.to_dict())) == cell["differences"]["average"]
        assert found[row["consensus"], "cut to 100%"].weights_auc is None
        shares = [found[row["consensus"], f"joined with {others}"].share for others in action_share.JOINED]
        assert shares == pytest.approx([2 / (M + others * (M - 2)) for others in action_share.JOINED])
    # Less noise around the action, more right answers.
    assert (
        found["average", "cut to 100%"].top1
        > found["average", "as it is"].top1
        > found["average", "joined with 7"].top1
    )


def test_a_table_of_other_scores_is_refused(table: Path) -> None:
    path = table.parent.parent / "experiments" / "gated" / "split2" / "flow" / "scores.h5"
    path.unlink()
    with pytest.raises(InputError, match=r"consensus.json was not made from .*gated/split2/flow/scores.h5"):
        action_share.results(table, "flow")
    with pytest.raises(InputError, match="needs a row `average` and a column rgb"):
        action_share.results(table, "rgb")


def test_it_is_written(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docs" / "benchmarks").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert action_share.main([str(table), "--stream", "flow", "--write"]) == 0
    assert "| 25.0%, as it is | `gated` |" in action_share.PAGE.read_text()
    assert {one["row"] for one in json.loads(action_share.PAGE.with_suffix(".json").read_text())} == set(ROWS)
    assert action_share.PAGE.with_suffix(".svg").read_text().count("<svg") == 1
