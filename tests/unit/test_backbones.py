"""Backbones beside the originals of torchvision, their weights files, and the demo's network."""

import hashlib
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from atw.files import InputError
from atw.model import backbones, tiny
from atw.model.backbones import Backbone

HEADS = {"resnet18": "fc", "mobilenet_v2": "classifier.1", "mnasnet0_5": "classifier.1", "densenet121": "classifier"}


def build(name: str = "tiny", *, stream: str = "rgb", weights: Path | None = None, classes: int = 6) -> Backbone:
    channels = 3 if stream == "rgb" else 10
    return backbones.build(name, in_channels=channels, classes=classes, dropout=0.5, weights=weights, stream=stream)


def published(name: str) -> nn.Module:
    """A torchvision network as its authors save it, with 1000 classes and statistics that are not the initial ones."""
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, weights=None)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def saved(state: object, path: Path) -> Path:
    torch.save(state, path)
    return path


def convolutions(module: nn.Module) -> list[nn.Conv2d]:
    return [child for child in module.modules() if isinstance(child, nn.Conv2d)]


@pytest.mark.parametrize("name", sorted(HEADS))
def test_a_loaded_torchvision_network_computes_what_the_original_does(name: str, tmp_path: Path) -> None:
    original = published(name)
    head = original.get_submodule(HEADS[name])
    assert isinstance(head, nn.Linear)
    backbone = build(name, weights=saved(original.state_dict(), tmp_path / "weights.pth"), classes=1000).eval()
    backbone.classifier.load_state_dict(head.state_dict())
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (pixels.permute(0, 2, 3, 1) / 255 - mean) / std
    with torch.no_grad():
        features, scores = backbone(backbone.normalise(pixels))
        torch.testing.assert_close(scores, original(normalised.permute(0, 3, 1, 2)), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(features @ head.weight.T + head.bias, scores)
    assert features.shape == (2, backbone.features)


@pytest.mark.parametrize("kind", ["without the classifier", "without counters"])
def test_weights_files_in_circulation_are_accepted(kind: str, tmp_path: Path) -> None:
    state = published("mobilenet_v2").state_dict()
    kept = {
        key: value
        for key, value in state.items()
        if not (key.startswith("classifier.") if kind == "without the classifier" else "num_batches" in key)
    }
    assert 0 < len(kept) < len(state)
    path = saved(kept, tmp_path / "weights.pth")
    backbone = build("mobilenet_v2", weights=path)
    assert backbone.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert torch.equal(backbone.body.state_dict()["features.18.1.running_var"], state["features.18.1.running_var"])
    assert torch.equal(convolutions(backbone)[0].weight, state["features.0.0.weight"])


@pytest.mark.parametrize("stream", ["flow", "warped"])
def test_cross_modality_repeats_the_mean_over_rgb_and_leaves_the_rest(stream: str, tmp_path: Path) -> None:
    state = published("resnet18").state_dict()
    state["conv1.weight"][:, 0], state["conv1.weight"][:, 1], state["conv1.weight"][:, 2] = 1.0, 2.0, 6.0
    state["conv1.weight"][5] *= -10
    backbone = build("resnet18", stream=stream, weights=saved(state, tmp_path / "weights.pth"))
    conv1 = convolutions(backbone)[0]
    assert conv1.weight.shape == (64, 10, 7, 7)
    assert (conv1.stride, conv1.padding, conv1.bias) == ((2, 2), (3, 3), None)
    assert (conv1.weight[5] == -30).all()
    assert (conv1.weight[:5] == 3).all()
    assert (conv1.weight[6:] == 3).all()
    assert conv1.weight.is_contiguous()
    body = backbone.body.state_dict()
    for key, value in state.items():
        if key != "conv1.weight" and not key.startswith("fc."):
            assert torch.equal(body[key], value), key


def test_without_weights_the_flow_convolution_is_random_and_each_channel_its_own() -> None:
    weight = convolutions(build("resnet18", stream="flow"))[0].weight
    assert weight.shape == (64, 10, 7, 7)
    assert (weight[:, 0] - weight[:, 1]).abs().mean() > 0.005
    # He's initialisation, which torchvision takes for these networks, has the standard deviation sqrt(2 / (64 x 49)).
    assert weight.std().item() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.1)


def refuse(path: Path, message: str, *, name: str = "resnet18") -> None:
    with pytest.raises(InputError, match=message) as refusal:
        build(name, weights=path)
    assert str(path) in str(refusal.value)


def test_a_published_name_promises_its_digest(tmp_path: Path) -> None:
    path = saved(published("mobilenet_v2").state_dict(), tmp_path / "mobilenet_v2-7ebf99e0.pth")
    with pytest.raises(InputError, match=r"of the published file of this name begins with 7ebf99e0; download it again"):
        build("mobilenet_v2", weights=path)
    build("mobilenet_v2", weights=path.rename(tmp_path / "mine.pth"))


