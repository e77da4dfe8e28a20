"""Backbones turn a snippet into features and class scores: BN-Inception, torchvision's networks and the demo's own.

Every backbone is built for three channels, takes its weights, and is then widened to the channels of its stream. With
weights that is cross-modality initialisation: the first convolution's weights are averaged over the three RGB channels
and repeated for each input channel, not rescaled. Without weights the widened convolution starts at random.

A network of torchvision loses its last layer, a dropout right before it and its auxiliary classifiers; a new classifier
after a dropout of our own takes their place.

Shapes: B snippets, C channels, S side of the crop in px, D features, K classes.
"""

import statistics
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from atw.config import imagenet
from atw.files import InputError
from atw.model import bn_inception, tiny
from atw.model.weights import load_weights

CLASSIFIER_STD = {"tiny": 0.01}
"""Standard deviation of the new classifier's weights if it is not TSN's .001."""

_ZERO_FLOW = 128.0


class Normalisation(NamedTuple):
    """Mean and deviation of a network's input, in levels 0..255; one number serves every channel."""

    mean: list[float]
    std: list[float]
    bgr: bool = False
    """The network takes the channels of an image as blue, green, red; mean and std are in that order."""


_NORMALISATIONS = {
    ("bninception", "rgb"): Normalisation([104.0, 117.0, 128.0], [1.0], bgr=True),
    ("bninception", "flow"): Normalisation([_ZERO_FLOW], [1.0]),
    ("tiny", "rgb"): Normalisation([255 * 0.5], [60.0]),
    # An input unit is 6.4 levels: about a pixel of motion where the quantisation's bound is 20 px.
    ("tiny", "flow"): Normalisation([_ZERO_FLOW], [255 * 0.025]),
}
"""By network and kind of stream; torchvision states those of its networks."""

# Their published weights expect an input in -1..1; torchvision's networks convert the usual input to that.
_FROM_MINUS_ONE = ("googlenet", "inception_v3")
_AUXILIARY = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}


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
        normalisation: Normalisation,
        weights_sha256: str | None,
    ) -> None:
        super().__init__()
        self.body = body
        self.features = features
        self.weights_sha256 = weights_sha256
        """SHA-256 of the weights file that the body started from; None: random weights."""
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(features, classes)
        nn.init.normal_(self.classifier.weight, std=classifier_std)
        nn.init.zeros_(self.classifier.bias)
        self._bgr = normalisation.bgr
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(normalisation.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(normalisation.std).view(1, -1, 1, 1), persistent=False)

    def normalise(self, snippets: Tensor) -> Tensor:
        """Turn levels 0..255 (uint8 [B, C, S, S], images in RGB) into the float32 input of `forward`.

        The order of channels and the scale are the network's own. Zero flow, level 128, becomes 0 exactly.
        """
        if self._bgr:
            snippets = snippets.flip(1)
        return (snippets.float() - self.mean) / self.std

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Turn normalised snippets [B, C, S, S] into pooled features [B, D], before dropout, and class scores [B, K].

        Both are float32: autocast ends with the body, because rounded scores would affect the loss most.
        """
        features = self.body(x).float()
        with no_autocast(x.device):
            return features, self.classifier(self.dropout(features))


def no_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context without autocast. If none is running the context is empty: exported networks show no trace."""
    # The device meta, on which shapes alone are computed, has no autocast to ask about.
    running = torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if running else nullcontext()


def build(name: str, *, in_channels: int, classes: int, dropout: float, weights: Path | None, stream: str) -> Backbone:
    """Build the backbone called `name` for `stream`, started from the file `weights` or at random.

    Raises:
        InputError: fewer than 2 classes, or weights that do not fit the backbone.
    """
    if classes < 2:
        raise InputError(f"classes {classes}: a classifier needs at least 2")
    body, features, left_out = _body(name)
    weights_sha256 = load_weights(body, weights, backbone=name, left_out=left_out) if weights else None
    if in_channels != 3:
        _widen(body, in_channels, average=weights is not None)
    return Backbone(
        body,
        features=features,
        classes=classes,
        dropout=dropout,
        classifier_std=CLASSIFIER_STD.get(name, 0.001),
        normalisation=_normalisation(name, stream),
        weights_sha256=weights_sha256,
    )


class InstallationError(InputError):
    """A library that networks are built of cannot be imported."""


def _torchvision() -> Any:
    """torchvision's networks, whose import takes longer than torch's."""
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InstallationError(
            f"torchvision cannot be imported ({reason}); install torch and torchvision of the same release"
        ) from None
    return models


def _body(name: str) -> tuple[nn.Module, int, tuple[str, ...]]:
    """Build a network that ends in its features; return also their number and the modules of the file it leaves out."""
    if name == "tiny":
        return tiny.Tiny(), tiny.FEATURES, ()
    if name == "bninception":
        return bn_inception.BNInception(), bn_inception.FEATURES, ("last_linear", "fc")
    options: dict[str, Any] = {"aux_logits": False, "init_weights": True} if name in _AUXILIARY else {}
    if name.startswith("vit_"):
        options["image_size"] = imagenet.network(name).least
    body: nn.Module = _torchvision().get_model(name, weights=None, **options)
    leaves = [(path, module) for path, module in body.named_modules() if next(module.children(), None) is None]
    place = max(place for place, (_, module) in enumerate(leaves) if isinstance(module, nn.Linear | nn.Conv2d))
    classifier, last = leaves[place]
    body.set_submodule(classifier, nn.Identity())
    before, dropout = leaves[place - 1]
    if isinstance(dropout, nn.Dropout):
        body.set_submodule(before, nn.Identity())
    features = last.in_features if isinstance(last, nn.Linear) else last.in_channels
    return body, int(features), (classifier, *_AUXILIARY.get(name, ()))


def _normalisation(name: str, stream: str) -> Normalisation:
    """Return what the published weights expect; flow is divided by the mean of the three deviations of images."""
    kind = "rgb" if stream == "rgb" else "flow"
    if (name, kind) in _NORMALISATIONS:
        return _NORMALISATIONS[name, kind]
    images = _torchvision().get_model_weights(name).DEFAULT.transforms()
    mean, std = ([0.5], [0.5]) if name in _FROM_MINUS_ONE else (images.mean, images.std)
    if kind == "flow":
        return Normalisation([_ZERO_FLOW], [255 * statistics.fmean(std)])
    return Normalisation([255 * level for level in mean], [255 * level for level in std])


def _widen(body: nn.Module, in_channels: int, *, average: bool) -> None:
    """Give the first convolution `in_channels` inputs; with `average` each gets the mean weights of the old three."""
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
    body.set_submodule(path, new)
