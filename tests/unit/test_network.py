"""The network of a stream: snippets to scores, frozen batch norms, and the record that rebuilds it."""

import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from atw.data.augment import Box
from atw.model.consensus import CONSENSUSES
from atw.model.network import VideoNetwork
from tests.unit.cuts import cut
from tests.unit.trainings import network_of

K = 6
BOX = Box(0, 4, 40, 40)


def snippets(B: int = 2, N: int = 4, *, channels: int = 10, side: int = 32) -> Tensor:
    levels = np.random.default_rng(0).integers(1, 256, (B, N, channels, side, side), dtype=np.uint8)
    return torch.from_numpy(levels)


def norms(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [child for child in module.modules() if isinstance(child, nn.BatchNorm2d)]


@pytest.mark.parametrize(("stream", "stack", "channels"), [("rgb", 5, 3), ("flow", 5, 10), ("warped", 3, 6)])
def test_the_streams_take_their_channels(stream: str, stack: int, channels: int) -> None:
    built = network_of(stream, stack=stack)
    assert built.channels == channels
    result = built(snippets(channels=channels))
    assert result.logits.shape == (2, K)
    assert result.weights.shape == result.energies.shape == (2, 4)
    assert result.snippet_logits.shape == (2, 4, K)


def test_forward_scores_each_snippet_and_weighs_them_within_its_video() -> None:
    built = network_of(attention_init="ones").eval()
    x = snippets()
    with torch.no_grad():
        result = built(x)
        for b in range(2):
            scores = torch.cat([built.backbone((x[b, i : i + 1].float() - 128) / (255 * 0.025))[1] for i in range(4)])
            weights = (scores.sum(1) + 6).relu().softmax(0)
            torch.testing.assert_close(result.snippet_logits[b], scores, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(result.logits[b], weights @ scores, rtol=1e-4, atol=1e-5)
    assert (result.weights - 0.25).abs().max() > 1e-3


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_score_shows_the_consensus_all_snippets_whatever_the_chunk(chunk: int) -> None:
    built = network_of(partial_bn="first", dropout=0.5).train()
    x = snippets(3, 11)
    scored = built.score(x, chunk=chunk)
    # Scoring leaves no trace: training mode is back, with the frozen norms still frozen.
    assert [norm.training for norm in norms(built)] == [True] + [False] * (len(norms(built)) - 1)
    assert built.backbone.dropout.training
    with torch.no_grad():
        expected = built.eval()(x)
    for value, reference in zip(scored, expected, strict=True):
        assert not value.requires_grad
        torch.testing.assert_close(value, reference, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(scored.weights.sum(1), torch.ones(3))


@pytest.mark.parametrize(("stream", "shape"), [("flow", (4, 5, 2, 40, 48)), ("rgb", (4, 40, 48, 3))])
@pytest.mark.parametrize("size", [32, 40])
def test_a_mirrored_video_is_the_mirrored_network_input(stream: str, shape: tuple[int, ...], size: int) -> None:
    frames = np.random.default_rng(1).integers(1, 256, shape, dtype=np.uint8)
    built = network_of(stream)
    plain, mirrored = (
        built.backbone.normalise(torch.from_numpy(cut(frames, box=BOX, size=size, flip=flip, stream=stream)))
        for flip in (False, True)
    )
    expected = plain.flip(3)
    if stream == "flow":
        expected[:, 0::2] *= -1
    assert torch.equal(mirrored, expected)


@pytest.mark.parametrize("backbone", ["tiny", "resnet18", "mobilenet_v2"])
@pytest.mark.parametrize(("partial_bn", "live"), [("none", None), ("first", 1), ("all", 0)])
def test_partial_bn_freezes_statistics_and_affine_at_every_train(
    backbone: str, partial_bn: str, live: int | None
) -> None:
    built = network_of(backbone=backbone, partial_bn=partial_bn)
    layers = norms(built)
    live = len(layers) if live is None else live
    expected = [True] * live + [False] * (len(layers) - live)
    for _ in range(2):
        built.eval()
        assert not any(norm.training for norm in layers)
        built.train()
        assert built.backbone.dropout.training
        assert [norm.training for norm in layers] == expected
    before = [norm.running_mean.clone() for norm in layers]
    built(snippets(2, 2, side=64)).logits.sum().backward()
    assert [not torch.equal(norm.running_mean, old) for norm, old in zip(layers, before, strict=True)] == expected
    for norm, trained in zip(layers, expected, strict=True):
        for parameter in (norm.weight, norm.bias):
            assert parameter.requires_grad == trained
            assert (parameter.grad is not None) == trained
    assert all(parameter.requires_grad for parameter in built.consensus.parameters())


def test_a_record_from_before_a_setting_was_there_means_its_default() -> None:
    record = network_of(consensus="gated").to_record()
    assert not {"attention_hidden", "attention_gate", "topk_divisor"} & record.keys()
    assert VideoNetwork.from_record(record).consensus.hidden.out_features == 32


@pytest.mark.parametrize("consensus", CONSENSUSES)
def test_a_record_survives_json_and_rebuilds_the_network_alone(consensus: str) -> None:
    attention = {"attention_on": "features", "attention_activation": "tanh", "attention_std": 0.2}
    attention |= {"attention_hidden": 9, "attention_gate": False, "topk_divisor": 2}
    built = network_of(consensus=consensus, **attention, segments=3, partial_bn="first").eval()
    built.backbone.weights_sha256 = "ab" * 32
    record = json.loads(json.dumps(built.to_record()))
    torch.manual_seed(9)
    rebuilt = VideoNetwork.from_record(record).eval()
    assert rebuilt.to_record() == record
    assert record["weights_sha256"] == "ab" * 32
    assert VideoNetwork.shapes(record) == {name: value.shape for name, value in built.state_dict().items()}
    rebuilt.load_state_dict(built.state_dict())
    x = snippets(N=5)
    with torch.no_grad():
        for value, expected in zip(rebuilt(x), built(x), strict=True):
            assert torch.equal(value, expected)


@pytest.mark.parametrize(
    ("name", "value"), [("stream", "depth"), ("segments", 0), ("stack", 0), ("partial_bn", "some"), ("attention", {})]
)
def test_a_record_with_impossible_settings_is_refused(name: str, value: object) -> None:
    with pytest.raises((LookupError, ValueError), match=name if name != "attention" else "on"):
        VideoNetwork.from_record(network_of().to_record() | {name: value})


def test_every_parameter_learns_from_the_loss_of_the_video() -> None:
    built = network_of(attention_init="ones")
    result = built(snippets())
    nn.functional.cross_entropy(result.logits, torch.tensor([1, 2])).backward()
    for name, parameter in built.named_parameters():
        assert parameter.grad is not None, name
        # The softmax over snippets cancels what all energies share, so the bias alone may stay where it is.
        assert name == "consensus.bias" or parameter.grad.abs().max() > 0, name
