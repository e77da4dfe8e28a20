"""The benchmarks of reading and training: readers give the same samples, and both end with a page."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from atw.data.augment import Crop
from atw.files import InputError
from benchmarks import training
from benchmarks.reader import __main__ as benchmark
from benchmarks.reader.material import SEGMENTS, SIZE_PX, STACK, Material, Sample, draw_samples, prepare
from benchmarks.report import share_of

Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.conftest import _moving_frames, _write_mjpeg

    folder = tmp_path_factory.mktemp("videos")
    for seed, name in enumerate(("left/a clip", "left/b", "up/a")):
        _write_mjpeg(folder / f"{name}.avi", _moving_frames(24, width=340, height=256, seed=seed))
    return folder


@pytest.fixture(scope="module")
def material(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Material:
    return prepare(videos, tmp_path_factory.mktemp("material"), videos=3, threads=2)


@pytest.mark.parametrize(("stream", "channels"), [("rgb", 3), ("flow", 2 * STACK)])
def test_readers_give_the_same_samples(material: Material, stream: str, channels: int) -> None:
    samples = draw_samples(material, stream, 6, seed=0)
    assert {sample.crop.flip for sample in samples} == {False, True}
    readers = benchmark.readers_of(material, stream)
    benchmark.check_agreement(readers, samples, stream)
    for sample in samples:
        ours, folders = (readers[name](sample) for name in (benchmark.SHARDS, benchmark.FOLDERS))
        assert ours.shape == folders.shape == (SEGMENTS, channels, SIZE_PX, SIZE_PX)
        assert benchmark.distance(ours, folders) < 3
        assert readers[benchmark.TSN](sample).shape == ours.shape


def test_a_reader_of_other_samples_is_refused(material: Material) -> None:
    samples = draw_samples(material, "rgb", 6, seed=0)
    readers = benchmark.readers_of(material, "rgb")

    def mirrored(sample: Sample) -> Image:
        crop = Crop(sample.crop.box, not sample.crop.flip)
        image: Image = readers[benchmark.FOLDERS](sample._replace(crop=crop))
        return image

    with pytest.raises(InputError, match="another one reads another rgb sample"):
        benchmark.check_agreement(readers | {"another one": mirrored}, samples, "rgb")


def test_it_writes_its_page(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "reader.md"
    monkeypatch.setattr(benchmark, "PAGE", page)
    monkeypatch.setattr(benchmark, "ROUNDS", 1)
    assert benchmark.main([str(videos), "--videos", "3", "--samples", "3", "--write"]) == 0
    text = page.read_text(encoding="utf-8")
    for words in ("| shards |", "| JPEG folders, Pillow |", "## flow: where our time goes", "| decoding |", "- CPU: "):
        assert words in text


def test_training_is_fed_from_shards_and_from_memory(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "training.md"
    monkeypatch.setattr(training, "PAGE", page)
    monkeypatch.setattr(training, "UPDATES", 1)
    monkeypatch.setattr(training, "product_rate", lambda precision, device: 1e18)
    given = [str(videos), "--backbone", "tiny", "--batch", "3", "--microbatch", "2", "--precision", "bf16", "--write"]
    assert training.main(given) == 0
    text = page.read_text(encoding="utf-8")
    assert "## tiny, N = 4, batch 3, bf16, 0 loaders, on " in text
    rows = [line.split("|") for line in text.splitlines() if line.startswith(("| rgb |", "| flow |"))]
    assert len(rows) == 2
    for _, _, from_shards, from_memory, ratio, waiting, *_ in rows:
        assert float(ratio.strip(" %")) == pytest.approx(100 * float(from_shards) / float(from_memory), rel=0.02)
        assert 0 <= float(waiting.strip(" %")) <= 100


@pytest.mark.parametrize(("precision", "dtype"), training.DTYPES.items())
def test_the_peak_is_of_many_products_of_one_precision(
    precision: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    product = torch.mm

    def noted(first: torch.Tensor, second: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
        made.append((first.dtype, second.dtype, out.dtype, torch.backends.cuda.matmul.fp32_precision))
        return product(first, second, out=out)

    monkeypatch.setattr(training, "PRODUCTS", {"cpu": (32, 5)})
    monkeypatch.setattr(torch, "mm", noted)
    before = torch.backends.cuda.matmul.fp32_precision
    assert training.product_rate(precision, torch.device("cpu")) > 0
    expected = (dtype, dtype, dtype, "tf32" if precision == "tf32" else "ieee")
    assert made == [expected] * 5 * (training.ROUNDS + 1)
    assert torch.backends.cuda.matmul.fp32_precision == before


def test_more_than_all_is_an_error_of_the_benchmark() -> None:
    assert share_of(1.0, "it") == 1.0
    with pytest.raises(InputError, match="training of rgb: 104% of what the device can do"):
        share_of(1.04, "training of rgb")
    asked: Any = SimpleNamespace(backbone="tiny", batch=2, precision="fp32", loaders=0, threads=1)
    found = {"rgb": training.Measured(1.0, 1.0, 0.0, operations=2e9)}
    with pytest.raises(InputError, match="200%"):
        training.table(found, 1e9, asked, torch.device("cpu"))
