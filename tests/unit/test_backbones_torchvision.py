"""One network of each of torchvision's families, on the meta device: shapes, and what became of the classifier."""

import re
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from atw.model import backbones
from atw.model.backbones import Backbone
from atw.train.optim import build_optimizer
from tests.unit.trainings import network_of, settings_of

# Features, the classifier, the first convolution, and batch norms (BatchNorm2d) by torchvision's source.
FAMILIES = {
    "alexnet": (4096, "classifier.6", "features.0", 0),
    "vgg11_bn": (4096, "classifier.6", "features.0", 8),
    "resnet18": (512, "fc", "conv1", 20),
    "resnext50_32x4d": (2048, "fc", "conv1", 53),
    "densenet121": (1024, "classifier", "features.conv0", 121),
    "googlenet": (1024, "fc", "conv1.conv", 57),
    "inception_v3": (2048, "fc", "Conv2d_1a_3x3.conv", 94),
    "mobilenet_v2": (1280, "classifier.1", "features.0.0", 52),
    "mobilenet_v3_small": (1024, "classifier.3", "features.0.0", 34),
    "shufflenet_v2_x0_5": (1024, "fc", "conv1.0", 56),
    "squeezenet1_1": (512, "classifier.1", "features.0", 0),
    "mnasnet0_5": (1280, "classifier.1", "layers.0", 52),
    "efficientnet_b0": (1280, "classifier.1", "features.0.0", 49),
    "efficientnet_v2_s": (1280, "classifier.1", "features.0.0", 110),
    "regnet_y_400mf": (440, "fc", "stem.0", 53),
    "convnext_tiny": (768, "classifier.2", "features.0.0", 0),
    "vit_b_16": (768, "heads.head", "conv_proj", 0),
    "swin_t": (768, "head", "features.0.0", 0),
    "maxvit_t": (512, "classifier.5", "stem.0.0", 34),
}
AUXILIARY = {"googlenet": ("aux1.", "aux2."), "inception_v3": ("AuxLogits.",)}
# torchvision computes the widths of regnet's blocks with tensors.
DEVICES = {"regnet_y_400mf": "cpu"}


def build(name: str, *, stream: str = "rgb", classes: int = 6, weights: Path | None = None) -> Backbone:
    return backbones.build(name, in_channels=3, classes=classes, dropout=0.5, weights=weights, stream=stream)


