"""The table of consensus functions over seeds and splits: what it asks for, and its numbers by hand."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest, entropy

from atw import config
from atw.config import ConsensusTableSettings
from atw.data.actions import Actions
from atw.evaluate.compare import compare_repeated
from atw.extras.tables.consensus_table import write_consensus_table
from atw.files import InputError
from atw.plan import Plan
from tests.unit.scored import VIDEOS, scored, table_settings, write_scores

DEMO = {"kind": "demo", "model": {"backbone": "tiny", "weights": None}, "fusion": {"weights": {"rgb": 1, "flow": 1}}}
NAMES = ("average", "max", "gated")
RIGHT = {  # numbers of the videos that a training of rgb is right about, by row, seed and split
    ("average", 0, "split1"): [0, 1, 2, 3],
    ("average", 0, "split2"): [0, 1],
    ("average", 1, "split1"): [0, 1, 2],
    ("average", 1, "split2"): [0],
    ("max", 0, "split1"): [5],
    ("max", 0, "split2"): [],
    ("max", 1, "split1"): [],
    ("max", 1, "split2"): [],
    ("gated", 0, "split1"): [0, 1, 2, 3, 4, 5],
    ("gated", 0, "split2"): [1, 2, 3],
    ("gated", 1, "split1"): [0, 1, 2, 3, 4],
    ("gated", 1, "split2"): [0, 1, 2],
}
LISTED = len(VIDEOS) + 1  # one could not be decoded


def plan(**table: Any) -> Plan:
    raw = {"datasets": {"mine": DEMO}, "experiments": {"mean": {"model": {"consensus": "average"}}}, "seed": 4}
    return Plan({**raw, "consensus_table": table})


def settings(**changes: Any) -> ConsensusTableSettings:
    weights = {"rgb": 1.0, "flow": 1.0, "warped": 0.0}
    return table_settings(**{"rows": NAMES, "weights": weights, "against": ["average", "max"]} | changes)


ACTIONS = Actions.of([(len(VIDEOS) - 1, 0, 0.0, 1.0)])  # of a video whose attention is not flat
SECONDS = np.tile(np.array([[0, 1], [1, 2], [2, 3.0]]), (len(VIDEOS), 1, 1))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Scores in which flow knows nothing: it is right about the videos that rgb is right about, and no other."""
    paths = []
    for (name, seed, split), right in RIGHT.items():
        experiment = f"{name}+seed{seed}" if seed else name
        for stream in ("rgb", "flow"):
            path = tmp_path / experiment / split / stream / "scores.h5"
            half_flat = {"flat_attention": 0.5, "actions": ACTIONS, "seconds": SECONDS} if seed else {}
            scores = scored(right, stream=stream, split=split, experiment=experiment, **half_flat)
            average = scored(RIGHT["average", seed, split]).video_logits
            # The mean of the snippets is right where `average` is; the first snippet alone never is.
            snippets = np.stack([-average, 2 * average, 2 * average], axis=1)[:, None]
            write_scores(path, scores, snippets)
            paths.append(path)
    return paths


def test_the_table_asks_for_each_row_seed_split_and_stream_and_reuses_what_is_there() -> None:
    asked = plan(rows=NAMES, seeds=2, splits=2).consensus_table_inputs("mine")
    others = [
        "consensus-average+seed1",
        "table1-max",
        "consensus-max+seed1",
        "consensus-gated",
        "consensus-gated+seed1",
    ]
    runs = ["mean", *others]  # table1-max is the same training as consensus-max
    assert asked == [
        f"results/mine/experiments/{run}/{split}/{stream}/scores.h5"
        for run, split, stream in itertools.product(runs, ("split1", "split2"), ("rgb", "flow"))
    ]
    audits = [f"results/mine/split{number}/quarantine.csv" for number in (1, 2, 3)]
    assert plan().consensus_table_audits("mine") == audits
    by_default = plan().consensus_table_settings("mine")
    assert len(by_default.rows) == 8
    assert by_default.rows["attention"] == ("", "consensus-attention+seed1", "consensus-attention+seed2")
    assert ConsensusTableSettings.from_json(by_default.to_json()) == by_default


def test_a_repetition_is_the_experiment_with_another_seed() -> None:
    one, other = (plan().train_settings(f"mine/experiments/{name}", "split1", "rgb") for name in ("mean", "mean+seed3"))
    assert (one.seed, other.seed) == (4, 7)
    assert other.model_copy(update={"seed": 4}) == one
    assert plan().score_settings("mine/experiments/mean+seed3", "split1", "rgb").experiment == "mean+seed3"


@pytest.mark.parametrize("name", ["mean+seed0", "mean+seed", "mean+seed01", "mean+seed1.5", "mean+seed-1"])
def test_a_repetition_has_a_number(name: str) -> None:
    with pytest.raises(InputError, match=r"after \+seed comes a number from 1 on, as in mean\+seed1"):
        plan().train_settings(f"mine/experiments/{name}", "split1", "rgb")


