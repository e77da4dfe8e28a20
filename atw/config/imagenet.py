"""The networks by name, and the places where the published ImageNet weights of each are looked for.

Only `atw weights` downloads them. The default path of the weights stands for two places: that path, and the folder in
which torchvision and torch.hub keep what they download. The workflow imports this module, so it does without torch.
"""

import csv
import difflib
import os
from pathlib import Path
from typing import NamedTuple

from atw.files import InputError

DEFAULT_WEIGHTS = "weights/{backbone}.pth"
_TORCHVISION = "https://download.pytorch.org/models/"
_ELSEWHERE = {
    "bn_inception-52deb4733.pth": "http://data.lip6.fr/cadene/pretrainedmodels/",
    "bn_inception-9f5701afb96c8044.pth": "https://yjxiong.blob.core.windows.net/models/",
}


class Network(NamedTuple):
    """What is published about a network. Sides are those of its square input, in px."""

    trained: int
    """Side that the published weights are meant for."""
    least: int
    """The smallest side that works."""
    step: int
    """Sides that work are multiples of this; 0: `least` alone."""
    files: tuple[str, ...]
    """Names of its published weights files, preferred first: torchvision's `DEFAULT`. Empty if none is published.

    Of BN-Inception two files circulate: of the pretrained-models collection, and of Temporal Segment Networks. Its
    pools round up and its convolutions down, so the sides of its feature maps have to be even: the step is 32.
    """


def _read_networks() -> dict[str, Network]:
    with Path(__file__).with_name("networks.csv").open(encoding="utf-8", newline="") as stream:
        return {
            row["name"]: Network(int(row["trained"]), int(row["least"]), int(row["step"]), tuple(row["files"].split()))
            for row in csv.DictReader(stream)
        }


NETWORKS = _read_networks()
"""The demo's network, BN-Inception, and every classification network of torchvision."""


def network(name: str) -> Network:
    """Look a network up by its name.

    Raises:
        ValueError: there is none; the message names the nearest ones.
    """
    if name not in NETWORKS:
        near = difflib.get_close_matches(name, NETWORKS, n=4, cutoff=0.4) or ["bninception", "resnet50"]
        raise ValueError(f"{name!r} is no network; near it: {', '.join(map(repr, near))}; docs/networks.md lists all")
    return NETWORKS[name]


def check_side(name: str, side: int) -> None:
    """Raise ValueError if the network of that name cannot take images of `side` px."""
    given = network(name)
    if side == given.least or (given.step and side > given.least and side % given.step == 0):
        return
    sides = {0: f"{given.least} px only", 1: f"{given.least} px or more"}.get(
        given.step, f"multiples of {given.step} px"
    )
    raise ValueError(f"{name} takes images of {sides}, not of {side} px")


def find_weights(named: str, backbone: str) -> str:
    """Find the weights file that `backbone` starts from if `model.weights` is `named`.

    A file of that name comes first. The default name also stands for torchvision's cache.

    Raises:
        InputError: there is none.
    """
    if Path(named).is_file():
        return named
    if named == default_weights(backbone):
        for file in network(backbone).files:
            if (cache() / file).is_file():
                return str(cache() / file)
    raise InputError(missing_weights(named, backbone))


def missing_weights(path: str | Path, backbone: str) -> str:
    """Compose the error text for a weights file that does not exist."""
    files = network(backbone).files
    scratch = "leave model.weights empty to start from random weights"
    if not files:
        return f"weights file {path} does not exist, and none of {backbone} is published: {scratch}"
    fetched = str(path) == default_weights(backbone)
    return (
        f"weights file {path} does not exist: "
        + (f"get it by `atw weights {backbone}`, or " if fetched else "")
        + f"put the ImageNet weights of {backbone} there ({address(files[0])})"
        + (f", or under their own name in {cache()}; " if fetched else "; ")
        + f"or name another file as model.weights in config.yaml; or {scratch}"
    )


def default_weights(backbone: str) -> str:
    """Return the default path of a network's weights."""
    return DEFAULT_WEIGHTS.replace("{backbone}", backbone)


def address(file: str) -> str:
    """Return where a published weights file is: those of torchvision's networks where torchvision says."""
    return _ELSEWHERE.get(file, _TORCHVISION) + file


def cache() -> Path:
    """Return the folder in which torchvision and torch.hub keep downloaded weights."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    return Path(home).expanduser() / "hub" / "checkpoints"
