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


def test_average_and_max_by_hand_report_uniform_weights() -> None:
    scores, features = inputs()
    table = scores.numpy()
    for name, reference in (("average", table.sum(1) / N), ("max", table.max(1))):
        result = build(name)(scores, features)
        np.testing.assert_allclose(result.logits, reference, rtol=1e-5, atol=1e-6)
        assert torch.equal(result.weights, torch.full((B, N), 1 / N))
        assert torch.equal(result.energies, torch.zeros(B, N))


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
