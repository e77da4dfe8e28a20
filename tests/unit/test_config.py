import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from atw import config
from atw.files import InputError

ROOT = Path(__file__).parents[2]
FOLDER = {"kind": "folder", "root": "videos", "lists": "list.csv"}
KINETICS = {"kind": "kinetics", "root": "videos", "lists": "lists"}
DRAWN = {"kind": "folder", "root": "videos"}
UCF101 = {"kind": "ucf101", "root": "videos", "lists": "lists"}


def load(**raw: Any) -> config.Config:
    return config.load({"datasets": {"mine": FOLDER}, **raw})


def effective(loaded: config.Config, stream: str = "rgb", experiment: str = "") -> config.Settings:
    return config.effective(loaded, "mine", stream, experiment)


def nested(path: str, value: Any) -> dict[str, Any]:
    for key in reversed(path.split(".")):
        value = {key: value}
    return value  # type: ignore[no-any-return]


def look_up(settings: config.Settings, path: str) -> Any:
    section, key = path.split(".")
    return getattr(getattr(settings, section), key)


# The paper's values for rgb, flow and warped; where it is silent, those of temporal segment networks.
PAPER: dict[str, tuple[Any, Any, Any]] = {
    "preprocess.width": (340,) * 3,
    "preprocess.height": (256,) * 3,
    "flow.bound": (20.0,) * 3,
    "sampling.segments": (4,) * 3,
    "sampling.stack": (5,) * 3,
    "augment.input_size": (224,) * 3,
    "augment.scales": ((1.0, 0.875, 0.75, 0.66), (1.0, 0.875, 0.75), (1.0, 0.875, 0.75)),
    "augment.flip": (0.5,) * 3,
    "model.dropout": (0.8, 0.7, 0.7),
    "model.partial_bn": ("first",) * 3,
    "model.consensus": ("attention",) * 3,
    "model.attention_activation": ("relu",) * 3,
    "train.iterations": (3500, 18_000, 18_000),
    "train.batch": (128,) * 3,
    "train.learning_rate": (0.001, 0.005, 0.005),
    "train.schedule": ("step",) * 3,
    "train.steps": (2000, (12_000, 18_000), (12_000, 18_000)),
    "train.warmup": (0,) * 3,
    "train.label_smoothing": (0.0,) * 3,
    "train.mixup": (None,) * 3,
    "train.ema": (None,) * 3,
    "train.held_out": (0.0,) * 3,
    "train.momentum": (0.9,) * 3,
    "train.weight_decay": (5e-4,) * 3,
    "train.clip": (40.0, 20.0, 20.0),
    "train.lr_multipliers": ("tsn",) * 3,
    "evaluate.snippets": (80,) * 3,
    "evaluate.crops": (1,) * 3,
    "evaluate.crop": (224,) * 3,
    "fusion.weights": ({"rgb": 1.0, "flow": 1.0, "warped": 0.5},) * 3,
    "fusion.choose": ("none",) * 3,
    "warp.corners": (1000,) * 3,
    "warp.quality": (0.001,) * 3,
    "warp.min_matches": (50,) * 3,
    "warp.min_inliers": (25,) * 3,
    "warp.threshold": (1.0,) * 3,
    "warp.border": (5,) * 3,
}


@pytest.mark.parametrize("path", PAPER)
def test_defaults_are_the_papers(path: str) -> None:
    assert tuple(look_up(effective(load(), stream), path) for stream in ("rgb", "flow", "warped")) == PAPER[path]


@pytest.mark.parametrize("section", config.SECTIONS)
def test_every_setting_is_described(section: str) -> None:
    model: Any = config.Settings.model_fields[section].annotation
    assert model.__doc__
    for name, field in model.model_fields.items():
        assert field.description, f"{section}.{name}"


@pytest.mark.parametrize("dataset", list(dict.fromkeys(config.KINDS.values())), ids=lambda model: str(model.__name__))
def test_every_key_of_a_dataset_is_described(dataset: type[config.StreamOverrides]) -> None:
    for name in set(dataset.model_fields) - set(config.StreamOverrides.model_fields) - {"kind"}:
        assert dataset.model_fields[name].description, name


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


def test_settings_merge_from_the_general_to_the_specific() -> None:
    layers = [
        "",
        "streams.flow",
        "datasets.mine",
        "datasets.mine.streams.flow",
        "experiments.e",
        "experiments.e.streams.flow",
    ]
    raw: dict[str, Any] = {"datasets": {"mine": copy.deepcopy(FOLDER)}}
    for rank, place in enumerate(layers, start=1):
        level = raw
        for key in place.split(".") if place else []:
            level = level.setdefault(key, {})
        level["train"] = {"iterations": 1000 + rank}
        assert effective(config.load(raw), "flow", "e" if "experiments" in raw else "").train.iterations == 1000 + rank
    loaded = config.load(raw)
    assert effective(loaded, "rgb", "e").train.iterations == 1005
    assert effective(loaded, "rgb").train.iterations == 1003
    assert effective(loaded, "flow", "e").train.steps == (12_000, 18_000)  # keys, not sections, are replaced


