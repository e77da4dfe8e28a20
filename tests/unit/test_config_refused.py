"""Configurations that are refused: each message names the key, its value and what is allowed."""

import copy
from pathlib import Path
from typing import Any

import pytest

from atw import config
from atw.files import InputError
from tests.unit.configured import FOLDER, UCF101, effective, load

CASES = Path(__file__).parents[1] / "cases/lists"
KINETICS = {"kind": "kinetics", "root": "videos", "lists": "lists"}
DRAWN = {"kind": "folder", "root": "videos"}


def nested(path: str, value: Any) -> dict[str, Any]:
    for key in reversed(path.split(".")):
        value = {key: value}
    return value  # type: ignore[no-any-return]


PLACES = [
    "",
    "streams.flow",
    "datasets.mine",
    "datasets.mine.streams.flow",
    "experiments.e",
    "experiments.e.streams.rgb",
]


def test_a_setting_of_a_recipe_is_named_as_that() -> None:
    mine = FOLDER | {"recipe": "paper", "fusion": {"choose": "held_out"}}
    with pytest.raises(InputError, match=r"\. train\.held_out is set by recipe paper: set it in the dataset$"):
        load(datasets={"mine": mine}, train={"held_out": 0.2})


@pytest.mark.parametrize(
    ("compare", "message"),
    [
        ("plain", r"\(value 'plain'\); write a list, \[plain\]"),
        ("[plain]", r"\(value '\[plain\]'\); leave out the quotes around it"),
        ([""], "at least 1 character"),
    ],
)
def test_what_is_compared_with_is_a_list_of_names(compare: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"page\.compare.*{message}"):
        load(page={"compare": compare})


def placed(place: str, content: dict[str, Any]) -> dict[str, Any]:
    raw: dict[str, Any] = {"datasets": {"mine": copy.deepcopy(FOLDER)}}
    level = raw
    for key in place.split(".") if place else []:
        level = level.setdefault(key, {})
    level.update(content)
    return raw


@pytest.mark.parametrize("place", PLACES)
def test_an_unknown_section_is_named_with_what_is_allowed(place: str) -> None:
    with pytest.raises(InputError) as error:
        config.load(placed(place, {"trian": {"batch": 2}}))
    message = str(error.value)
    assert f"{place}.trian: unknown key (value {{'batch': 2}})".lstrip(".") in message
    allowed = message.partition("allowed here: ")[2].split(", ")
    assert set(config.SECTIONS) <= set(allowed)
    assert ("streams" in allowed) == ("streams" not in place)
    assert ("datasets" in allowed) == (place == "")
    assert ({"kind", "root", "lists"} <= set(allowed)) == (place == "datasets.mine")


@pytest.mark.parametrize("place", PLACES)
def test_an_unknown_setting_is_named_with_what_is_allowed(place: str) -> None:
    with pytest.raises(InputError) as error:
        config.load(placed(place, {"train": {"lr": 0.1}}))
    message = str(error.value)
    assert f"{place}.train.lr: unknown key (value 0.1)".lstrip(".") in message
    assert message.partition("allowed here: ")[2].split(", ") == list(config.Train.model_fields)


@pytest.mark.parametrize("place", PLACES)
def test_an_impossible_value_is_named_with_what_is_allowed(place: str) -> None:
    with pytest.raises(InputError) as error:
        config.load(placed(place, {"train": {"batch": 0}}))
    message = str(error.value)
    assert f"{place}.train.batch: ".lstrip(".") in message
    assert "greater than or equal to 1 (value 0)" in message


