"""The networks by name beside what torchvision says of its own, and where their weights are looked for."""

import re
from pathlib import Path

import pytest
import torch
import torchvision

from atw import config
from atw.config import imagenet
from atw.config.imagenet import NETWORKS, Network
from atw.files import InputError
from atw.plan import Plan

DOCS = Path(__file__).parents[2] / "docs" / "networks.md"
OF_TORCHVISION = torchvision.models.list_models(module=torchvision.models)


def test_the_names_are_torchvisions_and_two_of_our_own() -> None:
    assert list(NETWORKS) == ["tiny", "bninception", *OF_TORCHVISION]


@pytest.mark.parametrize("name", OF_TORCHVISION)
def test_files_and_sides_are_torchvisions(name: str) -> None:
    weights = torchvision.models.get_model_weights(name).DEFAULT
    given = NETWORKS[name]
    assert given.files == (weights.url.rsplit("/", 1)[1],)
    assert given.trained == weights.transforms().crop_size[0]
    # Swin pads its input, so it takes any; torchvision states the side of its training instead.
    assert given.least == (1 if name.startswith("swin") else weights.meta["min_size"][0])
    assert given.step == (0 if name.startswith(("vit", "maxvit")) else 1)


def test_the_documentation_lists_every_network() -> None:
    def row(name: str, given: Network) -> str:
        sides = {0: f"{given.least} only", 1: f"from {given.least}"}.get(given.step, f"multiples of {given.step}")
        files = " or ".join(f"`{file}`" for file in given.files) or "none"
        return f"| `{name}` | {files} | {given.trained} | {sides} |"

    rows = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if re.match(r"\| `", line)]
    assert rows == [row(name, given) for name, given in NETWORKS.items()]


@pytest.mark.parametrize(
    ("name", "fits", "does_not", "message"),
    [
        ("resnet50", [1, 224, 225], [0], "1 px or more"),
        ("alexnet", [63, 224], [62], "63 px or more"),
        ("inception_v3", [75, 224, 299], [74], "75 px or more"),
        ("swin_t", [112, 224, 256], [], ""),
        ("vit_b_16", [224], [0, 112, 223, 225, 448], "224 px only"),
        ("vit_h_14", [518], [224], "518 px only"),
        ("maxvit_t", [224], [112, 448], "224 px only"),
        ("bninception", [32, 64, 224, 256], [16, 112, 225, 240], "multiples of 32 px"),
    ],
)
def test_sides_by_table(name: str, fits: list[int], does_not: list[int], message: str) -> None:
    for side in fits:
        imagenet.check_side(name, side)
    for side in does_not:
        with pytest.raises(ValueError, match=f"{name} takes images of {message}, not of {side} px"):
            imagenet.check_side(name, side)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"XDG_CACHE_HOME": "/caches"},
        {"TORCH_HOME": "/torch", "XDG_CACHE_HOME": "/caches"},
        {"TORCH_HOME": "~/torch"},
    ],
)
def test_the_cache_is_the_folder_of_torch_hub(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert imagenet.cache() == Path(torch.hub.get_dir()) / "checkpoints"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and an empty working folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def touch(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return str(path)


def test_the_default_path_stands_for_the_cache_where_there_is_no_such_file(cache: Path) -> None:
    cached = touch(cache / "resnet50-11ad3fa6.pth")
    assert imagenet.find_weights("weights/resnet50.pth", "resnet50") == cached
    touch(Path("weights/resnet50.pth"))
    assert imagenet.find_weights("weights/resnet50.pth", "resnet50") == "weights/resnet50.pth"


def test_either_file_of_bn_inception_is_found(cache: Path) -> None:
    of_tsn = touch(cache / "bn_inception-9f5701afb96c8044.pth")
    assert imagenet.find_weights("weights/bninception.pth", "bninception") == of_tsn
    preferred = touch(cache / "bn_inception-52deb4733.pth")
    assert imagenet.find_weights("weights/bninception.pth", "bninception") == preferred


def test_a_path_of_ones_own_is_that_path_only(cache: Path) -> None:
    touch(cache / "resnet50-11ad3fa6.pth")
    with pytest.raises(InputError, match=r"weights file mine\.pth does not exist"):
        imagenet.find_weights("mine.pth", "resnet50")
    touch(Path("mine.pth"))
    assert imagenet.find_weights("mine.pth", "resnet50") == "mine.pth"


def test_the_error_says_which_file_goes_where(cache: Path) -> None:
    touch(cache / "resnet50-0676ba61.pth")  # other weights of the same network, which nobody asked for
    with pytest.raises(InputError) as refusal:
        imagenet.find_weights("weights/resnet50.pth", "resnet50")
    for part in ("weights/resnet50.pth", "resnet50-11ad3fa6.pth", str(cache), "model.weights empty"):
        assert part in str(refusal.value)
    with pytest.raises(InputError, match=r"none of tiny is published: leave model\.weights empty"):
        imagenet.find_weights("weights/tiny.pth", "tiny")


def plan(**model: object) -> Plan:
    return Plan({"datasets": {"demo": {"kind": "demo", "model": model}}})


def test_a_job_waits_for_the_file_that_it_is_told(cache: Path) -> None:
    cached = touch(cache / "resnet18-f37072fd.pth")
    made = plan(backbone="resnet18")
    assert made.weights("demo", "flow") == cached
    assert made.train_settings("demo", "split1", "flow").model.weights == cached
    assert plan(backbone="resnet18", weights=None).weights("demo", "rgb") is None
    assert plan(backbone="resnet18", weights=None).train_settings("demo", "split1", "rgb").model.weights is None


def test_missing_weights_stop_a_run_before_anything_runs(cache: Path) -> None:
    message = (
        r"weights/bninception\.pth does not exist: get it by `atw weights bninception`.*bn_inception-52deb4733\.pth"
    )
    with pytest.raises(InputError, match=message):
        plan(backbone="bninception").fused_streams("demo", "split1")
    estimated = Plan({"datasets": {"demo": {"kind": "demo", "model": {"backbone": "bninception"}}}}, estimate=True)
    assert estimated.fused_streams("demo", "split1") == ["rgb", "flow", "warped"]
    assert "get it by `atw weights bninception`" in estimated.lacking["weights/bninception.pth"]


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"backbone": "resnet19"}}, r"model\.backbone: 'resnet19' is no network; near it: .*'resnet18'"),
        ({"model": {"backbone": "vit_h_14"}}, r"vit_h_14 takes images of 518 px only, not of 224 px: change augment"),
        ({"model": {"backbone": "bninception"}, "augment": {"input_size": 112}}, "bninception takes .* 112 px"),
    ],
)
def test_networks_and_sides_are_checked_with_the_configuration(sections: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        config.load({"datasets": {"demo": {"kind": "demo"}}, **sections})


def test_every_named_network_is_a_valid_setting_at_its_side() -> None:
    for name, given in NETWORKS.items():
        sections = {"model": {"backbone": name}, "augment": {"input_size": given.trained}}
        loaded = config.load({"datasets": {"demo": {"kind": "demo"}}, **sections})
        assert config.effective(loaded, "demo", "flow").model.backbone == name
