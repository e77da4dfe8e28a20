import csv
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from atw import config, paper
from atw.evaluate.compare import compare, compare_results, outcomes, print_comparison
from atw.evaluate.fuse import mean_over_splits
from atw.evaluate.result import read_result, write_result, write_summary
from atw.evaluate.scores import Scores, write_scores
from atw.evaluate.tables import write_table
from atw.files import InputError, file_digest
from atw.plan import Plan

REPOSITORY = Path(__file__).parents[2]
CLASSES = ("run", "jump")
VIDEOS = tuple(f"video {number}" for number in range(12))
LABELS = np.array([0, 1] * 6)


def scored(
    right: list[int], *, stream: str = "rgb", experiment: str = "", split: str = "split1", **other: Any
) -> Scores:
    """Scores that are right about the videos of these numbers, by a margin of 1."""
    is_right = np.isin(np.arange(len(VIDEOS)), right)
    logits = np.where(is_right, LABELS, 1 - LABELS)[:, None] == np.arange(2)  # [V, 2]
    V, crops, M = len(VIDEOS), 1, 3
    provenance = {
        "settings": {"train": {"model": {"backbone": "tiny", "consensus": "attention"}}, "score": {"stream": stream}},
        "train_videos": 9,
        "train_quarantined": [],
        "flat_attention": other.pop("flat_attention", 0.0),
        "model": {"sha256": "f00d", "weights": None},
        "seed": 5,
    }
    arguments: dict[str, Any] = {
        "stream": stream,
        "dataset": "mine",
        "split": split,
        "experiment": experiment,
        "classes": CLASSES,
        "videos": VIDEOS,
        "labels": LABELS,
        "video_logits": logits.astype(np.float32),
        "snippet_logits": np.zeros((V, crops, M, 2), np.float32),
        "attention": np.full((V, crops, M), 1 / M, np.float32),
        "attention_logits": np.zeros((V, crops, M), np.float32),
        "positions": np.zeros((V, M), np.int32),
        "quarantined": [("lost", 1, "empty file")],
        "provenance": provenance,
    }
    return Scores(**arguments | other)


# Comparison


def test_mcnemar_by_hand() -> None:
    # The first alone is right about 1 to 6, the second alone about 7; both about 0, neither about the rest.
    first, second = scored([0, 1, 2, 3, 4, 5, 6]), scored([0, 7])
    said = compare(outcomes(first.video_logits, first), outcomes(second.video_logits, second), seed=0)
    assert (said["videos"], said["only_first"], said["only_second"]) == (13, 6, 1)
    assert said["accuracy"] == [pytest.approx(7 / 13), pytest.approx(2 / 13)]
    assert said["difference"] == pytest.approx(-5 / 13)
    # Two-sided, 7 tosses of a coin: 2 (C(7,0) + C(7,1)) / 2^7
    assert said["p_value"] == pytest.approx(2 * (1 + 7) / 2**7)
    low, high = said["difference_ci95"]
    assert -0.9 < low < -5 / 13 < high < 0.1


def test_a_quarantined_video_is_wrong_in_both() -> None:
    first = scored([0, 1], quarantined=[(f"lost {number}", 0, "empty") for number in range(8)])
    said = compare(outcomes(first.video_logits, first), outcomes(first.video_logits, first), seed=0)
    assert said["accuracy"] == [0.1, 0.1]
    assert (said["p_value"], said["difference"], said["difference_ci95"]) == (1.0, 0.0, [0.0, 0.0])