def test_a_dataset_may_bear_a_sections_name() -> None:
    with pytest.raises(
        InputError, match=r"datasets\.flow\.lsts: unknown key .*; allowed here: .*kind, in_all, recipe, root"
    ):
        config.load({"datasets": {"flow": {**FOLDER, "lsts": "x"}}})


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (nested("model.consensus", "mean"), ["model.consensus", "'mean'", "attention", "average", "max", "weighted"]),
        (nested("train.steps", [3, 2]), ["train.steps", "[3, 2]", "rising order"]),
        (nested("train.steps", [0, 2]), ["train.steps", "[0, 2]", "at least 1"]),
        (nested("train.steps", 0), ["train.steps", "(value 0)", "at least 1", "one number"]),
        (nested("train.steps", "often"), ["train.steps", "'often'", "valid integer"]),
        (nested("train.schedule", "linear"), ["train.schedule", "'linear'", "step", "cosine"]),
        (nested("train.label_smoothing", 1.0), ["train.label_smoothing", "1.0", "less than 1"]),
        (nested("train.mixup", 0.0), ["train.mixup", "0.0", "greater than 0"]),
        (nested("train.ema", 1.0), ["train.ema", "1.0", "less than 1"]),
        (nested("compute.precision", "int8"), ["compute.precision", "'int8'", "fp32", "bf16", "fp16"]),
        (nested("train.learning_rate", float("inf")), ["train.learning_rate", "inf", "finite"]),
        (nested("model.attention_bias", float("nan")), ["model.attention_bias", "nan", "finite"]),
        (nested("evaluate.crops", 3), ["evaluate.crops", "3", "1, 5 or 10"]),
        (nested("evaluate.crop", 257), ["evaluate.crop is 257", "340 x 256"]),
        (nested("fusion.weights", {"rgb": 0}), ["fusion.weights", "above 0"]),
        (nested("fusion.weights", {"depth": 1}), ["fusion.weights.depth", "'rgb', 'flow' or 'warped'"]),
        (nested("fusion.weights", {"rgb": -1}), ["fusion.weights.rgb", "-1", "greater than or equal to 0"]),
        (nested("augment.scales", [1.5]), ["augment.scales.0", "1.5", "less than or equal to 1"]),
        (nested("augment.scales", []), ["augment.scales", "at least 1"]),
        (nested("compute.gpus", "all"), ["compute.gpus", "'auto'", "'all'"]),
        (nested("compute.validate_every", 5), ["compute.validate_every is 5", "train.held_out is 0"]),
        (nested("compute.min_workers", 2), ["compute.min_workers is 2", "compute.workers is 1"]),
        (nested("compute.min_workers", 0), ["compute.min_workers", "0", "greater than or equal to 1"]),
        (nested("streams.depth", {}), ["streams.depth", "'rgb', 'flow' or 'warped'"]),
        (nested("train", 3), ["train", "3", "dictionary"]),
        (nested("seed", -1), ["seed", "-1", "greater than or equal to 0"]),
        (nested("seed", 2**70), ["seed", str(2**70), "less than"]),
        (nested("datasets.mine.kind", "ucf"), ["datasets.mine", "'ucf'", "ucf101", "hmdb51", "folder", "demo"]),
        (nested("datasets.mine.root", "x"), ["datasets.mine", "`kind`", "ucf101", "hmdb51", "folder", "demo"]),
        (nested("datasets.mine", {"kind": "folder"}), ["datasets.mine.root", "required"]),
        (nested("datasets.mine", {"kind": "ucf101"}), ["datasets.mine.root", "datasets.mine.lists", "required"]),
        (nested("datasets.mine", {**FOLDER, "splits": 3}), ["splits is for splits that are drawn", "leave out"]),
        (nested("datasets.mine", {**DRAWN, "group": "["}), ["datasets.mine.group", "is no regular expression"]),
        (
            nested("datasets.mine", {**DRAWN, "group": "(a)(b)"}),
            ["datasets.mine.group", "needs one group in parentheses, has 2"],
        ),
        (
            nested("datasets.mine", {**DRAWN, "extensions": ["mp4"]}),
            ["datasets.mine.extensions", "'mp4' is no ending", "as .mp4"],
        ),
        (nested("datasets.mine", {**KINETICS, "path": "{label}.mp4"}), ["datasets.mine.path", "must hold {id}"]),
        (nested("datasets.mine", {**KINETICS, "path": "{id.x}.mp4"}), ["datasets.mine.path", "nothing but end, id"]),
        (nested("datasets.mine", {**KINETICS, "path": "{id"}), ["datasets.mine.path", "is no pattern"]),
        (nested("experiments.plain", {}), ["experiments", "plain is the result without an experiment"]),
        (nested("experiments.x", None), ["experiments.x", "an experiment needs settings"]),
        (nested("datasets", {"a b": UCF101}), ["datasets", "'a b'", "letters, digits"]),
        (nested("datasets", {"experiments": UCF101}), ["'experiments'", "cannot name a folder"]),
    ],
    ids=str,
)
def test_messages_name_key_value_and_remedy(raw: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        config.load({"datasets": {"mine": FOLDER}} | raw)
    for word in words:
        assert word in str(error.value)


def test_a_combination_that_is_impossible_only_together_is_refused() -> None:
    small = {**FOLDER, "preprocess": {"width": 128, "height": 96}, "evaluate": {"crop": 96}}
    raw = {"datasets": {"mine": small}, "experiments": {"large": {"streams": {"flow": {"evaluate": {"crop": 97}}}}}}
    with pytest.raises(InputError, match=r"dataset mine, stream flow, experiment large: .*97.*128 x 96"):
        config.load(raw)


@pytest.mark.parametrize("section", ["preprocess", "flow", "warp"])
@pytest.mark.parametrize("place", ["experiments.e", "experiments.e.streams.warped"])
def test_an_experiment_cannot_touch_the_shards(place: str, section: str) -> None:
    setting = {"preprocess": {"width": 300}, "flow": {"bound": 15}, "warp": {"corners": 500}}[section]
    with pytest.raises(InputError, match=f"cannot change {section}: "):
        config.load(placed(place, {section: setting}))


@pytest.mark.parametrize("place", ["streams.warped", "datasets.mine.streams.warped", "experiments.e.streams.warped"])
@pytest.mark.parametrize("section", ["preprocess", "flow", "warp", "fusion", "detect", "page"])
def test_a_stream_cannot_change_what_all_share(place: str, section: str) -> None:
    setting = {
        "preprocess": {"shards": 3},
        "flow": {"bound": 15},
        "warp": {"corners": 500},
        "fusion": {"add": "probabilities"},
        "detect": {"shortest": 1.0},
        "page": {"compare": ["average"]},
    }[section]
    with pytest.raises(InputError, match=rf"streams.warped cannot change {section}"):
        config.load(placed(place, {section: setting}))


def test_unknown_names_list_the_known_ones() -> None:
    loaded = load(experiments={"average": {}})
    with pytest.raises(InputError, match=r"'theirs' is not in config.yaml .* known datasets: mine"):
        loaded.dataset("theirs")
    with pytest.raises(InputError, match=r"'max' is not in config.yaml .* known experiments: average"):
        effective(loaded, "rgb", "max")
    with pytest.raises(InputError, match="known experiments: none"):
        effective(load(), "rgb", "max")


@pytest.mark.parametrize(
    "changes", [{"compute": {"microbatch": 1}}, {"train": {"batch": 2}, "compute": {"workers": 2}}]
)
def test_mixup_needs_two_videos_at_once(changes: dict[str, dict[str, int]]) -> None:
    raw = {"datasets": {"d": {"kind": "demo"}}, **changes}
    raw["train"] = {"mixup": 0.2, **changes.get("train", {})}
    with pytest.raises(InputError, match=r"mixup needs two at once"):
        config.load(raw)
    del raw["train"]["mixup"]
    config.load(raw)


@pytest.mark.parametrize("steps", ["x", [2000.5], 2000.5])
def test_wrong_steps_are_named_by_their_key(steps: object) -> None:
    with pytest.raises(InputError) as error:
        config.load({"datasets": {"d": {"kind": "demo"}}, "train": {"steps": steps}})
    lines = str(error.value).splitlines()[1:]
    assert all(line.startswith(("  train.steps: ", "  train.steps.0: ")) for line in lines), lines


def refused(folder: Path, text: str, name: str = "own.yaml") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        document = config.read(folder / name)
        config.load(document.content, [document])
    return str(error.value).removeprefix(f"{folder}/")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            (CASES / "y_duptrain.yaml").read_text(encoding="utf-8"),
            "line 8, column 5: train stands twice, first in line 7",
        ),
        ("seed: 1\n'seed': 2", "line 2, column 1: seed stands twice, first in line 1"),
        ("train:\n  steps: [{a: 1, a: 2}]", "line 2, column 18: a stands twice, first in line 2"),
        ("a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a", "line 4, column 3: << stands twice, first in line 3"),
        ("on: 1\nyes: 2", "line 2, column 1: yes stands twice, first in line 1"),
        ('{\n\t"seed": 1,\n\t"a": [{"b": 1}, {"b": 2}],\n\t"seed": 2}', "line 4: 'seed' stands twice, first in line 2"),
        ('{"a": {"b": ":\\"", "c": {\n"b": 1,\n"\\u0062": 2}}}', "line 3: 'b' stands twice, first in line 2"),
        ("a:\n\tb: 1", "line 2, column 1: a tab"),
        ("a:\tb", "line 1, column 3: a tab"),
        ("a: b\t\nc: 1", "line 1, column 5: a tab"),
        ("a:\n  b: 1\n \tc: 2", "line 3, column 2: a tab"),
        ("seed: 1:30", "line 1, column 7: YAML reads 1:30 as 90, for colons mean base 60; write 90"),
        ("seed: 010", "line 1, column 7: YAML reads 010 as 8, for a zero in front means octal; write 10, 8"),
        ("shards: 2024-13-45", "line 1, column 9: 2024-13-45 looks like a number or a date"),
        ("\u00a0seed: 1", "line 1, column 1: there are blanks that YAML does not know"),
        ("? [a]\n: 1", "line 1, column 3: a key must be one word"),
        ("a: [1", "line 1, column 6: no YAML: while parsing a flow sequence expected ',' or ']'"),
        ("a: !!python/tuple [1]", "line 1, column 4: no YAML: could not determine a constructor"),
        ("a: 1\n---\nb: 2", "line 2, column 1: no YAML: expected a single document"),
        ("a: \x07", " cannot be read as a configuration: unacceptable character #x0007"),
        ("a: &a [*a]", "line 1, column 4: an alias in here stands for all of it"),
        ("a: &a {b: [*a]}", "line 1, column 4: an alias in here stands for all of it"),
        ("[" * 3000, " cannot be read as a configuration: it is too deeply nested"),
        ("", " holds no settings"),
        ("- a", " holds no settings"),
    ],
)
def test_files_that_would_be_misread_are_refused_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    assert refused(tmp_path, text).startswith(f"own.yaml{'' if message.startswith(' ') else ', '}{message}")


