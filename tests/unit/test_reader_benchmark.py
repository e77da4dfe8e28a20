"""The reading benchmark: its readers give the same samples, and it ends with a page."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from atw.data.augment import Crop
from atw.files import InputError
from benchmarks.reader import __main__ as benchmark
from benchmarks.reader.material import SEGMENTS, SIZE_PX, STACK, Material, Sample, draw_samples, prepare

Image = NDArray[np.uint8]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.conftest import _moving_frames, _write_mjpeg

    folder = tmp_path_factory.mktemp("videos")
    for seed, label in enumerate(("left", "up")):
        _write_mjpeg(folder / label / "a clip.avi", _moving_frames(24, width=340, height=256, seed=seed))
    return folder


@pytest.fixture(scope="module")
def material(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Material:
    return prepare(videos, tmp_path_factory.mktemp("material"), videos=2, threads=2)


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
    assert benchmark.main([str(videos), "--videos", "2", "--samples", "3", "--write"]) == 0
    text = page.read_text(encoding="utf-8")
    for words in ("| shards |", "| JPEG folders, Pillow |", "## flow: where our time goes", "| decoding |", "- CPU: "):
        assert words in text
