"""What each stage computes from fixed videos, and what the demo draws, beside its recipe number.

Snakemake does not see a change inside the package, so one that changes what a stage computes must raise the stage's
number in `atw.config.RECIPES`. This test fails until it has; `pytest tests/golden --update-golden` then writes the new
values. Values are coarse means, so that rounding on another processor does not matter.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from atw import config
from atw.datasets import Dataset
from atw.datasets.demo import CLASSES
from atw.extras.demo.render import render_clip
from atw.preprocess.shard import make
from atw.shards import Shard
from atw.train import loop
from atw.train.devices import Worker
from atw.train.task import TrainingTask
from tests.rules.conftest import CONFIG, HEIGHT, WIDTH, write_video

GOLDEN = Path(__file__).parent / "recipes.json"
TOLERANCE = {"render": 0.05, "rgb": 0.2, "flow": 0.3, "warped": 0.3, "train": 2e-3}


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    folder = tmp_path_factory.mktemp("recipes")
    rows = [("left/a.avi", "left", "train"), ("up/b.avi", "up", "train"), ("left/c.avi", "left", "test")]
    for number, (path, label, _) in enumerate(rows):
        write_video(folder / path, label, number)
    listing = folder / "split1.csv"
    listing.write_text("path,label,subset\n" + "".join(",".join(row) + "\n" for row in rows), encoding="utf-8")
    # A working size of its own, so that resizing is part of what is looked at.
    given = CONFIG["datasets"]["tiny"] | {"root": str(folder), "lists": str(listing)}
    given["preprocess"] = {"width": 80, "height": 56, "shards": 1}
    given["train"] = given.get("train", {}) | {"iterations": 3, "batch": 4}
    plan = config.load({"datasets": {"tiny": given}})
    dataset = Dataset(config.location(plan, "tiny"))
    values = {"render": _drawn()}
    for stream in config.STREAMS:
        settings = config.shard_settings(plan, "tiny", stream)
        settings = settings.of_shard("00000", dataset.members_digest("00000", 1))
        flow = folder / "flow.h5" if stream == "warped" else None
        make(folder / f"{stream}.h5", settings, dataset, flow_path=flow, threads=1)
        values[stream] = _grid(folder / f"{stream}.h5")
    values["train"] = _losses(plan, dataset, folder)
    return values


def _drawn() -> list[float]:
    """Where actions are, and means over the cells of frames: one of each action, and some of an untrimmed clip."""
    values: list[float] = []
    for seed, label in enumerate(CLASSES):
        clip = render_clip(label, seed=seed)
        values += [clip.action_first, clip.action_last, *_cells(clip.frames[clip.action_first + 5].mean(axis=2))]
    untrimmed = config.Rendering(frames=(100, 110), action_share=(0.1, 0.15), movements=10.0)
    clip = render_clip("walk", seed=24, rendering=untrimmed)  # it has all movements
    values += [clip.action_first, clip.action_last]
    return [*values, *(mean for frame in clip.frames[4::10] for mean in _cells(frame.mean(axis=2)))]


def _grid(path: Path) -> list[float]:
    """Means over the cells of the middle item of every video."""
    means = []
    with Shard(path) as shard:
        for entry in shard.entries:
            if shard.stream == "rgb":
                image = shard.frames(entry, [entry.count // 2])[0].mean(axis=2)
            else:
                image = np.concatenate(list(shard.fields(entry, [entry.count // 2])[0]), axis=1)
            means += _cells(image)
    return means


def _cells(image: NDArray[np.float64]) -> list[float]:
    """Means over the cells of a 4 x 4 grid."""
    height, width = (side // 4 * 4 for side in image.shape)
    cells = image[:height, :width].reshape(4, height // 4, 4, width // 4).mean(axis=(1, 3))
    return [round(float(mean), 3) for mean in cells.ravel()]


def _losses(plan: config.Config, dataset: Dataset, folder: Path) -> list[float]:
    torch.set_num_threads(1)
    # Frames are the same on every processor, where flow is rounded differently.
    settings = config.train_settings(plan, "tiny", "rgb", "", split="split1", videos="")
    compute = config.effective(plan, "tiny", "rgb").compute
    task = TrainingTask(settings, compute, dataset.split("split1"), [folder / "rgb.h5"], None)
    history = folder / "history.jsonl"
    loop.run(task, Worker(torch.device("cpu")), state=None, history_path=history, save=lambda state: None)
    return [round(json.loads(line)["loss"], 5) for line in history.read_text().splitlines()]


def test_what_a_stage_computes_changes_with_its_recipe_only(
    computed: dict[str, list[float]], update_golden: bool
) -> None:
    assert (HEIGHT, WIDTH) == (48, 64)
    current = {name: {"recipe": config.RECIPES[name], "values": values} for name, values in computed.items()}
    if update_golden:
        lines = [f'"{name}": {json.dumps(now)}' for name, now in current.items()]
        GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    for name, now in current.items():
        same = np.allclose(now["values"], golden[name]["values"], rtol=0, atol=TOLERANCE[name])
        assert same == (now["recipe"] == golden[name]["recipe"]), (
            f"what {name} computes has changed and its recipe number has not, or the other way round: "
            "raise the number in atw/config/stages.py and write the golden values anew"
        )
    assert {name: now["recipe"] for name, now in current.items()} == {
        name: golden[name]["recipe"] for name in golden
    }, "recipe numbers were raised: write the golden values anew"
