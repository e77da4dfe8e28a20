"""`atw weights`: published files from a server on the loopback interface."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from torchvision import models

from atw.config import imagenet
from atw.extras.download.published import fetch_weights
from atw.files import InputError
from tests.unit.web import Web, serve

CONTENT = bytes(range(256)) * 4000
NAME = f"resnet18-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A server with weights of resnet18, whose name ends in the right digits, and an empty working folder."""
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / NAME).write_bytes(CONTENT)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setitem(imagenet.NETWORKS, "resnet18", imagenet.NETWORKS["resnet18"]._replace(files=(NAME,)))
    with serve(tmp_path / "served") as server:
        monkeypatch.setattr(imagenet, "address", server.address)
        yield server


def test_weights_come_to_where_a_training_looks(web: Web) -> None:
    web.break_after = 600_000
    target = fetch_weights("resnet18", pause_seconds=0)
    assert target.read_bytes() == CONTENT
    assert imagenet.find_weights("weights/resnet18.pth", "resnet18") == str(target)
    origin = json.loads(Path("weights/resnet18.json").read_text(encoding="utf-8"))
    assert origin == {"address": web.address(NAME), "sha256": hashlib.sha256(CONTENT).hexdigest()}
    assert sorted(path.name for path in Path("weights").iterdir()) == ["resnet18.json", "resnet18.pth"]
    fetch_weights("resnet18")
    assert len(web.requests) == 2  # the second went on after the break; nothing is fetched twice


def test_other_bytes_than_the_name_says_are_not_kept(web: Web) -> None:
    (web.folder / NAME).write_bytes(CONTENT[::-1])
    with pytest.raises(InputError, match=rf"{NAME} gives other bytes than its name says; try again"):
        fetch_weights("resnet18", pause_seconds=0)
    assert not Path("weights/resnet18.pth").exists()


def test_a_file_of_ones_own_stays(web: Web) -> None:
    Path("weights").mkdir()
    Path("weights/resnet18.pth").write_bytes(b"mine")
    with pytest.raises(InputError, match=rf"weights/resnet18.pth is none of the published files \({NAME}\); move it"):
        fetch_weights("resnet18")
    assert Path("weights/resnet18.pth").read_bytes() == b"mine"
    assert not web.requests


def test_without_a_network_it_says_what_belongs_where(web: Web) -> None:
    web.status = 503
    message = rf"HTTP status 503.* Or fetch {web.address(NAME)} elsewhere, and put it here as weights/resnet18.pth"
    with pytest.raises(InputError, match=message):
        fetch_weights("resnet18", attempts=2, pause_seconds=0)


def test_networks_without_weights_are_named() -> None:
    with pytest.raises(InputError, match="no weights of tiny are published"):
        fetch_weights("tiny")
    with pytest.raises(InputError, match="'resnet5' is no network; near it: 'resnet50'"):
        fetch_weights("resnet5")


def test_addresses_are_those_that_torchvision_has_registered() -> None:
    for name in models.list_models(module=models):
        registered = {weights.url for weights in models.get_model_weights(name)}
        assert {imagenet.address(file) for file in imagenet.NETWORKS[name].files} <= registered
