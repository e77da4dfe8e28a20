import dataclasses
import errno
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from scipy.special import softmax
from typer.testing import CliRunner

import atw
from atw import config
from atw.commands import app
from atw.config import Evaluate, FieldShards, WarpedShards
from atw.data import augment
from atw.data.reader import Shards
from atw.evaluate.scores import read_scores
from atw.extras.predict.drawn import check_render, render
from atw.extras.predict.items import VideoItems, blocks_of
from atw.extras.predict.models import read_models
from atw.extras.predict.windows import Span, middle_seconds, stacks, windows
from atw.files import InputError
from atw.flow import cuda, engine
from atw.model.modelfile import FORMAT, TrainedModel, load_model, training_record
from atw.terminal import meter
from atw.videos.decode import Audit, read
from atw.videos.times import NO_TIMES, Times
from tests.conftest import _moving_frames
from tests.unit.encoded import encode
from tests.unit.trained import TEST_VIDEOS, Trained

CASES = Path(__file__).parents[1] / "cases" / "videos"
STREAMS = ("rgb", "flow", "warped")
WEIGHTS = {"rgb": 1.0, "flow": 1.0, "warped": 0.5}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("predict")


@pytest.fixture(scope="module")
def predictor(trained: Trained) -> Any:
    return atw.load(trained.split, device="cpu")


# Index arithmetic


@pytest.mark.parametrize(
    ("positions", "expected"),
    [
        ([], []),
        ([4], [(4, 1)]),
        ([0, 1, 2, 5, 6, 9], [(0, 3), (5, 2), (9, 1)]),
        ([0, 1, 2, 3, 4, 5, 6], [(0, 3), (3, 3), (6, 1)]),
    ],
)
def test_blocks_of_pairs(positions: list[int], expected: list[tuple[int, int]]) -> None:
    wanted = {"rgb": [3], "flow": positions[::2], "warped": positions}
    assert list(blocks_of(wanted, longest=3)) == expected


@pytest.mark.parametrize(
    ("frames", "window", "stride", "expected"),
    [
        (100, 2.0, None, [(0, 50), (25, 50), (50, 50)]),
        (101, 2.0, 2.0, [(0, 50), (50, 50), (51, 50)]),  # the last ends with the video
        (40, 2.0, None, [(0, 40)]),
        (50, 2.0, 1.0, [(0, 50)]),
        (6, 0.16, 0.001, [(0, 4), (1, 4), (2, 4)]),  # a stride of less than a frame is one frame
    ],
)
def test_windows(frames: int, window: float, stride: float | None, expected: list[tuple[int, int]]) -> None:
    assert windows(even(frames), window_seconds=window, stride_seconds=stride) == expected


def test_windows_of_a_variable_rate_cover_the_time_that_they_say() -> None:
    rng = np.random.default_rng(0)
    times = Times(np.concatenate([[0.0], np.cumsum(rng.choice([0.04, 0.08, 0.2], 200))]), "file")
    found = windows(times, window_seconds=2.0, stride_seconds=1.0)
    for number, span in enumerate(found[:-1]):
        start, end = times.stretch(span.first, span.first + span.frames - 1)
        assert (start, end) == (pytest.approx(number, abs=0.101), pytest.approx(number + 2, abs=0.101))
    assert found[-1].first + found[-1].frames == 200
    assert len(found) == int(np.ceil(times.seconds - 2)) + 1


def test_a_pause_makes_windows_longer_and_fewer() -> None:
    # 50 frames in two seconds, one that stays for an hour, and 50 more.
    pause = Times(np.concatenate([np.arange(51) / 25, 3600 + np.arange(2, 53) / 25]), "file")
    found = windows(pause, window_seconds=100.0, stride_seconds=1.0)
    assert all(span.frames >= 2 for span in found)
    assert len(found) == len(set(found)) < 20
    assert (found[0].first, found[-1].first + found[-1].frames) == (0, 101)
    endless = Times(np.append(np.arange(100) / 25, 1e15), "file")  # a file may say so
    assert len(windows(endless, window_seconds=1e14, stride_seconds=0.01)) < 1000