def test_an_unknown_experiment_cannot_be_repeated() -> None:
    with pytest.raises(InputError, match=r"experiment 'mode' is not in config\.yaml"):
        plan().train_settings("mine/experiments/mode+seed1", "split1", "rgb")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"rows": ["average", "gated"], "against": ["max"]}, "against names max, which is not among the rows"),
        ({"rows": ["max", "average", "max"]}, "rows name a consensus twice"),
        ({"seeds": 0}, "consensus_table.seeds"),
        ({"rows": ["sum"]}, "consensus_table.rows"),
    ],
)
def test_impossible_tables_are_refused(table: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        config.load({"datasets": {"mine": DEMO}, "consensus_table": table})


def test_rows_are_compared_with_those_of_the_default_that_are_there() -> None:
    table = config.load({"datasets": {"mine": DEMO}, "consensus_table": {"rows": ["average", "gated"]}}).consensus_table
    assert table.against == ("average",)


def right_of(name: str) -> np.ndarray:
    """By seed and listed video of both splits, in any order that is the same for all: bool [2, V]."""
    rows = [
        np.concatenate(
            [
                np.append(np.isin(np.arange(len(VIDEOS)), RIGHT[name, seed, split]), False)
                for split in ("split1", "split2")
            ]
        )
        for seed in (0, 1)
    ]
    return np.array(rows)


def test_numbers_by_hand(tmp_path: Path, files: list[Path]) -> None:
    write_consensus_table(tmp_path / "consensus.json", files, settings())
    table = json.loads((tmp_path / "consensus.json").read_text())
    assert (table["columns"], table["seeds"], table["splits"]) == (
        ["rgb", "flow", "fused"],
        [5, 6],
        ["split1", "split2"],
    )
    assert [row["consensus"] for row in table["rows"]] == list(NAMES)
    # The first seed's weights are all equal, half of the second's are .5, .25, .25; the first has the action.
    found = (pytest.approx((3 + entropy([0.5, 0.25, 0.25], base=3)) / 4), 1)
    for row in table["rows"]:
        own = right_of(row["consensus"])
        for cell in row["cells"].values():
            assert cell["top1"] == pytest.approx(own.mean())
            assert cell["top1_std"] == pytest.approx(np.std(own.mean(axis=1), ddof=1))
            of_stream = (*found, pytest.approx(right_of("average").mean()))
            own_alone = tuple(cell.get(key) for key in ("entropy", "auc", "top1_averaged"))
            assert own_alone == ((None, None, None) if cell is row["cells"]["fused"] else of_stream)
            assert cell["top1_ci95"][0] <= cell["top1"] <= cell["top1_ci95"][1]
            assert list(cell["differences"]) == [name for name in ("average", "max") if name != row["consensus"]]
            for name, test in cell["differences"].items():
                other = right_of(name)
                assert test["videos"] == 2 * LISTED
                assert test["difference"] == pytest.approx(own.mean() - other.mean())
                alone = int((other & ~own).sum()), int((own & ~other).sum())
                assert (test["only_first"], test["only_second"]) == alone
                assert test["p_value"] == pytest.approx(binomtest(alone[0], sum(alone)).pvalue)
    shown = (tmp_path / "consensus.md").read_text()
    own = right_of("gated")
    line = next(line for line in shown.splitlines() if "gated" in line)
    assert line.split("|")[3].strip() == f"{100 * own.mean():.1f} ± {100 * np.std(own.mean(axis=1), ddof=1):.1f}"
    averaged = f"{100 * right_of('average').mean():.1f}"
    assert [cell.strip() for cell in line.split("|")[4:7]] == ["0.99", "1.00", averaged]
    assert "believe the interval" in shown
    assert len(table["provenance"]["scores"]) == len(files)


def test_the_interval_resamples_videos_with_all_their_outcomes() -> None:
    """With the same outcomes in each repetition, R of them say no more than one; McNemar's count does grow."""
    one, other = ({("split1", f"{n}"): ("a", n % k == 0) for n in range(40)} for k in (3, 2))
    single, repeated = (compare_repeated([one] * R, [other] * R, seed=0) for R in (1, 4))
    assert repeated.difference_ci95 == pytest.approx(single.difference_ci95)
    assert repeated.only_second == 4 * single.only_second


def test_one_seed_has_no_spread_and_one_stream_no_fusion(tmp_path: Path, files: list[Path]) -> None:
    given = settings(rows={name: [name] for name in NAMES}, weights={"rgb": 1.0, "flow": 0.0, "warped": 0.0})
    write_consensus_table(tmp_path / "consensus.json", files, given)
    table = json.loads((tmp_path / "consensus.json").read_text())
    assert table["columns"] == ["rgb"]
    assert [row["cells"]["rgb"]["top1_std"] for row in table["rows"]] == [None] * 3
    assert "±" not in (tmp_path / "consensus.md").read_text()


def test_scores_that_are_missing_or_of_another_dataset_are_named(tmp_path: Path, files: list[Path]) -> None:
    out = tmp_path / "consensus.json"
    with pytest.raises(InputError, match=r"scores of flow, split2, experiment 'gated\+seed1'"):
        write_consensus_table(out, files[:-1], settings())
    with pytest.raises(InputError, match="has scores of mine, the table is of other; leave it out"):
        write_consensus_table(out, files, settings(dataset="other"))
    assert not out.exists()
    assert not out.with_suffix(".md").exists()