def test_other_deeper_and_reshaped_weights_are_refused_by_key(tmp_path: Path) -> None:
    path = saved(published("mobilenet_v2").state_dict(), tmp_path / "weights.pth")
    refuse(path, r"is not a resnet18: conv1\.weight is missing; bn1\.weight is missing; .* more\. Give")
    resnet34 = torchvision.models.resnet34(weights=None).state_dict()
    refuse(saved(resnet34, tmp_path / "34.pth"), r"is not a resnet18: layer1\.2\.conv1\.weight is unexpected")
    state = published("resnet18").state_dict()
    del state["layer1.0.bn1.running_mean"]
    state["conv1.weight"] = state["conv1.weight"][:, :1]
    refuse(
        saved(state, tmp_path / "shape.pth"),
        r"conv1\.weight has shape \[64, 1, 7, 7\], not \[64, 3, 7, 7\]; layer1\.0\.bn1\.running_mean is missing\. Give",
    )


def test_files_that_hold_no_weights_are_refused(tmp_path: Path) -> None:
    refuse(tmp_path / "absent.pth", r"does not exist: put the .* of resnet18 there \(\S+/resnet18-f37072fd\.pth\)")
    page = tmp_path / "page.pth"
    page.write_text("<!doctype html><title>404</title>")
    refuse(page, "cannot be read as a torch weights file")
    whole = saved({"conv1.weight": torch.zeros(9)}, tmp_path / "whole.pth")
    truncated = tmp_path / "truncated.pth"
    truncated.write_bytes(whole.read_bytes()[:-300])
    refuse(truncated, "cannot be read as a torch weights file")
    refuse(saved([1, 2], tmp_path / "list.pth"), "is not a state dictionary")
    refuse(saved({"epoch": 3}, tmp_path / "checkpoint.pth"), "is not a state dictionary")


def test_tiny_has_the_layers_of_its_description() -> None:
    backbone = build("tiny", stream="flow")
    shapes = [
        (conv.in_channels, conv.out_channels, conv.kernel_size[0], conv.stride[0]) for conv in convolutions(backbone)
    ]
    assert shapes == [
        (10, 16, 5, 2),
        *[(16, 16, 3, 1), (16, 16, 3, 1)],
        *[(16, 32, 3, 2), (32, 32, 3, 1), (16, 32, 1, 2)],
        *[(32, 64, 3, 2), (64, 64, 3, 1), (32, 64, 1, 2)],
        *[(64, 128, 3, 2), (128, 128, 3, 1), (64, 128, 1, 2)],
    ]
    rgb = build("tiny", classes=8)
    assert sum(parameter.numel() for parameter in rgb.parameters()) == 309_336
    features, scores = rgb(torch.zeros(2, 3, 72, 72))
    assert features.shape == (2, 128)
    assert scores.shape == (2, 8)


def test_a_residual_block_is_two_convolutions_beside_a_shortcut() -> None:
    block = tiny.ResidualBlock(3, 3, stride=1)
    nn.init.zeros_(block.bn2.weight)
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(block(x), x.relu())
    strided = tiny.ResidualBlock(3, 5, stride=2)
    assert strided(x).shape == (2, 5, 4, 4)


@pytest.mark.parametrize(("name", "std"), [("tiny", 0.01), ("resnet18", 0.001), ("mobilenet_v2", 0.001)])
def test_the_new_classifier_is_gaussian_without_bias(name: str, std: float) -> None:
    torch.manual_seed(0)
    classifier = build(name, classes=60).classifier
    assert classifier.weight.std().item() == pytest.approx(std, rel=0.05)
    assert (classifier.bias == 0).all()


def test_dropout_thins_what_the_classifier_sees_in_training_only() -> None:
    backbone = build()
    backbone.classifier.weight.data.fill_(1.0)
    x = torch.rand(1, 3, 32, 32)
    backbone.eval()
    features, scores = backbone(x)
    torch.testing.assert_close(scores[0, 0], features.sum())
    backbone.dropout.train()
    _, dropped = backbone(x)
    assert (dropped[0, 0] - features.sum()).abs() > 1e-3


@pytest.mark.parametrize(
    ("name", "stream", "levels", "expected"),
    [
        ("resnet18", "rgb", 0, [-2.117904, -2.035714, -1.804444]),
        ("mobilenet_v2", "rgb", 255, [2.248908, 2.428571, 2.64]),
        ("resnet18", "flow", 255, [2.203713] * 10),
        ("mobilenet_v2", "warped", 1, [-2.203713] * 10),
        ("tiny", "rgb", 255, [2.125] * 3),
        ("tiny", "flow", 1, [-19.921569] * 10),
        ("tiny", "warped", 255, [19.921569] * 10),
    ],
)
def test_normalisation_by_table(name: str, stream: str, levels: int, expected: list[float]) -> None:
    backbone = build(name, stream=stream)
    normalised: Tensor = backbone.normalise(torch.full((1, len(expected), 2, 2), levels, dtype=torch.uint8))
    assert normalised.dtype == torch.float32
    torch.testing.assert_close(normalised[0, :, 1, 0], torch.tensor(expected), rtol=1e-6, atol=1e-6)
    assert not [key for key in backbone.state_dict() if key in ("mean", "std")]


def test_a_classifier_needs_two_classes() -> None:
    with pytest.raises(InputError, match="classes 1"):
        build(classes=1)