def test_stacks_stay_inside_their_span() -> None:
    # 6 frames from frame 10 are 5 fields, 10 to 14: stacks of 3 start at 10, 11 or 12.
    assert stacks(Span(10, 6), stream="flow", snippets=3, stack=3).tolist() == [
        [10, 11, 12],
        [11, 12, 13],
        [12, 13, 14],
    ]
    assert stacks(Span(10, 3), stream="flow", snippets=1, stack=3).tolist() == [[10, 11, 11]]
    assert stacks(Span(10, 2), stream="rgb", snippets=2, stack=1).tolist() == [[10], [11]]


def test_middles() -> None:
    # Frame 10 at 25 frames/s is shown from 0.40 to 0.44 s; fields 10 to 12 are of the frames 10 to 13.
    assert middle_seconds(np.array([[10]]), even(20), stream="rgb") == pytest.approx([0.42])
    assert middle_seconds(np.array([[10, 11, 12]]), even(20), stream="flow") == pytest.approx([0.48])


def even(frames: int) -> Times:
    return Times.of(NO_TIMES, frames=frames, fps=25.0)


# Predictions


@pytest.mark.parametrize("number", range(len(TEST_VIDEOS)))
def test_a_test_video_has_the_scores_of_the_evaluation(trained: Trained, predictor: Any, number: int) -> None:
    prediction = predictor.predict(trained.root / TEST_VIDEOS[number])
    fused = np.zeros(2)
    for stream in STREAMS:
        scores = read_scores(trained.split / stream / "scores.h5")
        row = scores.videos.index(TEST_VIDEOS[number])
        found = prediction.streams[stream]
        assert np.allclose(found.logits, scores.video_logits[row], atol=1e-5)
        assert np.allclose(found.attention, scores.attention[row].mean(axis=0), atol=1e-6)
        assert np.ptp(found.attention) > 1e-4 or number == 2
        fused += WEIGHTS[stream] / 2.5 * scores.video_logits[row]
    assert np.allclose(prediction.probabilities, softmax(fused), atol=1e-5)


def test_a_window_is_a_video_of_its_own(trained: Trained, predictor: Any) -> None:
    """As the network scores the snippets of the shard that lie in the window, and no others."""
    video = trained.root / "left/1.avi"
    prediction = predictor.predict(video, window_seconds=0.4, stride_seconds=0.2)
    starts = [window.start_seconds for window in prediction.windows]
    assert starts == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])
    window = prediction.windows[2]
    assert (window.start_seconds, window.end_seconds) == pytest.approx((0.4, 0.8))
    fused = np.zeros(2)
    for stream in STREAMS:
        model = load_model(trained.split / stream / "model.pt")
        shards = Shards([trained.shards[stream]], model.settings.shards)
        # Ten frames from frame 10, or nine fields: seven stacks of three that start at 10 to 16.
        numbers = np.array([10, 12, 13, 15, 16, 17, 19] if stream == "rgb" else [10, 11, 12, 13, 14, 15, 16])
        crops = augment.test_boxes(48, 64, crop=40, crops=10)
        snippets = shards.snippets("left/1.avi", numbers, 1 if stream == "rgb" else 3, crops, 32)
        logits = model.network.score(torch.from_numpy(snippets), chunk=8).logits.double().mean(0).numpy()
        fused += WEIGHTS[stream] / 2.5 * logits
    assert np.allclose(window.probabilities, softmax(fused), atol=1e-5)
    whole = predictor.predict(video)
    assert np.allclose(prediction.probabilities, whole.probabilities, atol=1e-6)
    assert not np.allclose(whole.probabilities, window.probabilities, atol=1e-3)
    assert whole.windows == []


def test_only_the_flow_of_snippets_is_computed(
    place: Path, predictor: Any, monkeypatch: pytest.MonkeyPatch, write_mjpeg: Any
) -> None:
    """A long video costs what its snippets cost: 7 stacks of 3 fields, not all of its 199."""
    stored: list[bytes] = []

    class Items(io.BytesIO):
        def write(self, item: Any) -> int:
            stored.append(item)
            return super().write(item)

    monkeypatch.setattr("atw.extras.predict.predictor.tempfile.TemporaryFile", Items)
    predictor.predict(write_mjpeg(place / "long.avi", _moving_frames(200)))
    assert len(stored) == 7 + 21 + 21