@pytest.mark.parametrize("level", ["[{}]", "{{<<: [{}]}}"])
def test_aliases_of_aliases_are_limited(tmp_path: Path, level: str) -> None:
    lines = ["a0: &a0 {x: 1, y: 2}"]
    for number in range(1, 20):
        lines.append(f"a{number}: &a{number} " + level.format(", ".join([f"*a{number - 1}"] * 9)))
    assert "this is more than 100,000 values" in refused(tmp_path, "\n".join(lines))


def test_anchors_aliases_and_merges_are_legal(tmp_path: Path) -> None:
    text = (
        "x: &x {batch: 4, iterations: 1_000}\na: &a {<<: *x, batch: 5}\nb: {<<: [*a, *x], clip: 1.0e+1}\nc: [*x, *x]\n"
    )
    (tmp_path / "own.yaml").write_text(text, encoding="utf-8")
    content = config.read(tmp_path / "own.yaml").content
    assert content["b"] == {"batch": 5, "iterations": 1000, "clip": 10.0}


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (
            "train: {learning_rate: 1e-3}",
            "learning_rate: Input should be a valid number (value '1e-3'); write 0.001, since",
        ),
        ("train: {learning_rate: 1e-7}", "write 1.0e-07, since YAML reads 1e-7 as text"),
        ("train: {learning_rate: '0.1'}", "(value '0.1'); write 0.1"),
        ("train: {learning_rate: '0,5'}", "write 0.5"),
        ("train: {held_out: 20%}", "write 0.2, since YAML reads 20% as text"),
        ("train: {iterations: 1e3}", "write 1000, since YAML reads 1e3 as text"),
        ("train: {iterations: 1000.0}", "(value 1000.0); write 1000"),
        ("train: {iterations: '1,500'}", "write 1500"),
        ("train: {iterations: 1.5}", "valid integer (value 1.5)"),
        ("compute: {compile: 'on'}", "write true"),
        ("model: {partial_bn: no}", 'write "no", with quotes, since YAML reads no as no text'),
        ("shards: 2026", 'write "2026", with quotes'),
        ("shards: 2026-01-02", 'write "2026-01-02", with quotes'),
        ("train: '{batch: 4}'", "leave out the quotes around it"),
        ("train: {learning_rate: .nan}", "finite number (value nan)"),
        ("page: {compare: plain}", "(value 'plain'); write a list, [plain]"),
        ("train: {batch:4}", "unknown key (value None); put a blank behind its colon; allowed here: iterations"),
    ],
)
def test_what_yaml_reads_otherwise_comes_with_the_right_spelling(tmp_path: Path, written: str, message: str) -> None:
    text = f"datasets: {{mine: {{kind: demo}}}}\n{written}\n"
    said = refused(tmp_path, text)
    assert said.startswith("own.yaml is not valid:\n")
    assert f"{tmp_path}/own.yaml, line 2, column " in said
    assert message in said


