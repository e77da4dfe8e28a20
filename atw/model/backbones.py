"""What turns one snippet into features and class scores: a torchvision network or the demo's small one.

Every backbone is built for three channels, takes its weights, and is then widened to the channels of its stream. With
weights that is cross-modality initialisation: the first convolution's weights are averaged over the three RGB channels
and repeated for each input channel, not rescaled. Without weights the widened convolution starts at random.

Shapes: B snippets, C channels, S side of the crop in px, D features, K classes.
"""

from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from atw.files import InputError
from atw.model import tiny
from atw.model import weights as weight_files

TORCHVISION = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "mobilenet_v2")
NAMES = (*TORCHVISION, "tiny")
STREAMS = ("rgb", "flow", "warped")

CLASSIFIER_STD = {"tiny": 0.01}
"""Standard deviation of the new classifier's weights where it is not TSN's .001."""

_ZERO_FLOW = 128.0

_PIXEL_SCALES: dict[tuple[str, str], tuple[list[float], list[float]]] = {
    ("torchvision", "rgb"): ([255 * 0.485, 255 * 0.456, 255 * 0.406], [255 * 0.229, 255 * 0.224, 255 * 0.225]),
    ("torchvision", "flow"): ([_ZERO_FLOW], [255 * 0.226]),
    ("tiny", "rgb"): ([255 * 0.5], [60.0]),
    # An input unit is 6.4 levels: about a pixel of motion where the quantisation's bound is 20 px.
    ("tiny", "flow"): ([_ZERO_FLOW], [255 * 0.025]),
}
"""Mean and standard deviation, in levels 0..255, by family and kind of stream; one number serves every channel."""


class Backbone(nn.Module):
    """A network without its classifier, a new classifier after dropout, and the normalisation both expect."""

    def __init__(
        self,
        body: nn.Module,
        *,
        features: int,
        classes: int,
        dropout: float,
        classifier_std: float,
        pixel_scale: tuple[list[float], list[float]],
        weights_sha256: str | None,
    ) -> None:
        super().__init__()
        self.body = body
        self.features = features
        self.weights_sha256 = weights_sha256
        """SHA-256 of the file that the body started from; None: random weights."""
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(features, classes)
        nn.init.normal_(self.classifier.weight, std=classifier_std)
        nn.init.zeros_(self.classifier.bias)
        mean, std = pixel_scale
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def normalise(self, snippets: Tensor) -> Tensor:
        """Levels 0..255 (uint8 [B, C, S, S]) as the float32 input of `forward`; zero flow becomes 0 exactly."""
        return (snippets.float() - self.mean) / self.std

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised snippets [B, C, S, S] to pooled features [B, D], before dropout, and class scores [B, K]."""
        features = self.body(x)
        return features, self.classifier(self.dropout(features))


def build(name: str, *, in_channels: int, classes: int, dropout: float, weights: Path | None, stream: str) -> Backbone:
    """Give the backbone called `name` for `stream`, started from the file `weights` or at random.

    Raises InputError for an unknown name or stream, an impossible dropout and a file that does not fit the backbone.
    """
    if stream not in STREAMS:
        raise InputError(f"stream {stream!r} is unknown; take one of {', '.join(STREAMS)}")
    if not 0 <= dropout < 1:
        raise InputError(f"dropout {dropout}: must be at least 0 and below 1")
    if classes < 2:
        raise InputError(f"classes {classes}: a classifier needs at least 2")
    body, features, head = _body(name)
    weights_sha256 = weight_files.load(body, weights, backbone=name, head=head) if weights is not None else None
    if in_channels != 3:
        _widen(body, in_channels, average=weights is not None)
    family = "tiny" if name == "tiny" else "torchvision"
    return Backbone(
        body,
        features=features,
        classes=classes,
        dropout=dropout,
        classifier_std=CLASSIFIER_STD.get(name, 0.001),
        pixel_scale=_PIXEL_SCALES[family, "rgb" if stream == "rgb" else "flow"],
        weights_sha256=weights_sha256,
    )


def _body(name: str) -> tuple[nn.Module, int, str]:
    """Build a network that ends in its features; their number, and the name that its classifier had ("" for none)."""
    if name == "tiny":
        return tiny.Tiny(), tiny.FEATURES, ""
    if name not in TORCHVISION:
        raise InputError(f"backbone {name!r} is unknown; take one of {', '.join(NAMES)}")
    body: nn.Module = torchvision.models.get_model(name, weights=None)
    path, last = [(path, module) for path, module in body.named_modules() if isinstance(module, nn.Linear)][-1]
    # The whole child goes, not the layer alone: mobilenet_v2 keeps a dropout of its own beside it.
    head = path.split(".")[0]
    setattr(body, head, nn.Identity())
    return body, last.in_features, head


def _widen(body: nn.Module, in_channels: int, *, average: bool) -> None:
    """Give the first convolution `in_channels` inputs; with `average` each has the mean weights of the former three."""
    path, old = next((path, module) for path, module in body.named_modules() if isinstance(module, nn.Conv2d))
    new = nn.Conv2d(
        in_channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        old.dilation,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    if average:
        with torch.no_grad():
            new.weight.copy_(old.weight.mean(1, keepdim=True).expand_as(new.weight))
            if new.bias is not None and old.bias is not None:
                new.bias.copy_(old.bias)
    parent, _, child = path.rpartition(".")
    setattr(body.get_submodule(parent), child, new)
