"""`atw predict`: lines of JSON, videos that cannot be used, and pictures."""

import errno
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from atw.commands import app
from atw.extras.drawing.scored_videos import lanes
from atw.extras.predict.asked import asked_videos, check_render
from atw.extras.predict.drawn import render
from atw.extras.predict.told import told
from atw.files import InputError
from atw.terminal import console
from atw.videos.decode import Audit, read
from tests.unit.encoded import encode
from tests.unit.trained import Trained


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["predict", *arguments, "--device", "cpu", "--threads", "1"])


def test_the_command_prints_a_line_for_each_video(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "empty.avi").write_bytes(b"")
    encode(tmp_path / "one.mkv", [np.zeros((48, 64, 3), np.uint8)], "mjpeg")
    names = (trained.root / "left/1.avi", tmp_path / "empty.avi", tmp_path / "one.mkv", trained.root / "up/1.avi")
    videos = [str(name) for name in names]
    result = call(*videos, "--model", str(trained.split), "--top", "1", "--window", "0.4", "--stride", "0.4")
    assert result.exit_code == 1
    first, empty, single, second = map(json.loads, result.stdout.splitlines())
    assert [one["video"] for one in (first, empty, single, second)] == videos
    assert (empty["error"], single["error"]) == ("empty file", "one frame: no motion to see")
    assert [window["start_seconds"] for window in first["windows"]] == [0.0, 0.4, 0.8]
    assert len(second["labels"]) == 1