def test_the_case_of_a_number_without_a_point_names_its_file() -> None:
    document = config.read(CASES / "y_1e3.yaml")
    with pytest.raises(
        InputError, match=r"y_1e3.yaml, line 2, column 134: datasets.mine.train.learning_rate: .*0\.001"
    ):
        config.load(document.content, [document])


def test_the_file_that_wins_is_named(tmp_path: Path) -> None:
    (tmp_path / "over.yaml").write_text("train: {batch: 0}", encoding="utf-8")
    (tmp_path / "base.yaml").write_text(
        "datasets: {mine: {kind: demo}}\ntrain: {batch: 0, clip: -1.0}", encoding="utf-8"
    )
    documents = [config.read(tmp_path / name) for name in ("over.yaml", "base.yaml")]
    with pytest.raises(InputError) as error:
        config.load({**documents[1].content, "train": {"batch": 0, "clip": -1.0}}, documents)
    assert "over.yaml, line 1, column 16: train.batch: " in str(error.value)
    assert "base.yaml, line 2, column 25: train.clip: " in str(error.value)
    loaded = config.load(documents[1].content | {"train": {}}, documents[1:])
    with pytest.raises(InputError, match=r"'x' is not in .*base\.yaml under"):
        loaded.dataset("x")
    assert f"{tmp_path}/base.yaml" == loaded.file


def test_texts_inside_braces_of_the_command_line_are_read() -> None:
    # Snakemake hands on all that stands inside braces or brackets as texts.
    given = {
        "datasets": {"mine": {"model": {"weights": "null"}, "root": "2020"}},
        "train": {"iterations": "5", "learning_rate": "1e-3", "steps": ["2", "4"]},
        "compute": {"gpus": "1", "compile": "false"},
    }
    raw = copy.deepcopy(given)
    raw["datasets"]["mine"] |= {"kind": "folder", "lists": "l.csv"}
    loaded = effective(config.load(raw, (), given))
    assert (loaded.train.iterations, loaded.train.learning_rate, loaded.train.steps) == (5, 0.001, (2, 4))
    assert (loaded.compute.compile, loaded.compute.gpus, loaded.model.weights) == (False, 1, None)
    with pytest.raises(InputError, match=r"--config: train\.batch: .*valid integer \(value 'many'\)"):
        config.load(raw | {"train": {"batch": "many"}}, (), {"train": {"batch": "many"}})
    with pytest.raises(InputError, match=r"train\.batch: .*valid integer \(value '5'\); write 5"):
        config.load(raw | {"train": {"batch": "5"}}, (), {})