def test_long_runs_of_pairs_are_cut_and_change_nothing(place: Path, predictor: Any, write_mjpeg: Any) -> None:
    """Windows want all 59 fields, in two blocks that share a frame; the whole video alone wants some of them."""
    video = write_mjpeg(place / "run.avi", _moving_frames(60))
    with_windows, whole = predictor.predict(video, window_seconds=0.4), predictor.predict(video)
    assert np.allclose(with_windows.probabilities, whole.probabilities, atol=1e-6)


def test_json(trained: Trained, predictor: Any) -> None:
    prediction = predictor.predict(trained.root / "left/1.avi", window_seconds=0.5)
    content = json.loads(json.dumps(prediction.to_json(top=1)))
    (best,) = content["labels"]
    assert best["label"] == prediction.label == prediction.classes[int(prediction.probabilities.argmax())]
    assert best["probability"] == pytest.approx(float(prediction.probabilities.max()), abs=1e-6)
    assert (content["frames"], content["fps"], content["seconds"]) == (30, 25.0, 1.2)
    assert (content["times"], content["fps_known"], content["start_seconds"], content["notes"]) == ("file", True, 0, [])
    for stream in STREAMS:
        attention = content["streams"][stream]["attention"]
        assert len(attention["seconds"]) == len(attention["weight"]) == 7
        assert sum(attention["weight"]) == pytest.approx(1, abs=1e-4)
        assert 0 < attention["seconds"][0] < attention["seconds"][-1] < 1.2
    assert [len(window["labels"]) for window in content["windows"]] == [1] * len(prediction.windows)


