import csv
import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from atw.config import RunsTableSettings, SplitsTableSettings, TableNetwork, paper
from atw.evaluate.result import mean_over_splits, read_result, write_summary
from atw.extras.tables.results import write_table
from atw.files import InputError, file_digest
from tests.unit.scored import result, scored, write_scores

SETTINGS: dict[str, Any] = {
    "recipe": 1,
    "table": 3,
    "dataset": "mine",
    "kind": "folder",
    "split": "split1",
    "seed": 0,
    "weights": {"rgb": 1.0, "flow": 2.0, "warped": 0.0},
    "on": "logits",
    "experiments": {row.experiment: row.experiment for row in paper.TABLES[3].rows} | {"table3-n4": ""},
}


def asked(changes: dict[str, Any] | None = None) -> RunsTableSettings:
    return RunsTableSettings.model_validate(SETTINGS | (changes or {}))


# Which videos each N is right about.
RIGHT = {n: list(range(12 - abs(4 - n))) for n in range(1, 9)}


def segments(folder: Path, **changes: Any) -> list[Path]:
    """Score files for Table 3."""
    paths = []
    for n, right in RIGHT.items():
        experiment = "" if n == 4 else f"table3-n{n}"
        paths.append(folder / f"n{n}" / "scores.h5")
        write_scores(paths[-1], scored(right, experiment=experiment, **changes))
    return paths


class Page(HTMLParser):
    """What a page shows, and what it would ask the network for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.asks: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.asks += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data.strip())


DATASET = "m_%&<script>"


@pytest.fixture(scope="module")
def table3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Table 3 of a dataset whose name no format may print as it is."""
    folder = tmp_path_factory.mktemp("table3")
    paths = segments(folder, dataset=DATASET, flat_attention=0.75)
    write_table(folder / "table3.json", paths[::-1], asked({"dataset": DATASET, "kind": "demo"}))
    return folder / "table3.json"


def test_table3_has_both_numbers_of_every_row(table3: Path) -> None:
    table = json.loads(table3.read_text())
    assert (table["format"], table["table"], table["dataset"], table["split"]) == (1, 3, DATASET, "split1")
    assert table["published_on"] == ["UCF-101", "HMDB-51"]
    assert [row["label"] for row in table["rows"]] == [f"N = {n}" for n in range(1, 9)]
    for n, row in enumerate(table["rows"], start=1):
        cell = row["cells"]["spatial"]
        assert (cell["ours"]["correct"], cell["ours"]["total"]) == (len(RIGHT[n]), 13)
        assert cell["ours"]["top1"] == pytest.approx(len(RIGHT[n]) / 13)
        if n == 4:
            assert (row["experiment"], cell["comparison"]) == (None, None)
        else:
            assert row["experiment"] == f"table3-n{n}"
            assert cell["comparison"]["with"] == "N = 4"
            assert cell["comparison"]["difference"] == pytest.approx(-abs(4 - n) / 13)
            assert cell["comparison"]["p_value"] == pytest.approx(min(1, 2 / 2 ** abs(4 - n)))
        assert (row["streams"]["rgb"]["seed"], row["streams"]["rgb"]["model_sha256"]) == (5, "f00d")
    assert table["rows"][4]["cells"]["spatial"]["published"] == {"UCF-101": 0.8529, "HMDB-51": 0.5333}
    assert table["provenance"]["scores"]["table3-n5"]["rgb"] == file_digest(table3.parent / "n5/scores.h5")
    assert table["provenance"]["settings"] == SETTINGS | {"dataset": DATASET, "kind": "demo"}


def test_a_table_says_what_it_cannot_show(table3: Path) -> None:
    notes = " ".join(json.loads(table3.read_text())["notes"])
    for said in (
        f"13 test videos of split1 of {DATASET}",
        "not what another training would",
        f"The paper's numbers are of UCF-101 and HMDB-51, ours of {DATASET}",
        "cannot be compared. The demo is eight rendered actions",
        "the paper's is BN-Inception from ImageNet weights, ours tiny from scratch",
        "Differences are against “N = 4”.",
        "0 of 7 have p < 0.05, where chance alone gives up to 0.4",
        "in most test videos of: N = 1 (rgb 75%), N = 2",
    ):
        assert said in notes


def test_on_the_papers_own_dataset_its_own_numbers_stand_alone(tmp_path: Path) -> None:
    write_table(tmp_path / "table3.json", segments(tmp_path, flat_attention=0.25), asked({"kind": "hmdb51"}))
    table = json.loads((tmp_path / "table3.json").read_text())
    assert table["published_on"] == ["HMDB-51"]
    assert not [note for note in table["notes"] if "cannot be compared" in note or "alike" in note]


