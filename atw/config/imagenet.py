"""The networks by name, and where the published ImageNet weights of each are looked for.

Nothing is downloaded. The default path of the weights stands for two places: that path, and the folder in which
torchvision and torch.hub keep what they download. Light enough for the workflow, which knows nothing of torch.
"""

import difflib
import os
from pathlib import Path
from typing import NamedTuple

from atw.files import InputError

DEFAULT_WEIGHTS = "weights/{backbone}.pth"


class Network(NamedTuple):
    """What is published of a network. Sides are those of its square input, in px."""

    files: tuple[str, ...]
    """Names of its published weights files, the first one preferred: torchvision's `DEFAULT`; none: none published."""
    trained: int = 224
    """Side that those weights are meant for."""
    least: int = 1
    """The smallest side that works."""
    step: int = 1
    """Sides that work are multiples of this; 0: `least` alone."""


NETWORKS = {
    "tiny": Network(()),
    # Two files circulate: of the pretrained-models collection, and of Temporal Segment Networks. Where strides meet,
    # pools round up and convolutions down: the sides of the feature maps have to be even.
    "bninception": Network(("bn_inception-52deb4733.pth", "bn_inception-9f5701afb96c8044.pth"), least=32, step=32),
    "alexnet": Network(("alexnet-owt-7be5be79.pth",), least=63),
    "convnext_base": Network(("convnext_base-6075fbad.pth",), least=32),
    "convnext_large": Network(("convnext_large-ea097f82.pth",), least=32),
    "convnext_small": Network(("convnext_small-0c510722.pth",), least=32),
    "convnext_tiny": Network(("convnext_tiny-983f1562.pth",), least=32),
    "densenet121": Network(("densenet121-a639ec97.pth",), least=29),
    "densenet161": Network(("densenet161-8d451a50.pth",), least=29),
    "densenet169": Network(("densenet169-b2777c0a.pth",), least=29),
    "densenet201": Network(("densenet201-c1103571.pth",), least=29),
    "efficientnet_b0": Network(("efficientnet_b0_rwightman-7f5810bc.pth",)),
    "efficientnet_b1": Network(("efficientnet_b1-c27df63c.pth",), trained=240),
    "efficientnet_b2": Network(("efficientnet_b2_rwightman-c35c1473.pth",), trained=288),
    "efficientnet_b3": Network(("efficientnet_b3_rwightman-b3899882.pth",), trained=300),
    "efficientnet_b4": Network(("efficientnet_b4_rwightman-23ab8bcd.pth",), trained=380),
    "efficientnet_b5": Network(("efficientnet_b5_lukemelas-1a07897c.pth",), trained=456),
    "efficientnet_b6": Network(("efficientnet_b6_lukemelas-24a108a5.pth",), trained=528),
    "efficientnet_b7": Network(("efficientnet_b7_lukemelas-c5b4e57e.pth",), trained=600),
    "efficientnet_v2_l": Network(("efficientnet_v2_l-59c71312.pth",), trained=480, least=33),
    "efficientnet_v2_m": Network(("efficientnet_v2_m-dc08266a.pth",), trained=480, least=33),
    "efficientnet_v2_s": Network(("efficientnet_v2_s-dd5fe13b.pth",), trained=384, least=33),
    "googlenet": Network(("googlenet-1378be20.pth",), least=15),
    "inception_v3": Network(("inception_v3_google-0cc3c7bd.pth",), trained=299, least=75),
    "maxvit_t": Network(("maxvit_t-bc5ab103.pth",), least=224, step=0),
    "mnasnet0_5": Network(("mnasnet0.5_top1_67.823-3ffadce67e.pth",)),
    "mnasnet0_75": Network(("mnasnet0_75-7090bc5f.pth",)),
    "mnasnet1_0": Network(("mnasnet1.0_top1_73.512-f206786ef8.pth",)),
    "mnasnet1_3": Network(("mnasnet1_3-a4c69d6f.pth",)),
    "mobilenet_v2": Network(("mobilenet_v2-7ebf99e0.pth",)),
    "mobilenet_v3_large": Network(("mobilenet_v3_large-5c1a4163.pth",)),
    "mobilenet_v3_small": Network(("mobilenet_v3_small-047dcff4.pth",)),
    "regnet_x_16gf": Network(("regnet_x_16gf-ba3796d7.pth",)),
    "regnet_x_1_6gf": Network(("regnet_x_1_6gf-a12f2b72.pth",)),
    "regnet_x_32gf": Network(("regnet_x_32gf-6eb8fdc6.pth",)),
    "regnet_x_3_2gf": Network(("regnet_x_3_2gf-7071aa85.pth",)),
    "regnet_x_400mf": Network(("regnet_x_400mf-62229a5f.pth",)),
    "regnet_x_800mf": Network(("regnet_x_800mf-94a99ebd.pth",)),
    "regnet_x_8gf": Network(("regnet_x_8gf-2b70d774.pth",)),
    "regnet_y_128gf": Network(("regnet_y_128gf_swag-c8ce3e52.pth",), trained=384),
    "regnet_y_16gf": Network(("regnet_y_16gf-3e4a00f9.pth",)),
    "regnet_y_1_6gf": Network(("regnet_y_1_6gf-0d7bc02a.pth",)),
    "regnet_y_32gf": Network(("regnet_y_32gf-8db6d4b5.pth",)),
    "regnet_y_3_2gf": Network(("regnet_y_3_2gf-9180c971.pth",)),
    "regnet_y_400mf": Network(("regnet_y_400mf-e6988f5f.pth",)),
    "regnet_y_800mf": Network(("regnet_y_800mf-58fc7688.pth",)),
    "regnet_y_8gf": Network(("regnet_y_8gf-dc2b1b54.pth",)),
    "resnet101": Network(("resnet101-cd907fc2.pth",)),
    "resnet152": Network(("resnet152-f82ba261.pth",)),
    "resnet18": Network(("resnet18-f37072fd.pth",)),
    "resnet34": Network(("resnet34-b627a593.pth",)),
    "resnet50": Network(("resnet50-11ad3fa6.pth",)),
    "resnext101_32x8d": Network(("resnext101_32x8d-110c445d.pth",)),
    "resnext101_64x4d": Network(("resnext101_64x4d-173b62eb.pth",)),
    "resnext50_32x4d": Network(("resnext50_32x4d-1a0047aa.pth",)),
    "shufflenet_v2_x0_5": Network(("shufflenetv2_x0.5-f707e7126e.pth",)),
    "shufflenet_v2_x1_0": Network(("shufflenetv2_x1-5666bf0f80.pth",)),
    "shufflenet_v2_x1_5": Network(("shufflenetv2_x1_5-3c479a10.pth",)),
    "shufflenet_v2_x2_0": Network(("shufflenetv2_x2_0-8be3c8ee.pth",)),
    "squeezenet1_0": Network(("squeezenet1_0-b66bff10.pth",), least=21),
    "squeezenet1_1": Network(("squeezenet1_1-b8a52dc0.pth",), least=17),
    "swin_b": Network(("swin_b-68c6b09e.pth",)),
    "swin_s": Network(("swin_s-5e29d889.pth",)),
    "swin_t": Network(("swin_t-704ceda3.pth",)),
    "swin_v2_b": Network(("swin_v2_b-781e5279.pth",), trained=256),
    "swin_v2_s": Network(("swin_v2_s-637d8ceb.pth",), trained=256),
    "swin_v2_t": Network(("swin_v2_t-b137f0e2.pth",), trained=256),
    "vgg11": Network(("vgg11-8a719046.pth",), least=32),
    "vgg11_bn": Network(("vgg11_bn-6002323d.pth",), least=32),
    "vgg13": Network(("vgg13-19584684.pth",), least=32),
    "vgg13_bn": Network(("vgg13_bn-abd245e5.pth",), least=32),
    "vgg16": Network(("vgg16-397923af.pth",), least=32),
    "vgg16_bn": Network(("vgg16_bn-6c64b313.pth",), least=32),
    "vgg19": Network(("vgg19-dcbb9e9d.pth",), least=32),
    "vgg19_bn": Network(("vgg19_bn-c79401a0.pth",), least=32),
    "vit_b_16": Network(("vit_b_16-c867db91.pth",), least=224, step=0),
    "vit_b_32": Network(("vit_b_32-d86f8d99.pth",), least=224, step=0),
    "vit_h_14": Network(("vit_h_14_swag-80465313.pth",), trained=518, least=518, step=0),
    "vit_l_16": Network(("vit_l_16-852ce7e3.pth",), least=224, step=0),
    "vit_l_32": Network(("vit_l_32-c7638314.pth",), least=224, step=0),
    "wide_resnet101_2": Network(("wide_resnet101_2-d733dc28.pth",)),
    "wide_resnet50_2": Network(("wide_resnet50_2-9ba9bcbe.pth",)),
}
"""The demo's network, BN-Inception, and every classification network of torchvision."""


