"""The benchmark of codecs: that each gives back what it was given, and the command as a whole."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import codecs as benchmark
from tests.unit.trained import Trained


def test_every_codec_gives_the_rows_back() -> None:
    field = np.random.default_rng(1).integers(96, 160, (2, 150, 40)).astype(np.uint8)
    for name, codec in benchmark.codecs().items():
        decoded = codec.decode(codec.encode(field), 70, 90)
        parts = decoded if isinstance(decoded, list) else [decoded]
        found = np.concatenate([np.frombuffer(part, np.uint8).reshape(2, -1, 40) for part in parts], axis=1)
        rows = int(name.split()[-2]) if name.endswith("rows") else 150
        first = 70 // rows * rows
        expected = field[:, first : min(-(-90 // rows) * rows, 150)]
        assert np.array_equal(found, expected // 8 * 8 if name.endswith("5 bits") else expected), name


def test_the_command(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PAGE", tmp_path / "codecs.md"), ("STACKS", 2), ("ROUNDS", 1)):
        monkeypatch.setattr(benchmark, name, value)
    assert benchmark.main([str(trained.shards["flow"].parent), "--write"]) == 0
    rows = [
        line.split("|")[1:-1] for line in (tmp_path / "codecs.md").read_text().splitlines() if "Zstandard, l" in line
    ]
    assert len(rows) == 8
    assert rows[0][-1].strip() == "1.00"
    assert all(float(cell) > 0 for row in rows for cell in row[1:])
    assert benchmark.main([str(tmp_path)]) == 2