def test_the_interval_of_a_difference_is_paired() -> None:
    # Two results that agree but for 40 of 400 videos: unpaired, the interval would be three times as wide.
    first = {("split1", str(i)): ("run", i < 200) for i in range(400)}
    second = {("split1", str(i)): ("run", i < 230 and i >= 10) for i in range(400)}
    said = compare(first, second, seed=1)
    deviation = math.sqrt((40 / 400 - (20 / 400) ** 2) / 400)
    expected = 20 / 400 + deviation * stats.norm.ppf([0.025, 0.975])
    np.testing.assert_allclose(said["difference_ci95"], expected, atol=0.003)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quarantined": []}, "split1 lost is a video of jump in the first and not listed in the second"),
        ({"labels": np.array([1, 1] * 6)}, "split1 video 0 is a video of run in the first and a video of jump"),
        ({"split": "split2"}, "split1 lost is a video of jump in the first and not listed"),
    ],
)
def test_results_on_other_videos_are_not_compared(changes: dict[str, Any], message: str) -> None:
    first, second = scored([0]), scored([0], **changes)
    with pytest.raises(InputError, match=message):
        compare(outcomes(first.video_logits, first), outcomes(second.video_logits, second), seed=0)


FUSE = {"recipe": 2, "weights": {"rgb": 1.0, "flow": 2.0, "warped": 0.0}, "on": "logits", "seed": 3}


def result(folder: Path, rgb: list[int], flow: list[int], **names: Any) -> Path:
    """A fused.json with its score files; flow, of twice the weight, decides."""
    for stream, right in (("rgb", rgb), ("flow", flow)):
        write_scores(folder / stream / "scores.h5", scored(right, stream=stream, **names))
    write_result(folder / "fused.json", [folder / stream / "scores.h5" for stream in ("rgb", "flow")], FUSE)
    return folder / "fused.json"


def test_results_are_compared_by_their_score_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = result(tmp_path / "a", [0, 1], [0, 1, 2, 3])
    second = result(tmp_path / "b", [0, 1], [0, 9], experiment="average")
    said = compare_results(first, second.parent)  # the folder means its fused.json
    assert (said["dataset"], said["first"], said["second"], said["splits"]) == ("mine", None, "average", ["split1"])
    assert list(said["results"]) == ["rgb", "flow", "fused"]
    assert said["results"]["rgb"]["p_value"] == 1
    assert (said["results"]["fused"]["only_first"], said["results"]["fused"]["only_second"]) == (3, 1)
    assert said["results"]["fused"]["p_value"] == pytest.approx(2 * (1 + 4) / 2**4)
    print_comparison(said)
    printed = capsys.readouterr().out
    assert "average" in printed
    assert "0.625" in printed


def test_splits_are_compared_together(tmp_path: Path) -> None:
    for split in ("split1", "split2"):
        result(tmp_path / "a" / split, [0], [0, 1], split=split)
        result(tmp_path / "b" / split, [0], [0, 2, 3], split=split, experiment="b")
    said = compare_results(tmp_path / "a", tmp_path / "b")
    assert said["splits"] == ["split1", "split2"]
    fused = said["results"]["fused"]
    assert (fused["videos"], fused["only_first"], fused["only_second"]) == (26, 2, 4)


def test_a_comparison_refuses_what_does_not_belong_together(tmp_path: Path) -> None:
    first = result(tmp_path / "a", [0], [0])
    with pytest.raises(InputError, match=r"is of dataset mine and .* of theirs"):
        compare_results(first, result(tmp_path / "b", [0], [0], dataset="theirs"))
    with pytest.raises(InputError, match=r"holds no fused\.json"):
        compare_results(first, tmp_path / "a" / "rgb")
    write_scores(tmp_path / "a" / "rgb" / "scores.h5", scored([0, 1]))
    with pytest.raises(InputError, match=r"was not made from the score files beside it: they differ in rgb"):
        compare_results(first, first)


def test_the_command_compares(tmp_path: Path) -> None:
    first, second = result(tmp_path / "a", [0], [0]), result(tmp_path / "b", [0], [1, 2], experiment="b")
    command = [sys.executable, "-m", "atw", "compare", str(first), str(second)]
    said = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=True).stdout)
    assert said["results"]["fused"]["difference"] == pytest.approx(1 / 13)
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.search(r"fused +│ 0\.077 │ 0\.154 │ +\+0\.077 │ -0\.\d+ to \+0\.\d+ │ 1 : 2 │ 1 ", printed)


# What the paper prints