def test_csv_and_page_hold_the_same_numbers(table3: Path) -> None:
    with table3.with_suffix(".csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [line["row"] for line in lines] == [f"N = {n}" for n in range(1, 9)]
    assert (lines[4]["published_UCF-101"], lines[4]["published_HMDB-51"]) == ("0.8529", "0.5333")
    assert float(lines[0]["top1"]) == pytest.approx(9 / 13)
    assert (lines[0]["compared_with"], lines[3]["compared_with"], lines[0]["p_value"]) == ("N = 4", "", "0.25")
    text = table3.with_suffix(".html").read_text(encoding="utf-8")
    page = Page(text)
    assert not page.open
    assert not page.asks
    assert "<script>" not in text
    for shown in ("85.29", "53.33", "84.6", "-23.1", "0.25", "N = 8", DATASET):
        assert shown in page.text, shown
    assert any("cannot be compared" in text for text in page.text)
    assert any("the printed best is N = 6" in text for text in page.text)


def test_latex_and_markdown_hold_the_same_numbers(table3: Path) -> None:
    latex = table3.with_suffix(".tex").read_text(encoding="utf-8")
    lines = [line.strip().removesuffix(r"\\") for line in latex.splitlines()]
    rows = [[cell.strip() for cell in line.split("&")] for line in lines if line.startswith("N =")]
    low, high = json.loads(table3.read_text())["rows"][0]["cells"]["spatial"]["ours"]["top1_ci95"]
    assert rows[0] == ["N = 1", "83.33", "50.07", f"69.2 [{100 * low:.1f}, {100 * high:.1f}]", r"$-$23.1 (0.25)"]
    assert [row[0] for row in rows] == [f"N = {n}" for n in range(1, 9)]
    assert rows[3][4] == "--"
    assert r"ours on m\_\%\&" in latex
    assert latex.count(r"\midrule") == 1
    assert [line for line in latex.splitlines() if line.startswith("%") and "cannot be compared" in line]
    markdown = table3.with_suffix(".md").read_text(encoding="utf-8").splitlines()
    shown = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown if line.startswith("| N =")]
    assert shown[0][:3] == rows[0][:3]
    assert shown[0][4] == "\N{MINUS SIGN}23.1 (0.25)"
    assert len(shown) == len(rows)
    assert any(line.startswith("- ") and "cannot be compared" in line for line in markdown)


def test_table1_fuses_two_streams_and_three(tmp_path: Path) -> None:
    names = {row.experiment: row.experiment for row in paper.TABLES[1].rows}
    # Weight 1 each: two of three streams are outvoted nowhere, so a video is right where the sum is.
    right = {"rgb": [0, 1, 2], "flow": [0, 1, 3], "warped": [0, 3, 2]}
    paths = []
    for experiment in names:
        for stream, numbers in right.items():
            given = [0] if experiment == "table1-max" else numbers
            paths.append(tmp_path / experiment / f"{stream}.h5")
            write_scores(paths[-1], scored(given, stream=stream, experiment=experiment))
    weights = {"rgb": 1.0, "flow": 1.0, "warped": 1.0}
    write_table(tmp_path / "t.json", paths, asked({"table": 1, "weights": weights, "experiments": names}))
    table = json.loads((tmp_path / "t.json").read_text())
    rows = {row["label"]: row["cells"] for row in table["rows"]}
    assert list(rows) == ["max", "average", "weighted average", "attention"]
    correct = {name: cell["ours"]["correct"] for name, cell in rows["attention"].items()}
    # A tie of two streams goes to the first class: video 2 is of it, video 3 is not.
    assert correct == {"spatial": 3, "temporal": 3, "two-stream": 3, "three-stream": 4}
    assert rows["max"]["three-stream"]["comparison"]["only_first"] == 3
    assert rows["weighted average"]["spatial"]["published"] == {}
    assert rows["average"]["temporal"]["published"] == {"UCF-101": 0.879}
    two = asked({"table": 1, "weights": weights | {"warped": 0.0}, "experiments": names})
    write_table(tmp_path / "two.json", paths, two)
    columns = [column["name"] for column in json.loads((tmp_path / "two.json").read_text())["columns"]]
    assert columns == ["spatial", "temporal", "two-stream"]