@pytest.mark.parametrize(
    ("window", "stride", "message"),
    [
        (0.0, None, "the window is 0 s; give a number above 0"),
        (float("inf"), None, "the window is inf s"),
        (1.0, 0.0, "the stride is 0 s"),
        (None, 1.0, "a stride of 1 s without a window"),
        (0.04, None, r"0\.04 s has 1 frames at 25"),
    ],
)
def test_impossible_windows(
    predictor: Any, trained: Trained, window: float | None, stride: float | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        predictor.predict(trained.root / "left/1.avi", window_seconds=window, stride_seconds=stride)


def test_matches_along_the_flow(tmp_path: Path, moving_frames: Any, write_mjpeg: Any) -> None:
    """Corners displaced by the flow need the flow of the pair, which shards have and a new video has not."""
    trained = Trained(tmp_path, moving_frames, write_mjpeg, warp={"distance": 3, "matches": "flow"})
    prediction = atw.load(trained.split, device="cpu").predict(trained.root / TEST_VIDEOS[0])
    scores = read_scores(trained.split / "warped/scores.h5")
    assert np.allclose(prediction.streams["warped"].logits, scores.video_logits[0], atol=1e-5)


@pytest.mark.parametrize(("matches", "solved"), [("tracks", (2, 1, 2)), ("flow", (2, 2, 3)), ("sift", (2, 2, 3))])
def test_the_flow_of_a_block_is_computed_once(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, matches: str, solved: tuple[int, ...]
) -> None:
    """For the stream flow, and for the matches of warped flow, unless the settings of the two differ."""
    numba, calls = engine.BACKENDS["numba"], []

    def solve(first: Any, *others: Any) -> Any:
        calls.append(len(first))
        return numba.solve(first, *others)

    monkeypatch.setitem(engine.BACKENDS, "numba", numba._replace(solve=solve))
    overrides = {"flow": {"backend": "numba"}, "warp": {"matches": matches}}
    flow, warped = (with_settings(trained, stream, overrides) for stream in ("flow", "warped"))
    wider = with_settings(trained, "flow", {"flow": {"backend": "numba", "bound": 12.0}})
    found, crops = [], augment.test_boxes(48, 64, crop=40, crops=1)
    for settings, times in zip(({"flow": flow}, {}, {"flow": wider}), solved, strict=True):
        with io.BytesIO() as file, meter("flow", "pairs", 5) as progress:
            items = VideoItems(trained.root / "left/1.avi", {**settings, "warped": warped}, threads=1, file=file)
            items.compute(items.examine(), {"warped": range(3, 8)}, progress)
            found.append(items.snippets("warped", np.arange(3, 8)[:, None], crops, 32))
        assert [calls.pop() for _ in range(times)] == [5] * times
        assert not calls
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def with_settings(trained: Trained, stream: str, sections: dict[str, dict[str, Any]]) -> Any:
    """Settings of the stream's shards with some values of these sections that are others."""
    shards = config.shard_settings(trained.config, "mine", stream)
    parts = {
        name: getattr(shards, name).model_copy(update=values)
        for name, values in sections.items()
        if hasattr(shards, name)
    }
    return shards.model_copy(update=parts)


# The folder of a split


def test_without_a_result_the_paper_fuses(trained: Trained, place: Path) -> None:
    alone = place / "alone"
    (alone / "flow").mkdir(parents=True)
    (alone / "flow/model.pt").write_bytes((trained.split / "flow/model.pt").read_bytes())
    models = read_models(alone)
    assert set(models.streams) == {"flow"}
    assert models.evaluate["flow"] == Evaluate(snippets=80, crops=1, crop=48)
    with pytest.raises(InputError, match="is no folder"):
        atw.load(place / "nothing")
    with pytest.raises(InputError, match=r"rgb/model\.pt"):
        atw.load(trained.root)
    with pytest.raises(InputError, match="cuda"):
        atw.load(alone, device="gpu")


def test_a_gpu_without_room_is_one_message(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    one = atw.load(trained.split, device="cpu")

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    for model in one._models.streams.values():
        monkeypatch.setattr(model.network.backbone, "forward", full)
    with pytest.raises(InputError, match=r"prediction does not fit into the memory of the GPU: .*--device cpu"):
        one.predict(trained.root / "left/1.avi")


def test_a_prediction_waits_for_no_gpu_that_jobs_hold(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def held(**_: Any) -> None:
        raise AssertionError("a prediction holds no GPU")

    monkeypatch.setitem(engine.BACKENDS, "cuda", engine.BACKENDS["numba"])
    monkeypatch.setattr(engine, "_auto", [])
    monkeypatch.setattr(cuda, "claim", held)
    one = atw.load(trained.split, device="cpu")
    monkeypatch.setattr(one, "_device", torch.device("cuda"))
    on_gpu = {stream: with_backend(model, "cuda") for stream, model in one._models.streams.items()}
    monkeypatch.setattr(one, "_models", dataclasses.replace(one._models, streams=on_gpu))
    for device, backend in (("cuda", "cuda"), ("cpu", "numba")):
        monkeypatch.setattr(one, "_device", torch.device(device))
        settings = one.shard_settings().values()
        assert {each.flow.backend for each in settings if isinstance(each, FieldShards)} == {backend}


def with_backend(model: TrainedModel, backend: str) -> TrainedModel:
    shards = model.settings.shards
    made = shards.on(backend) if isinstance(shards, FieldShards) else shards
    return dataclasses.replace(model, settings=model.settings.model_copy(update={"shards": made}))


def test_networks_that_do_not_belong_together(trained: Trained, place: Path) -> None:
    mixed = place / "mixed"
    for stream in ("rgb", "flow"):
        (mixed / stream).mkdir(parents=True)
        content = torch.load(trained.split / stream / "model.pt", weights_only=True)
        if stream == "flow":
            content["classes"] = ["up", "left"]
        torch.save(content, mixed / stream / "model.pt")
    with pytest.raises(InputError, match="differ in classes"):
        atw.load(mixed)
    (mixed / "rgb/model.pt").write_bytes((mixed / "flow/model.pt").read_bytes())
    with pytest.raises(InputError, match="a network of the stream flow"):
        atw.load(mixed)


# The model file


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


def test_the_package_is_light_until_something_is_loaded() -> None:
    code = "import atw, sys; assert 'torch' not in sys.modules; atw.load; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="nonsense"):
        atw.nonsense  # noqa: B018


# The command


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["predict", *arguments, "--device", "cpu", "--threads", "1"])


def test_the_command_prints_a_line_for_each_video(trained: Trained, place: Path) -> None:
    (place / "empty.avi").write_bytes(b"")
    videos = [str(trained.root / "left/1.avi"), str(place / "empty.avi"), str(trained.root / "up/1.avi")]
    result = call(*videos, "--model", str(trained.split), "--top", "1", "--window", "0.4", "--stride", "0.4")
    assert result.exit_code == 1
    first, bad, second = map(json.loads, result.stdout.splitlines())
    assert [one["video"] for one in (first, bad, second)] == videos
    assert bad == {"video": videos[1], "error": "empty file"}
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


def test_a_variable_rate_is_seen_in_seconds_windows_and_film(place: Path, predictor: Any) -> None:
    """vfr.mkv: 52 frames in 4.80 s, which are 2.08 s at the 25 frames a second of its header."""
    video = CASES / "vfr.mkv"
    with av.open(str(video)) as container:
        shown = np.array([frame.time for frame in container.decode(video=0)])
    prediction = predictor.predict(video, window_seconds=1.0)
    content = prediction.to_json()
    assert (content["frames"], content["times"]) == (52, "file")
    assert content["seconds"] == pytest.approx(4.8)
    assert content["fps"] == pytest.approx(52 / 4.8)
    starts = [window["start_seconds"] for window in content["windows"]]
    assert starts == pytest.approx([0.5 * number for number in range(8)] + [3.8], abs=0.061)
    assert all(np.abs(shown - start).min() < 1e-3 for start in starts)
    assert content["windows"][-1]["end_seconds"] == pytest.approx(4.8)
    for stream in STREAMS:
        seconds = content["streams"][stream]["attention"]["seconds"]
        assert 0 < seconds[0] < 0.8 < 4.2 < seconds[-1] < 4.8
    render(prediction, video, place / "vfr.mp4")
    audit = Audit()
    for _ in read(place / "vfr.mp4", audit, width=16, height=16, max_pixels=10**6, max_frames=100):
        pass
    assert audit.times.edges == pytest.approx(np.append(shown, 4.8), abs=1e-3)


@pytest.mark.parametrize(
    ("name", "source", "said"),
    [("v.h264", "rate", False), ("v.mjpeg", "assumed", True)],
)
def test_where_times_come_from_is_said(
    place: Path, predictor: Any, caplog: pytest.LogCaptureFixture, name: str, source: str, said: bool
) -> None:
    encode(place / name, _moving_frames(30), "mjpeg" if said else "libx264", rate=30)
    content = predictor.predict(place / name).to_json()
    assert (content["times"], content["fps_known"], content["fps"]) == (source, not said, 25.0 if said else 30.0)
    assert ("gives neither times nor a frame rate" in caplog.text) == said


@pytest.mark.parametrize("name", ["cams_a.mp4", "cams_b.mp4"])
def test_two_streams_of_pictures_are_said_once(predictor: Any, caplog: pytest.LogCaptureFixture, name: str) -> None:
    caplog.set_level("INFO")
    content = predictor.predict(CASES / name).to_json()
    (note,) = content["notes"]
    assert note.startswith("2 streams of pictures: stream 0") and content["repaired"] == []
    assert caplog.text.count("2 streams of pictures") == 1


@pytest.mark.parametrize("name", ["strip.png", "film.mp4"])
def test_render(trained: Trained, place: Path, name: str) -> None:
    out = place / name
    result = call(str(trained.root / "left/1.avi"), "--model", str(trained.split), "--render", str(out))
    assert result.exit_code == 0, result.output
    if name.endswith(".png"):
        assert cv2.imread(str(out)).std() > 10
        return
    audit = Audit()
    frames = list(read(out, audit, width=320, height=384, max_pixels=10**6, max_frames=100))
    assert (audit.decoded, audit.fps, audit.width, audit.height) == (30, 25.0, 320, 384)
    # The line that shows the moment goes from left to right, in the part below the frame.
    chart = np.stack(frames)[:, 270:350].astype(float)
    columns = (chart - np.median(chart, axis=0)).mean(axis=(1, 3)).argmax(axis=1)
    assert (np.diff(columns) > 0).mean() > 0.9


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
        check_render(copy, copy)