def test_published_numbers() -> None:
    spatial = {
        number: {row.experiment.partition("-")[2]: row.published.get("spatial", {}) for row in table.rows}
        for number, table in paper.TABLES.items()
    }
    assert spatial[1] == {
        "max": {"UCF-101": 85.0},
        "average": {"UCF-101": 85.0},
        "weighted": {},
        "attention": {"UCF-101": 86.7},
    }
    assert [row.published["temporal"]["UCF-101"] for row in paper.TABLES[1].rows if row.published] == [86.0, 87.9, 88.3]
    for fused in ("two-stream", "three-stream"):
        assert [row.published[fused]["UCF-101"] for row in paper.TABLES[1].rows if row.published] == [91.6, 94.4, 94.6]
    assert [given["UCF-101"] for given in spatial[2].values()] == [84.44, 85.17, 85.80, 84.91, 85.29, 85.80]
    assert {name: tuple(given.values()) for name, given in spatial[3].items()} == {
        "n1": (83.33, 50.07),
        "n2": (83.89, 53.33),
        "n3": (84.80, 53.01),
        "n4": (85.80, 53.88),
        "n5": (85.29, 53.33),
        "n6": (85.21, 55.36),
        "n7": (85.04, 53.20),
        "n8": (85.55, 53.14),
    }
    hmdb = [cited.published["HMDB-51"] for cited in paper.TABLE4 if "HMDB-51" in cited.published]
    assert hmdb == [55.9, 57.2, 61.1, 61.7, 59.4, 63.7, 65.5, 59.1, 63.2, 64.8, 63.3, 69.4, 70.5]
    ucf = [cited.published["UCF-101"] for cited in paper.TABLE4 if "UCF-101" in cited.published]
    assert ucf == [83.5, 85.9, 87.9, 88.3, 88.0, 85.2, 88.6, 88.1, 90.3, 91.7, 93.1, 93.4, 94.6]


# Experiments

FOLDER = {"kind": "folder", "root": "videos", "lists": "split{split}.csv"}
TINY = {**FOLDER, "model": {"backbone": "tiny", "weights": None}}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    rows = [(f"{label}/{subset}.avi", label, subset) for label in CLASSES for subset in ("train", "test")]
    for path, _, _ in rows:
        (tmp_path / "videos" / path).parent.mkdir(exist_ok=True)
        (tmp_path / "videos" / path).touch()
    (tmp_path / "split1.csv").write_text("path,label,subset\n" + "".join(",".join(row) + "\n" for row in rows))
    return tmp_path


def plan(**changes: Any) -> Plan:
    return Plan({"datasets": {"mine": TINY}, **changes})


def scores_of(experiment: str, *streams: str) -> list[str]:
    run = f"mine/experiments/{experiment}" if experiment else "mine"
    return [f"results/{run}/split1/{stream}/scores.h5" for stream in streams]


def test_a_table_asks_for_what_it_needs_and_no_more(place: Path) -> None:
    every = ("rgb", "flow", "warped")
    assert plan().table_inputs("mine", "1") == [
        *scores_of("table1-max", *every),
        *scores_of("table1-average", *every),
        *scores_of("table1-weighted", *every),
        *scores_of("", *every),
    ]
    assert plan().table_inputs("mine", "3") == [
        path for n in range(1, 9) for path in scores_of("" if n == 4 else f"table3-n{n}", "rgb")
    ]
    assert plan().table_inputs("mine", "4") == ["results/mine/summary.json"]


def test_a_fusion_without_a_stream_has_no_column_with_it(place: Path) -> None:
    two = plan(fusion={"weights": {"rgb": 1.0, "flow": 1.0}})
    assert two.table_inputs("mine", "1")[-2:] == scores_of("", "rgb", "flow")
    one = plan(fusion={"weights": {"rgb": 1.0}})
    assert one.table_inputs("mine", "1")[-1:] == scores_of("", "rgb")
    assert not [path for path in one.table_inputs("mine", "1") if "flow" in path]  # it is not trained
    none = plan(fusion={"weights": {"flow": 1.0}})
    with pytest.raises(InputError, match=r"table2 is of a stream without weight in mine: give it one"):
        none.table_inputs("mine", "2")


