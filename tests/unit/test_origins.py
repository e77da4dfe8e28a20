"""`atw config`: the settings of a target, each with where it comes from."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from atw import config
from atw.extras import origins
from atw.files import InputError

RAW: dict[str, Any] = {
    "seed": 5,
    "datasets": {
        "mine": {
            "kind": "folder",
            "root": "videos",
            "train": {"batch": 12},
            "streams": {"rgb": {"train": {"batch": 20}}},
            "flow": {"preset": "fast", "warps": 2},
        },
        "plain": {"kind": "demo", "evaluate": {"crop": 96}},
    },
    "train": {"batch": 8, "momentum": 0.5},
    "streams": {"flow": {"train": {"momentum": 0.6}}},
    "experiments": {
        "split7way": {},
        "more": {"train": {"iterations": 9}, "streams": {"warped": {"train": {"iterations": 11}}}},
    },
}


@pytest.fixture
def configfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # messages name files from there
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(RAW), encoding="utf-8")
    return path


def settings(found: origins.TargetSettings) -> dict[tuple[str, str], tuple[Any, str]]:
    return {(origin.stream, origin.key): (origin.value, origin.source) for origin in found.settings}


@pytest.mark.parametrize(
    ("stream", "key", "value", "source"),
    [
        ("", "seed", 5, "config.yaml: seed"),
        ("", "shards", "shards", "default"),
        ("", "datasets.mine.root", "videos", "config.yaml: datasets.mine"),
        ("", "datasets.mine.splits", 3, "default"),
        ("rgb", "train.momentum", 0.5, "config.yaml: train"),
        ("flow", "train.momentum", 0.6, "config.yaml: streams.flow.train"),
        ("flow", "train.batch", 12, "config.yaml: datasets.mine.train"),
        ("rgb", "train.batch", 20, "config.yaml: datasets.mine.streams.rgb.train"),
        ("rgb", "train.iterations", 9, "config.yaml: experiments.more.train"),
        ("warped", "train.iterations", 11, "config.yaml: experiments.more.streams.warped.train"),
        ("rgb", "sampling.segments", 4, "default"),
        ("flow", "flow.warps", 2, "config.yaml: datasets.mine.flow"),
        ("flow", "flow.theta", 0.2, "preset fast"),
        ("flow", "flow.bound", 20.0, "default"),
        ("warped", "train.learning_rate", 0.005, "default of warped"),
    ],
)
def test_each_layer_is_named(configfile: Path, stream: str, key: str, value: Any, source: str) -> None:
    found = origins.find("results/mine/experiments/more/split2/fused.json", configfile)
    assert (found.dataset, found.experiment) == ("mine", "more")
    assert settings(found)[stream, key] == (value, source)


def test_values_are_the_effective_ones_and_all_of_them(configfile: Path) -> None:
    found = settings(origins.find("mine/experiments/more", configfile))
    loaded = config.load(RAW)
    for stream in config.STREAMS:
        for section, keys in config.effective(loaded, "mine", stream, "more").model_dump(mode="json").items():
            for key, value in keys.items():
                shown, source = found[stream, f"{section}.{key}"]
                assert shown == value or (value is None and source == "preset fast")


def test_experiments_of_the_tables_are_the_papers(configfile: Path) -> None:
    found = settings(origins.find("mine/experiments/table1-average", configfile))
    assert found["rgb", "model.consensus"] == ("average", "atw/config/paper.py: experiments.table1-average.model")
    assert found["rgb", "model.backbone"][1] == "the paper's backbone of table1-average"


@pytest.mark.parametrize(
    ("target", "streams"),
    [
        ("mine", {"rgb", "flow", "warped"}),
        ("results/mine/split1/flow/model.pt", {"flow"}),
        ("results/mine/tables/table1.json", {"rgb", "flow", "warped"}),
        ("data/plain/split1.csv", {"rgb", "flow", "warped"}),
    ],
)
def test_targets(configfile: Path, target: str, streams: set[str]) -> None:
    assert {origin.stream for origin in origins.find(target, configfile).settings} - {""} == streams


def test_a_split_that_the_lists_lack_is_refused(configfile: Path) -> None:
    # Lists of `mine` are still to be drawn.
    assert origins.find("results/mine/split9/fused.json", configfile).dataset == "mine"
    assert origins.find("results/plain/experiments/split7way/split1/fused.json", configfile).experiment == "split7way"
    for target in (
        "results/plain/split4/fused.json",
        "data/plain/split4.csv",
        "results/plain/experiments/more/split4/rgb",
    ):
        with pytest.raises(InputError, match=r"^dataset plain has no split4; its splits are split1, split2, split3$"):
            origins.find(target, configfile)


@pytest.mark.parametrize("target", ["weights/resnet50.json", "data/downloads/ucf101.json"])
def test_files_without_settings_are_named_as_such(configfile: Path, target: str) -> None:
    with pytest.raises(InputError, match=f"^{target} depends on no settings; give a file of results, data or shards$"):
        origins.find(target, configfile)


def test_a_shard_has_what_its_bytes_depend_on(configfile: Path, tmp_path: Path) -> None:
    frames = settings(origins.find("shards/mine/rgb/00000.h5", configfile))
    assert ("rgb", "preprocess.jpeg_quality") in frames
    assert {key.partition(".")[0] for stream, key in frames if stream} == {"preprocess"}
    warped = settings(origins.find("shards/mine/warped/00000.h5", configfile))
    assert {key.partition(".")[0] for stream, key in warped if stream} == {"preprocess", "flow", "warp"}
    elsewhere = tmp_path / "elsewhere.yaml"
    elsewhere.write_text(yaml.safe_dump(RAW | {"shards": "/disk/shards"}), encoding="utf-8")
    assert settings(origins.find("/disk/shards/mine/rgb/00000.h5", elsewhere)).keys() == frames.keys()


def test_a_named_configuration_goes_over_config_yaml(configfile: Path) -> None:
    over = configfile.with_name("over.yaml")
    over.write_text("datasets: {mine: {train: {batch: 3}}, plain: {recipe: small}}")
    found = origins.find("mine", over)
    assert found.file == "over.yaml and config.yaml"
    assert settings(found)["flow", "train.batch"] == (3, f"{found.file}: datasets.mine.train")
    assert settings(found)["rgb", "train.momentum"] == (0.5, f"{found.file}: train")
    place = f"{found.file}: datasets.plain"
    assert settings(origins.find("plain", over))["", "datasets.plain.recipe"] == ("small", place)
    with pytest.raises(InputError, match=r"none\.yaml does not exist"):
        origins.find("mine", configfile.with_name("none.yaml"))


def test_a_file_that_nothing_makes_is_no_target(configfile: Path) -> None:
    with pytest.raises(InputError, match=r"nothing makes results/mine/split1/fusd\.json"):
        origins.find("results/mine/split1/fusd.json", configfile)


@pytest.mark.parametrize("target", ["results/nobody/split1/fused.json", "results", "", "."])
def test_unknown_targets_list_the_datasets(configfile: Path, target: str) -> None:
    with pytest.raises(InputError, match="known datasets: mine, plain"):
        origins.find(target, configfile)


@pytest.mark.parametrize("content", ["", "- a\n", "a: [\n", "\xff"])
def test_a_file_that_is_no_configuration(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=r"config\.yaml"):
        origins.find("mine", path)


def test_output(configfile: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    found = origins.find("mine", configfile)
    origins.show(found, as_json=True)
    content = json.loads(capsys.readouterr().out)
    assert {
        "stream": "rgb",
        "key": "train.batch",
        "value": 20,
        "source": "config.yaml: datasets.mine.streams.rgb.train",
    } in (content["settings"])
    origins.show(found, as_json=False)
    rows = [re.split(r"\s{2,}", line.strip()) for line in capsys.readouterr().out.splitlines()]
    assert ["train.batch", "rgb", "20", "datasets.mine.streams.rgb.train"] in rows
    assert ["train.batch", "flow, warped", "12", "datasets.mine.train"] in rows
    assert ["flow.warps", "2", "datasets.mine.flow"] in rows
