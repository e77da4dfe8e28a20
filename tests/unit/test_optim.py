"""Parameter groups, two steps of SGD by hand, and the learning rate over time."""

from typing import Any

import pytest
import torch
from torch import nn

from atw import config
from atw.config import Train, TrainSettings
from atw.train.optim import build_optimizer, learning_rate_factor
from tests.unit.trainings import network_of, settings_of


class Toy(nn.Module):
    """One parameter of each kind; only the first convolution is special, however deep it sits."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.stem = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4))
        self.backbone.second = nn.Conv2d(4, 4, 3)
        self.backbone.classifier = nn.Linear(4, 2)
        self.consensus = nn.Module()
        self.consensus.weight = nn.Parameter(torch.ones(3))


TABLE = {
    "conv1_weight": ({"backbone.stem.0.0.weight"}, True),
    "conv1_bias": ({"backbone.stem.0.0.bias"}, False),
    "weight": ({"backbone.second.weight"}, True),
    "bias": ({"backbone.second.bias"}, False),
    "batch_norm": ({"backbone.stem.1.weight", "backbone.stem.1.bias"}, False),
    "head_weight": ({"consensus.weight", "backbone.classifier.weight"}, True),
    "head_bias": ({"backbone.classifier.bias"}, False),
}


def with_train(stream: str, **train: Any) -> TrainSettings:
    return settings_of(stream).model_copy(update={"train": Train.model_validate(train)})


def groups_of(network: Any, settings: TrainSettings) -> dict[str, dict[str, Any]]:
    return {group["name"]: group for group in build_optimizer(network, settings).param_groups}


def names_in(group: dict[str, Any], network: nn.Module) -> set[str]:
    members = {id(parameter) for parameter in group["params"]}
    return {name for name, parameter in network.named_parameters() if id(parameter) in members}


@pytest.mark.parametrize(
    ("stream", "changes", "multipliers"),
    [
        ("rgb", {}, [1, 2, 1, 2, 1, 1, 2]),
        ("flow", {}, [5, 10, 1, 2, 1, 1, 2]),
        ("warped", {}, [5, 10, 1, 2, 1, 1, 2]),
        ("flow", {"lr_multipliers": "uniform"}, [1] * 7),
        ("flow", {"head_lr": 10.0}, [5, 10, 1, 2, 1, 10, 20]),
        ("flow", {"head_lr": 0.5, "lr_multipliers": "uniform"}, [1, 1, 1, 1, 1, 0.5, 0.5]),
    ],
)
def test_the_groups_by_table(stream: str, changes: dict[str, Any], multipliers: list[float]) -> None:
    network = Toy()
    groups = groups_of(network, with_train(stream, learning_rate=0.01, **changes))
    assert list(groups) == list(TABLE)
    for (name, (members, decays)), multiplier in zip(TABLE.items(), multipliers, strict=True):
        assert names_in(groups[name], network) == members
        assert groups[name]["lr"] == pytest.approx(0.01 * multiplier)
        assert groups[name]["weight_decay"] == (5e-4 if decays else 0)


@pytest.mark.parametrize("backbone", ["tiny", "resnet18", "mobilenet_v2"])
@pytest.mark.parametrize("partial_bn", ["none", "first", "all"])
def test_each_trainable_parameter_of_a_network_is_in_one_group_and_no_frozen_one(
    backbone: str, partial_bn: str
) -> None:
    network = network_of(backbone=backbone, partial_bn=partial_bn)
    groups = groups_of(network, settings_of())
    grouped = [id(parameter) for group in groups.values() for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in network.parameters() if p.requires_grad)
    [first] = groups["conv1_weight"]["params"]
    assert first.shape[1] == 10
    assert names_in(groups["head_bias"], network) == {"backbone.classifier.bias", "consensus.bias"}
    assert names_in(groups["head_weight"], network) == {"backbone.classifier.weight", "consensus.weight"}
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    live = {"none": norms, "first": 1, "all": 0}[partial_bn]
    assert len(groups.get("batch_norm", {"params": []})["params"]) == 2 * live


def test_two_steps_are_sgd_with_momentum_by_hand() -> None:
    torch.manual_seed(0)
    network: Any = Toy().double()
    optimizer = build_optimizer(network, with_train("flow", learning_rate=0.1, momentum=0.9, weight_decay=0.01))
    expected = {}
    for name, (lr, decay) in {
        "backbone.stem.0.0.weight": (0.5, 0.01),
        "backbone.stem.0.0.bias": (1.0, 0.0),
        "backbone.classifier.weight": (0.1, 0.01),
        "backbone.classifier.bias": (0.2, 0.0),
    }.items():
        start = network.get_parameter(name).detach().clone()
        velocity = 1 + decay * start
        after_one = start - lr * velocity
        velocity = 0.9 * velocity + 1 + decay * after_one
        expected[name] = after_one - lr * velocity
    for _ in range(2):
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    for name, value in expected.items():
        torch.testing.assert_close(network.get_parameter(name).detach(), value)


def factors(at: list[int], **changes: Any) -> list[float]:
    train = Train.model_validate({"steps": 2000, "iterations": 18_000} | changes)
    return [learning_rate_factor(iteration, train) for iteration in at]


@pytest.mark.parametrize(
    ("iteration", "rgb", "flow"),
    [
        (0, 1e-3, 5e-3),
        (1999, 1e-3, 5e-3),
        (2000, 1e-4, 5e-3),
        (4000, 1e-5, 5e-3),
        (11999, 1e-8, 5e-3),
        (12000, 1e-9, 5e-4),
        (18000, 1e-12, 5e-5),
    ],
)
def test_the_papers_learning_rates_by_the_defaults(iteration: int, rgb: float, flow: float) -> None:
    loaded = config.load({"datasets": {"mine": {"kind": "folder", "root": "r", "lists": "l.csv"}}})
    for stream, expected in (("rgb", rgb), ("flow", flow), ("warped", flow)):
        train = config.effective(loaded, "mine", stream).train
        assert train.learning_rate * learning_rate_factor(iteration, train) == pytest.approx(expected, rel=1e-9)


def test_steps_may_be_a_list() -> None:
    assert factors([*range(7)], steps=[3, 5]) == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    assert factors([10**6], steps=[]) == [1]


def test_the_cosine_falls_from_1_to_0() -> None:
    cosine = {"schedule": "cosine", "iterations": 12, "steps": 1}
    half_root = 3**0.5 / 4
    expected = [1, 0.5 + half_root, 0.75, 0.5, 0.25, 0.5 - half_root, 0]
    assert factors([0, 2, 4, 6, 8, 10, 12], **cosine) == pytest.approx(expected)
    assert factors([6], **cosine | {"iterations": 24}) == pytest.approx([0.5 + 2**0.5 / 4])


def test_warmup_rises_in_equal_steps_and_meets_the_decay() -> None:
    found = factors([*range(7)], steps=[2, 5], warmup=4)
    assert found == pytest.approx([0.25, 0.5, 0.075, 0.1, 0.1, 0.01, 0.01])
    cosine = {"schedule": "cosine", "iterations": 12}
    assert factors([4], **cosine, warmup=10) == pytest.approx([0.5 * 0.75])
    assert factors([10], **cosine, warmup=10) == factors([10], **cosine)
