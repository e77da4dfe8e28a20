import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from atw.files import InputError
from atw.model import consensus
from atw.model.consensus import AttentionConsensus, AttentionOptions

B, N, K, D = 3, 4, 5, 7


def inputs(snippets: int = N, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(B, snippets, K, generator=generator)
    return scores, torch.randn(B, snippets, D, generator=generator)


def build(name: str, **options: object) -> nn.Module:
    attention = AttentionOptions(**options)  # type: ignore[arg-type]
    return consensus.build(name, classes=K, features=D, segments=N, attention=attention)


def by_hand(scores: Tensor, energies: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Equations 3 and 4 in float64, video by video: logits [B, K] and weights [B, N]."""
    weights = np.array([[np.exp(e) / sum(np.exp(row)) for e in row] for row in energies])
    logits = np.zeros((len(weights), scores.shape[2]))
    for b, row in enumerate(weights):
        for i, weight in enumerate(row):
            logits[b] += weight * scores[b, i].double().numpy()
    return logits, weights


FUNCTIONS = {
    "relu": lambda e: np.maximum(e, 0),
    "tanh": np.tanh,
    "sigmoid": lambda e: 1 / (1 + np.exp(-e)),
    "none": lambda e: e,
}


@pytest.mark.parametrize("activation", consensus.ACTIVATIONS)
@pytest.mark.parametrize("on", consensus.SOURCES)
@pytest.mark.parametrize("bias", [0.0, 0.7])
@pytest.mark.parametrize("snippets", [1, N, 80])
def test_attention_is_equations_2_to_4(activation: str, on: str, bias: float, snippets: int) -> None:
    torch.manual_seed(1)
    module = build("attention", on=on, activation=activation, std=1.0, bias=bias)
    assert isinstance(module, AttentionConsensus)
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
    torch.manual_seed(0)
    for on, width in (("scores", K), ("features", D)):
        ones = build("attention", on=on, init="ones")
        assert torch.equal(ones.weight, torch.ones(width))
        mean = build("attention", on=on, init="mean")
        assert torch.equal(mean.weight, torch.full((width,), 0.25))
        assert mean.bias.item() == 6
    gaussian = consensus.build(
        "attention", classes=20_000, features=D, segments=N, attention=AttentionOptions(std=0.3, bias=-1)
    )
    assert gaussian.weight.std().item() == pytest.approx(0.3, rel=0.05)
    assert gaussian.weight.mean().item() == pytest.approx(0, abs=0.01)
    assert gaussian.bias.item() == -1


def test_a_dead_rectifier_is_the_average_and_learns_nothing() -> None:
    module = build("attention", init="ones", bias=0)
    scores, features = inputs()
    scores = -scores.abs().requires_grad_()
    result = module(scores, features)
    assert torch.equal(result.energies, torch.zeros(B, N))
    assert torch.equal(result.weights, torch.full((B, N), 1 / N))
    torch.testing.assert_close(result.logits, scores.mean(1))
    nn.functional.cross_entropy(result.logits, torch.arange(B)).backward()
    assert torch.equal(module.weight.grad, torch.zeros(K))
    assert torch.equal(module.bias.grad, torch.zeros(1))


def test_the_default_bias_lets_the_same_scores_teach_the_attention() -> None:
    module = build("attention")
    scores, features = inputs()
    result = module(-scores.abs(), features)
    nn.functional.cross_entropy(result.logits, torch.arange(B)).backward()
    assert (result.energies > 5).all()
    assert module.weight.grad.abs().max() > 1e-3


def test_the_bias_changes_nothing_while_every_energy_is_above_zero() -> None:
    scores, features = inputs()
    torch.manual_seed(0)
    six = build("attention", std=0.1, bias=6)
    torch.manual_seed(0)
    nine = build("attention", std=0.1, bias=9)
    torch.testing.assert_close(six(scores, features).logits, nine(scores, features).logits)


def test_one_snippet_at_a_time_is_not_attention() -> None:
    torch.manual_seed(0)
    module = build("attention", std=1.0)
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


def test_weighted_starts_as_the_average_and_learns() -> None:
    module = build("weighted")
    scores, features = inputs()
    result = module(scores, features)
    torch.testing.assert_close(result.logits, scores.mean(1))
    nn.functional.cross_entropy(result.logits, torch.arange(B)).backward()
    assert module.weight.grad.abs().min() > 0


@pytest.mark.parametrize("name", consensus.NAMES)
def test_a_video_does_not_depend_on_the_others_of_its_batch(name: str) -> None:
    torch.manual_seed(0)
    module = build(name, std=1.0)
    scores, features = inputs()
    torch.testing.assert_close(module(scores[1:2], features[1:2]).logits, module(scores, features).logits[1:2])


@pytest.mark.parametrize("name", consensus.NAMES)
def test_half_precision_scores_are_weighed_in_float32(name: str) -> None:
    torch.manual_seed(0)
    module = build(name, std=1.0)
    scores, features = (tensor.bfloat16() for tensor in inputs())
    reference = module(scores.float(), features.float())
    with torch.autocast("cpu", torch.bfloat16):
        result = module(scores, features)
    for value, expected in zip(result, reference, strict=True):
        assert value.dtype == torch.float32
        assert torch.equal(value, expected)


def test_unknown_names_and_values_are_refused_with_what_is_allowed() -> None:
    with pytest.raises(InputError, match=r"consensus 'mean'.*attention, average, max, weighted"):
        build("mean")
    with pytest.raises(InputError, match=r"'logits'.*scores, features"):
        AttentionOptions(on="logits")
    with pytest.raises(InputError, match=r"'gelu'.*relu, tanh, sigmoid, none"):
        AttentionOptions(activation="gelu")
    with pytest.raises(InputError, match=r"'zeros'.*gaussian, ones, mean"):
        AttentionOptions(init="zeros")
    with pytest.raises(InputError, match="std 0"):
        AttentionOptions(std=0)
    with pytest.raises(InputError, match="segments 0"):
        consensus.build("average", classes=K, features=D, segments=0, attention=AttentionOptions())