def test_every_family_of_torchvision_is_here() -> None:
    def family(name: str) -> str:
        return name.rstrip("0123456789").partition("_")[0].rstrip("0123456789")

    names = torchvision.models.list_models(module=torchvision.models)
    missing = {family(name) for name in names} - {family(name) for name in FAMILIES}
    assert missing == {"wide"}  # wide_resnet is a resnet


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_ends_in_features_and_a_new_classifier(name: str) -> None:
    features, classifier, first, norms = FAMILIES[name]
    with torch.device(DEVICES.get(name, "meta")):
        network = network_of(backbone=name, segments=2, partial_bn="first").train()
        original = torchvision.models.get_model(
            name, weights=None, **({"init_weights": True} if name in AUXILIARY else {})
        )
        result = network.score(torch.zeros(1, 2, 10, 224, 224, dtype=torch.uint8), chunk=2)
        pooled, scores = network.eval().backbone(torch.zeros(2, 10, 224, 224))
    assert result.snippet_logits.shape == (1, 2, 6)
    assert (pooled.shape, scores.shape) == ((2, features), (2, 6))

    body = network.train().backbone.body
    gone = (f"{classifier}.", *AUXILIARY.get(name, ()))
    assert list(body.state_dict()) == [key for key in original.state_dict() if not key.startswith(gone)]
    groups = {group["name"]: group["params"] for group in build_optimizer(network, settings_of()).param_groups}
    conv1 = body.get_submodule(first)
    assert isinstance(conv1, nn.Conv2d)
    assert conv1.in_channels == 10
    assert len(groups["conv1_weight"]) == 1
    assert groups["conv1_weight"][0] is conv1.weight
    found = [module for module in body.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(found) == norms
    assert [module.training for module in found] == [True, *[False] * (norms - 1)][:norms]


@pytest.mark.parametrize(("name", "left"), [("mobilenet_v2", 0), ("vgg11_bn", 1), ("alexnet", 2), ("googlenet", 0)])
def test_the_dropout_before_the_old_classifier_goes_and_others_stay(name: str, left: int) -> None:
    with torch.device("meta"):
        body = build(name).body
    assert sum(isinstance(module, nn.Dropout) for module in body.modules()) == left


def test_squeezenet_loses_the_rectifier_of_its_classifier_only() -> None:
    original = torchvision.models.squeezenet1_1(weights=None).eval()
    convolution = original.classifier[1]
    backbone = build("squeezenet1_1", classes=1000).eval()
    kept = {key: value for key, value in original.state_dict().items() if not key.startswith("classifier.")}
    backbone.body.load_state_dict(kept)
    with torch.no_grad():
        convolution.bias.fill_(100.0)  # where the rectifier does nothing
        backbone.classifier.weight.copy_(convolution.weight[:, :, 0, 0])
        backbone.classifier.bias.copy_(convolution.bias)
        x = torch.randn(2, 3, 64, 64)
        torch.testing.assert_close(backbone(x)[1], original(x))


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_inceptions_get_the_input_that_torchvision_turns_theirs_into(name: str) -> None:
    pixels = torch.tensor([10, 100, 250], dtype=torch.uint8).view(1, 3, 1, 1)
    usual = (pixels / 255 - torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(1, 3, 1, 1)
    with torch.device("meta"):
        original = torchvision.models.get_model(name, weights=None, init_weights=False, transform_input=True)
    torch.testing.assert_close(build(name).normalise(pixels), original._transform_input(usual))


@pytest.mark.parametrize(
    ("name", "stream", "mean", "std"),
    [
        ("vit_b_16", "rgb", [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
        ("convnext_tiny", "flow", [128], [57.63]),
        ("efficientnet_v2_l", "rgb", [127.5] * 3, [127.5] * 3),
        ("efficientnet_v2_l", "warped", [128], [127.5]),
        ("inception_v3", "flow", [128], [127.5]),
    ],
)
def test_normalisation_by_table(name: str, stream: str, mean: list[float], std: list[float]) -> None:
    backbone = build(name, stream=stream)
    assert backbone.mean.flatten().tolist() == pytest.approx(mean)
    assert backbone.std.flatten().tolist() == pytest.approx(std)


def test_auxiliary_classifiers_of_a_published_file_are_passed_over(tmp_path: Path) -> None:
    state = torchvision.models.googlenet(weights=None, init_weights=False).state_dict()
    assert any(key.startswith("aux1.") for key in state)
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    backbone = build("googlenet", weights=path)
    key = "inception5b.branch1.conv.weight"
    assert torch.equal(backbone.body.state_dict()[key], state[key])


@pytest.mark.parametrize(
    ("name", "former"),
    [
        ("densenet121", [(r"(denselayer\d+\.(?:norm|conv))(\d)\.", r"\1.\2.")]),
        ("vit_b_32", [(r"mlp\.0\.", "mlp.linear_1."), (r"mlp\.3\.", "mlp.linear_2.")]),
    ],
)
def test_former_names_of_published_files_are_understood(
    name: str, former: list[tuple[str, str]], tmp_path: Path
) -> None:
    state = torchvision.models.get_model(name, weights=None).state_dict()
    renamed = {}
    for key, value in state.items():
        for present, old in former:
            key = re.sub(present, old, key)
        renamed[key] = value
    assert len(renamed.keys() - state.keys()) > 20
    torch.save(renamed, tmp_path / "weights.pth")
    body = build(name, weights=tmp_path / "weights.pth").body.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in body.items())
