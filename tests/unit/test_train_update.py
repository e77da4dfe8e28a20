"""One update against the same update by hand: gradients summed over micro-batches, mixtures, precision."""

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atw.config import Model, Train
from atw.data.reader import micro_batches
from atw.files import InputError
from atw.model.consensus import CONSENSUSES
from atw.model.network import Output
from atw.train.devices import allow_tf32, autocast, full_fp32, loss_scaler
from atw.train.update import Cut, cut_batch, mix, mixup_share, update
from tests.unit.trainings import CPU, network_of

B, N, K = 128, 3, 4


class Plain(nn.Module):
    """Neither batch norm nor dropout: a convolution, a rectifier, a mean, a classifier, and attention."""

    def __init__(self, bias: float = 6.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(2, 5, 3)
        self.classifier = nn.Linear(5, K)
        model = Model(attention_init="ones", attention_bias=bias)
        self.consensus: Any = CONSENSUSES["attention"](model, classes=K, features=5, segments=N)
        self.seen: list[Tensor] = []

    def forward(self, snippets: Tensor) -> Output:
        self.seen.append(snippets)
        videos, number = snippets.shape[:2]
        features = self.conv((snippets.flatten(0, 1).float() - 128) / 50).relu().mean((2, 3))
        scores = self.classifier(features).reshape(videos, number, K)
        return Output(*self.consensus(scores, features.reshape(videos, number, -1)), snippet_logits=scores)


def batch(videos: int = B) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(0)
    levels = rng.integers(1, 256, (videos, N, 2, 7, 7), dtype=np.uint8)
    return torch.from_numpy(levels), torch.from_numpy(rng.integers(0, K, videos))


def in_pieces(sizes: list[int]) -> Iterator[tuple[Tensor, Tensor]]:
    snippets, labels = batch(sum(sizes))
    return iter(list(zip(snippets.split(sizes), labels.split(sizes), strict=True)))


def one_update(
    model: nn.Module,
    sizes: list[int],
    *,
    label_smoothing: float = 0.0,
    clip: float = 40.0,
    scaler: torch.amp.GradScaler | None = None,
    feed: Iterator[tuple[Tensor, Tensor]] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    train = Train(label_smoothing=label_smoothing, clip=clip)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    options: dict[str, Any] = {"share": 1.0, "precision": "fp32", "device": CPU}
    cut = Cut(batch=sum(sizes), world=1, pieces=len(sizes))
    scaler = scaler or loss_scaler("fp32", CPU)
    return update(model, optimizer, scaler, feed or in_pieces(sizes), train=train, cut=cut, **options | changes)


def parameters(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten().float() for parameter in model.parameters()])


def logits_of(model: nn.Module) -> np.ndarray:
    with torch.no_grad():
        return model(batch()[0]).logits.double().numpy()


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


@pytest.mark.parametrize("clip", [40.0, 0.01])
@pytest.mark.parametrize("sizes", [[128], [32, 32, 32, 32], [50, 50, 28], [1] * 128], ids=len)
def test_gradients_summed_over_micro_batches_are_those_of_the_whole_batch(sizes: list[int], clip: float) -> None:
    reference = Plain()
    start = parameters(reference)
    snippets, labels = batch()
    logits = reference(snippets).logits
    nn.functional.cross_entropy(logits, labels).backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in reference.parameters()])
    norm = float(gradient.double().norm())
    expected = start - 0.5 * gradient * min(1.0, clip / norm)

    model = Plain()
    row = one_update(model, sizes, clip=clip)
    assert (expected - start).abs().max() > 1e-4
    torch.testing.assert_close(parameters(model), expected, rtol=1e-5, atol=1e-6)
    logits = logits.detach()
    assert row["loss"] == pytest.approx(float(nn.functional.cross_entropy(logits, labels)), rel=1e-5)
    assert row["accuracy"] == pytest.approx(float((logits.argmax(1) == labels).float().mean()))
    assert row["gradient_norm"] == pytest.approx(norm, rel=1e-4)
    assert [len(seen) for seen in model.seen] == sizes


@pytest.mark.parametrize(("batch_size", "world", "micro"), [(128, 1, 32), (128, 3, 32), (5, 2, 2), (7, 7, 3)])
def test_a_batch_is_cut_as_the_reader_cuts_it(batch_size: int, world: int, micro: int) -> None:
    for rank in range(world):
        cut = cut_batch(batch=batch_size, rank=rank, world=world, micro=micro)
        pieces = list(micro_batches(start=3, stop=4, batch=batch_size, rank=rank, world=world, micro=micro))
        assert cut == Cut(batch=batch_size, world=world, pieces=len(pieces))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_label_smoothing_spreads_a_share_of_the_label_over_all_classes(smoothing: float) -> None:
    model = Plain()
    logs = log_softmax(logits_of(model))
    target = np.full((B, K), smoothing / K)
    target[np.arange(B), batch()[1]] += 1 - smoothing
    row = one_update(model, [64, 64], label_smoothing=smoothing)
    assert row["loss"] == pytest.approx(-(target * logs).sum(1).mean(), rel=1e-5)


