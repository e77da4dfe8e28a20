"""BN-Inception beside the implementation of the package pretrainedmodels, with the same random weights."""

from pathlib import Path

import pytest
import torch
from pretrainedmodels.models.bninception import bninception
from torch import Tensor, nn

from atw.files import InputError
from atw.model import backbones
from atw.model.backbones import Backbone
from atw.model.bn_inception import BNInception

FLOW = 10


@pytest.fixture(scope="module")
def reference() -> nn.Module:
    """The independent network; weights of a size that leaves the outputs of different images different."""
    torch.manual_seed(0)
    network = bninception(pretrained=None)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            nn.init.uniform_(module.bias, -0.1, 0.1)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.1, 0.1)
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    network.conv1_7x7_s2_bn.running_var *= 80**2  # of levels, so that what follows is of the size of 1
    return network.eval()


def as_published(network: nn.Module, kind: str) -> dict[str, Tensor]:
    """The two forms in circulation: `last_linear`, or `fc` with batch norm of shape [1, C]."""
    state = {key: value for key, value in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    if kind == "last_linear":
        return state
    state = {key: value[None] if "_bn." in key else value for key, value in state.items()}
    return {key.replace("last_linear", "fc"): value for key, value in state.items()}


def build(state: dict[str, Tensor], path: Path, *, stream: str = "rgb") -> Backbone:
    torch.save(state, path)
    channels = 3 if stream == "rgb" else FLOW
    return backbones.build(
        "bninception", in_channels=channels, classes=1000, dropout=0.8, weights=path, stream=stream
    ).eval()


def test_names_shapes_and_their_order_are_the_published_ones(reference: nn.Module) -> None:
    published = {key: value.shape for key, value in reference.state_dict().items() if "last_linear" not in key}
    own = BNInception()
    assert [(key, value.shape) for key, value in own.state_dict().items()] == list(published.items())
    assert sum(isinstance(module, nn.Conv2d) and module.bias is not None for module in own.modules()) == 69
    assert sum(isinstance(module, nn.BatchNorm2d) for module in own.modules()) == 69


@pytest.mark.parametrize("kind", ["last_linear", "fc"])
@torch.no_grad()
def test_both_published_files_compute_what_the_reference_does(reference: nn.Module, kind: str, tmp_path: Path) -> None:
    backbone = build(as_published(reference, kind), tmp_path / "weights.pth")
    backbone.classifier.load_state_dict(reference.last_linear.state_dict())
    pixels = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    pixels[1] //= 4
    bgr = torch.stack([pixels[:, 2] - 104.0, pixels[:, 1] - 117.0, pixels[:, 0] - 128.0], 1)
    expected = reference(bgr)
    assert expected.std(0).mean() > 0.1  # the two images are told apart
    features, scores = backbone(backbone.normalise(pixels))
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(features, reference.features(bgr).mean((2, 3)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("side", [32, 64, 256])
@torch.no_grad()
def test_other_sides_are_averaged_over_the_whole_map(reference: nn.Module, side: int, tmp_path: Path) -> None:
    backbone = build(as_published(reference, "fc"), tmp_path / "weights.pth")
    x = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(side)) * 60
    torch.testing.assert_close(backbone(x)[0], reference.features(x).mean((2, 3)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stream", ["flow", "warped"])
def test_cross_modality_with_the_bias_of_the_first_convolution(
    reference: nn.Module, stream: str, tmp_path: Path
) -> None:
    body = build(as_published(reference, "fc"), tmp_path / "weights.pth", stream=stream).body
    widened, first = body.get_submodule("conv1_7x7_s2"), reference.conv1_7x7_s2
    assert isinstance(widened, nn.Conv2d)
    by_hand = (first.weight[:, 0].double() + first.weight[:, 1].double() + first.weight[:, 2].double()) / 3
    for channel in range(FLOW):
        torch.testing.assert_close(widened.weight[:, channel].double(), by_hand, rtol=1e-6, atol=1e-7)
    assert torch.equal(widened.bias, first.bias)
    assert next(name for name, _ in body.named_parameters()) == "conv1_7x7_s2.weight"
    untouched = [key for key in body.state_dict() if not key.startswith("conv1_7x7_s2.")]
    assert len(untouched) == 69 * 7 - 2
    assert all(torch.equal(body.state_dict()[key], reference.state_dict()[key]) for key in untouched)


def test_a_vector_of_another_length_is_refused(reference: nn.Module, tmp_path: Path) -> None:
    state = as_published(reference, "fc")
    state["conv2_3x3_bn.bias"] = torch.zeros(1, 7)
    with pytest.raises(InputError, match=r"conv2_3x3_bn\.bias has shape \[1, 7\], not \[192\]"):
        build(state, tmp_path / "weights.pth")


def test_images_are_given_as_blue_green_red_and_still_flow_as_zero() -> None:
    images = backbones.build("bninception", in_channels=3, classes=6, dropout=0.8, weights=None, stream="rgb")
    red_green_blue = torch.tensor([10, 20, 250], dtype=torch.uint8).view(1, 3, 1, 1)
    assert images.normalise(red_green_blue).flatten().tolist() == [250 - 104, 20 - 117, 10 - 128]
    for stream in ("flow", "warped"):
        flow = backbones.build("bninception", in_channels=2, classes=6, dropout=0.7, weights=None, stream=stream)
        x_and_y = torch.tensor([[128, 128], [1, 255]], dtype=torch.uint8).view(2, 2, 1, 1)
        assert flow.normalise(x_and_y).flatten().tolist() == [0, 0, -127, 127]
