"""Values of settings: the paper's by default, and what the configuration puts in their place."""

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from atw import config
from tests.unit.configured import FOLDER, effective, load

ROOT = Path(__file__).parents[2]


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
    "train.head_lr": (1.0,) * 3,
    "train.average_first": (0.0,) * 3,
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


@pytest.mark.parametrize("dataset", [kind for _, kind in config.all_kinds()], ids=lambda model: str(model.__name__))
def test_every_key_of_a_dataset_is_described(dataset: type[config.StreamOverrides]) -> None:
    for name in set(dataset.model_fields) - set(config.StreamOverrides.model_fields) - {"kind"}:
        assert dataset.model_fields[name].description, name


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
    for name in ("atw", "untrimmed", "tsn", "two-stream"):
        settings = config.effective(loaded, "ucf101", "flow", name)
        evaluate, sampling = settings.evaluate, settings.sampling
        streams = config.fuse_settings(loaded, "ucf101", name).streams
        recipe = (settings.model.consensus, sampling.segments, sampling.stack, evaluate.snippets, evaluate.crops)
        found[name] = (*recipe, settings.fusion.add, streams)
    three = ["rgb", "flow", "warped"]
    assert found == {
        "atw": ("attention", 4, 5, 80, 1, "logits", three),
        "untrimmed": ("gated", 8, 5, "auto", 1, "logits", three),
        "tsn": ("average", 3, 5, 25, 10, "logits", three),
        "two-stream": ("average", 1, 10, 25, 10, "probabilities", ["rgb", "flow"]),
    }
    # The paper's recipe is what UCF-101 gets without an experiment.
    assert all(config.same_scores(loaded, "ucf101", stream, "", "atw") for stream in config.STREAMS)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_are_configurations(path: Path) -> None:
    """Put over config.yaml as by `--configfile`, they load, and give each dataset and experiment its settings."""
    raw, given = (yaml.safe_load(one.read_text(encoding="utf-8")) for one in (ROOT / "config.yaml", path))
    update_config(raw, given)
    loaded = config.load(raw)
    datasets, experiments = given.get("datasets", ["demo-untrimmed"]), ["", *given.get("experiments", [])]
    for dataset, experiment in itertools.product(datasets, experiments):
        assert config.effective(loaded, dataset, "flow", experiment).train.iterations > 0


def test_a_recipe_is_over_config_yaml_and_under_its_dataset() -> None:
    mine = FOLDER | {"recipe": "small", "train": {"batch": 5}, "streams": {"flow": {"train": {"clip": 9.0}}}}
    common = {"train": {"batch": 64, "momentum": 0.5, "iterations": 7}, "model": {"dropout": 0.1}}
    loaded = load(datasets={"mine": mine}, **common)
    flow, rgb = (config.effective(loaded, "mine", stream) for stream in ("flow", "rgb"))
    assert (flow.train.batch, flow.train.momentum, flow.train.iterations) == (5, 0.5, 300)
    assert (flow.train.clip, rgb.train.clip) == (9.0, 5.0)
    assert flow.model.dropout == 0.5  # over the stream's own default, too
    assert flow.augment.scales == (1.0, 0.875, 0.75)  # which the recipe does not name
    sources = config.sources(loaded, "mine", "rgb")
    assert sources["train"]["iterations"] == "recipe small: train"
    assert config.location(loaded, "mine").to_dict() == config.location(load(), "mine").to_dict()


@pytest.mark.parametrize("name", ["small", "large"])
def test_no_setting_of_a_recipe_is_a_default(name: config.RecipeName) -> None:
    given = config.RECIPES_BY_NAME[name]
    plain = load()
    for section, part in given:
        for key in part.model_fields_set if section != "streams" else ():
            defaults = {
                getattr(getattr(config.effective(plain, "mine", stream), section), key) for stream in config.STREAMS
            }
            assert defaults != {getattr(part, key)}, f"{section}.{key}"


@pytest.mark.parametrize("stream", config.STREAMS)
def test_the_recipe_of_the_paper_holds_whatever_config_yaml_says(stream: config.Stream) -> None:
    changed = {
        "preprocess": {"width": 128, "height": 96, "fit": "crop", "flow_from": "frames"},
        "flow": {"preset": "faster", "bound": 9.0, "tau": 0.1},
        "warp": {"matches": "sift"},
        "sampling": {"segments": 7, "stack": 3},
        "augment": {"input_size": 96, "scales": [1.0], "flip": 0.0},
        "model": {"backbone": "vgg16", "consensus": "gated", "dropout": 0.1, "attention_bias": 0.0},
        "train": {"iterations": 7, "held_out": 0.2, "mixup": 0.3, "ema": 0.9, "schedule": "cosine"},
        "evaluate": {"snippets": 3, "crops": 5, "crop": 90},
        "fusion": {"weights": {"rgb": 2.0}, "choose": "held_out"},
        "streams": {"flow": {"train": {"clip": 1.0}}, "rgb": {"model": {"dropout": 0.2}}},
    }
    found = config.effective(load(datasets={"mine": FOLDER | {"recipe": "paper"}}, **changed), "mine", stream)
    plain = config.effective(load(), "mine", stream)
    assert found.model.backbone == "vgg16"  # the paper has two networks
    assert found.model_copy(update={"model": plain.model}) == plain
    assert found.model.model_copy(update={"backbone": plain.model.backbone}) == plain.model


def test_the_large_recipe_trains_flow_at_half_the_rate_of_frames() -> None:
    loaded = load(datasets={"mine": FOLDER | {"recipe": "large"}})
    rates = [config.effective(loaded, "mine", stream).train.learning_rate for stream in config.STREAMS]
    assert rates == [0.01, 0.005, 0.005]
    flow = config.effective(loaded, "mine", "flow")
    assert (flow.train.iterations, flow.train.clip, flow.model.dropout) == (94_000, 40.0, 0.4)
