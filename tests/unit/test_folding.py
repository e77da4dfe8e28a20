"""Batch norms folded into convolutions: the same scores and gradients as those of the network that torchvision runs."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from atw.model.backbones import build
from atw.model.folding import fold_norms
from benchmarks import folding as benchmark

# One network of each kind: norms behind convolutions, before them (densenet), with and without bias, grouped, split.
NETWORKS = {
    "tiny": 12,
    "bninception": 69,
    "densenet121": 59,
    "mobilenet_v2": 52,
    "regnet_y_400mf": 53,
    "resnet18": 20,
    "shufflenet_v2_x0_5": 56,
    "vgg11_bn": 8,
}
"""How many norms read a convolution that no other layer reads."""


def networks(name: str) -> tuple[nn.Module, nn.Module]:
    """The same network in float64, plain and folded, with statistics and scales that tell the channels apart."""
    torch.manual_seed(0)
    plain = build(name, in_channels=10, classes=3, dropout=0.0, weights=None, stream="flow").body.double()
    for norm in norms(plain):
        norm.get_buffer("running_mean").normal_()
        norm.get_buffer("running_var").uniform_(0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
    for layer in plain.modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.normal_(layer.bias)
    folded = deepcopy(plain)
    fold_norms(folded)
    return plain, folded


def norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def snippets() -> Tensor:
    return torch.randn(2, 10, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def gradients(network: nn.Module) -> dict[str, Tensor]:
    network.zero_grad()
    network(snippets()).square().sum().backward()
    return {name: value.grad for name, value in network.named_parameters() if value.grad is not None}


@pytest.mark.parametrize(("name", "live"), [("tiny", 0), ("tiny", None), *((name, 1) for name in NETWORKS)])
def test_scores_and_gradients_are_those_of_the_plain_network(name: str, live: int | None) -> None:
    both = networks(name)
    assert both[0].state_dict().keys() == both[1].state_dict().keys()
    for network in both:
        network.eval()
        for norm in norms(network)[:live]:
            norm.train()
    passed: list[bool] = []
    for norm in norms(both[1]):
        norm.register_forward_hook(lambda _, given, result: passed.append(result is given[0]))
    features, as_features = (network(snippets()) for network in both)
    assert sum(passed) == {0: NETWORKS[name], 1: NETWORKS[name] - 1, None: 0}[live], "a folded norm does no work"
    torch.testing.assert_close(as_features, features, rtol=1e-9, atol=1e-9)
    expected, found = (gradients(network) for network in both)
    assert found.keys() == expected.keys()
    for parameter, gradient in expected.items():
        # A bias in front of a norm in training mode has a gradient of 0, but for rounding.
        atol = max(1e-8 * float(gradient.abs().max()), 1e-12)
        torch.testing.assert_close(found[parameter], gradient, rtol=0, atol=atol, msg=parameter)
    for one, other in zip(*map(norms, both), strict=True):
        torch.testing.assert_close(one.running_mean, other.running_mean)


def test_a_copy_folds_its_own_norms() -> None:
    _, folded = networks("tiny")
    copied = deepcopy(folded.eval())
    before = copied(snippets())
    for norm in norms(folded):
        nn.init.zeros_(norm.weight)
    assert torch.equal(copied(snippets()), before)
    for norm in norms(copied):
        nn.init.zeros_(norm.weight)
    assert not torch.equal(copied(snippets()), before)


def test_the_benchmark_compares_the_plain_and_the_folded_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "PAGE", tmp_path / "folding.md")
    monkeypatch.setattr(benchmark, "CASES", (("resnet18", 32, 1),))
    monkeypatch.setattr(benchmark, "ROUNDS", 1)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    plain, folded = (benchmark.network("resnet18", folded=folded) for folded in (False, True))
    assert [sum(type(norm) is nn.BatchNorm2d for norm in norms(built)) for built in (plain, folded)] == [20, 0]
    assert benchmark.main(["--write"]) == 0
    rows = [
        line.split("|")[2:-1] for line in (tmp_path / "folding.md").read_text().splitlines() if "| resnet18" in line
    ]
    assert [cells[0].strip() for cells in rows] == ["32 px, fp32", "32 px, bf16"]
    for cells in rows:
        assert 0 < float(cells[4]) < 1, "what autograd keeps of a video, as a share of the plain network's"
        assert all(float(cell) > 0 for cell in cells[1:] if cell.strip())