def test_a_full_disk_costs_one_video(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second video finds no room for its temporary files."""
    opened = []

    def temporary_file() -> Any:
        opened.append(1)
        if len(opened) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return io.BytesIO()

    monkeypatch.setattr("atw.extras.predict.predictor.tempfile.TemporaryFile", temporary_file)
    video = str(trained.root / "up/1.avi")
    result = call(video, video, video, "--model", str(trained.split))
    assert result.exit_code == 1
    first, full, third = map(json.loads, result.stdout.splitlines())
    assert first == third
    assert full["error"].startswith("No space left on device: temporary files in ")


def test_scores_that_are_not_finite_cost_one_video(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverged(self: Any, *_: Any) -> Any:
        return SimpleNamespace(logits=torch.full((10, 2), torch.nan), weights=torch.ones(10, 7))

    monkeypatch.setattr("atw.model.consensus.AttentionConsensus.forward", diverged)
    video = str(trained.root / "up/1.avi")
    result = call(video, "--model", str(trained.split))
    assert result.exit_code == 1
    assert json.loads(result.stdout, parse_constant=pytest.fail)["error"].startswith("its scores are not finite")


@pytest.mark.parametrize("name", ["strip.png", "film.mp4"])
@pytest.mark.parametrize("options", [[], ["--segments"]], ids=["plain", "segments"])
def test_render(trained: Trained, tmp_path: Path, name: str, options: list[str]) -> None:
    out = tmp_path / name
    result = call(str(trained.root / "left/1.avi"), "--model", str(trained.split), "--render", str(out), *options)
    assert result.exit_code == 0, result.output
    segments = json.loads(result.stdout)["segments"]
    assert bool(segments) == bool(options)
    if name.endswith(".png"):
        assert cv2.imread(str(out)).std() > 10
        return
    audit = Audit()
    rows = {*lanes([(one["start_seconds"], one["end_seconds"]) for one in segments])}
    height = 384 + 12 * len(rows)  # of bars
    frames = list(read(out, audit, width=320, height=height, max_pixels=10**6, max_frames=100))
    assert (audit.decoded, audit.fps, audit.width, audit.height) == (30, 25.0, 320, height)
    # The line that shows the moment goes from left to right, in the part below the frame.
    chart = np.stack(frames)[:, 280:350].astype(float)
    columns = (chart - np.median(chart, axis=0)).mean(axis=(1, 3)).argmax(axis=1)
    assert (np.diff(columns) > 0).mean() > 0.9
    if not segments:
        return
    rows_of_bars = [np.stack(frames)[:, 267 + 12 * row : 273 + 12 * row].mean(axis=(0, 1, 3)) for row in rows]
    bars = np.max(rows_of_bars, axis=0) > 100  # [320]
    shown = np.zeros(320, bool)
    for one in segments[:5]:
        shown[round(one["start_seconds"] / 1.2 * 319) : round(one["end_seconds"] / 1.2 * 319) + 1] = True
    assert (bars == shown).mean() > 0.95


def test_impossible_pictures_of_the_command(trained: Trained) -> None:
    video = trained.root / "left/1.avi"
    for arguments, message in (
        ([str(video), str(video), "--render", "a.png"], "shows one video, and 2 are given"),
        ([str(video), "--render", "a.gif"], r"must be an \.mp4 or a \.png file"),
    ):
        result = call(*arguments, "--model", str(trained.split))
        assert isinstance(result.exception, InputError)
        assert re.search(message, str(result.exception))
    copy = trained.root / "film.mp4"
    with pytest.raises(InputError, match="is the video itself"):
        check_render(copy, [copy])


def test_words_for_people(trained: Trained, predictor: Any) -> None:
    prediction = predictor.predict(trained.root / "left/1.avi")
    text = io.StringIO()
    console(file=text, width=100).print(told(prediction, top=2))
    title, first, second, looks = text.getvalue().splitlines()[:4]
    assert re.fullmatch(rf".*left/1\.avi: {prediction.label}, \d\.\d s", title)
    assert first.split() == [prediction.label, f"{prediction.probabilities.max():.2f}"]
    assert float(second.split()[1]) <= float(first.split()[1])
    assert looks.startswith(("  attention highest: ", "  attention: all moments alike"))


def test_windows_are_shown_to_people(trained: Trained, predictor: Any) -> None:
    prediction = predictor.predict(trained.root / "left/1.avi", window_seconds=0.4)
    text = io.StringIO()
    console(file=text, width=100).print(told(prediction, top=1))
    shown = re.findall(r"window (\d\.\d) to (\d\.\d) s: (\w+) \((0\.\d\d|1\.00)\)", text.getvalue())
    assert [(float(start), label) for start, _, label, _ in shown] == [
        (round(one.start_seconds, 1), prediction.classes[one.probabilities.argmax()]) for one in prediction.windows
    ]
    assert len(shown) > 2


@pytest.mark.parametrize("k", [0, -1])
def test_no_class_at_all_is_refused(trained: Trained, predictor: Any, k: int) -> None:
    with pytest.raises(InputError, match=f"the {k} most probable classes are none"):
        predictor.predict(trained.root / "left/1.avi").top(k)


def test_a_name_that_is_no_text_is_drawn(trained: Trained, predictor: Any, tmp_path: Path) -> None:
    video = tmp_path / os.fsdecode(b"caf\xe9.avi")
    video.write_bytes((trained.root / "left/1.avi").read_bytes())
    render(predictor.predict(video), video, tmp_path / "out.png")
    assert (tmp_path / "out.png").stat().st_size > 10_000


@pytest.mark.parametrize(("values", "unsure"), [((0.9, 0.1), False), ((0.52, 0.48), True), ((0.4, 0.2), True)])
def test_what_is_unsure_is_called_so(predictor: Any, trained: Trained, values: tuple[float, ...], unsure: bool) -> None:
    prediction = predictor.predict(trained.root / "left/1.avi", segments=True)
    text = io.StringIO()
    console(file=text, width=100).print(told(replace(prediction, probabilities=np.array(values)), top=1))
    assert ("unsure" in text.getvalue()) == unsure
    assert len(re.findall(r"\d\.\d to \d\.\d s: ", text.getvalue())) == len(prediction.segments) > 0


def test_a_folder_stands_for_its_videos(trained: Trained, tmp_path: Path) -> None:
    for folder in ("deep", ".hidden"):
        (tmp_path / folder).mkdir()
    for name in ("b.AVI", "deep/a.avi", "deep/._a.avi", ".hidden/c.avi"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no video")
    assert asked_videos([tmp_path, Path("other.mp4")]) == [
        tmp_path / "b.AVI",
        tmp_path / "deep/a.avi",
        Path("other.mp4"),
    ]
    with pytest.raises(InputError, match="has no video: no file in it ends in one of"):
        asked_videos([trained.split])


def test_folders_are_seen_through_links_and_without_bins(tmp_path: Path) -> None:
    place, other = tmp_path / "place", tmp_path / "other"
    for name in ("other/a.mp4", "place/$RECYCLE.BIN/gone.mp4"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"")
    (place / "linked").symlink_to(other)
    (other / "back").symlink_to(place)
    (place / "lost.mp4").symlink_to(tmp_path / "nowhere")
    assert asked_videos([place]) == [place / "linked/a.mp4", place / "lost.mp4"]


def test_what_is_wrong_is_said_before_torch_loads(tmp_path: Path) -> None:
    code = "import sys\nfrom atw.commands import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    for arguments, message in (
        (["a.avi", "--model", "nowhere"], "nowhere does not exist; give the folder of a trained split"),
        (["a.avi", "--model", str(tmp_path), "--render", "a.gif"], "must be an .mp4 or a .png file"),
        (["a.avi", "--model", str(tmp_path)], "has no rgb/model.pt, flow/model.pt or warped/model.pt"),
    ):
        command = [sys.executable, "-c", code, "predict", *arguments]
        run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert (run.returncode, run.stdout) == (2, "False\n")
        assert message in run.stderr