def test_unknown_names_list_the_known_ones() -> None:
    loaded = load(experiments={"average": {}})
    with pytest.raises(InputError, match=r"'theirs' is not in config.yaml .* known datasets: mine"):
        loaded.dataset("theirs")
    with pytest.raises(InputError, match=r"'max' is not in config.yaml .* known experiments: average"):
        effective(loaded, "rgb", "max")
    with pytest.raises(InputError, match="known experiments: none"):
        effective(load(), "rgb", "max")


def stages(loaded: config.Config) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for stream in config.STREAMS:
        given[f"shard {stream}"] = config.shard_settings(loaded, "mine", stream)
        given[f"train {stream}"] = config.train_settings(loaded, "mine", stream, "")
        given[f"score {stream}"] = config.score_settings(loaded, "mine", stream, "")
    given["fuse"] = config.fuse_settings(loaded, "mine", "")
    return given


SHARDS = {"shard rgb", "shard flow", "shard warped"}
FLOWS = {"shard flow", "shard warped"}
TRAIN = {"train rgb", "train flow", "train warped"}
SCORE = {"score rgb", "score flow", "score warped"}


@pytest.mark.parametrize(
    ("path", "value", "affected"),
    [
        ("preprocess.width", 320, SHARDS),
        ("preprocess.shards", 17, SHARDS),
        ("preprocess.max_frames", 50, SHARDS),
        ("preprocess.jpeg_quality", 90, {"shard rgb"}),
        ("preprocess.zstd_level", 5, FLOWS),
        ("flow.bound", 15, FLOWS),
        ("flow.preset", "fast", FLOWS),
        ("flow.lambda_", 0.2, FLOWS),
        ("warp.corners", 500, {"shard warped"}),
        ("warp.matches", "flow", {"shard warped"}),
        ("warp.masks", "masks", {"shard warped"}),
        ("sampling.segments", 3, TRAIN),
        ("augment.flip", 0.0, TRAIN),
        ("model.dropout", 0.5, TRAIN),
        ("model.backbone", "resnet18", TRAIN),
        ("train.learning_rate", 0.1, TRAIN),
        ("train.schedule", "cosine", TRAIN),
        ("train.steps", 1000, TRAIN),
        ("train.label_smoothing", 0.1, TRAIN),
        ("train.mixup", 0.2, TRAIN),
        ("train.ema", 0.999, TRAIN),
        ("train.held_out", 0.1, TRAIN),
        ("evaluate.snippets", 25, SCORE),
        ("evaluate.crops", 10, SCORE),
        ("fusion.weights", {"rgb": 1, "flow": 2}, {"fuse"}),
        ("fusion.add", "probabilities", {"fuse"}),
        ("compute.preprocess_threads", 8, set()),
        ("compute.train_threads", 8, set()),
        ("compute.workers", 2, set()),
        ("compute.min_workers", 1, set()),
        ("compute.gpus", 0, set()),
        ("compute.loaders", 0, set()),
        ("compute.microbatch", 8, set()),
        ("compute.precision", "bf16", set()),
        ("compute.channels_last", False, set()),
        ("compute.compile", True, set()),
        ("compute.checkpoint_every", 9, set()),
        ("compute.retries", 0, set()),
        ("streams.flow.train.batch", 64, {"train flow"}),
        ("streams.rgb.evaluate.crop", 200, {"score rgb"}),
        ("datasets.mine.root", "/elsewhere", set()),
        ("datasets.mine.lists", "/elsewhere.csv", set()),
        ("datasets.mine.train.batch", 64, TRAIN),
        ("datasets.theirs", FOLDER, set()),
        ("experiments.other.train.batch", 64, set()),
        ("shards", "/elsewhere", set()),
        ("seed", 1, TRAIN | {"fuse"}),
    ],
    ids=str,
)
def test_a_change_affects_exactly_the_stages_that_depend_on_it(path: str, value: Any, affected: set[str]) -> None:
    raw: dict[str, Any] = {"datasets": {"mine": copy.deepcopy(FOLDER)}, "evaluate": {"crop": 196}}
    before = stages(config.load(raw))
    level = raw
    *parents, last = path.split(".")
    for key in parents:
        level = level.setdefault(key, {})
    level[last] = value
    after = stages(config.load(raw))
    assert {stage for stage in before if before[stage] != after[stage]} == affected


