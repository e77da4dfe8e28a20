"""Configurations that are refused: each message names the key, its value and what is allowed."""

import copy
from typing import Any

import pytest

from atw import config
from atw.files import InputError
from tests.unit.configured import FOLDER, UCF101, effective, load

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
    with pytest.raises(InputError, match=r"datasets\.flow\.lsts: unknown key .*; allowed here: .*kind, root, lists"):
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
        (nested("datasets.mine", {**DRAWN, "extensions": ["mp4"]}), ["datasets.mine.extensions.0", "pattern"]),
        (nested("datasets.mine", {**KINETICS, "path": "{label}.mp4"}), ["datasets.mine.path", "must hold {id}"]),
        (nested("datasets.mine", {**KINETICS, "path": "{id.x}.mp4"}), ["datasets.mine.path", "nothing but end, id"]),
        (nested("datasets.mine", {**KINETICS, "path": "{id"}), ["datasets.mine.path", "is no pattern"]),
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
@pytest.mark.parametrize("section", ["preprocess", "flow", "warp", "fusion"])
def test_a_stream_cannot_change_what_all_share(place: str, section: str) -> None:
    setting = {
        "preprocess": {"shards": 3},
        "flow": {"bound": 15},
        "warp": {"corners": 500},
        "fusion": {"add": "probabilities"},
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


@pytest.mark.parametrize("text", ["{", "", "nonsense"])
def test_settings_that_are_no_json_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--settings is not JSON"):
        config.load_json(text)


@pytest.mark.parametrize("text", ["[1]", "3", "null", '"text"'])
def test_settings_that_are_no_object_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="must be a JSON object"):
        config.load_json(text)


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
