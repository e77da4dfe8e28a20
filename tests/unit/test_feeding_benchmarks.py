"""The benchmarks of reading and training: readers give the same samples, and both end with a page."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from atw.data.augment import Crop
from atw.files import InputError
from benchmarks import training
from benchmarks.reader import __main__ as benchmark
from benchmarks.reader.material import SEGMENTS, SIZE_PX, STACK, Material, Sample, draw_samples, prepare

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
    monkeypatch.setattr(training, "MATRIX_SIDE", 64)
    given = [str(videos), "--backbone", "tiny", "--batch", "3", "--microbatch", "2", "--precision", "bf16", "--write"]
    assert training.main(given) == 0
    text = page.read_text(encoding="utf-8")
    assert "## tiny, N = 4, batch 3, bf16, 0 loaders, on " in text
    rows = [line.split("|") for line in text.splitlines() if line.startswith(("| rgb |", "| flow |"))]
    assert len(rows) == 2
    for _, _, from_shards, from_memory, ratio, waiting, *_ in rows:
        assert float(ratio.strip(" %")) == pytest.approx(100 * float(from_shards) / float(from_memory), rel=0.02)
        assert 0 <= float(waiting.strip(" %")) <= 100