def test_what_gives_the_same_scores_is_trained_once(place: Path) -> None:
    given = plan(experiments={"mean": {"model": {"consensus": "average"}}, "other": {"train": {"batch": 3}}})
    assert given.table_settings("mine", "1")["experiments"] == {
        "table1-max": "table1-max",
        "table1-average": "mean",
        "table1-weighted": "table1-weighted",
        "table1-attention": "",
    }
    # Other test snippets, or another training of one stream, are other scores.
    average = {"consensus": "average"}
    near = {"less": {"model": average, "evaluate": {"snippets": 25}}}
    near["flow"] = {"model": average, "streams": {"flow": {"train": {"batch": 3}}}}
    assert plan(experiments=near).table_settings("mine", "1")["experiments"]["table1-average"] == "table1-average"
    # The row of the activation and that of the initialisation are one network: the Gaussian's.
    ones = plan(model={"attention_init": "ones"})
    experiments = ones.table_settings("mine", "2")["experiments"]
    assert experiments["table2-ones"] == ""
    assert experiments["table2-relu"] == experiments["table2-gaussian"] == "table2-gaussian"


def test_experiments_differ_in_what_their_rows_say() -> None:
    given = config.load({"datasets": {"mine": TINY}})
    for name, overrides in paper.EXPERIMENTS.items():
        settings = config.effective(given, "mine", "flow", name)
        for section, keys in overrides.items():
            for key, value in keys.items():
                assert getattr(getattr(settings, section), key) == value, name
    assert [config.effective(given, "mine", "rgb", f"table3-n{n}").sampling.segments for n in (1, 8)] == [1, 8]


def test_the_backbone_of_a_table_gives_way_to_that_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(paper.BACKBONES, "table3-n5", "resnet18")
    given = config.load({"datasets": {"mine": FOLDER, "own": TINY}})
    backbones = [config.effective(given, name, "rgb", "table3-n5").model.backbone for name in ("mine", "own")]
    assert backbones == ["resnet18", "tiny"]
    assert config.effective(given, "mine", "rgb").model.backbone == "resnet50"


def test_the_papers_tables_have_the_papers_backbones() -> None:
    loaded = config.load(yaml.safe_load((REPOSITORY / "config.yaml").read_text(encoding="utf-8")))
    found = {config.effective(loaded, "ucf101", "rgb", name).model.backbone for name in paper.EXPERIMENTS}
    assert found == {"bninception"}
    assert config.effective(loaded, "ucf101", "rgb").model.backbone == "resnet50"  # Table 4
    assert config.effective(loaded, "demo", "rgb", "table1-max").model.backbone == "tiny"


def test_a_table_whose_settings_do_not_fit_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    # The configuration is valid; only the backbone that the table brings is not.
    monkeypatch.setitem(paper.BACKBONES, "table3-n5", "none such")
    given = config.load({"datasets": {"mine": FOLDER}})
    with pytest.raises(InputError, match="dataset mine, stream rgb, experiment table3-n5: "):
        config.effective(given, "mine", "rgb", "table3-n5")


def test_a_tables_experiment_cannot_be_redefined() -> None:
    with pytest.raises(InputError, match=r"table3-n5 is an experiment of the paper's tables.*another name"):
        config.load({"datasets": {"mine": FOLDER}, "experiments": {"table3-n5": {}}})


def test_wrong_inputs_are_refused_at_the_table(place: Path) -> None:
    lacking = Plan({"datasets": {"mine": {**FOLDER, "model": {"backbone": "tiny", "weights": "nowhere.pth"}}}})
    with pytest.raises(InputError, match=r"weights file nowhere\.pth does not exist"):
        lacking.table_inputs("mine", "3")
    with pytest.raises(InputError, match=r"'theirs' is not in config\.yaml"):
        plan().table_inputs("theirs", "1")