def test_a_mixture_by_hand() -> None:
    snippets = batch(5)[0]
    table = snippets.double().numpy()
    mixed = mix(snippets, 0.3)
    assert mixed.dtype == torch.float32
    for b in range(5):  # the middle video of an odd number is mixed with itself
        np.testing.assert_allclose(mixed[b], 0.3 * table[b] + 0.7 * table[4 - b], rtol=1e-6)


@pytest.mark.parametrize("stream", ["rgb", "flow"])
@pytest.mark.parametrize("backbone", ["tiny", "resnet18"])
def test_mixing_levels_is_mixing_normalised_inputs(backbone: str, stream: str) -> None:
    network = network_of(stream, backbone=backbone, stack=1)
    levels = np.random.default_rng(0).integers(1, 256, (4, 1, network.channels, 8, 8), dtype=np.uint8)
    levels[0, 0, :, 0, 0] = levels[3, 0, :, 0, 0] = 128
    snippets = torch.from_numpy(levels)
    normalised = network.backbone.normalise(snippets[:, 0])
    expected = 0.3 * normalised + 0.7 * normalised.flip(0)
    found = network.backbone.normalise(mix(snippets, 0.3)[:, 0])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    if stream == "flow":
        assert (found[0, :, 0, 0] == 0).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_in_a_mixture_both_labels_count_by_their_shares(smoothing: float) -> None:
    sizes, share = [40, 5], 0.3
    snippets, labels = batch(45)
    model = Plain()
    reference = copy.deepcopy(model)
    loss = right = 0.0
    for x, y in zip(snippets.split(sizes), labels.split(sizes), strict=True):
        with torch.no_grad():
            logits = reference(share * x.float() + (1 - share) * x.float().flip(0)).logits.double().numpy()
        target = np.full((len(y), K), smoothing / K)
        for b, (own, other) in enumerate(zip(y, y.flip(0), strict=True)):
            target[b, own] += (1 - smoothing) * share
            target[b, other] += (1 - smoothing) * (1 - share)
            right += share * (logits[b].argmax() == own) + (1 - share) * (logits[b].argmax() == other)
        loss -= (target * log_softmax(logits)).sum()
    row = one_update(model, sizes, share=share, label_smoothing=smoothing)
    assert row["loss"] == pytest.approx(loss / 45, rel=1e-5)
    assert row["accuracy"] == pytest.approx(float(right) / 45, rel=1e-5)


def test_the_share_follows_from_seed_and_iteration_and_is_beta_distributed() -> None:
    def draw(alpha: float | None, *, seed: int = 0, count: int = 3000) -> np.ndarray:
        return np.array([mixup_share(alpha, seed=seed, iteration=i) for i in range(count)])

    for alpha in (0.2, 1.0, 4.0):
        shares = draw(alpha)
        assert ((shares >= 0) & (shares <= 1)).all()
        assert shares.mean() == pytest.approx(0.5, abs=0.03)
        assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)
    assert (draw(1.0, count=9) == draw(1.0, count=9)).all()
    assert (draw(1.0, count=9) != draw(1.0, seed=1, count=9)).all()
    assert (draw(None, count=9) == 1).all()


def test_without_mixing_the_network_is_given_bytes() -> None:
    model = Plain()
    one_update(model, [4])
    one_update(model, [4], share=0.5)
    assert [seen.dtype for seen in model.seen] == [torch.uint8, torch.float32]


def test_bf16_computes_the_backbone_in_bf16_and_differs_by_rounding() -> None:
    results = {}
    dtypes: dict[str, set[torch.dtype]] = {}
    for precision in ("fp32", "bf16"):
        model = Plain()
        seen = dtypes.setdefault(precision, set())
        model.conv.register_forward_hook(lambda module, inputs, output, seen=seen: seen.add(output.dtype))
        row = one_update(model, [32, 32], precision=precision)
        results[precision] = (parameters(model), row["loss"])
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
        with autocast(precision, CPU):
            output = model(batch(4)[0])
        assert {value.dtype for value in (output.logits, output.weights, output.energies)} == {torch.float32}
    assert dtypes == {"fp32": {torch.float32}, "bf16": {torch.bfloat16}}
    moved = (results["fp32"][0] - parameters(Plain())).abs().max()
    apart = (results["fp32"][0] - results["bf16"][0]).abs().max()
    assert 0 < apart < moved / 20
    assert results["bf16"][1] == pytest.approx(results["fp32"][1], rel=5e-3)


