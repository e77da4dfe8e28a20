"""The consensus over snippets beside the same equations in float64, video by video."""

from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from atw.config import Model
from atw.model.consensus import CONSENSUSES, SnippetConsensus

B, N, K, D = 3, 4, 5, 7
FUNCTIONS = {
    "relu": lambda e: np.maximum(e, 0),
    "tanh": np.tanh,
    "sigmoid": lambda e: 1 / (1 + np.exp(-e)),
    "none": lambda e: e,
}


def inputs(snippets: int = N) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    scores = 2 * torch.randn(B, snippets, K, generator=generator)
    return scores, torch.randn(B, snippets, D, generator=generator)


def build(name: str = "attention", *, classes: int = K, **attention: Any) -> Any:
    torch.manual_seed(0)
    model = Model.model_validate(
        {"consensus": name} | {f"attention_{option}": value for option, value in attention.items()}
    )
    return CONSENSUSES[name](model, classes=classes, features=D, segments=N)


def by_hand(scores: Tensor, energies: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Equations 3 and 4 in float64, video by video: logits [B, K] and weights [B, N]."""
    weights = np.array([[np.exp(e) / sum(np.exp(row)) for e in row] for row in energies])
    logits = np.zeros((len(weights), scores.shape[2]))
    for b, row in enumerate(weights):
        for i, weight in enumerate(row):
            logits[b] += weight * scores[b, i].double().numpy()
    return logits, weights


def options_of(setting: str) -> tuple[str, ...]:
    return get_args(Model.model_fields[setting].annotation)


def test_the_names_are_those_of_the_configuration() -> None:
    assert sorted(CONSENSUSES) == sorted(options_of("consensus"))


def test_a_class_registers_itself() -> None:
    class Registered(SnippetConsensus, name="of this test"):
        pass

    assert CONSENSUSES.pop("of this test") is Registered


@pytest.mark.parametrize("activation", options_of("attention_activation"))
@pytest.mark.parametrize("on", options_of("attention_on"))
@pytest.mark.parametrize("bias", [0.0, 0.7])
@pytest.mark.parametrize("snippets", [1, N, 80])
def test_attention_is_equations_2_to_4(activation: str, on: str, bias: float, snippets: int) -> None:
    module = build(on=on, activation=activation, std=1.0, bias=bias)
    scores, features = inputs(snippets)
    seen = (scores if on == "scores" else features).double().numpy()
    w = module.weight.detach().double().numpy()
    energies = FUNCTIONS[activation](np.array([[sum(w * a) + bias for a in video] for video in seen]))
    logits, weights = by_hand(scores, energies)
    result = module(scores, features)
    np.testing.assert_allclose(result.energies.detach(), energies, atol=2e-6)
    np.testing.assert_allclose(result.weights.detach(), weights, atol=2e-6)
    np.testing.assert_allclose(result.logits.detach(), logits, atol=5e-6)


def test_the_initialisations() -> None:
    for on, width in (("scores", K), ("features", D)):
        assert torch.equal(build(on=on, init="ones").weight, torch.ones(width))
        mean = build(on=on, init="mean")
        assert torch.equal(mean.weight, torch.full((width,), 0.25))
        assert mean.bias.item() == 6
    gaussian = build(classes=20_000, std=0.3, bias=-1.0)
    assert gaussian.weight.std().item() == pytest.approx(0.3, rel=0.05)
    assert gaussian.weight.mean().item() == pytest.approx(0, abs=0.01)
    assert gaussian.bias.item() == -1


def test_a_dead_rectifier_is_the_average_and_learns_nothing_and_the_default_bias_prevents_that() -> None:
    scores, features = inputs()
    scores = -scores.abs().requires_grad_()
    dead, alive = build(init="ones", bias=0.0), build()
    result = dead(scores, features)
    assert torch.equal(result.energies, torch.zeros(B, N))
    assert torch.equal(result.weights, torch.full((B, N), 1 / N))
    torch.testing.assert_close(result.logits, scores.mean(1))
    for module in (dead, alive):
        nn.functional.cross_entropy(module(scores, features).logits, torch.arange(B)).backward()
    assert torch.equal(dead.weight.grad, torch.zeros(K))
    assert torch.equal(dead.bias.grad, torch.zeros(1))
    assert alive.weight.grad.abs().max() > 1e-3


def test_one_snippet_at_a_time_is_not_attention() -> None:
    module = build(std=1.0)
    scores, features = inputs()
    together = module(scores, features)
    alone = torch.stack([module(scores[:, i : i + 1], features[:, i : i + 1]).logits for i in range(N)]).mean(0)
    torch.testing.assert_close(alone, scores.mean(1))
    assert (together.logits - alone).abs().max() > 0.1


def gated(module: Any, scores: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    V, c, w = (tensor.double() for tensor in (module.hidden.weight, module.hidden.bias, module.energy.weight[0]))
    energies = []
    for h in features:
        hidden = torch.tanh(V @ h + c)
        if module.gate is not None:
            hidden = hidden / (1 + torch.exp(-(module.gate.weight.double() @ h + module.gate.bias.double())))
        energies.append((w * hidden).sum())
    weights = torch.stack(energies).exp()
    weights = weights / weights.sum()
    return sum(weight * score for weight, score in zip(weights, scores, strict=True)), weights  # type: ignore[return-value]


def sigmoid(module: Any, scores: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    energies = features @ module.energy.weight[0].double() + module.energy.bias.double()
    weights = 1 / (1 + torch.exp(-energies))
    weights = weights / weights.sum()
    return (weights[:, None] * scores).sum(0), weights


def lse(module: Any, scores: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    r = module.rho.double().exp()
    logits = torch.log(torch.exp(r * scores).mean(0)) / r
    weights = torch.exp(r * scores[:, logits.argmax()])
    return logits, weights / weights.sum()


def mean_of_highest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    logits = torch.stack([torch.stack(sorted(column)[-k:]).mean() for column in scores.T])
    column = scores[:, logits.argmax()]
    return logits, (column >= sorted(column)[-k]).double() / k


REFERENCES: dict[str, Any] = {
    "gated": gated,
    "sigmoid": sigmoid,
    "lse": lse,
    "max": lambda module, scores, features: mean_of_highest(scores, 1),
    "topk": lambda module, scores, features: mean_of_highest(scores, {1: 1, N: 2, 80: 27}[len(scores)]),
    "average": lambda module, scores, features: (scores.mean(0), torch.full((len(scores),), 1 / len(scores))),
}


@pytest.mark.parametrize("snippets", [1, N, 80])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in REFERENCES if name != "topk"),
        ("topk", {"topk_divisor": 3}),
        ("gated", {"attention_gate": False, "attention_hidden": 5}),
    ],
)
def test_values_and_gradients_are_those_of_the_formula_in_float64(
    name: str, options: dict[str, Any], snippets: int
) -> None:
    torch.manual_seed(1)
    model = Model.model_validate({"consensus": name} | options)
    module = CONSENSUSES[name](model, classes=K, features=D, segments=N)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    given = [tensor.requires_grad_() for tensor in inputs(snippets)]
    exact = [tensor.detach().double().requires_grad_() for tensor in given]
    result = module(*given)
    expected = [REFERENCES[name](module, scores, features) for scores, features in zip(*exact, strict=True)]
    logits, weights = (torch.stack(parts).double() for parts in zip(*expected, strict=True))
    torch.testing.assert_close(result.logits.double(), logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(result.weights.double(), weights, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(result.weights.sum(1), torch.ones(B))
    downstream = torch.linspace(-1, 2, B * K).reshape(B, K)
    (result.logits * downstream).sum().backward()
    own = [parameter.grad.double() for parameter in module.parameters() if parameter.grad is not None]
    assert len(own) == len(list(module.parameters()))
    module.zero_grad()
    (logits * downstream.double()).sum().backward()
    for tensor, reference in zip(given, exact, strict=True):
        if tensor.grad is not None:
            assert reference.grad is not None
            torch.testing.assert_close(tensor.grad.double(), reference.grad, rtol=1e-4, atol=1e-6)
    for gradient, parameter in zip(own, module.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(gradient, parameter.grad.double(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["gated", "sigmoid"])
def test_soft_attention_starts_near_the_average_on_features_of_unit_size(name: str) -> None:
    scores, features = inputs(80)
    weights = build(name)(scores, features).weights
    assert weights.max() < 2.5 / 80


@pytest.mark.parametrize(("rho", "reference"), [(-9.0, "average"), (5.0, "max")])
def test_log_sum_exp_goes_from_the_average_to_the_maximum(rho: float, reference: str) -> None:
    scores, features = inputs(80)
    module = build("lse")
    with torch.no_grad():
        module.rho.fill_(rho)
    close = {"rtol": 0.0, "atol": 0.05}
    torch.testing.assert_close(module(scores, features).logits, build(reference)(scores, features).logits, **close)


def test_weights_of_far_negative_energies_still_sum_to_1() -> None:
    module = build("sigmoid")
    scores, features = inputs()
    with torch.no_grad():
        module.energy.bias.fill_(-500.0)
    result = module(scores, features)
    torch.testing.assert_close(result.weights.sum(1), torch.ones(B))
    assert result.weights.min() > 0


def test_of_equal_scores_one_snippet_is_taken() -> None:
    scores, features = torch.ones(1, N, K), torch.zeros(1, N, D)
    assert sorted(build("max")(scores, features).weights[0].tolist()) == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("snippets", "segments"),
    [(4, [0, 1, 2, 3]), (8, [0, 0, 1, 1, 2, 2, 3, 3]), (6, [0, 0, 1, 2, 2, 3]), (2, [0, 2]), (1, [0])],
)
def test_weighted_takes_the_weight_of_the_segment_that_a_snippet_is_in(snippets: int, segments: list[int]) -> None:
    module = build("weighted")
    assert torch.equal(module.weight, torch.zeros(N))
    learned = [0.5, -1.0, 2.0, 0.0]
    with torch.no_grad():
        module.weight.copy_(torch.tensor(learned))
    scores, features = inputs(snippets)
    energies = np.array([[learned[segment] for segment in segments]] * B)
    logits, weights = by_hand(scores, energies)
    result = module(scores, features)
    np.testing.assert_allclose(result.energies.detach(), energies)
    np.testing.assert_allclose(result.weights.detach(), weights, atol=1e-6)
    np.testing.assert_allclose(result.logits.detach(), logits, atol=5e-6)


@pytest.mark.parametrize("name", CONSENSUSES)
def test_half_precision_scores_are_weighed_in_float32_and_each_video_by_itself(name: str) -> None:
    module = build(name) if name != "attention" else build(std=1.0)
    scores, features = (tensor.bfloat16() for tensor in inputs())
    reference = module(scores.float(), features.float())
    torch.testing.assert_close(module(scores[1:2], features[1:2]).logits, reference.logits[1:2])
    with torch.autocast("cpu", torch.bfloat16):
        result = module(scores, features)
    for value, expected in zip(result, reference, strict=True):
        assert value.dtype == torch.float32
        assert torch.equal(value, expected)
