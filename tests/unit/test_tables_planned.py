"""What the paper prints, and what each of its tables asks the workflow for."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from atw import config
from atw.config import paper
from atw.files import InputError
from atw.plan import Plan
from tests.unit.scored import CLASSES

REPOSITORY = Path(__file__).parents[2]


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


@pytest.mark.parametrize("number", ["1", "2", "3", "4"])
def test_a_table_knows_the_settings_that_the_workflow_wrote(place: Path, number: str) -> None:
    written = plan(fusion={"choose": "none"}).table_settings("mine", number)
    assert config.read_table_settings(written.to_json()) == written


def test_what_gives_the_same_scores_is_trained_once(place: Path) -> None:
    given = plan(experiments={"mean": {"model": {"consensus": "average"}}, "other": {"train": {"batch": 3}}})
    assert given.table_settings("mine", "1").experiments == {
        "table1-max": "table1-max",
        "table1-average": "mean",
        "table1-weighted": "table1-weighted",
        "table1-attention": "",
    }
    # Other test snippets, or another training of one stream, are other scores.
    average = {"consensus": "average"}
    near = {"less": {"model": average, "evaluate": {"snippets": 25}}}
    near["flow"] = {"model": average, "streams": {"flow": {"train": {"batch": 3}}}}
    assert plan(experiments=near).table_settings("mine", "1").experiments["table1-average"] == "table1-average"
    # The row of the activation and that of the initialisation are one network: the Gaussian's.
    ones = plan(model={"attention_init": "ones"})
    experiments = ones.table_settings("mine", "2").experiments
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
    # The configuration is valid, but the backbone of the table does not take its images.
    monkeypatch.setitem(paper.BACKBONES, "table3-n5", "vit_b_16")
    given = config.load({"datasets": {"mine": FOLDER}, "augment": {"input_size": 64}})
    with pytest.raises(InputError, match="dataset mine, stream rgb, experiment table3-n5: "):
        config.effective(given, "mine", "rgb", "table3-n5")


def test_a_tables_experiment_cannot_be_redefined() -> None:
    with pytest.raises(InputError, match=r"table3-n5 is an experiment of the tables.*another name"):
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
