"""The tables of the paper as targets: what they would run, and the rule itself on score files made by hand."""

import json
from pathlib import Path

import pytest

from tests.rules.conftest import CONFIG, MOTION, Workplace
from tests.unit.scored import scored, write_scores


@pytest.fixture
def listed(tmp_path: Path) -> Workplace:
    """A dataset whose videos are never decoded."""
    place = Workplace(tmp_path)
    rows = [(f"{label}/{subset}.avi", label, subset) for label in MOTION for subset in ("train", "test")]
    for name, _, _ in rows:
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no video")
    place.write_list(rows)
    place.write_config(CONFIG)
    return place


def test_tables_run_what_they_need_and_nothing_twice(listed: Workplace) -> None:
    jobs = {number: listed.jobs(f"results/tiny/tables/table{number}.json") for number in (1, 2, 3, 4)}
    shards = jobs[3].pop("frames")
    assert 1 <= shards <= 2  # of two videos a class, by their names
    # N = 2 is the plain result of this dataset: eight trainings for eight rows, of rgb alone.
    assert jobs[3] == {"audit": 1, "train": 8, "score": 8, "table": 1}
    # Six rows; the relu of the one half is the Gaussian of the other.
    assert (jobs[2]["train"], jobs[2]["score"], "flow" in jobs[2]) == (5, 5, False)
    assert (jobs[1]["train"], jobs[1]["warped"]) == (12, shards)
    assert (jobs[4]["train"], jobs[4]["summary"], jobs[4]["table"]) == (3, 1, 1)
    # Table 1's average of N = 4 and Table 3's N = 4 are trained once for both.
    both = listed.jobs("results/tiny/tables/table1.json", "results/tiny/tables/table3.json")
    assert both["train"] == 12 + 8 - 1


def test_the_rule_writes_a_table_that_stays_until_it_changes(listed: Workplace) -> None:
    for n in range(1, 9):
        run = "tiny" if n == 2 else f"tiny/experiments/table3-n{n}"
        if n == 4:
            run = "tiny/experiments/table1-attention"
        scores = scored([n], dataset="tiny", experiment=run.partition("/experiments/")[2])
        path = listed.folder / "results" / run / "split1" / "rgb" / "scores.h5"
        write_scores(path, scores)
    (listed.folder / "results/tiny/split1/quarantine.csv").write_text("")
    target = "results/tiny/tables/table3.json"
    listed.snakemake("--allowed-rules", "table", "--", target)
    table = json.loads((listed.folder / target).read_text(encoding="utf-8"))
    assert [row["experiment"] for row in table["rows"][:5]] == [
        "table3-n1",
        None,
        "table3-n3",
        "table1-attention",
        "table3-n5",
    ]
    for ending in (".csv", ".html", ".tex", ".md"):
        assert (listed.folder / target).with_suffix(ending).stat().st_size > 1000
    assert listed.jobs("--allowed-rules", "table", "--", target) == {}
    listed.write_config(CONFIG | {"seed": 4})
    assert listed.jobs("--allowed-rules", "table", "--", target) == {"table": 1}