@pytest.mark.parametrize(
    ("recipe", "affected"),
    [
        ("render", set()),
        ("rgb", {"shard rgb"}),
        ("flow", FLOWS),
        ("warped", {"shard warped"}),
        ("train", TRAIN),
        ("score", SCORE),
        ("fuse", {"fuse"}),
    ],
)
def test_a_new_recipe_affects_exactly_its_stage(
    recipe: str, affected: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load()
    before = stages(loaded)
    monkeypatch.setitem(config.RECIPES, recipe, config.RECIPES[recipe] + 1)
    after = stages(loaded)
    assert {stage for stage in before if before[stage] != after[stage]} == affected


def test_a_stage_is_told_the_weights_file_of_its_backbone() -> None:
    weights = [
        config.train_settings(load(model=model), "mine", "rgb", "")["model"]["weights"]
        for model in ({}, {"backbone": "resnet18"}, {"weights": "my.pth"}, {"weights": None})
    ]
    assert weights == ["weights/resnet50.pth", "weights/resnet18.pth", "my.pth", None]


def test_an_experiment_changes_results_and_no_shard() -> None:
    loaded = load(experiments={"average": {"model": {"consensus": "average"}}})
    plain = config.train_settings(loaded, "mine", "flow", "")
    varied = config.train_settings(loaded, "mine", "flow", "average")
    assert plain["model"]["consensus"] == "attention"
    assert varied["model"].pop("consensus") == "average"
    del plain["model"]["consensus"]
    assert plain == varied


def test_streams_without_weight_take_no_part() -> None:
    assert config.fused_streams(load(), "mine", "") == ["rgb", "flow", "warped"]
    weights = {"flow": 1.0, "rgb": 0.5, "warped": 0.0}
    assert config.fused_streams(load(fusion={"weights": weights}), "mine", "") == ["rgb", "flow"]
    assert config.fused_streams(load(fusion={"weights": {"warped": 2}}), "mine", "") == ["warped"]


def test_the_location_holds_nothing_that_results_depend_on() -> None:
    raw = {
        "films": {**FOLDER, "train": {"batch": 3}},
        "ucf": UCF101,
        "demo": {"kind": "demo", "test_per_class": 3, "evaluate": {"crops": 5}},
    }
    loaded = config.load({"datasets": raw})
    assert config.location(loaded, "films") == {"name": "films", "allow_missing": False, **FOLDER}
    assert config.location(loaded, "ucf") == {"name": "ucf", "allow_missing": False, **UCF101}
    sizes = {"train_per_class": 40, "test_per_class": 3}
    assert config.location(loaded, "demo") == {"name": "demo", "kind": "demo", "root": "data/demo", **sizes}


def test_rendering_depends_on_split_seed_and_sizes_alone() -> None:
    raw = {"datasets": {"demo": {"kind": "demo"}}, "seed": 3}
    expected = {"recipe": 1, "split": 2, "seed": 3, "train_per_class": 40, "test_per_class": 20}
    assert config.render_settings(config.load(raw), "demo", 2) == expected


def test_explicit_flow_parameters_go_by_the_names_of_the_flow_engine() -> None:
    settings = effective(load(flow={"preset": "fast", "lambda_": 0.2, "epsilon": 0, "bound": 15}))
    assert settings.flow.overrides() == {"lambda_": 0.2, "epsilon": 0}


@pytest.mark.parametrize("text", ["{", "", "nonsense"])
def test_settings_that_are_no_json_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--settings is not JSON"):
        config.load_json(text)


@pytest.mark.parametrize("text", ["[1]", "3", "null", '"text"'])
def test_settings_that_are_no_object_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="must be a JSON object"):
        config.load_json(text)


def test_the_repositorys_own_configuration_is_valid() -> None:
    loaded = config.load(yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8")))
    assert {"demo", "ucf101", "hmdb51"} <= set(loaded.datasets)
    # TSN's schedules, on which the published accuracies rest.
    iterations = {
        dataset: [config.effective(loaded, dataset, stream).train.iterations for stream in config.STREAMS]
        for dataset in ("ucf101", "hmdb51")
    }
    assert iterations == {"ucf101": [3500, 18_000, 18_000], "hmdb51": [2500, 7000, 7000]}


def test_the_presets_are_the_recipes_they_are_named_after() -> None:
    loaded = config.load(yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8")))
    found = {}
    for name in ("atw", "tsn", "two-stream"):
        settings = config.effective(loaded, "ucf101", "flow", name)
        evaluate, sampling = settings.evaluate, settings.sampling
        streams = config.fused_streams(loaded, "ucf101", name)
        recipe = (settings.model.consensus, sampling.segments, sampling.stack, evaluate.snippets, evaluate.crops)
        found[name] = (*recipe, settings.fusion.add, streams)
    three = ["rgb", "flow", "warped"]
    assert found == {
        "atw": ("attention", 4, 5, 80, 1, "logits", three),
        "tsn": ("average", 3, 5, 25, 10, "logits", three),
        "two-stream": ("average", 1, 10, 25, 10, "probabilities", ["rgb", "flow"]),
    }
    # The paper's recipe is what UCF-101 gets without an experiment.
    assert all(config.same_scores(loaded, "ucf101", stream, "", "atw") for stream in config.STREAMS)


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
