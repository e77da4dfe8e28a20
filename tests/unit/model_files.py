"""Model files of a tiny network with random weights."""

from pathlib import Path

from atw.config import Compute, TrainSettings
from atw.datasets import Split
from atw.train import loop
from atw.train.modelfile import save_model
from tests.unit.configured import of_split


def write_model(folder: Path, *, consensus: str = "attention", on: str = "scores", stream: str = "flow") -> Path:
    """Write `folder`/model.pt, of three classes, with scores that differ from snippet to snippet."""
    model = {
        "backbone": "tiny",
        "dropout": 0.5,
        "consensus": consensus,
        "attention_on": on,
        "attention_activation": "relu",
        "attention_init": "gaussian",
        "attention_std": 1.0,
        "attention_bias": 0.5,
        "partial_bn": "none",
    }
    given = {
        "recipe": 1,
        "dataset": "mine",
        "stream": stream,
        "seed": 1,
        "sampling": {"segments": 3, "stack": 2},
        "augment": {"input_size": 32},
        "model": model,
        "train": {},
        **of_split(stream),
    }
    settings = TrainSettings.model_validate(given)
    task = loop.Task(settings, Compute(), Split("split1", (), (), ("a", "b", "c")), [], None)
    network = loop.build_network(task)
    network.backbone.classifier.weight.data.mul_(300)
    history = folder / "history.jsonl"
    history.write_text('{"iteration": 1, "loss": 1.0}\n')
    save_model(
        folder / "model.pt", task, network.to_record(), network.state_dict(), {"compute": {"microbatch": 4}}, history
    )
    return folder / "model.pt"