def test_table2_compares_within_its_groups(tmp_path: Path) -> None:
    names = {row.experiment: row.experiment for row in paper.TABLES[2].rows} | {"table2-relu": "table2-gaussian"}
    paths = []
    for experiment in dict.fromkeys(names.values()):
        paths.append(tmp_path / f"{experiment}.h5")
        write_scores(paths[-1], scored([1], experiment=experiment))
    write_table(tmp_path / "t.json", paths, asked({"table": 2, "experiments": names}))
    rows = json.loads((tmp_path / "t.json").read_text())["rows"]
    against = {row["label"]: (row["cells"]["spatial"]["comparison"] or {}).get("with") for row in rows}
    assert against == {
        "weight = 1/N": "random Gaussian",
        "weight = 1": "random Gaussian",
        "random Gaussian": None,
        "tanh": "relu",
        "sigmoid": "relu",
        "relu": None,
    }
    assert "against “random Gaussian” or “relu”" in (tmp_path / "t.html").read_text()
    shown = Page((tmp_path / "t.html").read_text()).text
    assert shown.count("initialisation") == shown.count("activation") == 1
    latex = (tmp_path / "t.tex").read_text().partition("toprule")[2]
    assert latex.count("initialisation") == latex.count("activation") == 1
    # Below the headings, and between the two groups.
    assert latex.count(r"\midrule") == 2


def test_table4_has_every_published_row_and_the_summary(tmp_path: Path) -> None:
    fused = [
        result(tmp_path / split, [0], right, split=split) for split, right in (("split1", [0, 1]), ("split2", [0]))
    ]
    write_summary(tmp_path / "summary.json", fused)
    networks = {"rgb": TableNetwork(backbone="resnet50", weights="weights/resnet50.pth")}
    settings = SplitsTableSettings(recipe=1, table=4, dataset="mine", kind="ucf101", networks=networks)
    write_table(tmp_path / "t.json", [tmp_path / "summary.json"], settings)
    table = json.loads((tmp_path / "t.json").read_text())
    assert len(table["rows"]) == 15
    ours = [row for row in table["rows"] if row["cells"]["fused"]["ours"]]
    assert [row["label"] for row in ours] == ["Proposed ATW"]
    summary = mean_over_splits([read_result(path) for path in fused])
    assert ours[0]["cells"]["fused"]["ours"] == {
        "top1": pytest.approx(1.5 / 13),
        "top1_std": pytest.approx(math.sqrt(0.5) / 13),
        "top1_ci95": list(summary.pooled.top1_ci95),
        "pooled_top1": pytest.approx(3 / 26),
    }
    assert "mean over 2 splits" in table["notes"][0]
    shown = Page((tmp_path / "t.html").read_text()).text
    assert {"94.6", "TSN [12]", "93.4", "11.5", "± 5.4"} <= set(shown)
    assert r"& 11.5 $\pm$ 5.4 [" in (tmp_path / "t.tex").read_text()
    assert "| 11.5 ± 5.4 [" in (tmp_path / "t.md").read_text()
    with pytest.raises(InputError, match="is of dataset mine, experiment None, but the table is of theirs"):
        write_table(tmp_path / "t.json", [tmp_path / "summary.json"], settings.model_copy(update={"dataset": "theirs"}))
    with pytest.raises(InputError, match=r"is not a summary\.json of format 2"):
        write_table(tmp_path / "t.json", [fused[0]], settings)
    damaged = summary.to_dict()
    damaged["accuracy"]["top1"]["mean"] = None
    (tmp_path / "summary.json").write_text(json.dumps(damaged))
    with pytest.raises(InputError, match="has no mean accuracy"):
        write_table(tmp_path / "t.json", [tmp_path / "summary.json"], settings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "theirs"}, r"n1/scores\.h5 has scores of dataset mine, but the table is of theirs"),
        ({"split": "split2"}, r"n1/scores\.h5 has scores of split split1, but the table is of split2"),
        (
            {"experiments": SETTINGS["experiments"] | {"table3-n2": "mean"}},
            "the row N = 2 needs scores of rgb, experiment 'mean'",
        ),
    ],
)
def test_a_table_refuses_the_wrong_files(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    paths = segments(tmp_path)
    with pytest.raises(InputError, match=message):
        write_table(tmp_path / "table3.json", paths, asked(changes))
    assert not list(tmp_path.glob("table3.*"))


def test_a_table_refuses_rows_of_other_videos(tmp_path: Path) -> None:
    paths = segments(tmp_path)
    write_scores(paths[6], scored([0], experiment="table3-n7", quarantined=[]))
    with pytest.raises(InputError, match="split1 lost is a video of jump in the first and not listed"):
        write_table(tmp_path / "table3.json", paths, asked())