def network(name: str) -> Network:
    """The network of that name; ValueError names the nearest ones."""
    if name not in NETWORKS:
        near = difflib.get_close_matches(name, NETWORKS, n=4, cutoff=0.4) or ["bninception", "resnet50"]
        raise ValueError(f"{name!r} is no network; near it: {', '.join(map(repr, near))}; docs/networks.md lists all")
    return NETWORKS[name]


def check_side(name: str, side: int) -> None:
    """Raise ValueError where the network of that name cannot take images of `side` px."""
    least, step = network(name)[2:]
    if side == least or (step and side > least and side % step == 0):
        return
    sides = {0: f"{least} px only", 1: f"{least} px or more"}.get(step, f"multiples of {step} px")
    raise ValueError(f"{name} takes images of {sides}, not of {side} px")


def find_weights(named: str, backbone: str) -> str:
    """The weights file to start `backbone` from, if `model.weights` says `named`.

    A file of that name comes first. The default name stands for torchvision's cache, too.

    Raises:
        InputError: there is none.
    """
    if Path(named).is_file():
        return named
    if named == DEFAULT_WEIGHTS.replace("{backbone}", backbone):
        for file in network(backbone).files:
            if (cache() / file).is_file():
                return str(cache() / file)
    raise InputError(absent(named, backbone))


def absent(path: str | Path, backbone: str) -> str:
    """What to say where there is no weights file at `path`."""
    files = network(backbone).files
    scratch = "leave model.weights empty to start from random weights"
    if not files:
        return f"weights file {path} does not exist, and none of {backbone} is published: {scratch}"
    return (
        f"weights file {path} does not exist: put the ImageNet weights of {backbone} ({' or '.join(files)}) there, or "
        f"under their own name in {cache()}; or name another file as model.weights in config.yaml; or {scratch}"
    )


def cache() -> Path:
    """The folder in which torchvision and torch.hub keep downloaded weights, as their documentation says."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "torch"
    return Path(home).expanduser() / "hub" / "checkpoints"
