"""README's moving picture from a film."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import readme_film
from tests.unit.encoded import encode


def test_a_film_becomes_a_short_animation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.repeat(np.linspace(0, 255, 20).astype(np.uint8), 64 * 48 * 3).reshape(20, 48, 64, 3)
    encode(tmp_path / "film.mp4", list(frames), "mpeg4")
    monkeypatch.setattr(readme_film, "MOST_FRAMES", 8)
    out = tmp_path / "pictures/film.webp"
    assert readme_film.main([str(tmp_path / "film.mp4"), str(out)]) == 0
    with Image.open(out) as picture:
        assert (picture.size, getattr(picture, "n_frames", 1)) == ((64, 48), 7)  # every third of 20
        picture.seek(6)
        assert np.asarray(picture.convert("L")).mean() > 200


def test_what_is_no_film_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "film.mp4").write_bytes(b"no film")
    assert readme_film.main([str(tmp_path / "film.mp4"), str(tmp_path / "out.webp")]) == 2
    assert "film.mp4 cannot be read" in capsys.readouterr().err
