"""Networks, trainings and model files that several tests share: small ones, of the dataset "mine"."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from atw import config
from atw.config import Compute, Model, Sampling, TrainSettings
from atw.datasets import Dataset, Split
from atw.model.modelfile import Provenance, TrainedModel, save_model, software, training_record
from atw.model.network import VideoNetwork
from atw.train import loop
from atw.train.checkpoints import State
from atw.train.devices import Worker
from atw.train.task import TrainingTask
from tests.unit.configured import load

WriteShard = Callable[..., Any]
CPU = torch.device("cpu")
VIDEOS = {"a/1.avi": 9, "a/2.avi": 12, "a/3.avi": 6, "b/1.avi": 7, "b/2.avi": 14, "b/3.avi": 9}
LISTS = "path,label,subset\n" + "".join(
    f"{video},{video[0]},{'test' if '3' in video else 'train'}\n" for video in VIDEOS
)
PLAIN: dict[str, Any] = {
    "preprocess": {"width": 32, "height": 24},
    "sampling": {"segments": 2, "stack": 3},
    "augment": {"input_size": 16, "scales": [1.0, 0.875]},
    "model": {"backbone": "tiny", "weights": None, "dropout": 0.5, "partial_bn": "none", "attention_init": "ones"},
    "train": {"iterations": 7, "batch": 5, "learning_rate": 0.02, "steps": [4], "lr_multipliers": "uniform"},
    "evaluate": {"crop": 24, "crops": 10},
    "compute": {"gpus": 0, "loaders": 0, "microbatch": 3, "checkpoint_every": 3},
}


def settings_of(stream: Any = "flow", **model: Any) -> TrainSettings:
    """The settings of a small network, with changes of the section `model`."""
    tiny = {"backbone": "tiny", "weights": None, "partial_bn": "none", "attention_std": 1.0, "attention_bias": 0.5}
    sections = {"sampling": {"segments": 3, "stack": 2}, "augment": {"input_size": 32}, "model": tiny | model}
    return config.train_settings(load(**sections), "mine", stream, "", split="split1", videos="0")


def network_of(
    stream: Any = "flow",
    *,
    classes: int = 6,
    segments: int = 4,
    stack: int = 5,
    weights: Path | None = None,
    **model: Any,
) -> VideoNetwork:
    """A network of the settings `Model` with changes; the backbone is the demo's, without dropout or frozen norms."""
    torch.manual_seed(0)
    settings = Model.model_validate({"backbone": "tiny", "dropout": 0.0, "partial_bn": "none"} | model)
    sampling = Sampling(segments=segments, stack=stack)
    return VideoNetwork(settings, sampling, stream=stream, classes=classes, weights=weights)


def task_of(folder: Path, write_shard: WriteShard, stream: str = "flow", **changes: dict[str, Any]) -> TrainingTask:
    """A training whose settings are `PLAIN` with sections changed, on a shard that is written once."""
    (folder / "split1.csv").write_text(LISTS, encoding="utf-8")
    sections = {name: PLAIN[name] | changes.get(name, {}) for name in PLAIN}
    given = {"kind": "folder", "root": str(folder), "lists": str(folder / "split{split}.csv")}
    loaded = config.load({"datasets": {"mine": given}, **sections})
    shard = folder / stream / "00000.h5"
    if not shard.exists():
        write_shard(shard, stream, VIDEOS, width=32, height=24)
    split = Dataset(config.location(loaded, "mine")).split("split1")
    settings = config.train_settings(loaded, "mine", stream, "", split="split1", videos=split.digest)
    compute = config.effective(loaded, "mine", stream).compute
    return TrainingTask(settings, compute, split, [shard], None)


def with_seed(task: TrainingTask, seed: int) -> TrainingTask:
    """The same training with another seed."""
    return replace(task, settings=task.settings.model_copy(update={"seed": seed}))


def run_training(
    task: TrainingTask, history: Path, *, state: State | None = None, **options: Any
) -> tuple[list[dict[str, Any]], dict[int, State]]:
    """History without waiting times, and the checkpoints by iteration, each as a file gives it back."""
    checkpoints = {}

    def save(state: State) -> None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        buffer.seek(0)
        checkpoints[state["iteration"]] = torch.load(buffer, weights_only=True)

    torch.manual_seed(12345)  # what was drawn before must not matter
    loop.run(task, Worker(CPU), state=state, history_path=history, save=save, **options)
    rows = [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        assert row.pop("data_wait_seconds") >= 0
    return rows, checkpoints


def provenance(microbatch: int, **parts: Any) -> Provenance:
    """Of a network that was trained on the CPU."""
    compute = Compute(gpus=0).model_dump() | {"microbatch": microbatch}
    return Provenance.model_validate({"hardware": "CPU", "compute": compute, "software": software()} | parts)


def write_trained(path: Path, task: TrainingTask, state: State, history: Path) -> None:
    """The model file of a training that ended with a state."""
    origin = provenance(3, shard_settings=task.settings.shards.to_dict())
    network = loop.build_network(task)
    model = TrainedModel(network, task.split.classes, task.settings, training_record(history), origin)
    save_model(path, model, loop.final_parameters(state))


def write_model(folder: Path, *, stream: str = "flow", **model: Any) -> Path:
    """The model file of a network of three classes at random weights, with changes of the section `model`."""
    settings = settings_of(stream, **model)
    network = loop.build_network(TrainingTask(settings, Compute(), Split("split1", (), (), ("a", "b", "c")), [], None))
    network.backbone.classifier.weight.data.mul_(300)
    model = TrainedModel(network, ("a", "b", "c"), settings, {"iterations": 1, "loss": 1.0}, provenance(4))
    save_model(folder / "model.pt", model, network.state_dict())
    return folder / "model.pt"


def assert_equal(one: Any, two: Any) -> None:
    """Equal to the last bit, through dictionaries and lists."""
    assert type(one) is type(two)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two)
    elif isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            assert_equal(one[key], two[key])
    elif isinstance(one, list):
        for left, right in zip(one, two, strict=True):
            assert_equal(left, right)
    else:
        assert one == two
