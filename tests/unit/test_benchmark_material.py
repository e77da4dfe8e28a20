"""What the benchmarks measure on, and how they write their pages."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atw.files import InputError
from benchmarks import material, report
from tests.unit.waves import grey, waves


def test_flo_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.flo"
    path.write_bytes(b"PIEH" + struct.pack("<2i", 3, 2) + struct.pack("<12f", *range(12)))
    field = material.read_flo(path)
    assert field.dtype == np.float32
    assert field.tolist() == [[[0, 2, 4], [6, 8, 10]], [[1, 3, 5], [7, 9, 11]]]


def test_flo_as_opencv_writes_it(tmp_path: Path) -> None:
    field = np.random.default_rng(0).normal(size=(5, 7, 2)).astype(np.float32)
    cv2.writeOpticalFlow(str(tmp_path / "a.flo"), field)
    np.testing.assert_array_equal(material.read_flo(tmp_path / "a.flo"), field.transpose(2, 0, 1))


@pytest.mark.parametrize("content", [b"", b"PIEH", b"RIFF" + bytes(40), b"PIEH" + struct.pack("<2i", 3, 2) + bytes(47)])
def test_what_is_no_flo_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.flo").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.flo"):
        material.read_flo(tmp_path / "a.flo")


def write_truth(folder: Path, name: str, height: int, width: int) -> None:
    cv2.writeOpticalFlow(str(folder / f"{name}-gt.flo"), np.full((height, width, 2), [1.5, -0.5], np.float32))
    for index, shift in enumerate((0.0, -1.5)):
        cv2.imwrite(str(folder / f"{name}-img{index}.png"), grey(waves(height, width, shift, -shift / 3)))


def test_truth_pairs(tmp_path: Path) -> None:
    write_truth(tmp_path, "b", 20, 30)
    write_truth(tmp_path, "a", 20, 30)
    pairs = material.truth_pairs(tmp_path)
    assert [pair.name for pair in pairs] == ["a", "b"]
    np.testing.assert_array_equal(pairs[0].second, grey(waves(20, 30, -1.5, 0.5)))
    assert pairs[0].flow[:, 3, 4].tolist() == [1.5, -0.5]
    assert pairs[0].valid.all()


def test_incomplete_truth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no ground truth"):
        material.truth_pairs(tmp_path)
    write_truth(tmp_path, "a", 20, 30)
    write_truth(tmp_path, "b", 20, 32)
    with pytest.raises(InputError, match="one size"):
        material.truth_pairs(tmp_path)
    (tmp_path / "b-img1.png").unlink()
    with pytest.raises(InputError, match=r"b-img1\.png"):
        material.truth_pairs(tmp_path)


@given(st.floats(0.5, 12), st.integers(0, 100))
def test_smooth_fields_reach_their_peak_and_do_not_fold(peak_px: float, seed: int) -> None:
    field = material.smooth_field(48, 64, peak_px=peak_px * 64 / 340, seed=seed)
    assert np.hypot(*field).max() == pytest.approx(peak_px * 64 / 340)
    along = 1 + np.diff(field[0], axis=1)[:-1]
    across = 1 + np.diff(field[1], axis=0)[:, :-1]
    turned = np.diff(field[0], axis=0)[:, :-1] * np.diff(field[1], axis=1)[:-1]
    assert (along * across - turned > 0).all()


def test_moved_frames_have_exactly_the_known_flow() -> None:
    frames = np.stack([grey(waves(60, 90))] * 3)
    pairs = material.moved_pairs(frames)
    assert [float(np.hypot(*pair.flow).max()) for pair in pairs] == pytest.approx([2, 5, 8])
    for pair in pairs:
        assert 0.5 < pair.valid.mean() < 1
        x, y = pair.flow
        apart = np.abs(pair.first - waves(60, 90, x, y))[pair.valid]
        assert apart.mean() < 0.4  # two roundings to grey levels leave 0.33
        assert np.abs(pair.first - waves(60, 90, x + 0.1, y))[pair.valid].mean() > 1.5 * apart.mean()


def test_clips_come_from_their_folders_in_turn() -> None:
    names = ["a/1", "a/2", "a/3", "b/1", "c/d/1", "c/d/2"]
    turns = material.folders_in_turn([Path(name) for name in names])
    assert [str(path) for path in turns] == ["a/1", "b/1", "c/d/1", "a/2", "c/d/2", "a/3"]


def test_video_pairs_are_consecutive_and_spread(
    tmp_path: Path,
    moving_frames: Callable[..., list[np.ndarray]],
    write_mjpeg: Callable[[Path, Any], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(material, "WIDTH_PX", 64)
    monkeypatch.setattr(material, "HEIGHT_PX", 48)
    paths = [write_mjpeg(tmp_path / name, moving_frames(9, seed=i)) for i, name in enumerate(("a/x.avi", "b/y.avi"))]
    (tmp_path / "a" / "bad.avi").write_bytes(b"no video")
    (tmp_path / "a" / "notes.txt").write_text("no video")
    pairs = material.video_pairs(tmp_path, 5)
    assert pairs.names == ["y.avi 2", "x.avi 2", "y.avi 4", "x.avi 5", "y.avi 6"]
    assert pairs.first.shape == pairs.second.shape == (5, 48, 64)
    clips = [material.grey_frames(path) for path in paths]
    np.testing.assert_array_equal(pairs.first[3], clips[0][5])
    np.testing.assert_array_equal(pairs.second[3], clips[0][6])


def test_folders_without_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no videos"):
        material.video_pairs(tmp_path, 3)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match="can be decoded"):
        material.video_pairs(tmp_path, 3)


# Report


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0, "0"), (0.0123, "0.012"), (0.9987, "0.999"), (1.234, "1.23"), (45.67, "45.7"), (1234.5, "1234")],
)
def test_numbers(value: float | None, text: str) -> None:
    assert report.number(value) == text


def test_markdown_table() -> None:
    text = report.markdown(
        "T", "c", {"CPU": "x"}, [report.Table("A", ("n", "s", "v"), [("a", "b", "1")], ["N."])], ["M."]
    )
    assert "# T\n\nWritten by `c`; not to be edited.\n\n- CPU: x\n" in text
    assert "## A\n\n| n | s | v |\n| --- | --- | ---: |\n| a | b | 1 |\n\nN.\n\n## Method\n\n- M.\n" in text