def test_only_the_body_of_a_backbone_runs_under_autocast() -> None:
    network = network_of("rgb", classes=K, dropout=0.5, consensus="gated")
    seen: dict[str, set[torch.dtype]] = {}

    def watch(name: str, module: nn.Module) -> None:
        def note(_: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
            outputs = output if isinstance(output, tuple) else (output,)
            seen[name] = {value.dtype for value in (*inputs, *outputs)}
            seen[f"{name} autocast"] = {torch.bfloat16} if torch.is_autocast_enabled("cpu") else {torch.float32}

        module.register_forward_hook(note)

    convolution = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    last = [module for module in network.backbone.body.modules() if isinstance(module, nn.Conv2d)][-1]
    for name, module in {
        "first": convolution,
        "last": last,
        "classifier": network.backbone.classifier,
        "consensus": network.consensus.hidden,
    }.items():
        watch(name, module)
    with autocast("bf16", CPU):
        output = network(torch.zeros(2, N, 3, 32, 32, dtype=torch.uint8))
    half, full = {torch.bfloat16}, {torch.float32}
    assert seen["first"] == {torch.float32, torch.bfloat16}  # the normalised input goes in
    assert seen["last"] == half
    for name in ("classifier", "consensus", "classifier autocast", "consensus autocast"):
        assert seen[name] == full, name
    assert {value.dtype for value in output} == full


def test_tf32_is_for_convolutions_of_a_training_alone() -> None:
    backends: Any = torch.backends

    def now() -> list[bool]:
        return [flag.fp32_precision == "tf32" for flag in (backends.cudnn.conv, backends.cuda.matmul)]

    try:
        for allowed in (True, False, True):
            allow_tf32(allowed)
            assert now() == [allowed, False]
            with pytest.raises(KeyError), full_fp32():
                assert now() == [False, False]
                raise KeyError
            assert now() == [allowed, False]
            assert backends.cudnn.allow_tf32 == allowed, "torch.export asks for it, and fails if torch cannot tell"
    finally:
        allow_tf32(True)  # torch's default


def test_the_loss_is_scaled_for_fp16_alone() -> None:
    assert [loss_scaler(name, CPU).is_enabled() for name in ("fp16", "bf16", "fp32")] == [True, False, False]


def test_a_scaled_loss_gives_the_same_update() -> None:
    plain, scaled = Plain(), Plain()
    expected = one_update(plain, [32, 32], clip=0.01)
    found = one_update(scaled, [32, 32], clip=0.01, scaler=torch.amp.GradScaler("cpu", init_scale=2.0**16))
    torch.testing.assert_close(parameters(scaled), parameters(plain), rtol=1e-6, atol=1e-7)
    assert found["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-5)


def test_an_update_whose_scaled_gradients_overflow_is_left_out() -> None:
    model = Plain()
    start = parameters(model)
    model.conv.weight.register_hook(lambda gradient: gradient * 1000)
    scaler = torch.amp.GradScaler("cpu", init_scale=3e38)
    row = one_update(model, [8], scaler=scaler)
    assert row["gradient_norm"] is None
    assert row["loss"] > 0
    assert torch.equal(parameters(model), start)
    assert scaler.get_scale() == pytest.approx(1.5e38)


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    model = Plain()
    with torch.no_grad():
        model.classifier.bias.fill_(float("nan"))
    with pytest.raises(InputError, match=r"not finite any more: lower train.learning_rate"):
        one_update(model, [8])


def test_while_the_snippets_are_averaged_the_consensus_gets_gradients_of_0_and_the_rest_those_of_the_average() -> None:
    model, plain = Plain(), Plain(bias=-1000.0)  # a closed rectifier averages
    row, expected = (one_update(each, [64, 64], average=each is model) for each in (model, plain))
    assert row["loss"] == pytest.approx(expected["loss"], rel=1e-6)
    assert row["attention_entropy"] < 1  # the weights are still those of the attention
    assert [parameter.grad.abs().max() for parameter in model.consensus.parameters()] == [0, 0]
    for name in ("conv.weight", "classifier.weight", "classifier.bias"):
        torch.testing.assert_close(model.get_parameter(name), plain.get_parameter(name))
    one_update(model, [64, 64])
    assert model.consensus.weight.grad.abs().max() > 0


def test_entropy_and_peak_of_the_weights_by_hand() -> None:
    model = Plain()
    weights = model(batch()[0]).weights.detach().double().numpy()
    row = one_update(model, [100, 28])
    entropies = [-sum(w * np.log(w) for w in video) / np.log(N) for video in weights]
    assert row["attention_entropy"] == pytest.approx(np.mean(entropies), rel=1e-5)
    assert row["attention_peak"] == pytest.approx((weights.max(1) / weights.mean(1)).mean(), rel=1e-5)


def test_one_snippet_has_uniform_weights() -> None:
    levels, labels = batch()
    row = one_update(Plain(), [B], feed=iter([(levels[:, :1], labels)]))
    assert (row["attention_entropy"], row["attention_peak"]) == (1, 1)


def test_a_closed_rectifier_averages_and_leaves_the_attention_as_it_is() -> None:
    model = Plain(bias=-1000.0)
    output = model(batch()[0])
    assert torch.equal(output.weights, torch.full((B, N), 1 / N))
    torch.testing.assert_close(output.logits, output.snippet_logits.mean(1))
    row = one_update(model, [64, 64])
    assert (row["positive_energies"], row["flat_attention"]) == (0, 1)
    assert row["attention_entropy"] == pytest.approx(1)
    assert row["attention_peak"] == pytest.approx(1)
    assert torch.equal(model.consensus.weight, torch.ones(K))
    assert model.consensus.bias.item() == -1000
    alive = one_update(Plain(), [64, 64])
    assert (alive["positive_energies"], alive["flat_attention"]) == (1, 0)
