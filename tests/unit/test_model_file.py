"""Model files and weights from others: nothing runs, and no more memory is taken than the file has bytes."""

import builtins
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from atw.config import WarpedShards
from atw.extras.predict.models import read_models
from atw.files import InputError
from atw.model import tensorfile
from atw.model.modelfile import FORMAT, load_model, training_record
from atw.model.network import VideoNetwork
from tests.unit.trained import Trained
from tests.unit.trainings import write_model

Change = Callable[[dict[str, Any]], Any]


def changed(folder: Path, change: Change) -> Path:
    folder.mkdir(exist_ok=True)
    path = write_model(folder)
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    return path


def expand(content: dict[str, Any]) -> None:
    content["network"]["classes"] = 300_000_000
    for name in ("weight", "bias"):
        held = content["parameters"][f"backbone.classifier.{name}"]
        content["parameters"][f"backbone.classifier.{name}"] = held[:1].expand(300_000_000, *held.shape[1:])


def put(*keys: str, value: Any) -> Change:
    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


def replace(name: str, make: Callable[[torch.Tensor], Any]) -> Change:
    def change(content: dict[str, Any]) -> None:
        content["parameters"][name] = make(content["parameters"][name])

    return change


def within_itself(content: dict[str, Any]) -> None:
    inner: list[Any] = []
    for _ in range(40):
        inner = [inner] * 9
    content["training"] = inner


BIAS = "backbone.classifier.bias"
HOSTILE: dict[str, tuple[Change, str]] = {
    "many classes": (put("network", "classes", value=300_000_000), r"has shape \[3, 128\], not \[300000000, 128\]"),
    "classes without numbers": (expand, r"shape \[300000000(, \d+)?\], with numbers for less"),
    "many fields": (put("network", "stack", value=1 << 28), "not fit"),
    "a large network": (put("network", "backbone", value="vit_h_14"), "not fit"),
    "a sparse tensor": (replace(BIAS, lambda held: held.to_sparse()), "no plain array of numbers"),
    "a tensor nowhere": (replace(BIAS, lambda held: held.to("meta")), "no plain array of numbers"),
    "a list as tensor": (replace(BIAS, lambda held: held.tolist()), "no tensors by name"),
    "not a number": (replace(BIAS, lambda held: held * torch.nan), "weights that are not finite"),
    "a list within itself": (within_itself, "more than 1000000 values"),
    "one class fewer": (put("classes", value=["a", "b"]), "one name for each score"),
    "classes that are numbers": (put("classes", value=[1, 2, 3]), "one name for each score"),
    "classes that are text": (put("classes", value="abc"), "one name for each score"),
    "another backbone": (put("network", "backbone", value="resnet9000"), "no network"),
    "parameters that are none": (put("parameters", value=None), "no tensors by name"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", HOSTILE.keys())
def test_a_hostile_model_file_is_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change, message = HOSTILE[name]
    path = changed(tmp_path, change)
    if "finite" not in message:  # which is looked at last
        monkeypatch.setattr(VideoNetwork, "load_state_dict", lambda *_: pytest.fail("a network was built"))
    with pytest.raises(InputError, match=message) as refusal:
        load_model(path)
    assert str(path) in str(refusal.value)


PARTS = ("network", "classes", "parameters", "settings", "training", "provenance")
ANYTHING = (None, 5, "x", [1])
WRONG: list[tuple[tuple[str, ...], Any]] = [
    *(
        ((part,), value)
        for part in ("network", "classes", "parameters", "training", "provenance")
        for value in ANYTHING
    ),
    *(
        (("settings", name), value)
        for name in ("stream", "model", "sampling", "augment", "shards", "dataset", "split")
        for value in (*ANYTHING, {})
        if (name, value) not in (("dataset", "x"), ("split", "x"))  # which are names
    ),
    *((("provenance", "compute", "microbatch"), value) for value in ("4", 4.5, None, 0)),
    (("settings", "shards", "recipes"), {"smoke": 1}),
]


@pytest.mark.parametrize(("keys", "value"), WRONG)
def test_content_of_any_type_is_an_error_in_words(tmp_path: Path, keys: tuple[str, ...], value: Any) -> None:
    path = changed(tmp_path / "flow", put(*keys, value=value))
    with pytest.raises(InputError, match=r"model\.pt is damaged"):
        read_models(path.parent.parent)


@pytest.mark.parametrize(
    "keys",
    [
        ("settings", "sampling", "stack"),
        ("settings", "augment", "input_size"),
        ("settings", "model", "attention_on"),
        ("settings", "shards", "preprocess", "width"),
        ("settings", "shards", "flow", "backend"),
        ("provenance", "compute", "microbatch"),
    ],
)
def test_a_setting_that_is_needed_is_not_guessed(tmp_path: Path, keys: tuple[str, ...]) -> None:
    def remove(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    with pytest.raises(InputError, match=r"model\.pt is damaged: its settings are none"):
        load_model(changed(tmp_path / "flow", remove))


def test_settings_of_older_and_newer_versions_are_read(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        del content["settings"]["shards"]["preprocess"]["picture_stream"]
        content["settings"]["train"]["later"] = 3

    assert load_model(changed(tmp_path / "flow", change)).settings.shards.preprocess.picture_stream == 0


def repack(path: Path, *, compression: int = zipfile.ZIP_STORED, twice: bool = False) -> Path:
    with zipfile.ZipFile(path) as packed:
        entries = {entry.filename: packed.read(entry) for entry in packed.infolist()}
    with zipfile.ZipFile(path, "w", compression) as packed:
        for name, content in entries.items():
            packed.writestr(name, content)
        if twice:
            for number in range(9):
                packed.writestr(f"archive/data/{100 + number}", bytes(10_000))
            for entry in packed.infolist()[-8:]:
                entry.header_offset = packed.infolist()[-9].header_offset
                entry.file_size = entry.compress_size = 1 << 30
    return path


def test_compressed_and_overlapping_storages_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1 << 20)}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="compressed"):
        tensorfile.read(repack(tmp_path / "a.pt", compression=zipfile.ZIP_DEFLATED))
    torch.save({"a": torch.zeros(1 << 4)}, tmp_path / "b.pt")
    with pytest.raises(ValueError, match="larger than the file"):
        tensorfile.read(repack(tmp_path / "b.pt", twice=True))


def test_code_does_not_run_and_no_advice_is_given_to_run_it(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "harm"),)

    for save in (torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))):
        save({"a": Harm()}, tmp_path / "a.pt")
        with pytest.raises(ValueError, match="other things than tensors") as refusal:
            tensorfile.read(tmp_path / "a.pt")
        assert "weights_only" not in str(refusal.value)
        assert refusal.value.__cause__ is None
        assert not (tmp_path / "harm").exists()