@pytest.mark.parametrize(
    ("number", "path", "value", "changes"),
    [
        ("1", "fusion", {"add": "probabilities"}, True),
        ("1", "train", {"batch": 3}, False),  # the score files change
        ("3", "seed", 2, True),
        ("4", "fusion", {"add": "probabilities"}, False),  # the summary changes
        ("4", "datasets", {"mine": {**TINY, "model": {"backbone": "resnet18", "weights": None}}}, True),
    ],
)
def test_a_table_depends_on_what_it_says(place: Path, number: str, path: str, value: Any, changes: bool) -> None:
    before, after = plan().table_settings("mine", number), plan(**{path: value}).table_settings("mine", number)
    assert (before != after) == changes


# Tables as files

SETTINGS = {
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


def test_table3_has_both_numbers_of_every_row(tmp_path: Path) -> None:
    paths = segments(tmp_path)
    write_table(tmp_path / "table3.json", paths[::-1], SETTINGS)
    table = json.loads((tmp_path / "table3.json").read_text())
    assert (table["format"], table["table"], table["dataset"], table["split"]) == (1, 3, "mine", "split1")
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
    assert table["provenance"]["scores"]["table3-n5"]["rgb"] == file_digest(paths[4])
    assert table["provenance"]["settings"] == SETTINGS


def test_a_table_says_what_it_cannot_show(tmp_path: Path) -> None:
    paths = segments(tmp_path, flat_attention=0.75)
    write_table(tmp_path / "table3.json", paths, SETTINGS | {"kind": "demo"})
    notes = " ".join(json.loads((tmp_path / "table3.json").read_text())["notes"])
    assert "13 test videos of split1 of mine" in notes
    assert "not what another training would" in notes
    assert "The paper's numbers are of UCF-101 and HMDB-51, ours of mine" in notes
    assert "cannot be compared. The demo is eight rendered actions" in notes
    assert "the paper's is BN-Inception from ImageNet weights, ours tiny from scratch" in notes
    assert "Differences are against “N = 4”." in notes
    assert "0 of 7 have p < 0.05, where chance alone gives up to 0.4" in notes
    assert "in most test videos of: N = 1 (rgb 75%), N = 2" in notes


def test_on_the_papers_own_dataset_its_own_numbers_stand_alone(tmp_path: Path) -> None:
    write_table(tmp_path / "table3.json", segments(tmp_path), SETTINGS | {"kind": "hmdb51"})
    table = json.loads((tmp_path / "table3.json").read_text())
    assert table["published_on"] == ["HMDB-51"]
    assert "cannot be compared" not in " ".join(table["notes"])


def test_csv_and_page_hold_the_same_numbers(tmp_path: Path) -> None:
    write_table(tmp_path / "table3.json", segments(tmp_path), SETTINGS)
    with (tmp_path / "table3.csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [line["row"] for line in lines] == [f"N = {n}" for n in range(1, 9)]
    assert (lines[4]["published_UCF-101"], lines[4]["published_HMDB-51"]) == ("0.8529", "0.5333")
    assert float(lines[0]["top1"]) == pytest.approx(9 / 13)
    assert (lines[0]["compared_with"], lines[3]["compared_with"], lines[0]["p_value"]) == ("N = 4", "", "0.25")
    page = Page((tmp_path / "table3.html").read_text(encoding="utf-8"))
    assert not page.open
    assert not page.asks
    for shown in ("85.29", "53.33", "84.6", "-23.1", "0.25", "N = 8"):
        assert shown in page.text, shown
    assert any("cannot be compared" in text for text in page.text)
    assert any("the printed best is N = 6" in text for text in page.text)


def test_the_page_quotes_what_it_is_given(tmp_path: Path) -> None:
    paths = segments(tmp_path, dataset="<script>alert(1)</script>")
    write_table(tmp_path / "t.json", paths, SETTINGS | {"dataset": "<script>alert(1)</script>"})
    assert "<script>" not in (tmp_path / "t.html").read_text()


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
    write_table(tmp_path / "t.json", paths, SETTINGS | {"table": 1, "weights": weights, "experiments": names})
    table = json.loads((tmp_path / "t.json").read_text())
    rows = {row["label"]: row["cells"] for row in table["rows"]}
    assert list(rows) == ["max", "average", "weighted average", "attention"]
    correct = {name: cell["ours"]["correct"] for name, cell in rows["attention"].items()}
    # A tie of two streams goes to the first class: video 2 is of it, video 3 is not.
    assert correct == {"spatial": 3, "temporal": 3, "two-stream": 3, "three-stream": 4}
    assert rows["max"]["three-stream"]["comparison"]["only_first"] == 3
    assert rows["weighted average"]["spatial"]["published"] == {}
    assert rows["average"]["temporal"]["published"] == {"UCF-101": 0.879}
    two = SETTINGS | {"table": 1, "weights": weights | {"warped": 0.0}, "experiments": names}
    write_table(tmp_path / "two.json", paths, two)
    columns = [column["name"] for column in json.loads((tmp_path / "two.json").read_text())["columns"]]
    assert columns == ["spatial", "temporal", "two-stream"]


def test_table2_compares_within_its_groups(tmp_path: Path) -> None:
    names = {row.experiment: row.experiment for row in paper.TABLES[2].rows} | {"table2-relu": "table2-gaussian"}
    paths = []
    for experiment in dict.fromkeys(names.values()):
        paths.append(tmp_path / f"{experiment}.h5")
        write_scores(paths[-1], scored([1], experiment=experiment))
    write_table(tmp_path / "t.json", paths, SETTINGS | {"table": 2, "experiments": names})
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


def test_table4_has_every_published_row_and_the_summary(tmp_path: Path) -> None:
    fused = [
        result(tmp_path / split, [0], right, split=split) for split, right in (("split1", [0, 1]), ("split2", [0]))
    ]
    write_summary(tmp_path / "summary.json", fused)
    networks = {"rgb": {"backbone": "resnet50", "weights": "weights/resnet50.pth"}}
    settings = {"recipe": 1, "table": 4, "dataset": "mine", "kind": "ucf101", "networks": networks}
    write_table(tmp_path / "t.json", [tmp_path / "summary.json"], settings)
    table = json.loads((tmp_path / "t.json").read_text())
    assert len(table["rows"]) == 15
    ours = [row for row in table["rows"] if row["cells"]["fused"]["ours"]]
    assert [row["label"] for row in ours] == ["Proposed ATW"]
    summary = mean_over_splits([read_result(path) for path in fused])
    assert ours[0]["cells"]["fused"]["ours"] == {
        "top1": pytest.approx(1.5 / 13),
        "top1_std": pytest.approx(math.sqrt(0.5) / 13),
        "top1_ci95": summary["pooled"]["top1_ci95"],
        "pooled_top1": pytest.approx(3 / 26),
    }
    assert "mean over 2 splits" in table["notes"][0]
    shown = Page((tmp_path / "t.html").read_text()).text
    assert {"94.6", "TSN [12]", "93.4", "11.5", "± 5.4"} <= set(shown)
    with pytest.raises(InputError, match="is of dataset mine, experiment None, but the table is of theirs"):
        write_table(tmp_path / "t.json", [tmp_path / "summary.json"], settings | {"dataset": "theirs"})
    with pytest.raises(InputError, match=r"is not a summary\.json of format 2"):
        write_table(tmp_path / "t.json", [fused[0]], settings)


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
        write_table(tmp_path / "table3.json", paths, SETTINGS | changes)
    assert not list(tmp_path.glob("table3.*"))


def test_a_table_refuses_rows_of_other_videos(tmp_path: Path) -> None:
    paths = segments(tmp_path)
    write_scores(paths[6], scored([0], experiment="table3-n7", quarantined=[]))
    with pytest.raises(InputError, match="split1 lost is a video of jump in the first and not listed"):
        write_table(tmp_path / "table3.json", paths, SETTINGS)


def test_the_command_writes_three_files(tmp_path: Path) -> None:
    paths = segments(tmp_path)
    command = [sys.executable, "-m", "atw", "table", str(tmp_path / "out" / "table3.json"), *map(str, paths)]
    subprocess.run([*command, "--settings", json.dumps(SETTINGS)], check=True, capture_output=True)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"table3.json", "table3.csv", "table3.html"}
