"""What each stage of the workflow is told, and so which of them a change makes anew."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atw import config
from atw.config.sections import Section
from atw.files import InputError
from atw.plan import Plan
from tests.unit.configured import FOLDER, UCF101, load

SPLIT = {"split": "split1", "videos": "0"}


def stages(loaded: config.Config) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for stream in config.STREAMS:
        given[f"shard {stream}"] = config.shard_settings(loaded, "mine", stream)
        given[f"train {stream}"] = config.train_settings(loaded, "mine", stream, "", **SPLIT)
        given[f"score {stream}"] = config.score_settings(loaded, "mine", stream, "", **SPLIT)
        # A network and scores depend on the shards by what is in them, which changes the shards' own settings too.
        for stage in ("train", "score"):
            assert given[f"{stage} {stream}"].shards == given[f"shard {stream}"]
            given[f"{stage} {stream}"] = given[f"{stage} {stream}"].model_dump(exclude={"shards"})
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
        ("preprocess.picture_stream", 1, SHARDS),
        ("preprocess.jpeg_quality", 90, {"shard rgb"}),
        ("preprocess.zstd_level", 5, FLOWS),
        ("preprocess.flow_from", "frames", FLOWS),
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
        ("train.head_lr", 10.0, TRAIN),
        ("train.average_first", 0.3, TRAIN),
        ("model.attention_hidden", 64, TRAIN),
        ("model.attention_gate", False, TRAIN),
        ("model.topk_divisor", 4, TRAIN),
        ("evaluate.snippets", 25, SCORE),
        ("evaluate.crops", 10, SCORE),
        ("fusion.weights", {"rgb": 1, "flow": 2}, {"fuse"}),
        ("fusion.add", "probabilities", {"fuse"}),
        ("page.compare", ["average"], set()),
        ("compute.preprocess_threads", 8, set()),
        ("compute.train_threads", 8, set()),
        ("compute.workers", 2, set()),
        ("compute.min_workers", 1, set()),
        ("compute.tensorboard", False, set()),
        ("compute.gpus", 0, set()),
        ("compute.loaders", 0, set()),
        ("compute.microbatch", 8, set()),
        ("compute.precision", "bf16", set()),
        ("compute.channels_last", False, set()),
        ("compute.compile", True, set()),
        ("compute.checkpoint_every", 9, set()),
        ("compute.checkpoint_minutes", 0.5, set()),
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
    ids=lambda value: " ".join(sorted(value)) if isinstance(value, set) else str(value),
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
        config.train_settings(load(model=model), "mine", "rgb", "", **SPLIT).model.weights
        for model in ({}, {"backbone": "resnet18"}, {"weights": "my.pth"}, {"weights": None})
    ]
    assert weights == ["weights/resnet50.pth", "weights/resnet18.pth", "my.pth", None]


def test_an_experiment_changes_results_and_no_shard() -> None:
    loaded = load(experiments={"average": {"model": {"consensus": "average"}}})
    plain = config.train_settings(loaded, "mine", "flow", "", **SPLIT)
    varied = config.train_settings(loaded, "mine", "flow", "average", **SPLIT)
    assert (plain.model.consensus, varied.model.consensus) == ("attention", "average")
    assert plain.model_dump(exclude={"model": {"consensus"}}) == varied.model_dump(exclude={"model": {"consensus"}})


def test_streams_without_weight_take_no_part() -> None:
    assert config.fuse_settings(load(), "mine", "").streams == ["rgb", "flow", "warped"]
    weights = {"flow": 1.0, "rgb": 0.5, "warped": 0.0}
    assert config.fuse_settings(load(fusion={"weights": weights}), "mine", "").streams == ["rgb", "flow"]
    assert config.fuse_settings(load(fusion={"weights": {"warped": 2}}), "mine", "").streams == ["warped"]


def test_the_location_holds_nothing_that_results_depend_on() -> None:
    raw = {
        "films": {**FOLDER, "train": {"batch": 3}},
        "ucf": UCF101,
        "demo": {"kind": "demo", "test_per_class": 3, "evaluate": {"crops": 5}},
    }
    loaded = config.load({"datasets": raw})
    assert config.location(loaded, "films").to_dict() == {"name": "films", "allow_missing": False, **FOLDER}
    assert config.location(loaded, "ucf").to_dict() == {"name": "ucf", "allow_missing": False, **UCF101}
    sizes = {"train_per_class": 40, "test_per_class": 3}
    assert config.location(loaded, "demo").to_dict() == {"name": "demo", "kind": "demo", "root": "data/demo", **sizes}


def test_rendering_depends_on_split_seed_and_sizes_alone() -> None:
    raw = {"datasets": {"demo": {"kind": "demo"}}, "seed": 3}
    expected = {"recipe": 1, "split": 2, "seed": 3, "train_per_class": 40, "test_per_class": 20}
    assert Plan(raw).render_settings("demo", "2").to_dict() == expected


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {
            "model": {"attention_hidden": 3, "attention_gate": False, "topk_divisor": 2},
            "train": {"held_out": 0.2, "steps": [1, 2], "mixup": 0.3, "ema": 0.9, "head_lr": 2, "average_first": 0.1},
            "fusion": {"choose": "held_out", "weights": {"rgb": 1, "flow": 0.5}},
        },
    ],
    ids=["the defaults", "what is left out unless it is set"],
)
def test_a_job_reads_the_settings_that_the_workflow_wrote(sections: dict[str, Any]) -> None:
    loaded = load(**sections)
    written: list[config.StageSettings] = [
        config.audit_settings(loaded, "mine", **SPLIT),
        config.fuse_settings(loaded, "mine", ""),
        config.attention_settings(loaded, "mine", ""),
        Plan({"datasets": {"mine": {"kind": "demo"}}}).render_settings("mine", "2"),
    ]
    for stream in config.STREAMS:
        written.append(config.train_settings(loaded, "mine", stream, "", **SPLIT))
        written.append(config.score_settings(loaded, "mine", stream, "", **SPLIT))
        shards = config.shard_settings(loaded, "mine", stream)
        for settings in (shards, shards.of_shard("00000", "0")):
            assert config.read_shard_settings(settings.to_json()) == settings
    for settings in written:
        assert type(settings).from_json(settings.to_json()) == settings


def test_the_order_of_keys_stays() -> None:
    """Snakemake compares texts: with another order it would make every shard and network again."""
    train = config.train_settings(load(), "mine", "rgb", "", **SPLIT).to_dict()
    sections = ["sampling", "augment", "model", "train"]
    assert list(train) == ["recipe", "dataset", "stream", "seed", *sections, "split", "videos", "shards"]
    warped = config.shard_settings(load(), "mine", "warped").of_shard("00000", "0").to_dict()
    assert list(warped) == ["recipes", "dataset", "stream", "preprocess", "flow", "warp", "shard", "members"]
    assert list(config.fuse_settings(load(), "mine", "").to_dict()) == ["recipe", "seed", "weights", "on"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": {"iteratons": 3}}, "train.iteratons: Extra inputs are not permitted"),
        ({"seed": "x"}, "seed: Input should be a valid integer"),
        ({"videos": None}, "videos: Input should be a valid string"),
    ],
)
def test_settings_that_are_not_of_a_stage_are_named(change: dict[str, Any], message: str) -> None:
    written = config.train_settings(load(), "mine", "rgb", "", **SPLIT).to_dict()
    with pytest.raises(InputError, match=f"--settings: {message}"):
        config.TrainSettings.from_json(json.dumps(written | change))
    with pytest.raises(InputError, match="--settings: JSON: Invalid JSON"):
        config.TrainSettings.from_json("{")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"preprocess": {"jpeg_quality": 90}},
            r"flow.preprocess.FieldSettings.jpeg_quality: Extra inputs are not permitted",
        ),
        ({"stream": "depth"}, r"JSON: Input tag 'depth'"),
    ],
)
def test_settings_that_are_of_no_shards_are_named(change: dict[str, Any], message: str) -> None:
    written = config.shard_settings(load(), "mine", "flow").to_dict()
    with pytest.raises(InputError, match=f"--settings: {message}"):
        config.read_shard_settings(json.dumps(written | change))


def test_masks_that_are_not_there_are_named_before_anything_runs(tmp_path: Path) -> None:
    raw = {"datasets": {"show": {"kind": "demo", "evaluate": {"crop": 96}, "warp": {"masks": str(tmp_path / "none")}}}}
    assert Plan(raw).shard_settings("show", "flow", "00000")
    with pytest.raises(InputError, match=r"warp\.masks is .*none, and there is no such folder"):
        Plan(raw).shard_settings("show", "warped", "00000")
    made = tmp_path / "show/warped/00000.h5"  # whose masks may have been deleted since
    made.parent.mkdir(parents=True)
    made.touch()
    assert Plan({**raw, "shards": str(tmp_path)}).shard_settings("show", "warped", "00000")
    (tmp_path / "none").mkdir()
    assert Plan(raw).shard_settings("show", "warped", "00000")


def named(section: Section, values: dict[str, Any]) -> Iterator[str]:
    """The `later` settings of a section and its parts that its JSON has."""
    for name, part in section:
        if name in section.later and name in values:
            yield name
        if isinstance(part, Section) and isinstance(values.get(name), dict):
            yield from named(part, values[name])


def test_settings_that_came_later_are_in_no_json_at_their_defaults() -> None:
    """Else an update would make everything anew, because Snakemake compares the texts."""
    loaded = load()
    stages = [
        *(config.shard_settings(loaded, "mine", stream) for stream in config.STREAMS),
        *(config.train_settings(loaded, "mine", stream, "", **SPLIT) for stream in config.STREAMS),
        *(config.score_settings(loaded, "mine", stream, "", **SPLIT) for stream in config.STREAMS),
    ]
    assert {name for stage in stages for name in named(stage, stage.to_dict())} == set()
    changed = load(flow={"finest_warps": 2}, train={"head_lr": 3.0})
    stage = config.train_settings(changed, "mine", "warped", "", **SPLIT)
    assert set(named(stage, stage.to_dict())) == {"finest_warps", "head_lr"}
