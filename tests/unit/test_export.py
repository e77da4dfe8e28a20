import importlib.util
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import atw
from atw.extras.export import TOLERANCE, export_model
from atw.files import InputError
from atw.model.modelfile import load_model
from atw.model.network import Output
from atw.train.history import History
from tests.unit.trainings import write_model


def original(model: Path, snippets: np.ndarray) -> list[np.ndarray]:
    network = load_model(model).network
    with torch.no_grad():
        return [output.numpy() for output in network(torch.from_numpy(snippets))]


def some_snippets(videos: int, number: int, channels: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (videos, number, channels, 32, 32), dtype=np.uint8)


def assert_names_no_file(exported: Path) -> None:
    """The exporters note lines of source, with the paths of this machine's files."""
    written = exported.read_bytes()
    for here in (Path(torch.__file__).parent, Path(atw.__file__).parent, Path.home(), exported.parent):
        assert str(here).encode() not in written
    assert b".py" not in written


@pytest.mark.parametrize("consensus", ["weighted", "gated", "sigmoid", "lse", "topk"])
def test_an_exported_program_is_the_network(tmp_path: Path, consensus: str) -> None:
    model = write_model(tmp_path, consensus=consensus)
    out = tmp_path / "network.pt2"
    assert export_model(model, out) <= TOLERANCE
    extra = {"atw.json": ""}
    module = torch.export.load(io.BytesIO(out.read_bytes()), extra_files=extra).module()
    snippets = some_snippets(4, 5, 4)
    with torch.no_grad():
        found = module(torch.from_numpy(snippets))
    for has, should in zip(found, original(model, snippets), strict=True):
        assert np.allclose(has.numpy(), should, atol=1e-5)
    assert_names_no_file(out)
    content = json.loads(extra["atw.json"])
    assert content["classes"] == ["a", "b", "c"]
    assert content["training"]["loss"] == 1.0


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="the extra `export` is not installed")
@pytest.mark.filterwarnings("ignore")  # of the exporter's own
@pytest.mark.parametrize(
    "options",
    [{"attention_on": "features"}, *({"consensus": name} for name in ("gated", "sigmoid", "lse", "max", "topk"))],
    ids=str,
)
def test_onnx_is_the_network(tmp_path: Path, options: dict[str, str]) -> None:
    import onnxruntime

    model = write_model(tmp_path, stream="rgb", **options)
    out = tmp_path / "network.onnx"
    assert export_model(model, out) <= TOLERANCE
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == list(Output._fields)
    (wanted,) = session.get_inputs()
    assert (wanted.name, wanted.type) == ("snippets", "tensor(uint8)")
    assert wanted.shape[2:] == [3, 32, 32]
    snippets = some_snippets(4, 5, 3)
    for has, should in zip(session.run(None, {"snippets": snippets}), original(model, snippets), strict=True):
        assert np.allclose(has, should, atol=1e-4 * max(1, np.abs(should).max()))
    assert_names_no_file(out)
    assert json.loads(session.get_modelmeta().custom_metadata_map["atw"])["classes"] == ["a", "b", "c"]


@pytest.mark.parametrize("spoilt", [lambda output: output + 0.01, lambda output: output[:1]], ids=["values", "shape"])
def test_a_program_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoilt: Any) -> None:
    load = torch.export.load

    def differing(data: Any) -> Any:
        module = load(data).module()
        return SimpleNamespace(module=lambda: lambda snippets: [spoilt(output) for output in module(snippets)])

    monkeypatch.setattr(torch.export, "load", differing)
    with pytest.raises(InputError, match="differs from the original by"):
        export_model(write_model(tmp_path), tmp_path / "network.pt2")
    assert not (tmp_path / "network.pt2").exists()


def test_impossible_exports_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_model(tmp_path)
    with pytest.raises(InputError, match=r"must end in \.onnx, or in \.pt2"):
        export_model(model, tmp_path / "network.pth")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'atw\[export\]'"):
        export_model(model, tmp_path / "network.onnx")


@pytest.mark.parametrize("settings", [None, [], {"sampling": None}, {"sampling": {"segments": "many"}}])
def test_a_model_with_other_settings_is_not_exported(tmp_path: Path, settings: Any) -> None:
    path = write_model(tmp_path)
    torch.save(torch.load(path, weights_only=True) | {"settings": settings}, path)
    with pytest.raises(InputError, match=r"model\.pt is damaged: its settings are none"):
        export_model(path, tmp_path / "network.pt2")


def test_a_history_holds_no_number_that_json_does_not_know(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl", None, 0)
    history.add({"iteration": 1, "loss": float("nan"), "accuracy": float("inf"), "norm": None})
    history.close()
    row = json.loads((tmp_path / "history.jsonl").read_text(), parse_constant=pytest.fail)
    assert row == {"iteration": 1, "loss": None, "accuracy": None, "norm": None}