def test_old_files_of_torch_are_read(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(3)}, tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    assert tensorfile.read(tmp_path / "a.pth")["a"].tolist() == [0, 1, 2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("buffering", [0, -1])
def test_a_full_disk_is_an_error_of_the_disk(buffering: int) -> None:
    with pytest.raises(OSError, match="No space left"), Path("/dev/full").open("wb", buffering) as stream:
        tensorfile.write({"a": torch.zeros(1 << 20)}, stream)


@pytest.mark.parametrize("error", [RuntimeError("operator torchvision::nms does not exist"), ImportError("no such")])
def test_a_broken_installation_is_no_damaged_file(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str, *arguments: Any) -> Any:
        if name == "torchvision":
            raise error
        return imported(name, *arguments)

    path = changed(tmp_path, put("network", "backbone", value="mobilenet_v2"))
    imported = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(
        InputError, match=rf"^torchvision cannot be imported \({error}\); install torch and torchvision"
    ):
        load_model(path)


def test_a_model_file_describes_itself(trained: Trained) -> None:
    model = load_model(trained.split / "warped/model.pt")
    assert not model.network.training
    assert model.classes == ("left", "up")
    shards = model.settings.shards
    assert isinstance(shards, WarpedShards)
    assert (shards.preprocess.width, shards.flow.preset, shards.warp.distance) == (64, "fast", 3)
    # The losses were 60, 59, ... 1; the last fifty are 50 to 1.
    assert model.training == {"iterations": 60, "loss": 25.5, "accuracy": 0.5}


def test_an_update_without_a_norm_does_not_stop_the_summary(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text(
        '{"iteration": 1, "gradient_norm": null}\n{"iteration": 2, "gradient_norm": 4.0}\n'
    )
    assert training_record(tmp_path / "history.jsonl") == {"iterations": 2, "gradient_norm": 4.0}


def test_a_short_training_is_summarised_too(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text('{"iteration": 1, "loss": 3.0}\n{"iteration": 2, "loss": 2.0}\n')
    assert training_record(tmp_path / "history.jsonl") == {"iterations": 2, "loss": 2.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(format=FORMAT + 1), "newer version of atw"),
        (lambda content: content.update(format=FORMAT - 1), "older version of atw"),
        (lambda content: content.pop("format"), "no model file"),
        (lambda content: content.pop("classes"), "lacks classes"),
        (lambda content: content["parameters"].popitem(), "do not fit"),
    ],
)
def test_other_model_files_are_refused(
    trained: Trained, tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    content = torch.load(trained.split / "rgb/model.pt", weights_only=True)
    change(content)
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(InputError, match=message):
        load_model(tmp_path / "model.pt")


def test_what_is_no_model_file_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"hello", bytes(1000)):
        (tmp_path / "model.pt").write_bytes(content)
        with pytest.raises(InputError, match="no model file"):
            load_model(tmp_path / "model.pt")
