from typing import Any

import pytest
import torch
from torch import nn

from atw.files import InputError
from atw.model.consensus import AttentionOptions
from atw.model.network import VideoNetwork
from atw.train import optim


class Toy(nn.Module):
    """One parameter of each kind; only the first convolution is special, however deep it sits."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.Parameter(torch.ones(3))
        self.stem = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4))
        self.second = nn.Conv2d(4, 4, 3)
        self.classifier = nn.Linear(4, 2)


TABLE = {
    "conv1_weight": ({"stem.0.0.weight"}, True),
    "conv1_bias": ({"stem.0.0.bias"}, False),
    "weight": ({"attention", "second.weight", "classifier.weight"}, True),
    "bias": ({"second.bias", "classifier.bias"}, False),
    "batch_norm": ({"stem.1.weight", "stem.1.bias"}, False),
}


def groups_of(network: nn.Module, stream: str = "flow", lr_multipliers: str = "tsn") -> dict[str, dict[str, Any]]:
    groups = optim.parameter_groups(
        network, stream=stream, learning_rate=0.01, weight_decay=5e-4, lr_multipliers=lr_multipliers
    )
    return {group["name"]: group for group in groups}


def names_in(group: dict[str, Any], network: nn.Module) -> set[str]:
    members = {id(parameter) for parameter in group["params"]}
    return {name for name, parameter in network.named_parameters() if id(parameter) in members}


@pytest.mark.parametrize(
    ("stream", "lr_multipliers", "multipliers"),
    [
        ("rgb", "tsn", [1, 2, 1, 2, 1]),
        ("flow", "tsn", [5, 10, 1, 2, 1]),
        ("warped", "tsn", [5, 10, 1, 2, 1]),
        ("flow", "uniform", [1, 1, 1, 1, 1]),
    ],
)
def test_the_groups_by_table(stream: str, lr_multipliers: str, multipliers: list[int]) -> None:
    network = Toy()
    groups = groups_of(network, stream, lr_multipliers)
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
    network = VideoNetwork(
        backbone=backbone,
        stream="flow",
        classes=5,
        stack=5,
        dropout=0,
        weights=None,
        consensus="attention",
        segments=4,
        attention=AttentionOptions(),
        partial_bn=partial_bn,
    )
    groups = groups_of(network)
    grouped = [id(parameter) for group in groups.values() for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in network.parameters() if p.requires_grad)
    assert len(grouped) == len(set(grouped))
    [first] = groups["conv1_weight"]["params"]
    assert first.shape[1] == 10
    assert names_in(groups["bias"], network) == {"backbone.classifier.bias", "consensus.bias"}
    assert names_in(groups["weight"], network) >= {"backbone.classifier.weight", "consensus.weight"}
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    live = {"none": norms, "first": 1, "all": 0}[partial_bn]
    assert len(groups.get("batch_norm", {"params": []})["params"]) == 2 * live


def test_two_steps_are_sgd_with_momentum_by_hand() -> None:
    torch.manual_seed(0)
    network = Toy().double()
    optimizer = optim.build_optimizer(
        network, stream="flow", learning_rate=0.1, momentum=0.9, weight_decay=0.01, lr_multipliers="tsn"
    )
    expected = {}
    for name, (lr, decay) in {
        "stem.0.0.weight": (0.5, 0.01),
        "stem.0.0.bias": (1.0, 0.0),
        "classifier.weight": (0.1, 0.01),
        "classifier.bias": (0.2, 0.0),
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


@pytest.mark.parametrize(
    ("iteration", "rgb", "flow"),
    [
        (0, 1.0, 1.0),
        (1999, 1.0, 1.0),
        (2000, 0.1, 1.0),
        (3999, 0.1, 1.0),
        (4000, 0.01, 1.0),
        (11999, 0.00001, 1.0),
        (12000, 0.000001, 0.1),
        (17999, 0.00000001, 0.1),
        (18000, 0.000000001, 0.01),
    ],
)
def test_the_papers_schedules(iteration: int, rgb: float, flow: float) -> None:
    every_2000 = tuple(range(2000, 18001, 2000))
    assert optim.learning_rate_factor(iteration, steps=every_2000) == pytest.approx(rgb, rel=1e-9)
    assert optim.learning_rate_factor(iteration, steps=(12000, 18000)) == pytest.approx(flow, rel=1e-9)


def test_warmup_rises_in_equal_steps_and_meets_the_decay() -> None:
    factors = [optim.learning_rate_factor(i, steps=(5,), factor=0.5, warmup=4) for i in range(7)]
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 0.5, 0.5])


def test_a_torch_scheduler_moves_every_group_by_the_factor() -> None:
    optimizer = optim.build_optimizer(
        Toy(), stream="flow", learning_rate=0.1, momentum=0.9, weight_decay=0, lr_multipliers="tsn"
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: optim.learning_rate_factor(i, steps=(2,)))
    seen = []
    for _ in range(3):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    base = [0.5, 1.0, 0.1, 0.2, 0.1]
    assert seen[0] == pytest.approx(base)
    assert seen[1] == pytest.approx(base)
    assert seen[2] == pytest.approx([lr / 10 for lr in base])


def test_unknown_multipliers_are_refused() -> None:
    with pytest.raises(InputError, match=r"lr_multipliers 'caffe'.*tsn, uniform"):
        groups_of(Toy(), lr_multipliers="caffe")
